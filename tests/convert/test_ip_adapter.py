"""IP-Adapter's public files at full size, and what is refused before a tensor is read."""

import dataclasses
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dalle3_jax import convert
from dalle3_jax.convert import unet
from dalle3_jax.convert.ip_adapter import adapter_module, adapter_rules, open_adapter
from dalle3_jax.convert.rules import import_moves
from dalle3_jax.loading.ip_adapter import add_adapter, find_encoder
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.image_prompt import ImagePrompt, image_attentions
from dalle3_jax.models.unet import UNet
from dalle3_jax.pipeline import Pipeline
from tests import public_folders
from tests.convert import public
from tests.convert.test_unet import SD1, SDXL

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "ip_adapter_sd15": (SD1, ("linear", 1024, 4), 22),
    "ip_adapter_plus_sd15": (SD1, ("resampler", 1280, 16), 49),
    "ip_adapter_sdxl": (SDXL, ("linear", 1280, 4), 351),
    "ip_adapter_plus_sdxl_vit_h": (SDXL, ("resampler", 1280, 16), 424),
}
"""Public file -> its UNet, what it reads and makes of it, and millions of parameters."""


@pytest.mark.parametrize("name", FILES)
def test_a_public_file_fills_its_network(name):
    config, described, millions = FILES[name]
    shapes = public.tensors(name)
    module = adapter_module(shapes, unet.LAYOUT.module(config))
    assert (module.kind, module.features, module.tokens) == described
    ours = public.parameters(module)
    used = [move.source for move in import_moves(adapter_rules(shapes, module), shapes, ours)]
    assert sorted(used) == sorted(shapes)
    assert round(sum(int(np.prod(shape)) for shape in ours.values()) / 1e6) == millions


def test_attentions_are_numbered_down_then_up_then_in_the_middle():
    shapes = public.tensors("ip_adapter_sdxl")
    module = adapter_module(shapes, unet.LAYOUT.module(SDXL))
    moves = {
        move.source: move for move in import_moves(adapter_rules(shapes, module), shapes, public.parameters(module))
    }
    for number, target, layer in (
        (1, "down_1_0_transformer", 0),
        (3, "down_1_0_transformer", 1),
        (9, "down_2_0_transformer", 0),
        (49, "up_2_0_transformer", 0),
        (109, "up_1_0_transformer", 0),
        (121, "middle_transformer", 0),
        (139, "middle_transformer", 9),
    ):
        move = moves[f"ip_adapter.{number}.to_v_ip.weight"]
        assert (move.target, move.layer) == (f"{target}.value.kernel", layer), number


@pytest.mark.parametrize(
    ("name", "config", "change", "error"),
    [
        ("ip_adapter_sdxl", SD1, {}, "another model: ip_adapter.1.to_k_ip.weight is (640, 2048), the UNet's down_0_0"),
        ("ip_adapter_sd15", SDXL, {}, "another model: ip_adapter.1.to_k_ip.weight is (320, 768)"),
        ("ip_adapter_sd15", SD1, {"ip_adapter.33.to_k_ip.weight": (8, 8)}, "33.to_k_ip.weight has no place"),
        ("ip_adapter_sd15", SD1, {"image_proj.proj.0.weight": (8, 8)}, "Full Face, or one of a face recogniser's"),
        ("ip_adapter_sd15", SD1, {"image_proj.proj.weight": None}, "it is no IP-Adapter"),
        ("ip_adapter_plus_sd15", SD1, {"image_proj.layers.0.0.to_q.weight": None}, "to_q.weight is missing"),
        ("ip_adapter_plus_sd15", SD1, {"image_proj.layers.0.0.to_q.weight": (70, 768)}, "queries of 70"),
    ],
)
def test_others_are_refused_by_their_shapes(name, config, change, error):
    shapes = {key: shape for key, shape in {**public.tensors(name), **change}.items() if shape is not None}
    with pytest.raises(ValueError, match=re.escape(error)):
        adapter_module(shapes, unet.LAYOUT.module(config))


def test_a_file_that_could_run_code_is_not_opened(tmp_path):
    file = tmp_path / "ip-adapter_sd15.bin"
    file.write_bytes(b"not even looked at")
    with pytest.raises(ValueError, match=r"can run code when opened, and is never read: get .* as \.safetensors"):
        open_adapter(file, unet.LAYOUT.module(SD1))
    with pytest.raises(ValueError, match="is no file of an IP-Adapter"):
        open_adapter(tmp_path / "nothing.safetensors", unet.LAYOUT.module(SD1))


@pytest.mark.parametrize("kind", ["plain", "plus"])
def test_keys_and_values_are_those_of_diffusers(kind):
    adapter = open_adapter(GOLDEN / "ip_adapter" / kind / "adapter.safetensors", golden_unet())
    module, params = adapter.load()
    stored = load_file(GOLDEN / "ip_adapter" / kind / "expected.safetensors")
    keys = jax.jit(module.apply)({"params": params}, jnp.asarray(stored.pop("in.features")))
    for name, expected in stored.items():
        _, part, number = name.split(".")
        place = ["down_0_0", "up_0_0", "up_0_1", "middle"][int(number) // 2]
        ours = np.asarray(getattr(keys[f"{place}_transformer"], f"{part}s"))[0].reshape(expected.shape)
        assert np.abs(ours - expected).max() < 1e-5 * np.abs(expected).max(), name
    assert len(stored) == 8


def golden_unet() -> UNet:
    module = convert.open(GOLDEN / "stable_diffusion" / "unet").module
    assert isinstance(module, UNet)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion, an adapter of random weights for it, and an image encoder beside that."""
    folder = tmp_path_factory.mktemp("adapter")
    public_folders.stable_diffusion(folder / "sd")
    network = convert.open(folder / "sd" / "unet").module
    prompt = ImagePrompt(image_attentions(network), 10, 12)  # pyright: ignore[reportArgumentType]
    rng = np.random.default_rng(0)
    shapes = {"proj.weight": (4 * 12, 10), "proj.bias": (4 * 12,), "norm.weight": (12,), "norm.bias": (12,)}
    tensors = {f"image_proj.{name}": shape for name, shape in shapes.items()}
    widths = [at.heads * at.head_size for at in prompt.attentions if "middle" not in at.place]
    for number, width in enumerate([*widths, *(at.heads * at.head_size for at in prompt.attentions[-1:])]):
        tensors |= {f"ip_adapter.{2 * number + 1}.{kind}.weight": (width, 12) for kind in ("to_k_ip", "to_v_ip")}
    (folder / "models").mkdir()
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tensors.items()}
    save_file(values, folder / "models" / "ip-adapter.safetensors")
    public_folders.network(folder / "models" / "image_encoder", public_folders.CLIP_VISION | {"projection_dim": 10})
    public_folders.network(folder / "other" / "image_encoder", public_folders.CLIP_VISION | {"projection_dim": 6})
    return folder


def test_an_adapter_makes_image_prompts_of_a_model_of_text(folder):
    pipeline = Pipeline.load(folder / "sd", adapter=folder / "models" / "ip-adapter.safetensors")
    plain = Pipeline.load(folder / "sd")
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    how = {"steps": 2, "batch_size": 1, "seed": 1}

    def draw(pipeline: Pipeline, **settings) -> np.ndarray:
        return np.asarray(pipeline("a cat", **how, **settings)[0].image)

    before = draw(plain)
    np.testing.assert_array_equal(draw(pipeline, image_prompt=image, image_prompt_scale=0), before)
    assert (draw(pipeline, image_prompt=image) != before).any()
    assert pipeline.release.digest != plain.release.digest
    with pytest.raises(ValueError, match="no part that reads one: load it with an IP-Adapter"):
        plain.request("a cat", image_prompt=image)
    with pytest.raises(ValueError, match="image prompt scale without an image prompt"):
        pipeline.request("a cat", image_prompt_scale=0.5)


def test_the_encoder_is_the_one_whose_features_it_reads(folder):
    file = folder / "models" / "ip-adapter.safetensors"
    prompt = open_adapter(file, convert.open(folder / "sd" / "unet").module).module  # pyright: ignore
    assert isinstance(prompt, ImagePrompt)
    assert find_encoder(file, prompt) == folder / "models" / "image_encoder"
    narrow = dataclasses.replace(prompt, features=6, parent=None)
    assert find_encoder(file, narrow) == folder / "other" / "image_encoder"
    with pytest.raises(ValueError, match=r"reads features of 7, .* among .*image_encoder \(10\).*: download it"):
        find_encoder(file, dataclasses.replace(prompt, features=7, parent=None))
    with pytest.raises(ValueError, match=r"unet \(no image encoder\): download it"):
        find_encoder(file, prompt, folder / "sd" / "unet")


def test_a_download_that_was_stopped_is_passed_over_and_named(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "adapter"))
    file, own = copy / "models" / "ip-adapter.safetensors", copy / "models" / "image_encoder"
    prompt = open_adapter(file, convert.open(folder / "sd" / "unet").module).module  # pyright: ignore
    assert isinstance(prompt, ImagePrompt)
    shutil.copytree(own, copy / "whole" / "image_encoder")
    (copy / "empty" / "image_encoder").mkdir(parents=True)
    for damage in (lambda: (own / "model.safetensors").write_bytes(b"cut"), (own / "model.safetensors").unlink):
        damage()
        assert find_encoder(file, prompt) == copy / "whole" / "image_encoder"
    shutil.rmtree(copy / "whole")
    error = r"empty/image_encoder \(no config.json\)"
    with pytest.raises(ValueError, match=rf"models/image_encoder \(.*safetensors.*\), .*{error}.*: download it"):
        find_encoder(file, prompt)


def test_an_adapter_of_another_model_names_it(folder, tmp_path):
    save_file({"image_proj.proj.weight": np.zeros((4, 4), np.float32)}, tmp_path / "other.safetensors")
    release = open_release(folder / "sd")
    with pytest.raises(ValueError, match=r"other.safetensors: it is an adapter for another model: .* is missing"):
        add_adapter(release, tmp_path / "other.safetensors", dtype=jnp.float32)
    assert jax.tree.leaves(release.params)
