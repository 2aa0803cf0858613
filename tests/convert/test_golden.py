"""Public folders against what transformers and diffusers made of them (scripts/make_golden.py), without torch."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from safetensors.numpy import load_file

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.convert import schedulers
from dalle3_jax.convert.folders import read_json
from dalle3_jax.diffusion import prediction, samplers, schedules
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.upscaled import x4_images

GOLDEN = Path(__file__).parents[1] / "golden"
OURS = {"captioner"}  # in our own layout: tests/models/test_captioner_golden.py reads it
OURS |= {"ip_adapter/plain", "ip_adapter/plus"}  # beside a UNet: tests/convert/test_ip_adapter.py does
FOLDERS = sorted({str(path.parent.relative_to(GOLDEN)) for path in GOLDEN.rglob("expected.safetensors")} - OURS)
PIPELINES = [folder for folder in FOLDERS if (GOLDEN / folder / "model_index.json").is_file()]
UPSCALERS = ["stable_diffusion_x4"]
NETWORKS = [folder for folder in FOLDERS if folder not in PIPELINES]
LIMIT = 1e-5

Arrays = dict[str, Any]
Apply = Callable[..., jax.Array]
"""The network on its parameters, compiled."""


def stored(folder: Path) -> tuple[Arrays, Arrays]:
    """Inputs and outputs."""
    tensors = load_file(folder / "expected.safetensors")
    inputs = {name[3:]: jnp.asarray(value) for name, value in tensors.items() if name.startswith("in.")}
    return inputs, {name[4:]: value for name, value in tensors.items() if name.startswith("out.")}


def assert_close(ours: Arrays, theirs: Arrays) -> None:
    """Every output, relative to its largest value."""
    assert ours.keys() == theirs.keys()
    errors = {name: abs(np.asarray(ours[name]) - value).max() / abs(value).max() for name, value in theirs.items()}
    assert max(errors.values()) < LIMIT, errors


def t5(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    return {"features": apply(given["ids"], given["mask"]) * given["mask"][..., None]}


def clip_text(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    condition = apply(given["ids"], jnp.ones(given["ids"].shape, bool))
    return {"tokens": condition.tokens, "vector": condition.vector}


def clip(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    texts, images = (given["ids"], jnp.ones(given["ids"].shape, bool)), given["images"]
    return {
        "scores": apply(*texts, images),
        "text": apply(*texts, method="encode_text"),
        "image": apply(images, method="encode_image"),
    }


def clip_image(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    seen = apply(given["images"])
    return {"vector": seen.vector, "tokens": seen.tokens}


def vae(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    reconstruction, mean, logvar = apply(given["images"])
    latents = release.latent.normalise(mean)
    np.testing.assert_allclose(release.latent.denormalise(latents), mean, atol=1e-6)
    return {"reconstruction": reconstruction, "mean": mean, "logvar": logvar, "latents": latents}


def unet(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    sizes = given["sizes"] if release.modules["unet"].size_ids else None
    condition = Condition(*(given[name] for name in ("tokens", "mask", "vector")))
    if not (folder / "scheduler_config.json").is_file():
        return {"output": apply(given["x"], given["t"], condition, sizes)}
    diffusion, _ = schedulers.read_scheduler(read_json(folder / "scheduler_config.json"))
    schedule = schedules.build_schedule(diffusion["schedule"])
    denoise = prediction.denoiser(lambda x, t: apply(x, t, condition, sizes), schedule, diffusion["prediction"])
    return {"x0": denoise(given["x"], (given["t"] + 1) / 1000)}


def consistency(release: Release, apply: Apply, given: Arrays, folder: Path) -> Arrays:
    """The two steps in their own words: the noise is not drawn from keys."""
    decoding = release.decoders["decoder"]
    latents, schedule = (
        decoding.network_latent.normalise(given["latents"]),
        schedules.build_schedule(decoding.schedule),
    )
    denoise = prediction.denoiser(lambda x, t: apply(x, t, latents), schedule, decoding.prediction)
    first, second = (jnp.full(1, t) for t in decoding.times)
    x0 = denoise(schedule.sigma(first) * given["start"], first)
    return {"image": denoise(schedule.alpha(second) * x0 + schedule.sigma(second) * given["fresh"], second)}


RUNS: dict[type[nn.Module], Callable[[Release, Apply, Arrays, Path], Arrays]] = {
    T5Encoder: t5,
    CLIPTextEncoder: clip_text,
    CLIPVisionEncoder: clip_image,
    CLIP: clip,
    VAE: vae,
    UNet: unet,
    DecoderUNet: consistency,
}


@functools.partial(jax.jit, static_argnames=("module", "method"))
def applied(params, *inputs, module: nn.Module, method: str | None = None):
    """What a method of a network gives."""
    return module.apply({"params": params}, *inputs, method=method)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_outputs_of_its_public_library(name):
    folder = GOLDEN / name
    release = open_release(folder)
    ((component, module),) = release.modules.items()
    inputs, outputs = stored(folder)
    apply = functools.partial(applied, release.params[component], module=module)
    assert_close(RUNS[type(module)](release, apply, inputs, folder), outputs)


class Watched(Pipeline):
    """Keeps what it was told and what it sampled."""

    def sample_latents(self, condition, null, requests, progress=None, edit=None, image=None):
        self.condition = condition
        self.latents = super().sample_latents(condition, null, requests, progress, edit, image)
        return self.latents


@pytest.mark.parametrize("name", sorted({*PIPELINES} - {*UPSCALERS}))
def test_a_pipeline_makes_the_pictures_of_diffusers(name, monkeypatch):
    folder = GOLDEN / name
    inputs, outputs = stored(folder)
    request = json.loads((folder / "request.json").read_text())
    prompts, size = request.pop("prompts"), tuple(request.pop("size"))

    def start(seeds, deviation, **how):
        return samplers.initial_state(deviation * inputs["noise"]), programs.image_keys(jnp.asarray(seeds))

    monkeypatch.setattr(programs, "start", start)
    pipeline = Watched.load(folder)
    pictures = pipeline(prompts, size=size, **request)
    images = outputs.pop("images")
    seen = {"tokens": pipeline.condition.tokens, "vector": pipeline.condition.vector, "latents": pipeline.latents}
    assert_close({key: seen[key] for key in outputs}, outputs)
    levels = np.stack([np.asarray(picture.image, int) for picture in pictures])
    assert abs(levels - images.astype(int)).max() <= 1


@pytest.mark.parametrize("name", UPSCALERS)
def test_an_upscaler_makes_the_image_of_diffusers(name):
    inputs, outputs = stored(GOLDEN / name)
    asked = json.loads((GOLDEN / name / "request.json").read_text())
    how = Upscaling(4, asked["steps"], asked["noise_level"], asked["guidance_scale"])
    latents, image = x4_images(Upscaler.load(GOLDEN / name), how, inputs, asked["prompt"])
    assert_close({"latents": latents, "image": image}, outputs)
