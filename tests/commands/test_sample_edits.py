"""`dalle3-jax sample` that begins with images: flags, lines of a file, edits in words, variations, and repeats."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.commands import sample
from tests.commands.outputs import manifest

PIXELS = np.random.default_rng(8).integers(0, 256, (16, 16, 3), np.uint8)
HALF = np.repeat(np.arange(16)[:, None] < 8, 16, axis=1)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """An image, another one, and a mask of its upper half."""
    images = {"image": PIXELS, "other": 255 - PIXELS, "mask": np.where(HALF, 255, 0).astype(np.uint8)}
    for name, pixels in images.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in images}


def test_an_edited_image_repeats_with_its_own_input_alone(run, out, files, capsys):
    asked = ["--image", files["image"], "--mask", files["mask"], "--prompt", "a fox"]
    assert run(*asked) == 0
    [line] = manifest(out)
    with Image.open(out / line["file"]) as image:
        np.testing.assert_array_equal(np.asarray(image)[~HALF], PIXELS[~HALF])
        assert (np.asarray(image)[HALF] != PIXELS[HALF]).mean() > 0.5
    capsys.readouterr()
    run(*asked)
    assert "1 of 1 pictures are there already" in capsys.readouterr().err
    repeat = ["--repeat", out / line["file"]]
    given = ["--image", files["image"], "--mask", files["mask"]]
    assert run(*repeat, *given, batch_size=None) == 0
    assert capsys.readouterr().out.splitlines()[1] == "the same in every pixel"
    assert run(*repeat, batch_size=None) == 2
    assert f"made from the image of SHA-256 {line['image']}" in capsys.readouterr().err
    assert run(*repeat, *given[2:], "--image", files["other"], batch_size=None) == 2
    assert f"and the image of the picture {line['image']}" in capsys.readouterr().err
    assert run(*repeat, *given, "--image-prompt", files["other"], batch_size=None) == 2
    assert "made without an image prompt: leave it out" in capsys.readouterr().err


def test_lines_of_a_file_have_images_of_their_own(run, out, files, tmp_path):
    lines = [{"prompt": "a fox", "image": str(files["image"]), "strength": 0.5}, {"prompt": "an owl"}]
    lines += [{"prompt": "a cat", "image": str(files["other"]), "outpaint": "2:1"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert run("--prompts-file", tmp_path / "p.jsonl") == 0
    made = {line["prompt"]: line for line in manifest(out)}
    assert made["a fox"]["strength"] == 0.5
    assert "image" not in made["an owl"]
    assert (made["a cat"]["strength"], made["a cat"]["width"]) == (1.0, 32)


def test_variations_have_the_prompt_of_the_image_and_new_seeds(run, out):
    run("--prompt", "a fox", "--seed", 5)
    [first] = manifest(out)
    assert run("--variations", out / first["file"], "-n", 2, "--strength", 0.5) == 0
    made = manifest(out)[1:]
    assert [(line["prompt"], line["seed"], line["strength"]) for line in made] == [("a fox", 6, 0.5), ("a fox", 7, 0.5)]
    assert run("--variations", out / first["file"], "--strength", 1, "--seed", 5) == 0
    assert len(manifest(out)) == 3, "the image itself is what its prompt and its seed give"


def test_an_edit_in_words_is_what_the_template_makes_of_the_prompt(run, out, monkeypatch):
    run("--prompt", "a fox", "--seed", 5)
    [first] = manifest(out)
    asked = []
    monkeypatch.setattr(sample.editing, "follow_instruction", lambda *told: asked.append(told[:2]) or "an owl")
    assert run("--image", out / first["file"], "--edit", "make it an owl") == 0
    assert asked == [("make it an owl", "a fox")]
    made = manifest(out)[1]
    assert (made["prompt"], made["original_prompt"], made["seed"]) == ("an owl", "make it an owl", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "{image}"], "there is no prompt"),
        (["--image", "nowhere.png", "--prompt", "x"], "cannot read nowhere.png"),
        (["--mask", "{mask}", "--prompt", "x"], "mask without an image to edit"),
        (["--image", "{image}", "--prompt", "x", "--strength", "1"], "strength 1 keeps nothing"),
        (["--image", "{image}", "--edit", "x", "--prompt", "y"], "leave out --prompt"),
        (["--edit", "make it night"], "--edit changes an image: give --image FILE"),
        (["--image", "{image}", "--edit", "make it night"], "which carries no prompt"),
        (["--variations", "{image}"], "which carries no prompt"),
        (["--variations", "{image}", "--image", "{image}"], "leave out --image"),
        (["--captioner", "demo", "--prompt", "x"], "--captioner describes an image"),
    ],
)
def test_what_cannot_be_edited_is_one_line_and_status_2(run, files, capsys, arguments, message):
    assert run(*[argument.format(**files) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert told.count("\n") == 1
    assert message in told


def test_a_bad_edit_is_refused_before_any_weights_are_read(run, files, capsys):
    asked = ["--image", files["image"], "--prompt", "x", "--outpaint", "1:1"]
    assert run(*asked, checkpoint=Path("nowhere")) == 2
    assert "adds nothing" in capsys.readouterr().err
