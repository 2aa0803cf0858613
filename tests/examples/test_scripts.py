"""The scripts of examples/ do what they say, at a tiny size."""

import ast
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle3_jax import convert
from dalle3_jax.models.t5 import T5Encoder
from tests.networks import randomised

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def main_of(name: str):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_an_example_fits_a_screen_and_says_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert 20 <= sum(bool(line) for line in text.splitlines()) <= 60
    assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(text)) or "")


def test_our_unet_learns_in_a_loop_of_another():
    losses, colours = main_of("own_training_loop")(steps=60)
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert (colours.argmax(axis=1) == np.arange(3)).all()


def test_our_samplers_take_another_s_denoiser():
    errors = main_of("foreign_denoiser")(names=("dpmsolver++",))
    assert errors.keys() == {("dpmsolver++", "x0"), ("dpmsolver++", "eps")}
    assert max(errors.values()) < 1e-4


def test_t5_is_sharded_over_eight_devices_beside_other_code(tmp_path):
    encoder = T5Encoder(vocab_size=32, width=16, layers=1, heads=8, head_size=4, mlp_width=32)
    ids = jnp.zeros((1, 4), int)
    convert.save(tmp_path / "t5", encoder, randomised(encoder, ids, ids == 0))
    code = "import json, runpy, sys; main = runpy.run_path('examples/sharded_t5.py')['main']"
    code += "; print(json.dumps(main(sys.argv[1])))"
    devices = "--xla_force_host_platform_device_count=8"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {devices}"}
    command = [sys.executable, "-c", code, str(tmp_path / "t5")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    losses, share, difference = json.loads(done.stdout)
    assert losses[-1] < losses[0]
    assert share < 0.25  # norms and the relative bias are whole
    assert difference < 1e-5


@pytest.mark.usefixtures("few_statistics")
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1
def test_a_folder_of_pictures_becomes_samples_of_an_own_model(tmp_path):
    (tmp_path / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for index, colour in enumerate(("red", "green", "blue", "white")):
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{index}.png")
        (tmp_path / "pictures" / f"{index}.txt").write_text(f"a {colour} picture")
    small = ("--config.train.steps=2", "--config.data.captions={'alt': 1.0}")
    arguments = (tmp_path / "pictures", tmp_path / "W", "a red picture", *small)
    assert main_of("own_pictures")(*arguments, config=str(ROOT / "configs/tiny.py")) == 0
    assert len(list((tmp_path / "W" / "samples").glob("a-red-picture-*.png"))) == 4
    assert (tmp_path / "W" / "release" / "model.json").is_file()
