"""`dalle3-jax export --format diffusers`: what came from there goes back bit for bit; what cannot be said is named."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dalle3_jax import convert
from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.checkpoints.tensors import Tensors
from dalle3_jax.commands import export
from dalle3_jax.commands.convert import main as convert_main
from dalle3_jax.convert import schedulers
from dalle3_jax.convert.vae import latent_statistics
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.build import build_models
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.text.clip_bpe import clip_json
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer, read_padding_id
from tests import public_folders
from tests.tiny import SECTIONS, plain, tiny_decoders, tiny_release

TEXTS = ["", "a cat", "The  HAT's 12 dogs!", "naïve 🐼 " * 4]


def exported(source: Path, folder: Path) -> Path:
    """A folder of ours as one of diffusers."""
    assert export.main([str(source), str(folder), "--format", "diffusers"]) == 0
    return folder


def back(source: Path, folder: Path) -> Path:
    """A public folder after both commands."""
    assert convert_main([str(source), str(folder / "release")]) == 0
    return exported(folder / "release", folder / "again")


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def assert_same_network(found: Path, expected: Path) -> None:
    assert read(found / "config.json") == read(expected / "config.json")
    [ours], [theirs] = (list(folder.glob("*.safetensors")) for folder in (found, expected))
    assert ours.name == theirs.name
    new, old = Tensors(ours), Tensors(theirs)
    assert {name: (old[name].dtype, old.shape(name)) for name in old} == {
        name: (new[name].dtype, new.shape(name)) for name in new
    }
    assert [name for name in old if new[name].tobytes() != old[name].tobytes()] == []


def assert_same_networks(found: Path, expected: Path) -> None:
    parts = [path.parent.name for path in sorted(expected.glob("*/config.json"))]
    assert [path.parent.name for path in sorted(found.glob("*/config.json"))] == parts
    for part in parts:
        assert_same_network(found / part, expected / part)


@pytest.fixture(scope="module", params=["sd_folder", "sdxl_folder"])
def both(request, tmp_path_factory) -> tuple[Path, Path]:
    """A public folder, and what our commands made of it."""
    source = request.getfixturevalue(request.param)
    return source, back(source, tmp_path_factory.mktemp("back"))


def test_every_tensor_comes_back_bit_for_bit(both):
    source, found = both
    assert_same_networks(found, source)


@pytest.mark.parametrize(("model", "dtype"), [("stable_diffusion", "float16"), ("stable_diffusion_xl", "bfloat16")])
def test_so_does_every_tensor_of_half_the_width(model, dtype, tmp_path):
    source = getattr(public_folders, model)(tmp_path / "source", dtype)
    assert_same_networks(back(source, tmp_path), source)


def test_the_scheduler_and_the_tokenizers_mean_the_same(both):
    scheduler = "scheduler/scheduler_config.json"
    before, after = (schedulers.read_scheduler(read(folder / scheduler)) for folder in both)
    assert before == after
    source, found = both
    for place in sorted(path.parent.name for path in source.glob("tokenizer*/vocab.json")):
        old, new = (Tokenizer.from_json(read_folder_tokenizer(folder / place)) for folder in both)
        np.testing.assert_array_equal(old(TEXTS, 20)[0], new(TEXTS, 20)[0])
        assert read_padding_id(source / place, old) == read_padding_id(found / place, new)
        older = clip_json(*((found / place / name).read_text() for name in ("vocab.json", "merges.txt")))
        np.testing.assert_array_equal(Tokenizer.from_json(older)(TEXTS, 20)[0], old(TEXTS, 20)[0])


def test_the_index_names_every_part(both):
    source, found = (read(folder / "model_index.json") for folder in both)
    assert {key: found.get(key) for key in source} == source
    listed = {key: value for key, value in found.items() if isinstance(value, list) and None not in value}
    assert {key for key in listed if (both[1] / key).is_dir()} == listed.keys()
    assert {path.name for path in both[1].iterdir() if path.is_dir()} == listed.keys()


def test_the_pictures_are_the_same(both):
    made = [Pipeline.load(folder)(["a cat", "the dog"], seed=3, steps=2, batch_size=2) for folder in both]
    for one, other in zip(*made, strict=True):
        np.testing.assert_array_equal(one.image, other.image)


@pytest.fixture(scope="module")
def own() -> Release:
    """A system of ours whose networks diffusers and transformers have too, but for xfnet."""
    sections = plain(SECTIONS)
    sections["unet"] |= {"affine": True, "modulate_first": False}
    sections["unet"]["levels"][0]["depth"] = 1
    sections["vae"] |= {"channels": [4, 4, 4, 8], "patch": 1, "decoder_blocks": 2}
    modules = build_models(sections)
    params = {name: public_folders.randomised(module, 7, modules) for name, module in modules.items()}
    return dataclasses.replace(tiny_release(), modules=modules, params=params)


def test_our_own_networks_are_read_back_to_the_same_numbers(own, tmp_path, capsys):
    save_release(tmp_path / "release", own, "float32")
    found = exported(tmp_path / "release", tmp_path / "public")
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{found}: text_encoder, unet, vae, tokenizer"
    assert told[1].startswith("not written, xfnet: a XFNet is in no public layout")
    assert len(told) == 2
    for part in ("text_encoder", "unet", "vae"):
        module, params = convert.load(found / part)
        widths = {"context_width": 16, "vector_width": 8} if part == "unet" else {}
        assert module == own.modules[part].clone(**widths)
        jax.tree.map(np.testing.assert_array_equal, params, own.params[part])
    assert latent_statistics(read(found / "vae" / "config.json")) == (own.latent.shift, own.latent.scale)
    assert (found / "tokenizer" / "tokenizer.json").read_text() == own.tokenizer
    assert not (found / "model_index.json").exists()


def test_all_that_cannot_be_said_is_named_line_by_line(tmp_path, capsys):
    save_release(tmp_path / "release", tiny_decoders())
    found = exported(tmp_path / "release", tmp_path / "public")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{found}: text_encoder, tokenizer"
    reasons = dict(line.removeprefix("not written, ").split(": ", 1) for line in lines)
    assert reasons.keys() == {"xfnet", "unet", "vae", "decoder", "refiner"}
    assert "modulate_first=True" in reasons["unet"]
    assert "affine=False" in reasons["unet"]
    assert "decoder_blocks=1" in reasons["vae"]
    for name in ("decoder", "refiner"):
        assert "diffusers calls a consistency decoder in its own way, and this one has other" in reasons[name]
        assert "'prediction'" in reasons[name]
    assert sorted(path.name for path in found.iterdir()) == ["text_encoder", "tokenizer"]


def test_nothing_is_written_where_nothing_can_be(reader_folder, tmp_path, capsys):
    assert export.main([str(reader_folder), str(tmp_path / "public"), "--format", "diffusers"]) == 2
    told = capsys.readouterr().err
    assert "nothing of this release has a public layout; reader: a SceneReader is in no public layout" in told
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_the_way_is_left_alone(release_folder, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("mine")
    assert export.main([str(release_folder), str(tmp_path / "there"), "--format", "diffusers"]) == 2
    assert "there exists and is not empty; give another name" in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["there", "file"]


def test_a_sampler_that_diffusers_lacks_leaves_the_networks(sd_folder, tmp_path, capsys):
    release = open_release(sd_folder)
    release = dataclasses.replace(release, sampling=release.sampling | {"sampler": "consistency"})
    save_release(tmp_path / "release", release, "float32")
    found = exported(tmp_path / "release", tmp_path / "public")
    told = capsys.readouterr().out
    assert "not written, scheduler and model_index.json: no scheduler of diffusers does this: the sampler cons" in told
    parts = ["text_encoder", "tokenizer", "unet", "vae"]
    assert sorted(path.name for path in found.iterdir()) == parts


def test_a_consistency_decoder_goes_back_with_the_encoder_of_its_vae(sd_folder, tmp_path, capsys):
    source = public_folders.consistency_decoder(tmp_path / "decoder")
    assert convert_main([str(sd_folder), str(tmp_path / "sd")]) == 0
    assert export.main([str(tmp_path / "sd"), str(tmp_path / "both"), "--add", str(source)]) == 0
    found = exported(tmp_path / "both", tmp_path / "public")
    assert "not written" not in capsys.readouterr().out
    assert_same_network(found / "decoder", source)
    assert "decoder" not in read(found / "model_index.json")
    assert Pipeline.load(found, decoders=[found / "decoder"]).codec.decoders == ("vae", "consistency")


def test_a_decoder_without_a_public_past_says_its_scale_and_its_encoder(tmp_path):
    latent = Latent(channels=4, factor=8, shift=(0.0,) * 4, scale=(0.25,) * 4)
    modules = {"vae": convert.LAYOUTS["AutoencoderKL"].module(public_folders.VAE)}
    modules["decoder"] = DecoderUNet(channels=(8,), blocks=1, groups=4, time_entries=16)
    params = {name: public_folders.randomised(module, 1) for name, module in modules.items()}
    decoders = {"decoder": dataclasses.replace(convert.decoder_settings({}), latent=latent)}
    save_release(tmp_path / "release", Release(modules, params, latent, decoders), "float32")
    found = exported(tmp_path / "release", tmp_path / "public")
    config = read(found / "decoder" / "config.json")
    assert config["scaling_factor"] == 0.25
    assert config["encoder_block_out_channels"] == [4, 4, 4, 8]
    assert (config["encoder_layers_per_block"], config["encoder_norm_num_groups"]) == (1, 2)
    module, loaded = convert.load(found / "decoder")
    assert module == modules["decoder"]
    jax.tree.map(np.testing.assert_array_equal, loaded, params["decoder"])
    files = (found / part / "diffusion_pytorch_model.safetensors" for part in ("decoder", "vae"))
    beside, vae = map(Tensors, files)
    encoder = [name for name in vae if name.startswith(("encoder.", "quant_conv."))]
    assert [name for name in beside if not name.startswith("decoder_unet.")] == encoder
    assert [name for name in encoder if beside[name].tobytes() != vae[name].tobytes()] == []


def test_an_exported_network_of_another_kind_is_said_to_be_no_run(sd_folder, tmp_path, capsys):
    assert export.main([str(sd_folder), str(tmp_path / "public"), "--format", "diffusers"]) == 2
    assert "is not a training workdir" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["stable_diffusion_refiner", "image_variations"])
def test_a_pipeline_of_other_parts_goes_back_with_its_index(model, tmp_path):
    source = getattr(public_folders, model)(tmp_path / "source")
    found = back(source, tmp_path)
    assert_same_networks(found, source)
    index, before = read(found / "model_index.json"), read(source / "model_index.json")
    assert {key: index.get(key) for key in before} == before
    listed = {key for key, value in index.items() if isinstance(value, list) and None not in value}
    assert {path.name for path in found.iterdir() if path.is_dir()} == listed
    ours, theirs = (open_release(folder) for folder in (found, source))
    assert (ours.modules, ours.diffusion, ours.text, ours.sampling, ours.tokenizer) == (
        theirs.modules,
        theirs.diffusion,
        theirs.text,
        theirs.sampling,
        theirs.tokenizer,
    )
