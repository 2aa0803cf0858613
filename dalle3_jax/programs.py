"""The programs that a pipeline compiles: text to condition, noise, steps of the sampling loop, latents to images."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.checkpoints.releases import Latent
from dalle3_jax.diffusion import guidance, prediction, samplers, schedules
from dalle3_jax.models.xfnet import Condition
from dalle3_jax.typing import Array, Bool, Float, Int, Params

INITIAL, LOOP = 0, 1  # what of an image's noise a key is for: fold_in(key, INITIAL), fold_in(key, LOOP)


@dataclass(frozen=True)
class System:
    """The static half of a pipeline, hashable: pipelines that differ in parameters only share compiled programs."""

    text_encoder: nn.Module
    xfnet: nn.Module
    unet: nn.Module
    vae: nn.Module
    schedule: schedules.Schedule
    prediction: str
    latent: Latent
    glyph_encoder: nn.Module | None = None


class Guidance(NamedTuple):
    """Classifier-free guidance, one value an image, so that none of them is part of the program."""

    scale: Float[Array, " b"]
    first: Float[Array, " b"]
    last: Float[Array, " b"]
    rescale: Float[Array, " b"]


@functools.partial(jax.jit, static_argnames="system")
def encode(
    params: Params,
    ids: Int[Array, "b l"],
    mask: Bool[Array, "b l"],
    glyphs: tuple[Int[Array, "b g"], Bool[Array, "b g"]] | None = None,
    *,
    system: System,
) -> Condition:
    """What the UNet is told of tokenized prompts, and of the bytes of what they quote where the system reads those."""
    features = _apply(system.text_encoder, params["text_encoder"], ids, mask)
    if system.glyph_encoder is None or glyphs is None:
        return _apply(system.xfnet, params["xfnet"], features, mask)
    letters = _apply(system.glyph_encoder, params["glyph_encoder"], *glyphs)
    return _apply(system.xfnet, params["xfnet"], features, mask, (letters, glyphs[1]))


@functools.partial(jax.jit, static_argnames="shape")
def start(seeds: Array, *, shape: tuple[int, int, int]) -> tuple[samplers.State, Array]:
    """The noise at the first time and the keys of the loop; an image's depend on its seed alone."""
    keys = jax.vmap(functools.partial(jax.random.key, impl="threefry2x32"))(seeds)  # whatever the user's default is
    initial, loop = (jax.vmap(jax.random.fold_in, (0, None))(keys, purpose) for purpose in (INITIAL, LOOP))
    return samplers.initial(samplers.noise(initial, shape)), loop


@functools.partial(jax.jit, static_argnames=("system", "sampler", "steps", "count"))
def advance(
    params: Params,
    condition: Condition,
    null: Condition,
    guide: Guidance,
    state: samplers.State,
    keys: Array,
    first: Int[Array, ""],
    *,
    system: System,
    sampler: str,
    steps: int,
    count: int,
) -> samplers.State:
    """Steps first to first + count - 1 of the sampling loop."""
    both = jax.tree.map(lambda rows, null_rows: jnp.concatenate([rows, null_rows]), condition, null)
    sizes = _size_ids(system, state.x.shape)

    def network(x_t: Array, t: Array) -> Array:
        return _apply(system.unet, params["unet"], x_t, t, both, sizes)

    denoise_both = prediction.denoiser(network, system.schedule, system.prediction)
    interval = (guide.first, guide.last)
    denoise = guidance.classifier_free(denoise_both, guide.scale, system.schedule, interval, guide.rescale)
    times = samplers.times(system.schedule, steps)
    return samplers.advance(samplers.SAMPLERS[sampler], denoise, system.schedule, state, times, keys, first, count)


@functools.partial(jax.jit, static_argnames="system")
def decode(params: Params, latents: Float[Array, "b h w c"], *, system: System) -> Float[Array, "b H W 3"]:
    """Images from the UNet's latents: un-normalised here, once, and decoded."""
    return _apply(system.vae, params["vae"], system.latent.restored(latents), method="decode")


def _apply(module: nn.Module, params: Params, *inputs: Any, method: str | None = None) -> Any:
    return module.apply({"params": params}, *inputs, method=method)


def _size_ids(system: System, shape: tuple[int, ...]) -> Float[Array, "b s"] | None:
    """Original size, no crop, target size: what the UNet is told of a picture that is to be whole."""
    if not system.unet.size_ids:
        return None
    height, width = (side * system.latent.factor for side in shape[1:3])
    ids = jnp.asarray([height, width, 0, 0, height, width], jnp.float32)
    return jnp.broadcast_to(ids, (2 * shape[0], len(ids)))


def chunk(steps: int) -> int:
    """The steps between two reports of progress: about ten reports, and a divisor so that one program runs them all."""
    return max(count for count in range(1, max(steps // 10, 1) + 1) if steps % count == 0)
