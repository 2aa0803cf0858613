"""An upscaler run from given noise, as reference implementations are."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import samplers
from dalle3_jax.pipeline import upscaling
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler


def x4_images(
    upscaler: Upscaler, how: Upscaling, given: Mapping[str, jax.Array], prompt: str
) -> tuple[jax.Array, jax.Array]:
    """The latents and the images of `given["low"]`, noised by `given["grain"]`, from `given["noise"]`."""
    spec, count = upscaler.spec(how.steps), len(given["low"])
    t = spec.noise_time(jnp.full(count, float(how.noise_level or 0)))
    alpha, sigma = (rows[:, None, None, None] for rows in (spec.noise_schedule.alpha(t), spec.noise_schedule.sigma(t)))
    low, told = alpha * given["low"] + sigma * given["grain"], spec.noise_schedule.network_time(t)
    keys = jax.random.split(jax.random.key(0), count)
    state = upscaling.UpscalingState(samplers.initial_state(spec.initial_std() * given["noise"]), keys, low, told)
    condition, null = upscaler.encode([prompt] * count), upscaler.encode([""] * count)
    scale = jnp.full(count, float(how.guidance_scale or 1))
    params, first = upscaler.params, jnp.int32(0)
    end = upscaling.advance_upscaling(
        params["upscaler"], condition, null, scale, state, first, spec=spec, count=spec.steps
    )
    return end.loop.x, upscaling.decode_upscaled(params["vae"], end.loop.x, spec=spec)
