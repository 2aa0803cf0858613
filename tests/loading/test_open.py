"""What a name can stand for, and what becomes of a network that comes alone."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from dalle3_jax import convert
from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.loading import locate as locating
from dalle3_jax.loading.locate import DEMO, Located, locate
from dalle3_jax.loading.open import float_type, open_release, stored_dtype
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.pipeline import Pipeline
from tests import public_folders
from tests.tiny import tiny_release


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, Path]:
    """A folder for each kind of network that may come alone."""
    folder = tmp_path_factory.mktemp("networks")
    configs = {"t5": public_folders.T5, "clip": public_folders.CLIP, "vae": public_folders.VAE}
    configs["unet"] = public_folders.UNET
    found = {name: public_folders.network(folder / name, config) for name, config in configs.items()}
    return found | {"decoder": public_folders.consistency_decoder(folder / "decoder")}


@pytest.fixture
def hub(monkeypatch, sd_folder) -> list[tuple]:
    """Calls of the hub, which has one repository whatever its name."""
    calls = []

    def fetch(*arguments) -> Path:
        calls.append(arguments)
        return sd_folder

    monkeypatch.setattr(locating, "fetch", fetch)
    return calls


def test_an_id_of_the_hub_is_fetched(hub, sd_folder):
    pipeline = Pipeline.load("org/name")
    assert hub == [("org/name", None)]
    assert pipeline.release.digest == open_release(sd_folder).digest
    assert pipeline.release.training["imported"] == "org/name"
    assert open_release(sd_folder).training["imported"] == sd_folder.name


def test_a_variant_is_asked_of_the_checkpoint_and_decoders_take_what_they_have(hub, networks, monkeypatch):
    asked = {}

    def opened(name, variant=None, **_):
        asked[name] = variant
        return open_release(name)

    monkeypatch.setattr("dalle3_jax.pipeline.pipeline.open_release", opened)
    pipeline = Pipeline.load("org/name", variant="fp16", decoders=[networks["decoder"]])
    assert asked == {"org/name": "fp16", networks["decoder"]: None}
    assert pipeline.codec.decoders == ("vae", "consistency")
    assert locate("org/name", "fp16").kind == "pipeline"
    assert hub[-1] == ("org/name", "fp16")


def test_a_path_that_exists_goes_before_an_id(hub, sd_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sd_folder, tmp_path / "org" / "name")
    assert locate("org/name") == Located("pipeline", Path("org/name"))
    assert locate(tmp_path / "org" / "name").path == tmp_path / "org" / "name"
    assert hub == []


def test_a_path_that_is_no_id_is_not_looked_for_on_the_hub(hub, tmp_path):
    for name in (tmp_path / "nowhere", str(tmp_path / "nowhere"), "nowhere", Path("org/name")):
        with pytest.raises(ValueError, match=r"is not a folder.*an id of the hub, organisation/name, do too"):
            locate(name)
    assert hub == []


def test_releases_runs_and_public_folders_are_told_apart(networks, sd_folder, release_folder, tmp_path):
    assert locate("demo") == Located("release", DEMO)
    assert locate(sd_folder) == Located("pipeline", sd_folder)
    assert locate(release_folder) == Located("release", release_folder)
    for folder in networks.values():
        assert locate(folder) == Located("network", folder)
    file = networks["vae"] / "diffusion_pytorch_model.safetensors"
    assert locate(file) == Located("flat", file)
    (tmp_path / "flat").mkdir()
    shutil.copy(file, tmp_path / "flat")
    assert locate(tmp_path / "flat") == Located("flat", tmp_path / "flat")
    run = tmp_path / "run" / "base"
    shutil.copytree(release_folder, run / "release")
    (run / "config.json").write_text("{}")  # of a training
    assert locate(run) == locate(run.parent) == Located("run", run / "release")
    (tmp_path / "young" / "checkpoints").mkdir(parents=True)
    (tmp_path / "young" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no release"):
        locate(tmp_path / "young")


@pytest.mark.parametrize("name", ["v1-5-pruned.ckpt", "model.bin", "model.pt"])
def test_a_pickle_is_refused_with_a_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match=rf"{name} can run code when opened.*save_pretrained"):
        locate(tmp_path / name)


KINDS = {
    "t5": ("text_encoder", T5Encoder),
    "clip": ("text_encoder", CLIPTextEncoder),
    "vae": ("vae", VAE),
    "unet": ("unet", UNet),
    "decoder": ("decoder", DecoderUNet),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_alone_is_the_component_that_its_class_is_for(networks, kind):
    release = open_release(networks[kind])
    name, cls = KINDS[kind]
    assert {name: type(module) for name, module in release.modules.items()} == {name: cls}
    assert release.params.keys() == {name}
    assert (release.latent is not None) == (kind == "vae")
    assert release.decoders.keys() == ({"decoder"} if kind == "decoder" else set())
    assert len(release.digest) == 64


@pytest.mark.parametrize(("kind", "asked"), [("t5", "glyph_encoder"), ("clip", "text_encoder_2")])
def test_a_network_alone_can_be_another_component(networks, kind, asked):
    assert open_release(networks[kind], [asked]).modules.keys() == {asked}


@pytest.mark.parametrize(
    ("kind", "asked", "told"),
    [
        ("t5", ["unet"], "can be text_encoder or glyph_encoder, not unet"),
        ("vae", ["decoder"], "can be vae, not decoder"),
        ("decoder", ["refiner"], "can be decoder, not refiner"),
        ("unet", ["unet", "vae"], "can be unet, not unet, vae"),
    ],
)
def test_a_network_alone_is_nothing_else(networks, monkeypatch, kind, asked, told):
    monkeypatch.setattr(convert.networks, "place_arrays", None)  # nothing is read
    with pytest.raises(ValueError, match=f"{networks[kind]} holds one network, which {told}"):
        open_release(networks[kind], asked)


def test_the_digest_of_a_network_alone_tells_its_weights_and_config(networks, tmp_path):
    before = open_release(networks["decoder"]).digest
    copy = Path(shutil.copytree(networks["decoder"], tmp_path / "copy"))
    assert open_release(copy).digest == before
    public_folders.edit(copy / "config.json", scaling_factor=0.2)
    assert open_release(copy).digest != before
    assert open_release(public_folders.consistency_decoder(tmp_path / "other", seed=6)).digest != before


def test_some_components_of_a_pipeline_need_no_others(sd_folder, tmp_path):
    copy = Path(shutil.copytree(sd_folder, tmp_path / "copy"))
    shutil.rmtree(copy / "unet")
    release = open_release(copy, ["vae"])
    assert release.modules.keys() == release.params.keys() == {"vae"}
    assert release.latent == open_release(sd_folder).latent
    with pytest.raises(ValueError, match=r"lacks xfnet: a StableDiffusionPipeline has text_encoder, unet, vae"):
        open_release(copy, ["xfnet"])


def test_parameters_and_computation_are_of_the_type_asked_for(sd_folder, networks):
    for name in (sd_folder, networks["t5"]):
        release = open_release(name, dtype=jnp.bfloat16)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(release.params)} == {"bfloat16"}
        assert {module.dtype for module in release.modules.values()} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_stored_type_is_that_of_the_files(sd_folder, tmp_path, dtype):
    public_folders.network(tmp_path / "t5", public_folders.T5, dtype)
    assert stored_dtype(tmp_path / "t5") == dtype
    save_release(tmp_path / "release", tiny_release(), dtype)
    assert stored_dtype(tmp_path / "release") == dtype
    assert float_type(tmp_path / "release") == dtype
    copy = Path(shutil.copytree(sd_folder, tmp_path / "copy"))
    shutil.rmtree(copy / "vae")
    public_folders.network(copy / "vae", public_folders.VAE, dtype)
    assert stored_dtype(copy) == "float32"  # there are several


def test_floats_hold_a_release_in_8_bits(tmp_path):
    save_release(tmp_path / "release", tiny_release(), "int8")
    assert stored_dtype(tmp_path / "release") == "int8"
    assert float_type(tmp_path / "release") == "float32"


def test_where_parameters_go_is_asked_by_component(networks, sd_folder):
    asked = []

    def here(boxed):
        asked.extend(boxed)
        return dict.fromkeys(boxed, SingleDeviceSharding(jax.devices()[0]))

    open_release(networks["t5"], ["glyph_encoder"], shardings=here)
    open_release(sd_folder, ["unet"], shardings=here)
    assert asked == ["glyph_encoder", "unet"]


def test_a_flat_file_of_the_decoder_is_found_alone_and_in_its_folder(tmp_path):
    from safetensors.numpy import save_file

    from tests.convert.flat_names import flat

    unet = DecoderUNet(channels=(32,), blocks=1, time_entries=16)
    convert.save(tmp_path / "folder", unet, public_folders.randomised(unet, 0))
    tensors = convert.networks.Shards(*convert.networks.weight_files(tmp_path / "folder"))
    prefix = "decoder_unet."
    (tmp_path / "flat").mkdir()
    named = {flat(name.removeprefix(prefix), levels=1): np.array(tensors[name]) for name in tensors}
    save_file(named, tmp_path / "flat" / "decoder.safetensors")
    for path in (tmp_path / "flat", tmp_path / "flat" / "decoder.safetensors"):
        release = open_release(path)
        assert release.modules == {"decoder": unet}
        assert stored_dtype(path) == "float32"
        assert len(release.digest) == 64
