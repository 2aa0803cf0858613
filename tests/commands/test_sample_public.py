"""`dalle3-jax sample` on folders of diffusers: their decoders, types, variants, and without their text encoder."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.commands.sample import main
from tests import public_folders
from tests.commands.outputs import contents, manifest


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory) -> Path:
    return public_folders.consistency_decoder(tmp_path_factory.mktemp("public") / "decoder")


@pytest.fixture
def sample(sd_folder, tmp_path, capsys):
    """The command on the tiny Stable Diffusion: two prompts in two steps into a folder; returns the folder."""

    def call(name: str, *arguments: object, checkpoint: Path = sd_folder, status: int = 0) -> Path:
        words = ["--checkpoint", checkpoint, "--outdir", tmp_path / name, "--steps", 2, "--batch-size", 2]
        assert main([str(word) for word in (*words, *PROMPTS, *arguments)]) == status
        return tmp_path / name

    return call


PROMPTS = ("--prompt", "a cat", "--prompt", "the dog", "--seed", 3)


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path), int) for path in sorted(folder.glob("*.png"))])


def test_a_folder_makes_pictures_once(sample, capsys):
    out = sample("out")
    before = contents(out)
    assert [line["sampler"] for line in manifest(out)] == ["pndm", "pndm"]
    assert pictures(out).shape == (2, 16, 16, 3)
    sample("out")
    assert "2 of 2 pictures are there already" in capsys.readouterr().err
    assert contents(out) == before


def test_pictures_without_the_text_encoder_are_the_same_files(sample):
    assert contents(sample("dropped", "--drop-text-encoder")) == contents(sample("out"))


def test_a_repeat_may_drop_the_text_encoder_too(sample, sd_folder, tmp_path, capsys):
    path = min(sample("out").glob("*.png"))
    words = ["--repeat", path, "--checkpoint", sd_folder, "--outdir", tmp_path / "out", "--drop-text-encoder"]
    assert main([str(word) for word in words]) == 0
    assert "the same in every pixel" in capsys.readouterr().out


def test_the_consistency_decoder_of_another_folder_decodes(sample, decoder_folder):
    drawn = sample("drawn", "--decoder-checkpoint", decoder_folder, "--decoder", "consistency")
    assert {line["decoder"] for line in manifest(drawn)} == {"consistency"}
    vae = sample("vae", "--decoder-checkpoint", decoder_folder)
    assert (pictures(drawn) != pictures(vae)).mean() > 0.5
    np.testing.assert_array_equal(pictures(vae), pictures(sample("out")))
    digests = {folder.name: {line["checkpoint"] for line in manifest(folder)} for folder in (drawn, vae)}
    assert digests["drawn"] == digests["vae"] != {manifest(sample("out"))[0]["checkpoint"]}


def test_a_decoder_of_other_latents_is_refused_with_the_reason(sample, decoder_folder, sdxl_folder, capsys):
    how = ("--decoder-checkpoint", decoder_folder, "--decoder", "consistency")
    out = sample("out", *how, checkpoint=sdxl_folder, status=2)
    told = capsys.readouterr().err
    assert "the decoder consistency was made for other latents than this release's: scale (0.13025, " in told
    assert "not (0.18215, " in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_decoder_that_is_not_there_is_named(sample, capsys):
    sample("out", "--decoder", "consistency", status=2)
    assert "unknown decoder 'consistency': use one of vae" in capsys.readouterr().err


def test_half_the_width_makes_nearly_the_same_pictures(sample):
    full, half = pictures(sample("out")), pictures(sample("half", "--dtype", "bf16"))
    assert 0 < np.abs(full - half).mean() < 8


def test_an_unknown_type_is_one_line(sample, capsys):
    out = sample("out", "--dtype", "int4", status=2)
    told = capsys.readouterr().err
    assert "weights cannot be stored as 'int4'; one of" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_files_of_a_variant_are_taken_where_they_are_asked_for(sample, sd_folder, tmp_path, capsys):
    copy = Path(shutil.copytree(sd_folder, tmp_path / "copy"))
    for path in copy.glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    public_folders.network(tmp_path / "other", public_folders.UNET, seed=8)
    weights = "diffusion_pytorch_model.safetensors"
    shutil.copy(tmp_path / "other" / weights, copy / "unet" / weights)
    fp16 = sample("fp16", "--variant", "fp16", checkpoint=copy)
    np.testing.assert_array_equal(pictures(fp16), pictures(sample("out")))
    plain = sample("plain", checkpoint=copy)
    assert (pictures(plain) != pictures(fp16)).mean() > 0.2
    sample("none", "--variant", "bf16", checkpoint=copy, status=2)
    assert "there are no weights of variant 'bf16'" in capsys.readouterr().err


def test_the_spacing_of_a_folder_can_be_changed(sample):
    out = sample("trailing", "--spacing", "trailing")
    assert {line["spacing"] for line in manifest(out)} == {"trailing"}
    assert (pictures(out) != pictures(sample("out"))).mean() > 0.2
