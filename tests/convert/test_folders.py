"""Which files of a folder are a network's weights, and the JSON beside them."""

import json
from pathlib import Path

import pytest

from dalle3_jax.convert.folders import class_name, read_index, read_json, weight_files, weight_names

FULL, HALF = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors"
RAW = "diffusion_pytorch_model.non_ema.safetensors"
INDEX, HALF_INDEX = "model.safetensors.index.json", "model.safetensors.index.fp16.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
HALF_SHARDS = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]
BEHIND = ["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"]


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def indexed(folder: Path, name: str, files: list[str]) -> Path:
    weight_map = {f"tensor.{number}": file for number, file in enumerate(files)}
    (folder / name).write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": weight_map}))
    return folder


@pytest.mark.parametrize(
    ("names", "variant", "expected"),
    [
        ([FULL, HALF], None, (None, [FULL])),
        ([FULL, HALF], "fp16", (None, [HALF])),
        ([HALF, "config.json"], None, (None, [HALF])),
        (["model.safetensors", "pytorch_model.bin"], None, (None, ["model.safetensors"])),
        ([RAW, FULL], None, (None, [FULL])),
        ([RAW, FULL], "non_ema", (None, [RAW])),
        (["model.bf16.safetensors"], None, (None, ["model.bf16.safetensors"])),
        ([*SHARDS, INDEX], None, (INDEX, SHARDS)),
        ([*HALF_SHARDS, HALF_INDEX], None, (HALF_INDEX, HALF_SHARDS)),
        ([*BEHIND, HALF_INDEX], "fp16", (HALF_INDEX, BEHIND)),
        ([*HALF_SHARDS, HALF_INDEX, *SHARDS, INDEX], None, (INDEX, SHARDS)),
        ([*BEHIND, HALF_INDEX, *SHARDS, INDEX], "fp16", (HALF_INDEX, BEHIND)),
        ([*BEHIND, *SHARDS], None, (None, SHARDS)),
        (["model.safetensors", *SHARDS, INDEX], None, (None, ["model.safetensors"])),
    ],
)
def test_the_weights_are_picked_by_name(names, variant, expected):
    assert weight_names(names, variant) == expected
    assert weight_names(set(names), variant) == expected


@pytest.mark.parametrize(
    ("names", "variant", "said"),
    [
        ([FULL], "fp16", "no weights of variant 'fp16'; there are full precision"),
        (["model.a.safetensors", "model.b.safetensors"], None, "name one of a, b"),
        (SHARDS[1:], None, "missing: model-00001-of-00002.safetensors"),
        (HALF_SHARDS[:1], None, r"missing: model\.fp16-00002-of-00002"),
        (BEHIND[:1], "fp16", r"missing: model-00002-of-00002\.fp16\.safetensors"),
        ([*SHARDS, "model-00001-of-00003.safetensors"], None, "of 2 and of 3"),
        ([*HALF_SHARDS, BEHIND[0]], None, "more shards than 2"),
        (["sdxl_vae.safetensors"], None, "rename one of sdxl_vae.safetensors"),
        (["config.json"], None, "no weights that can be read"),
    ],
)
def test_weights_that_cannot_be_told_are_named(names, variant, said):
    with pytest.raises(ValueError, match=said):
        weight_names(names, variant)


@pytest.mark.parametrize("suffix", ["bin", "ckpt", "pt", "pth", "pkl", "pt2", "msgpack", "h5"])
def test_files_that_can_run_code_are_never_weights(suffix):
    with pytest.raises(ValueError, match=rf"model\.{suffix} can run code .* safe_serialization=True") as raised:
        weight_names([f"pytorch_model.{suffix}", "config.json"])
    assert "config.json" not in str(raised.value)


def test_one_file_comes_without_an_index(tmp_path):
    assert weight_files(write(tmp_path, FULL, HALF)) == ([tmp_path / FULL], None)
    assert weight_files(tmp_path, "fp16") == ([tmp_path / HALF], None)


def test_the_index_says_which_shards_there_are(tmp_path):
    odd = ["first.safetensors", "second.safetensors"]
    files, index = weight_files(indexed(write(tmp_path, *odd, *SHARDS), INDEX, [odd[1], odd[0], odd[1]]))
    assert files == [tmp_path / name for name in odd]
    assert index == {"tensor.0": odd[1], "tensor.1": odd[0], "tensor.2": odd[1]}


def test_a_missing_shard_is_named(tmp_path):
    indexed(write(tmp_path, SHARDS[0]), INDEX, SHARDS)
    (tmp_path / SHARDS[1]).mkdir()
    with pytest.raises(ValueError, match=rf"{tmp_path.name} lacks {SHARDS[1]}, which {INDEX} names"):
        weight_files(tmp_path)


def test_a_folder_is_a_folder_of_files(tmp_path):
    (tmp_path / FULL).mkdir()
    with pytest.raises(ValueError, match="no weights that can be read"):
        weight_files(tmp_path)
    with pytest.raises(ValueError, match="cannot read the folder"):
        weight_files(tmp_path / "none")


def test_a_link_to_a_file_is_a_file(tmp_path):
    (tmp_path / "blob").write_bytes(b"")
    (tmp_path / FULL).symlink_to(tmp_path / "blob")
    assert weight_files(tmp_path)[0] == [tmp_path / FULL]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[1]", "holds a list, not an object"),
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"a": {"b": 1, "b": 1}}', "the key 'b' occurs twice"),
        (b'{"a": "\xff"}', "not JSON that can be trusted"),
        ('{"a": 1}'.encode("utf-16"), "not JSON that can be trusted"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON that can be trusted"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON that can be trusted"),
        (b"", "not JSON that can be trusted"),
        (b'{"a": "' + b"x" * 400_000 + b'"}', "more than 300000 bytes"),
    ],
    ids=["list", "twice", "twice inside", "not UTF-8", "UTF-16", "deep", "long number", "empty", "large"],
)
def test_json_that_cannot_be_trusted_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        read_json(path, limit=300_000)
    assert str(path) in str(raised.value)


def test_json_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_json(path, limit=path.stat().st_size) == {"a": [1, "é"]}
    with pytest.raises(ValueError, match="too many"):
        read_json(path, limit=path.stat().st_size - 1)
    for other in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ValueError, match="there is no file"):
            read_json(other)


@pytest.mark.parametrize(
    "name",
    [
        *("../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "a\\b.safetensors", "model.bin", ""),
        *(
            "..safetensors",
            ".safetensors",
            "model.safetensors\n",
            "C:model.safetensors",
            "mod\0el.safetensors",
            3,
            None,
        ),
    ],
)
def test_an_index_names_files_of_its_own_folder(tmp_path, name):
    indexed(tmp_path, INDEX, [SHARDS[0], name])
    with pytest.raises(ValueError, match="plain names"):
        read_index(tmp_path / INDEX)


@pytest.mark.parametrize("weight_map", [None, {}, [], "model.safetensors"])
def test_an_index_maps_tensors(tmp_path, weight_map):
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ValueError, match="no weight_map"):
        read_index(tmp_path / INDEX)


def test_a_config_names_its_class():
    assert class_name({"_class_name": "UNet2DConditionModel", "architectures": ["X"]}) == "UNet2DConditionModel"
    assert class_name({"architectures": ["T5EncoderModel", "X"]}) == "T5EncoderModel"
    for config in ({}, {"architectures": []}, {"architectures": "X"}, {"_class_name": 3}, {"_class_name": ""}):
        with pytest.raises(ValueError, match="names no class"):
            class_name(config)


def test_what_systems_leave_beside_weights_is_none(tmp_path):
    strays = f"._{FULL}", ".nfs0001.safetensors", "Thumbs.db"
    assert weight_files(write(tmp_path, FULL, *strays)) == ([tmp_path / FULL], None)
