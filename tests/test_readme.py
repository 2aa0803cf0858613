"""The samples of Python in the README and in docs/weights.md run as they stand, on stand-ins for what they name."""

import re
import warnings
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle3_jax import convert
from dalle3_jax.models.clip import CLIP, Tower
from tests.networks import normal, randomised
from tests.tiny import clip_files

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = {"stable-diffusion-v1-5": "stable_diffusion", "t5-v1_1-xxl": "t5_v1_1"}


def samples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the names of the samples stand for small networks."""
    for name, golden in GOLDEN.items():
        (tmp_path / name).symlink_to(ROOT / "tests" / "golden" / golden)
    tower = Tower(8, 1, 2, 8)
    clip = CLIP(tower, tower, vocab_size=520, projection=4, positions=8, image_size=8, patch=4)
    params = randomised(clip, jnp.zeros((1, 8), int), jnp.ones((1, 8), bool), normal(1, 8, 8, 3))
    convert.save(tmp_path / "clip-vit-base-patch32", clip, params)
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (tmp_path / "clip-vit-base-patch32" / name).write_text(text, encoding="utf-8")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "panda.png")
    return tmp_path


@pytest.mark.parametrize("page", ["README.md", "docs/weights.md"])
def test_the_samples_run_one_after_the_other(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    blocks, names = samples(page), {}
    assert len(blocks) >= 3
    for block in blocks:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'.*' is drawn as ", UserWarning)  # the demo's prompts are revised
            exec(compile(block, page, "exec"), names)
    assert names["features"].shape[:2] == (1, 3)
    if "pipeline" in names:
        with Image.open("panda.png") as picture:
            assert picture.info["dalle3_jax"]
    if "scores" in names:
        assert names["scores"].shape == (1,)
        assert names["images"].shape == (1, 64, 64, 3)
