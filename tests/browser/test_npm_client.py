"""npm's openai client, as pages and programs of Node use it."""

import json
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = Path(__file__).with_name("openai_client.mjs")
PACKAGE = "openai@7.59.0"


def test_the_openai_client_of_npm_is_at_home(server, tmp_path):
    (tmp_path / SCRIPT.name).write_bytes(SCRIPT.read_bytes())  # where its package lies beside it
    subprocess.run(["npm", "install", "--silent", "--no-audit", PACKAGE], cwd=tmp_path, check=True, timeout=300)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / "image.png")
    command = ["node", SCRIPT.name, server[0], "image.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
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
