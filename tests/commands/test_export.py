"""`dalle3-jax export`: what is no run, or no finished checkpoint, is said in one line; releases in other types."""

import dataclasses

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.checkpoints.tensors import Tensors
from dalle3_jax.commands.export import main
from dalle3_jax.loading.locate import find_stage
from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.tiny import tiny_upscaler


def test_a_workdir_stands_for_its_base_stage(tmp_path):
    for stage in ("vae", "base"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "config.json").write_text("{}")
    assert find_stage(tmp_path) == tmp_path / "base"
    assert find_stage(tmp_path / "vae") == tmp_path / "vae"


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_what_is_no_run_is_said_in_one_line(tmp_path, capsys, name):
    assert main([str(tmp_path / name), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "is not a training workdir" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_checkpoint_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "00000004").mkdir(parents=True)  # a save that was killed: it has no manifest
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "has no finished checkpoint yet" in capsys.readouterr().err


def test_a_release_in_8_bits_stays_one_and_becomes_floats_where_that_is_asked(release_folder, tmp_path):
    int8, again, half = (str(tmp_path / name) for name in ("int8", "again", "half"))
    assert main([str(release_folder), int8, "--dtype", "int8"]) == 0
    assert main([int8, again]) == 0
    assert main([int8, half, "--dtype", "float16"]) == 0
    assert load_release(again).digest == load_release(int8).digest != load_release(release_folder).digest
    exact, halves = (jax.tree.leaves(load_release(name).params) for name in (int8, half))
    for value, rounded in zip(exact, halves, strict=True):
        np.testing.assert_array_equal(np.asarray(value, np.float16), rounded)


def test_diffusers_get_the_floats_of_a_release_in_8_bits(release_folder, tmp_path, capsys):
    int8, folder = tmp_path / "int8", tmp_path / "folder"
    assert main([str(release_folder), str(int8), "--dtype", "int8"]) == 0
    assert main([str(int8), str(folder), "--format", "diffusers"]) == 0
    assert {array.dtype.name for path in folder.rglob("*.safetensors") for array in Tensors(path).values()} == {
        "float32"
    }
    found, expected = open_release(folder / "text_encoder").params, load_release(int8).params
    jax.tree.map(np.testing.assert_array_equal, found["text_encoder"], expected["text_encoder"])
    capsys.readouterr()
    assert main([str(int8), str(tmp_path / "other"), "--format", "diffusers", "--dtype", "int8"]) == 2
    assert "cannot be stored as 'int8'; one of float16, bfloat16, float32, fp16" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_an_upscaler_joins_the_release_whose_captions_it_was_trained_on(release_folder, tmp_path, capsys):
    part, whole = tmp_path / "upscaler", tmp_path / "whole"
    save_release(part, tiny_upscaler())
    assert main([str(release_folder), str(whole), "--add", str(part)]) == 0
    joined = load_release(whole)
    assert set(joined.modules) == {*load_release(release_folder).modules, "upscaler"}
    assert joined.upscaler == tiny_upscaler().upscaler
    assert Upscaler(joined).factors == (2, 4)
    other = dict(tiny_upscaler().params)
    other["xfnet"] = jax.tree.map(lambda leaf: leaf + 0.125, other["xfnet"])
    save_release(part, dataclasses.replace(tiny_upscaler(), params=other))
    capsys.readouterr()
    assert main([str(release_folder), str(tmp_path / "wrong"), "--add", str(part)]) == 2
    assert "was trained with another xfnet than this release has" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()
