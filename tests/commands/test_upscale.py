"""`dalle3-jax upscale`: files to larger ones, each once; what cannot be enlarged is named before anything runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.commands.upscale import main
from dalle3_jax.pipeline import upscale_jobs
from dalle3_jax.pipeline.png import read_metadata
from tests.tiny import tiny_upscaler

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 6, 10, 3), np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny upscaler as a release."""
    folder = tmp_path_factory.mktemp("upscaler") / "release"
    save_release(folder, tiny_upscaler())
    return folder


@pytest.fixture
def run(checkpoint, tmp_path):
    """Runs the command on the files that it has put there."""
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"image {number}.png")

    def command(*arguments: str, files=("image 0.png", "image 1.png", "image 2.png")) -> int:
        places = [str(tmp_path / file) for file in files]
        options = ["--checkpoint", str(checkpoint), "--outdir", str(tmp_path / "out"), "--steps", "1"]
        return main([*places, *options, *arguments])

    return command


def made(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((tmp_path / "out").iterdir())}


def test_files_are_enlarged_and_say_how(run, tmp_path, capsys):
    assert run("--prompt", "a cat", "--seed", "7") == 0
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name[:11] for path in paths] == ["image-0-x2-", "image-1-x2-", "image-2-x2-"]
    for number, path in enumerate(paths):
        with Image.open(path) as image:
            assert image.size == (20, 12)
            assert b"algorithmicallyEnhanced" in path.read_bytes()
        told = read_metadata(path)
        assert (told["seed"], told["prompt"], told["source"]) == (7 + number, "a cat", f"image {number}.png")
        assert (told["upscale"], told["upscale_steps"], told["width"]) == (2, 1, 20)


def test_a_run_that_was_stopped_goes_on_where_it_was(run, tmp_path, capsys, monkeypatch):
    assert run() == 0
    whole = made(tmp_path)
    shutil.rmtree(tmp_path / "out")
    save, count = upscale_jobs._save, []

    def killed(*inputs):
        if count:
            raise OSError("no space left")
        count.append(1)
        return save(*inputs)

    monkeypatch.setattr(upscale_jobs, "_save", killed)
    capsys.readouterr()
    assert run() == 1
    assert "the same command goes on from there" in capsys.readouterr().err
    [(name, first)] = made(tmp_path).items()
    assert first == whole[name]
    monkeypatch.setattr(upscale_jobs, "_save", save)
    assert run() == 0
    told = capsys.readouterr()
    assert "1 of 3 images are there already" in told.err
    assert len(told.out.splitlines()) == 2
    assert made(tmp_path) == whole


def test_other_settings_make_other_files_beside_the_first(run, tmp_path):
    for arguments in ([], ["--seed", "5"], ["--prompt", "a cat"], ["--noise-level", "90"]):
        assert run(*arguments, files=["image 0.png"]) == 0
    assert len(made(tmp_path)) == 4


@pytest.mark.parametrize(
    ("arguments", "files", "told"),
    [
        (["--factor", "3"], ["image 0.png"], "upscale 3 must be 2 or 4"),
        (["--noise-level", "400"], ["image 0.png"], "noise level 400 must be a whole number from 0 to 350"),
        (["--tile", "30"], ["image 0.png"], "upscale tile 30"),
        (["--batch-size", "0"], ["image 0.png"], "--batch-size 0"),
        (["--seed", "-1"], ["image 0.png"], "seed -1"),
        (["--prompt", "a", "--prompt", "b"], ["image 0.png"] * 3, "2 prompts for 3 files"),
        ([], ["image 0.png", "nowhere.png", "gone.png"], "gone.png"),
        (["--checkpoint", "demo"], ["image 0.png"], "enlarges no images"),
        (["--outdir", "/proc/none"], ["image 0.png"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, tmp_path, capsys, arguments, files, told):
    assert run(*arguments, files=files) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
    assert not (tmp_path / "out").exists() or not made(tmp_path)
