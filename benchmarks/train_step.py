"""A training step of the UNet (forward, backward, clipping, AdamW, EMA), against eager PyTorch doing the same."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import torch

from benchmarks import unets
from benchmarks.timing import Comparison, count_parameters
from dalle3_jax.training import optimizer, state
from dalle3_jax.training.step import make_step

BATCH = 4
RATE = 1e-4
DECAY = 0.01
EMA = 0.999


def our_step(size: unets.UNetSize) -> tuple[Callable[[], object], int]:
    """The package's own step with a squared-error loss, its state donated; and the number of parameters."""
    module, (x, t, condition) = unets.our_unet(size), unets.our_inputs(size, BATCH)
    weights = unets.random_params(module, x, t, condition)

    def loss_fn(params, frozen, batch, key):
        del frozen, key
        output = module.apply({"params": params}, batch["x"], batch["t"], batch["condition"])
        return jnp.mean(jnp.square(output - batch["target"])), {}

    adamw = optimizer.adamw(lambda _: jnp.asarray(RATE), b2=0.999, weight_decay=DECAY)
    step = jax.jit(make_step(loss_fn, adamw, ema=EMA), donate_argnums=0)
    batch = {"x": x, "t": t, "condition": condition, "target": x[::-1]}
    # Under jit, so that every leaf is a buffer of its own that can be donated.
    create = jax.jit(lambda weights, key: state.create_state(weights, adamw, key))
    current = [create(weights, jax.random.key(2))]
    parameters = count_parameters(weights)

    def run() -> None:
        current[0], metrics = step(current[0], {}, batch)
        jax.block_until_ready((current[0], metrics))

    return run, parameters


def their_step(size: unets.UNetSize) -> tuple[Callable[[], object], int]:
    """The same in PyTorch, with its fused AdamW and foreach clipping and EMA."""
    module = unets.their_unet(size).train()
    x, t, tokens = unets.torch_inputs(size, BATCH)
    target = x.flip(0)
    weights = list(module.parameters())
    average = [p.detach().clone() for p in weights]
    adamw = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, fused=True)

    def run() -> None:
        loss = torch.nn.functional.mse_loss(module(x, t, tokens, return_dict=False)[0], target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0, foreach=True)
        adamw.step()
        adamw.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, weights, 1 - EMA)

    return run, count_parameters(module)


def comparison(quick: bool) -> Comparison:
    """Both steps from random weights."""
    size = unets.QUICK if quick else unets.FULL
    ours, parameters = our_step(size)
    theirs, their_parameters = their_step(size)
    return Comparison(
        title="UNet training step",
        line=f"{parameters / 1e6:.0f} M parameters, {unets.LATENT}x{unets.LATENT} latents, batch {BATCH};"
        " forward, backward, clipping, AdamW, EMA; diffusers, eager",
        ours=ours,
        theirs=theirs,
        parameters=(parameters, their_parameters),
        floor=1.75,
        goal=1.35,
    )
