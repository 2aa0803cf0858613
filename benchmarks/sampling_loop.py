"""20 steps of DDIM with guidance for one image, our jitted loop against diffusers' scheduler and loop."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from diffusers import DDIMScheduler

from benchmarks import unets
from benchmarks.timing import Comparison, count_parameters
from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.guidance import classifier_free
from dalle3_jax.diffusion.prediction import denoiser
from dalle3_jax.diffusion.schedules import ScaledLinear
from dalle3_jax.diffusion.spacing import sampling_times

STEPS = 20
SCALE = 5.0


def comparison(quick: bool) -> Comparison:
    """Both loops with random weights, from noise to latents."""
    size, steps = (unets.QUICK, 3) if quick else (unets.FULL, STEPS)
    module, (_, t, condition) = unets.our_unet(size), unets.our_inputs(size, 2)
    noise = jax.random.normal(jax.random.key(1), (1, unets.LATENT, unets.LATENT, 4))
    weights = unets.random_params(module, jnp.concatenate([noise, noise]), t, condition)
    schedule = ScaledLinear()

    @jax.jit
    def loop(weights, condition, noise, scale, keys):
        def network(x, t) -> Any:
            return module.apply({"params": weights}, x, t, condition)

        denoise = denoiser(network, schedule, "v")
        guided = classifier_free(denoise, scale, schedule)
        return samplers.sample(
            samplers.SAMPLERS["ddim"], guided, schedule, noise, sampling_times(schedule, steps), keys
        )

    keys = jax.random.split(jax.random.key(2), 1)
    reference = unets.their_unet(size).to(memory_format=torch.channels_last)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    start, _, tokens = unets.torch_inputs(size, 1)
    both = torch.cat([torch.zeros_like(tokens), tokens])

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        scheduler.set_timesteps(steps)
        x = start.contiguous(memory_format=torch.channels_last)
        for t in scheduler.timesteps:
            null, conditional = reference(torch.cat([x, x]), t, both, return_dict=False)[0].chunk(2)
            x = scheduler.step(null + SCALE * (conditional - null), t, x, return_dict=False)[0]
        return x

    return Comparison(
        title="sampling loop",
        line=f"{steps} steps of DDIM with guidance, {count_parameters(weights) / 1e6:.0f} M parameters, one image of"
        f" {unets.LATENT}x{unets.LATENT} latents; the diffusers loop, channels_last",
        ours=lambda: loop(weights, condition, noise, SCALE, keys).block_until_ready(),
        theirs=theirs,
        parameters=(count_parameters(weights), count_parameters(reference)),
        floor=1.15,
        goal=1.0,
    )
