"""Releases in 8 bits: what their files say, what is loaded of them, and every file that is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from dalle3_jax.checkpoints.int8 import SUFFIX
from dalle3_jax.checkpoints.release_record import seal_record
from dalle3_jax.checkpoints.releases import Release, load_release, save_release, weights_digest
from dalle3_jax.checkpoints.weights import read_weights, sha256, write_weights
from dalle3_jax.models.build import build_models
from tests.tiny import randomised, tiny_decoders, tiny_release

RNG = np.random.default_rng(0)
KERNEL, BIAS = "encoder.conv_in.kernel", "encoder.conv_in.bias"


@pytest.fixture(scope="module")
def vae() -> Release:
    """The VAE alone, with weights that 8 bits do not hold."""
    whole = tiny_release()
    return Release({"vae": whole.modules["vae"]}, {"vae": whole.params["vae"]}, whole.latent)


@pytest.fixture(scope="module")
def int8_folder(vae, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "r"
    save_release(folder, vae, "int8")
    return folder


@pytest.fixture
def copy(int8_folder, tmp_path) -> Path:
    return Path(shutil.copytree(int8_folder, tmp_path / "copy"))


def leaves(release: Release) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in flatten_dict(release.params["vae"], sep=".").items()}


def stored(folder: Path) -> dict[str, np.ndarray]:
    return {name: value for path in folder.glob("vae-*") for name, value in safetensors.numpy.load_file(path).items()}


def test_the_file_says_everything(vae, int8_folder):
    found, before, tensors = leaves(load_release(int8_folder)), leaves(vae), stored(int8_folder)
    kernels = {name for name in before if name.endswith("kernel")}
    assert tensors.keys() == before.keys() | {name + SUFFIX for name in kernels}
    for name, value in before.items():
        assert found[name].dtype == np.float32
        if name in kernels:
            scale = tensors[name + SUFFIX]
            assert (tensors[name].dtype, scale.dtype) == (np.int8, np.float32)
            np.testing.assert_array_equal(found[name], tensors[name] * scale)
            assert (np.abs(found[name] - value) <= 0.500001 * scale).all()
        else:
            assert tensors[name].dtype == np.float16
            np.testing.assert_array_equal(found[name], value.astype(np.float16))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16])
def test_another_dtype_rounds_the_values(int8_folder, dtype):
    exact, found = leaves(load_release(int8_folder)), leaves(load_release(int8_folder, dtype=dtype))
    for name, value in exact.items():
        assert found[name].dtype == dtype
        np.testing.assert_array_equal(found[name], value.astype(dtype))


def test_the_version_is_raised_only_where_it_must_be(vae, int8_folder, tmp_path):
    for dtype, version in {"float16": 1, "bfloat16": 1, "float32": 1, "int8": 2}.items():
        save_release(tmp_path / dtype, vae, dtype)
        record = json.loads((tmp_path / dtype / "model.json").read_text())
        assert record["format_version"] == version
        assert record["components"]["vae"]["dtype"] == dtype
        assert f"{dtype}, 1 file(s)" in (tmp_path / dtype / "MODEL_CARD.md").read_text()
    assert record["components"]["vae"]["parameters"] == sum(value.size for value in leaves(vae).values())


def test_what_was_loaded_is_saved_again_byte_for_byte(int8_folder, tmp_path):
    loaded = load_release(int8_folder)
    save_release(tmp_path / "again", loaded, "int8")
    assert load_release(tmp_path / "again").digest == loaded.digest
    for path in int8_folder.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_the_vae_of_the_latents_is_known_by_the_values_that_are_loaded(vae, int8_folder, tmp_path):
    loaded = load_release(int8_folder)
    assert loaded.latent is not None
    assert loaded.latent.vae == weights_digest(loaded.params["vae"])
    save_release(tmp_path / "half", vae)
    half = load_release(tmp_path / "half").latent
    assert half is not None
    assert half.vae != loaded.latent.vae


def test_decoders_stay_decoders_of_these_latents(tmp_path):
    save_release(tmp_path / "half", tiny_decoders())
    save_release(tmp_path / "int8", load_release(tmp_path / "half"), "int8")
    found = load_release(tmp_path / "int8")
    assert {part.latent for part in found.decoders.values()} == {found.latent}


def test_a_release_takes_half_the_room_of_float16(tmp_path):
    fields = {"vocab_size": 64, "width": 128, "layers": 2, "heads": 2, "head_size": 64, "mlp_width": 256}
    modules = build_models({"text_encoder": fields})
    params = {name: randomised(module, modules, 0) for name, module in modules.items()}
    sizes = {}
    for dtype in ("float16", "int8"):
        save_release(tmp_path / dtype, Release(modules, params), dtype)
        sizes[dtype] = sum(path.stat().st_size for path in (tmp_path / dtype).glob("*.safetensors"))
    assert 0.49 < sizes["int8"] / sizes["float16"] < 0.54


def test_files_stay_under_their_limit_with_a_matrix_beside_its_scales(tmp_path):
    tensors = {f"layer_{i}.kernel": RNG.normal(size=(3, 40 * (i % 5 + 1))) for i in range(30)}
    tensors |= {f"layer_{i}.bias": RNG.normal(size=200) for i in range(10)}
    axes = {name: (0,) for name in tensors if name.endswith("kernel")}
    hashes = write_weights(tmp_path, "x", tensors, np.dtype(np.int8), axes=axes, limit=4000)
    assert len(hashes) > 5
    assert max((tmp_path / name).stat().st_size for name in hashes) <= 4000
    found = [read_weights(tmp_path / name, digest) for name, digest in hashes.items()]
    assert sorted(name for part in found for name in part) == sorted([*tensors, *(name + SUFFIX for name in axes)])
    for part in found:
        assert {name for name in part if name.endswith(SUFFIX)} == {name + SUFFIX for name in part if name in axes}


def test_values_that_cannot_be_stored_are_named(vae, tmp_path):
    for leaf, told in (("kernel", "vae.encoder.conv_in.kernel: .*int8"), ("bias", "conv_in.bias .* as float16")):
        broken = jax.tree.map(np.array, vae.params)
        broken["vae"]["encoder"]["conv_in"][leaf].flat[1] = np.inf
        with pytest.raises(ValueError, match=told):
            save_release(tmp_path / "new", dataclasses.replace(vae, params=broken), "int8")
    assert list(tmp_path.iterdir()) == []


def rewrite(folder: Path, change, edit=lambda record: None) -> None:
    """Changes the tensors, and model.json, as their maker could have: all hashes are right again."""
    [path] = folder.glob("vae-*")
    tensors = dict(safetensors.numpy.load_file(path))
    change(tensors)
    path.write_bytes(safetensors.numpy.save(tensors))
    record = json.loads((folder / "model.json").read_text())
    record.pop("sha256")
    record["components"]["vae"]["files"][path.name] = sha256(path.read_bytes())
    edit(record)
    (folder / "model.json").write_text(json.dumps(seal_record(record)))


def put(name: str, value):
    """A change of one tensor: `value` of what it was."""

    def change(tensors: dict) -> None:
        tensors[name] = value(tensors[name])

    return change


def at(value: float):
    """The same scales with another one among them."""

    def change(scale: np.ndarray) -> np.ndarray:
        scale = scale.copy()
        scale.flat[-1] = value
        return scale

    return change


SCALE, FEW = KERNEL + SUFFIX, "holds scales that are not finite and positive"
REFUSED = {
    "missing": (lambda tensors: tensors.pop(SCALE), rf"{SCALE} is missing"),
    "infinite": (put(SCALE, at(np.inf)), rf"{SCALE} in vae-.* holds values that are not finite"),
    "NaN": (put(SCALE, at(np.nan)), rf"{SCALE} in vae-.* holds values that are not finite"),
    "zero": (put(SCALE, at(0)), rf"{SCALE} {FEW}"),
    "negative": (put(SCALE, at(-0.1)), rf"{SCALE} {FEW}"),
    "subnormal": (put(SCALE, at(1e-40)), rf"{SCALE} {FEW}"),
    "too large": (put(SCALE, at(3e36)), rf"{SCALE} {FEW}"),
    "a scale of them all": (
        put(SCALE, lambda s: s[..., :1]),
        rf"{SCALE} is \(1, 1, 1, 1\) and should be \(1, 1, 1, 4\)",
    ),
    "without axes": (put(SCALE, lambda s: s.ravel()), rf"{SCALE} is \(4,\) and should be \(1, 1, 1, 4\)"),
    "of the inputs": (put(SCALE, lambda s: np.ones((1, 1, 3, 1), "f4")), rf"{SCALE} is \(1, 1, 3, 1\) and should be"),
    "of another type": (put(SCALE, lambda s: s.astype("f2")), rf"{SCALE} is float16 and should be float32"),
    "in 8 bits": (put(SCALE, lambda s: np.ones(s.shape, "i1")), rf"{SCALE} is int8 and should be float32"),
    "of nothing": (lambda t: t.update({BIAS + SUFFIX: t[SCALE]}), rf"{BIAS}{SUFFIX} is there without a matrix"),
    "without its matrix": (lambda t: t.pop(KERNEL), rf"{SCALE} is there without a matrix"),
    "a matrix of floats": (put(KERNEL, lambda k: k.astype("f2")), rf"{KERNEL} is float16 and should be int8"),
    "a bias in 8 bits": (put(BIAS, lambda b: b.astype("i1")), rf"{BIAS} is int8 and should be float16"),
    "a bias of float32": (put(BIAS, lambda b: b.astype("f4")), rf"{BIAS} is float32 and should be float16"),
    "a bias of whole numbers": (
        put(BIAS, lambda b: b.astype("i8")),
        rf"{BIAS} in vae-.* is int64, model.json says int8",
    ),
    "a bias that is not finite": (put(BIAS, at(np.nan)), rf"{BIAS} in vae-.* holds values that are not finite"),
    "a matrix of another shape": (put(KERNEL, lambda k: k[:2]), r"conv_in.kernel is \(2, 3, 48, 4\) and should be"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_that_is_not_as_it_should_be_is_refused_before_it_is_used(kind, copy, monkeypatch):
    change, told = REFUSED[kind]
    rewrite(copy, change)
    monkeypatch.setattr("dalle3_jax.checkpoints.releases.place_arrays", None)
    with pytest.raises(ValueError, match=told) as raised:
        load_release(copy)
    assert str(copy) in str(raised.value)


def test_everything_that_is_wrong_is_named_at_once(copy):
    def change(tensors: dict) -> None:
        for name in [name for name in tensors if name.endswith(SUFFIX)]:
            del tensors[name]

    count = sum(name.endswith(SUFFIX) for name in stored(copy))
    rewrite(copy, change)
    with pytest.raises(ValueError, match=rf"(is missing; .*){{7}}is missing; and {count - 8} more$"):
        load_release(copy)


@pytest.mark.parametrize("listed", ["float16", "bfloat16", "float32"])
def test_a_matrix_in_8_bits_where_model_json_says_floats_is_refused(listed, copy):
    rewrite(copy, lambda tensors: None, lambda record: record["components"]["vae"].update(dtype=listed))
    with pytest.raises(ValueError, match=rf" in vae-.* is \w+, model.json says {listed}"):
        load_release(copy)


def test_scales_beside_floats_are_refused(vae, tmp_path):
    save_release(tmp_path / "r", vae)
    rewrite(tmp_path / "r", lambda tensors: tensors.update({SCALE: np.ones((1, 1, 1, 4), np.float16)}))
    with pytest.raises(ValueError, match=f"vae has no place for {SCALE}"):
        load_release(tmp_path / "r")


def test_versions_that_do_not_fit_are_refused(copy):
    rewrite(copy, lambda tensors: None, lambda record: record.update(format_version=1))
    with pytest.raises(ValueError, match="vae in int8, which format_version 1 has not"):
        load_release(copy)
    rewrite(copy, lambda tensors: None, lambda record: record.update(format_version=4))
    with pytest.raises(ValueError, match="format_version is 4 and this dalle3_jax reads 1, 2 and 3"):
        load_release(copy)


def test_a_damaged_scale_is_a_damaged_file(copy):
    [path] = copy.glob("vae-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"vae-.* is damaged"):
        load_release(copy)


def test_what_is_loaded_is_not_of_the_file(copy):
    loaded = load_release(copy)
    before = {name: value.copy() for name, value in leaves(loaded).items()}
    [path] = copy.glob("vae-*")
    np.memmap(path, np.uint8, "r+")[-50:] = 1
    for name, value in leaves(loaded).items():
        np.testing.assert_array_equal(value, before[name])
