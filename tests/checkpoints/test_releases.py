"""A release gives back what was saved, byte for byte, or says what is wrong with it."""

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
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle3_jax.checkpoints.release_record import seal_record
from dalle3_jax.checkpoints.releases import Latent, Release, load_release, save_release, weights_digest
from dalle3_jax.checkpoints.weights import read_weights, sha256, write_weights
from tests.tiny import plain, tiny_release

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(release_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(release_folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def vae() -> Release:
    """A release of the VAE alone: the quickest to check."""
    whole = tiny_release()
    return Release({"vae": whole.modules["vae"]}, {"vae": whole.params["vae"]}, whole.latent)


def latent_of(release: Release) -> Latent:
    assert release.latent is not None
    return release.latent


def leaves(params) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in flatten_dict(params, sep=".").items()}


def reseal(folder: Path, change) -> None:
    """Changes model.json as its maker could have: its own hash is right again."""
    path = folder / "model.json"
    record = json.loads(path.read_text())
    record.pop("sha256")
    change(record)
    path.write_text(json.dumps(seal_record(record)))


def test_everything_comes_back(release_folder):
    saved, loaded = tiny_release(), load_release(release_folder)
    assert loaded.modules == saved.modules
    for name, value in leaves(saved.params).items():
        np.testing.assert_array_equal(leaves(loaded.params)[name], value, err_msg=name)
    for field in ("diffusion", "text", "sampling", "training"):
        assert getattr(loaded, field) == plain(getattr(saved, field))
    assert loaded.sizes == saved.sizes
    assert loaded.tokenizer == saved.tokenizer
    assert dataclasses.replace(latent_of(loaded), vae="") == saved.latent


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 11), ("bfloat16", 8), ("float32", 24)])
def test_weights_are_rounded_to_the_stored_type_and_computed_in_float32(vae, tmp_path, dtype, bits):
    exact = jax.tree.map(lambda leaf: leaf + np.float32(1 / 3), vae.params)
    save_release(tmp_path / "r", dataclasses.replace(vae, params=exact), dtype)
    loaded = leaves(load_release(tmp_path / "r").params)
    for name, value in leaves(exact).items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_allclose(loaded[name], value, rtol=2.0**-bits, atol=1e-7)
    changed = any((loaded[name] != value).any() for name, value in leaves(exact).items())
    assert changed == (dtype != "float32")


def test_another_dtype_is_for_parameters_and_computation(release_folder):
    loaded = load_release(release_folder, {"xfnet"}, dtype=jnp.bfloat16)
    assert loaded.modules["xfnet"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded.params)} == {jnp.dtype(jnp.bfloat16)}


PLAIN = {"schedule": {"name": "cosine"}, "prediction": "v"}


@pytest.mark.parametrize(
    ("further", "version"),
    [
        ({"clipping": {"bound": 1.0}}, 3),
        ({"guidance_rescale_of": "eps"}, 3),
        ({"guidance_rescale_of": "v"}, 1),  # as every reader does it
        ({"spacing": {"kind": "leading"}}, 1),
        ({}, 1),
    ],
)
def test_a_release_that_samples_in_a_newer_way_is_refused_by_readers_that_would_not(vae, tmp_path, further, version):
    folder, diffusion = tmp_path / "r", PLAIN | further
    save_release(folder, dataclasses.replace(vae, diffusion=diffusion))
    assert json.loads((folder / "model.json").read_text())["format_version"] == version
    assert load_release(folder).diffusion == diffusion
    for before in (1, 2):  # as they were written before it had a version
        reseal(folder, lambda record, before=before: record.update(format_version=before))
        assert load_release(folder).diffusion == diffusion


def test_a_key_of_diffusion_that_nobody_reads_is_refused_by_name(vae, tmp_path):
    folder = tmp_path / "r"
    with pytest.raises(ValueError, match="a release's diffusion has no flow"):
        save_release(folder, dataclasses.replace(vae, diffusion=PLAIN | {"flow": 1}))
    assert not folder.exists()
    save_release(folder, dataclasses.replace(vae, diffusion=PLAIN))
    reseal(folder, lambda record: record["diffusion"].update(flow=1))
    with pytest.raises(ValueError, match=r"newer version of dalle3_jax: its diffusion has flow, .*upgrade"):
        load_release(folder)


def test_some_components_can_be_read_alone(release_folder):
    loaded = load_release(release_folder, ["xfnet"])
    assert loaded.modules.keys() == loaded.params.keys() == {"xfnet"}
    with pytest.raises(ValueError, match="lacks captioner; it holds text_encoder, xfnet, unet, vae"):
        load_release(release_folder, ["captioner"])


@pytest.mark.parametrize("pattern", ["text_encoder-*", "xfnet-*", "unet-*", "vae-*", "tokenizer.json", "model.json"])
def test_one_flipped_bit_is_one_clear_error(copy, pattern):
    [path] = copy.glob(pattern)
    data = bytearray(path.read_bytes())
    for place in (len(data) // 3, len(data) - 2):
        flipped = bytearray(data)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=rf"{path.name}.*damaged.*copy or export the release again"):
            load_release(copy)


@pytest.mark.parametrize("pattern", ["unet-*", "tokenizer.json", "model.json"])
def test_a_missing_file_is_named(copy, pattern):
    [path] = copy.glob(pattern)
    path.unlink()
    with pytest.raises(ValueError, match=path.name):
        load_release(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record.update(format_version=4), "format_version is 4"),
        (lambda record: record.pop("latent"), "lacks latent"),
        (lambda record: record.update(pickle="x"), "unknown field 'pickle'"),
        (lambda record: record["components"]["vae"].update({"class": "os.system"}), "unknown network 'os.system'"),
        (lambda record: record["components"]["vae"]["fields"].update(depth=3, size=1), "'depth'.*'size'"),
        (lambda record: record["components"]["vae"]["fields"].update(blocks=2), "vae lacks .*block_1"),
        (lambda record: record["components"]["vae"]["fields"].update(channels=[4, 6]), "should be"),
        (lambda record: record["components"]["vae"].update(dtype="float32"), "is float16, model.json says float32"),
        (lambda record: record["components"]["vae"]["files"].update({"../../x": "0"}), "no plain file name"),
        (lambda record: record["latent"].update(scale=[1.0]), "2 latent channels"),
        (lambda record: record["latent"].update(scale=[1.0, 0.0]), "positive"),
    ],
)
def test_a_record_that_cannot_be_is_refused(copy, change, message):
    reseal(copy, change)
    with pytest.raises(ValueError, match=message):
        load_release(copy, ["vae"])


def test_values_that_are_not_finite_are_refused(vae, copy, tmp_path):
    broken = jax.tree.map(np.array, vae.params)
    broken["vae"]["encoder"]["conv_in"]["bias"][1] = np.nan
    with pytest.raises(ValueError, match=r"vae.encoder.conv_in.bias is not finite"):
        save_release(tmp_path / "new", dataclasses.replace(vae, params=broken))
    [path] = copy.glob("vae-*")
    tensors = safetensors.numpy.load_file(path)
    tensors["encoder.conv_in.bias"][1] = np.inf
    path.write_bytes(safetensors.numpy.save(tensors))
    reseal(copy, lambda r: r["components"]["vae"]["files"].update({path.name: sha256(path.read_bytes())}))
    with pytest.raises(ValueError, match=r"encoder.conv_in.bias in vae-.* holds values that are not finite"):
        load_release(copy, ["vae"])


def test_a_value_too_large_for_its_type_is_refused(vae, tmp_path):
    large = jax.tree.map(np.array, vae.params)
    large["vae"]["encoder"]["conv_in"]["bias"][0] = 1e5
    with pytest.raises(ValueError, match="not finite as float16; store float32"):
        save_release(tmp_path / "r", dataclasses.replace(vae, params=large))
    save_release(tmp_path / "r", dataclasses.replace(vae, params=large), "bfloat16")


def test_parameters_of_another_network_are_not_saved(vae, tmp_path):
    short = {"vae": {"encoder": vae.params["vae"]["encoder"]}}
    with pytest.raises(ValueError, match="vae lacks decoder"):
        save_release(tmp_path / "r", dataclasses.replace(vae, params=short))
    assert list(tmp_path.iterdir()) == []


def test_a_name_twice_in_a_file_is_refused(tmp_path):
    entry = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f"{{{entry},{entry}}}".encode()
    data = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="twice"):
        read_weights(tmp_path / "x.safetensors", sha256(data))


@pytest.mark.parametrize("data", [b"", b"\x80\x04K*.", b"\xff" * 64, b"\x02" + bytes(7) + b"{}" + bytes(5)])
def test_other_files_are_not_weights(tmp_path, data):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.safetensors is not a weight file"):
        read_weights(tmp_path / "x.safetensors", sha256(data))


def test_files_stay_under_their_limit_and_hold_everything_once(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"layer.{i}": rng.normal(size=rng.integers(1, 300)).astype(np.float16) for i in range(40)}
    hashes = write_weights(tmp_path, "x", tensors, np.dtype(np.float16), limit=2000)
    assert len(hashes) > 3
    assert max((tmp_path / name).stat().st_size for name in hashes) <= 2000
    read = [read_weights(tmp_path / name, digest) for name, digest in hashes.items()]
    assert sorted(name for part in read for name in part) == sorted(tensors)
    for part in read:
        for name, value in part.items():
            np.testing.assert_array_equal(value, tensors[name])


def test_the_vae_of_the_latents_is_known_by_its_values(vae, tmp_path):
    save_release(tmp_path / "half", vae, "float16")
    half = load_release(tmp_path / "half")
    assert latent_of(half).vae == weights_digest(half.params["vae"])
    save_release(tmp_path / "again", half, "float32")
    assert latent_of(load_release(tmp_path / "again")).vae == latent_of(half).vae
    other = jax.tree.map(lambda leaf: leaf * 2, half.params)
    save_release(tmp_path / "other", dataclasses.replace(half, params=other))
    assert latent_of(load_release(tmp_path / "other")).vae != latent_of(half).vae


def test_the_digest_is_that_of_the_content(vae, tmp_path):
    save_release(tmp_path / "a", vae)
    save_release(tmp_path / "b", vae)
    save_release(tmp_path / "c", dataclasses.replace(vae, training={"steps": 1}))
    digests = [load_release(tmp_path / name).digest for name in "abc"]
    assert digests[0] == digests[1] != digests[2]


def test_a_release_replaces_a_release_whole_or_not_at_all(vae, tmp_path, monkeypatch):
    save_release(tmp_path / "r", vae)
    before = load_release(tmp_path / "r").digest
    changed = dataclasses.replace(vae, training={"steps": 5})
    with monkeypatch.context() as patch:
        patch.setattr("dalle3_jax.checkpoints.releases.model_card", lambda record: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_release(tmp_path / "r", changed)
    assert load_release(tmp_path / "r").digest == before
    save_release(tmp_path / "r", changed)
    assert load_release(tmp_path / "r").training == {"steps": 5}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_nothing_but_a_release_is_replaced(vae, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is not a release"):
        save_release(tmp_path, vae)
    with pytest.raises(ValueError, match="is not a release"):
        save_release(tmp_path / "thesis.txt", vae)
    with pytest.raises(ValueError, match="cannot write"):
        save_release(tmp_path / "thesis.txt" / "r", vae)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_shardings_say_where_leaves_go(release_folder):
    mesh = Mesh(np.array(jax.devices()[:1]), ("data",))
    everywhere = NamedSharding(mesh, PartitionSpec())
    one = load_release(release_folder, ["xfnet"], shardings=everywhere)

    def by_shape(boxed):
        assert boxed.keys() == {"xfnet"}
        assert boxed["xfnet"]["project_in"]["kernel"].names == ("embed", "out")
        return everywhere

    other = load_release(release_folder, ["xfnet"], shardings=by_shape)
    for loaded in (one, other):
        assert {leaf.sharding for leaf in jax.tree.leaves(loaded.params)} == {everywhere}


def test_the_card_says_what_the_record_says(release_folder):
    record = json.loads((release_folder / "model.json").read_text())
    card = (release_folder / "MODEL_CARD.md").read_text()
    count = sum(leaf.size for leaf in jax.tree.leaves(tiny_release().params["unet"]))
    assert record["components"]["unet"]["parameters"] == count
    assert f"{count:,}" in card
    assert "16x16, 32x16" in card
    assert "sampler: ddim" in card


def test_latents_need_a_shift_and_a_scale_a_channel():
    with pytest.raises(ValueError, match="4 latent channels"):
        Latent(4, 8, (0.0,), (1.0,))
    with pytest.raises(ValueError, match="finite"):
        Latent(1, 8, (float("nan"),), (1.0,))


def test_nothing_unpickles():
    for path in (ROOT / "dalle3_jax").rglob("*.py"):
        source = path.read_text()
        assert "import pickle" not in source, path
        assert "allow_pickle=True" not in source, path
        assert "torch.load" not in source, path
