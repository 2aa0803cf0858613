"""The samples of Python in the README and in docs/weights.md run as they stand, on small stand-ins for what they name."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
STAND_INS = {
    "stable-diffusion-v1-5": "stable_diffusion",
    "t5-v1_1-xxl": "t5_v1_1",
    "clip-vit-base-patch32": "clip",
}


def samples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/weights.md"])
def test_the_samples_run_one_after_the_other(page, tmp_path, monkeypatch):
    for name, folder in STAND_INS.items():
        (tmp_path / name).symlink_to(ROOT / "tests" / "golden" / folder)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "panda.png")
    monkeypatch.chdir(tmp_path)
    blocks, names = samples(page), {}
    assert len(blocks) >= 3
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert names["features"].shape[:2] == (1, 3)
    assert Image.open("panda.png").size in [(32, 32), (64, 64), (128, 128)]
