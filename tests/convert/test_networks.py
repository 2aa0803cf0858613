"""Folders of one network: written and read back bit for bit, and every kind of bad folder refused by name."""

import functools
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle3_jax import convert
from dalle3_jax.convert import networks
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.xfnet import XFNet
from tests.networks import randomised

ROOT = Path(__file__).parents[2]
ENCODER = T5Encoder(
    vocab_size=30, width=8, layers=3, heads=2, head_size=5, mlp_width=12, relative_buckets=8, relative_max_distance=16
)
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "encoder.block.1.layer.0.layer_norm.weight"

Tensors = dict[str, np.ndarray]


@functools.cache
def random_params():
    return randomised(ENCODER, jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool))


@pytest.fixture
def folder(tmp_path) -> Path:
    convert.save(tmp_path / "t5", ENCODER, random_params())
    return tmp_path / "t5"


@pytest.fixture
def sharded(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(networks, "SHARD", 4000)
    convert.save(tmp_path / "sharded", ENCODER, random_params())
    return tmp_path / "sharded"


def edit(path: Path, change: Callable[[Tensors], object]) -> None:
    """Changes the tensors of a file."""
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"format": "pt"}))


def edit_json(path: Path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}))


def refused(folder: Path, *texts: str) -> None:
    """Checks that one error says all of this."""
    with pytest.raises(ValueError, match=str(folder)) as error:
        convert.load(folder)
    assert [text for text in texts if text not in str(error.value)] == []


def assert_same(params, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, params, expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("limit", [10**9, 3000])
def test_what_was_written_is_read_bit_for_bit(dtype, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "SHARD", limit)
    stored = jax.tree.map(lambda leaf: np.asarray(leaf).astype(getattr(ml_dtypes, dtype, dtype)), random_params())
    convert.save(tmp_path / "t5", ENCODER, stored, dtype=dtype)
    module, params = convert.load(tmp_path / "t5", dtype=dtype)
    assert module == ENCODER.clone(dtype=jnp.dtype(dtype))
    assert convert.open(tmp_path / "t5").stored_types() == {dtype}
    wide = params["layers"]["feed_forward"]["wo"].pop("kernel")
    assert wide.dtype == ("float32" if dtype == "float16" else dtype)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {dtype}
    params["layers"]["feed_forward"]["wo"]["kernel"] = wide
    assert_same(params, stored)
    assert_same(convert.load(tmp_path / "t5")[1], jax.tree.map(lambda leaf: leaf.astype(np.float32), stored))


def test_the_files_are_as_the_public_library_names_them(folder, sharded):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", FILE]
    index = json.loads((sharded / INDEX).read_text())
    shards = sorted({*index["weight_map"].values()})
    assert len(shards) > 2
    assert shards == [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    assert sorted(path.name for path in sharded.iterdir()) == ["config.json", *shards, INDEX]
    assert all((sharded / shard).stat().st_size <= 4000 for shard in shards)
    tensors = safetensors.numpy.load_file(folder / FILE)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    found = {name: value for shard in shards for name, value in safetensors.numpy.load_file(sharded / shard).items()}
    assert_same(found, tensors)


def test_shards_and_one_file_are_the_same_network(folder, sharded):
    assert_same(convert.load(sharded)[1], convert.load(folder)[1])
    (sharded / INDEX).unlink()
    assert_same(convert.load(sharded)[1], random_params())


def test_a_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*"))[1]
    shard.unlink()
    refused(sharded, f"lacks {shard.name}", INDEX)
    (sharded / INDEX).unlink()
    refused(sharded, f"missing: {shard.name}")


def test_an_index_that_names_absent_tensors_is_refused(sharded):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    first, second = sorted({*weight_map.values()})[:2]
    moved = next(name for name, file in weight_map.items() if file == first)
    edit_json(sharded / INDEX, weight_map=weight_map | {"ghost": first, moved: second})
    refused(sharded, f"ghost is not in {first}", f"{moved} is not in {second}")


def test_a_shard_with_tensors_that_the_index_does_not_know_is_refused(sharded):
    shard = sorted(sharded.glob("model-*"))[0]
    edit(shard, lambda tensors: tensors.update(extra=np.zeros(2, np.float32)))
    refused(sharded, f"extra of {shard.name} is not in the index")


def test_a_tensor_in_two_shards_is_refused(sharded):
    one, two = sorted(sharded.glob("model-*"))[:2]
    tensor = min(safetensors.numpy.load_file(one))
    edit(two, lambda tensors: tensors.update({tensor: np.zeros(2, np.float32)}))
    refused(sharded, f"{tensor} is in {one.name} and in {two.name}")


def test_copies_must_be_copies(folder):
    edit(folder / FILE, lambda tensors: tensors.update({"encoder.embed_tokens.weight": tensors["shared.weight"]}))
    assert_same(convert.load(folder)[1], random_params())
    edit(folder / FILE, lambda tensors: tensors["encoder.embed_tokens.weight"].__setitem__((-1, -1), 7))
    refused(folder, "encoder.embed_tokens.weight differs from shared.weight")


def test_the_embedding_alone_under_the_name_of_its_copy_is_read(folder):
    edit(folder / FILE, lambda tensors: tensors.update({"encoder.embed_tokens.weight": tensors.pop("shared.weight")}))
    assert_same(convert.load(folder)[1], random_params())


@pytest.mark.parametrize("kept", ["decoder.embed_tokens.weight", "lm_head.weight"])
def test_a_t5_whose_file_kept_another_name_of_its_table_is_read(folder, kept):
    edit_json(folder / "config.json", tie_word_embeddings=True)
    edit(folder / FILE, lambda tensors: tensors.update({kept: tensors.pop("shared.weight")}))
    assert_same(convert.load(folder)[1], random_params())
    edit_json(folder / "config.json", tie_word_embeddings=False)
    if kept == "lm_head.weight":  # which is another table then
        refused(folder, "it lacks shared.weight or", "lm_head.weight cannot stand for it")
    else:
        assert_same(convert.load(folder)[1], random_params())


def test_in_float16_t5_adds_up_and_projects_back_in_float32(folder):
    """Weights and sums beyond float16's 65504, as trained encoders have them."""

    def enlarge(tensors: Tensors) -> None:
        for name in tensors:
            if name.endswith("wo.weight"):
                tensors[name] *= 2e5 / np.abs(tensors[name]).max()

    edit(folder / FILE, enlarge)
    ids, mask = jnp.asarray([[5, 9, 29, 1]]), jnp.ones((1, 4), bool)
    features = {}
    for dtype in ("float32", "float16"):
        module, params = convert.load(folder, dtype=dtype)
        features[dtype] = np.asarray(module.apply({"params": params}, ids, mask))
        assert features[dtype].dtype == dtype
    np.testing.assert_allclose(features["float16"], features["float32"], atol=0.05)
    edit(folder / FILE, lambda tensors: tensors["encoder.final_layer_norm.weight"].__imul__(1e6))
    with pytest.raises(ValueError, match=r"final_norm\.scale holds values too large for float16"):
        convert.load(folder, dtype="float16")


def test_the_decoder_is_ignored_whatever_it_holds(folder):
    others = {
        "decoder.block.0.layer.0.SelfAttention.q.weight": np.full((3, 3), np.nan, np.float32),
        "decoder.ids": np.arange(3),
        "lm_head.weight": np.zeros((30, 8), np.float32),
    }
    edit(folder / FILE, lambda tensors: tensors.update(others))
    assert_same(convert.load(folder)[1], random_params())


def test_every_misfit_is_named_at_once(folder):
    def change(tensors: Tensors) -> None:
        tensors["one.too.many"] = np.zeros(2, np.float32)
        tensors["shared.weight"] = tensors["shared.weight"].T
        tensors["encoder.block.3.layer.0.layer_norm.weight"] = tensors[NORM]
        del tensors["encoder.final_layer_norm.weight"], tensors[NORM]

    edit(folder / FILE, change)
    refused(
        folder,
        "tensor one.too.many (2,) has no place here",
        "tensor shared.weight (8, 30) gives (8, 30), token_embedding.embedding takes (30, 8)",
        "tensor encoder.block.3.layer.0.layer_norm.weight (8,) is number 3 of 3 layers",
        "parameter final_norm.scale (8,) is not filled",
        "parameter layers.norm_1.scale lacks layers 1",
    )


def test_another_class_over_the_same_files_is_refused(folder):
    edit_json(folder / "config.json", architectures=["BertModel"])
    refused(folder, "of the class BertModel, which cannot be read", "T5EncoderModel", "AutoencoderKL")
    edit_json(folder / "config.json", architectures=...)
    refused(folder, "names no class")
    edit_json(folder / "config.json", architectures=["CLIPTextModel"])
    refused(folder, "tensor shared.weight (30, 8) has no place here", "parameter token_embedding.embedding")


def test_a_bad_config_is_refused_with_all_that_is_wrong(folder):
    edit_json(folder / "config.json", d_kv=..., num_heads="2", feed_forward_proj="gated-swish", layer_norm_epsilon=1e-5)
    refused(folder, "d_kv is missing", "num_heads is missing", "feed_forward_proj='gated-swish'", "epsilon=1e-05")


@pytest.mark.parametrize("name", ["vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"])
@pytest.mark.parametrize("value", [7, 10**9, 10**30])
def test_sizes_that_the_tensors_do_not_have_are_refused(name, value, folder):
    edit_json(folder / "config.json", **{name: value})
    refused(folder, "weights do not fit the network" if value < 2**31 else f"{name} is missing or no positive")


def test_tensors_of_whole_numbers_are_refused_before_any_is_read(folder, monkeypatch):
    monkeypatch.setattr(networks, "place_arrays", None)
    edit(
        folder / FILE,
        lambda tensors: tensors.update({NORM: np.ones(8, np.int32), "shared.weight": np.ones((30, 8), bool)}),
    )
    refused(folder, f"{NORM} in {FILE} is int32", f"shared.weight in {FILE} is bool", "float16, bfloat16, float32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_value_that_is_not_finite_is_named_with_its_file(value, dtype, sharded):
    shard = next(path for path in sharded.glob("model-*") if NORM in safetensors.numpy.load_file(path))
    edit(shard, lambda tensors: tensors.update({NORM: np.array([1] * 7 + [value], dtype)}))
    refused(sharded, f"{NORM} in {shard} holds NaN or infinity")


def test_a_value_that_the_type_asked_for_cannot_hold_is_named(folder):
    edit(folder / FILE, lambda tensors: tensors[NORM].__setitem__(3, 1e6))
    with pytest.raises(ValueError, match=r"layers\.norm_1\.scale holds values too large for float16"):
        convert.load(folder, dtype=jnp.float16)
    assert convert.load(folder, dtype=jnp.bfloat16)[1]["layers"]["norm_1"]["scale"][1, 3] > 9e5


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:100], lambda data: data + b"\0"])
def test_a_file_that_was_cut_short_is_named(damage, folder):
    (folder / FILE).write_bytes(damage((folder / FILE).read_bytes()))
    refused(folder, FILE, "cut short or damaged")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (str(self.path),)


@pytest.mark.parametrize("name", [FILE, "pytorch_model.bin", "model.ckpt", "model.pt"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_under_any_name_is_refused_with_advice_and_never_executed(name, protocol, folder, tmp_path):
    (folder / FILE).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "trapped"), protocol))
    for path in (folder, folder / name):
        for read in (convert.load, convert.open, open_release):
            with pytest.raises(ValueError, match=str(path)) as error:
                read(path)
            if name != FILE or protocol > 1:
                assert "safe_serialization=True" in str(error.value)
    assert not (tmp_path / "trapped").exists()


def test_a_file_that_is_a_pickle_beside_good_ones_does_not_matter(folder):
    (folder / "pytorch_model.bin").write_bytes(b"\x80\2")
    assert_same(convert.load(folder)[1], random_params())


@pytest.mark.parametrize("name", ["none", "config.json"])
def test_what_is_no_folder_is_refused_by_name(name, folder):
    refused(folder / name)


def test_shardings_say_where_every_parameter_goes(folder):
    mesh = Mesh(np.array(jax.devices()[:1]), ("x",))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def by_axes(boxed):
        assert boxed["layers"]["norm_1"]["scale"].names[0] == "layers"
        return jax.tree.map(lambda leaf: everywhere, boxed, is_leaf=lambda leaf: hasattr(leaf, "names"))

    for shardings in (everywhere, by_axes):
        _, params = convert.load(folder, shardings=shardings)
        assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {everywhere}
        assert_same(params, random_params())


SHARES = """
import sys
import jax, numpy as np
from dalle3_jax import convert
from dalle3_jax.training.sharding import make_mesh, param_shardings

mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
_, whole = convert.load(sys.argv[1])
_, split = convert.load(sys.argv[1], shardings=lambda boxed: param_shardings(boxed, mesh))

def check(path, one, many):
    np.testing.assert_array_equal(one, many)
    assert len(many.addressable_shards) == 8
    [part] = {shard.data.size for shard in many.addressable_shards}
    print("share", jax.tree_util.keystr(path, simple=True, separator="."), one.size // part)

jax.tree_util.tree_map_with_path(check, whole, split)
"""


def test_every_device_holds_its_share_of_the_stacked_parameters_too(folder):
    flags = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", SHARES, str(folder)]
    done = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shares = {name: int(count) for _, name, count in (line.split() for line in done.stdout.splitlines())}
    assert shares.keys() == flatten_dict(random_params(), sep=".").keys()
    split = {"attention.query": 4, "attention.out": 2, "feed_forward.wi_0": 4, "feed_forward.wo": 4}
    assert {name: shares[f"layers.{name}.kernel"] for name in split} == split
    assert shares["token_embedding.embedding"] > 1


@pytest.mark.parametrize("limit", [10**9, 3000])
def test_a_failing_save_leaves_nothing_behind(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "SHARD", limit)
    broken = jax.tree.map(np.array, random_params())
    broken["final_norm"]["scale"][0] = np.nan
    with pytest.raises(ValueError, match=r"encoder\.final_layer_norm\.weight is not finite"):
        convert.save(tmp_path / "t5", ENCODER, broken)
    large = jax.tree.map(np.array, random_params())
    large["layers"]["norm_1"]["scale"][1, 2] = 1e6
    with pytest.raises(ValueError, match=rf"{NORM} is not finite as float16"):
        convert.save(tmp_path / "t5", ENCODER, large, dtype="fp16")
    with pytest.raises(ValueError, match=r"parameter extra \(1,\) is not filled"):
        convert.save(tmp_path / "t5", ENCODER, random_params() | {"extra": np.ones(1, np.float32)})
    with pytest.raises(ValueError, match="cannot be stored as 'int8'"):
        convert.save(tmp_path / "t5", ENCODER, random_params(), dtype="int8")
    with pytest.raises(ValueError, match="a XFNet is in no public layout"):
        convert.save(tmp_path / "t5", XFNet("mlp", 8, 8), random_params())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(folder):
    before = (folder / FILE).read_bytes()
    for path in (folder, folder / FILE):
        with pytest.raises(ValueError, match=f"{path} exists and is not empty"):
            convert.save(path, ENCODER, random_params())
    assert (folder / FILE).read_bytes() == before
    assert len(list(folder.iterdir())) == 2
