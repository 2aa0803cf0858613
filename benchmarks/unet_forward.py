"""One evaluation of the UNet, batch 4, against diffusers in channels_last."""

import jax
import torch

from benchmarks import unets
from benchmarks.timing import Comparison, count_parameters

BATCH = 4


def comparison(quick: bool) -> Comparison:
    """Both UNets with random weights."""
    size = unets.QUICK if quick else unets.FULL
    module, arguments = unets.our_unet(size), unets.our_inputs(size, BATCH)
    weights = unets.random_params(module, *arguments)
    apply = jax.jit(lambda weights, *arguments: module.apply({"params": weights}, *arguments))

    reference = unets.their_unet(size).to(memory_format=torch.channels_last)
    x, t, tokens = unets.torch_inputs(size, BATCH)
    x = x.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return reference(x, t, tokens, return_dict=False)[0]

    return Comparison(
        title="UNet forward",
        line=f"{count_parameters(weights) / 1e6:.0f} M parameters, {unets.LATENT}x{unets.LATENT} latents, "
        f"batch {BATCH}; diffusers, channels_last",
        ours=lambda: apply(weights, *arguments).block_until_ready(),
        theirs=theirs,
        parameters=(count_parameters(weights), count_parameters(reference)),
        floor=1.4,
        goal=1.2,
    )
