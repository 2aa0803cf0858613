"""Train our UNet in a loop of your own, with Optax, on a condition of your own; then sample it with guidance.

    python examples/own_training_loop.py

Images of one colour each; the UNet is conditioned on the colour's number, by a table of embeddings that learns with it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from dalle3_jax.diffusion import guidance, prediction, samplers, schedules, spacing
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.unet_call import apply_unet
from dalle3_jax.training.objectives.diffusion import diffusion_loss
from dalle3_jax.training.tasks import text_to_image

COLOURS = np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1]], np.float32)
NOTHING = len(COLOURS)  # the null condition, which guidance leads away from
LEVELS = (Level(16, blocks=1, depth=1, heads=2),)
UNET = UNet(LEVELS, in_channels=3, out_channels=3, groups=4, middle_depth=0, context_width=16, vector_width=16)
SCHEDULE = schedules.Cosine()
apply = functools.partial(apply_unet, UNET, factor=1)


def embed_labels(params, batch):
    """A condition of one token and one vector for each label."""
    rows = params["labels"][batch["labels"]]
    return Condition(rows[:, None], jnp.ones((len(rows), 1), bool), rows)


def make_batch(rng, count=16):
    """Images (b 8 8 3) of a colour; one label in ten is left out."""
    labels = rng.integers(NOTHING, size=count)
    images = np.broadcast_to(COLOURS[labels][:, None, None], (count, 8, 8, 3))
    return {"images": images, "labels": np.where(rng.random(count) < 0.1, NOTHING, labels)}


def sample(params, labels, key):
    """An image for each label, by 10 steps of DDIM at a guidance scale of 2."""
    condition = embed_labels(params, {"labels": jnp.concatenate([labels, jnp.full_like(labels, NOTHING)])})
    denoise = prediction.denoiser(lambda x, t: apply(params["unet"], x, t, condition), SCHEDULE, "v")
    keys = jax.random.split(key, len(labels))
    x, times = samplers.noise(keys, (8, 8, 3)), spacing.sampling_times(SCHEDULE, 10)
    return samplers.sample(samplers.ddim, guidance.classifier_free(denoise, 2.0), SCHEDULE, x, times, keys)


def main(steps=200):
    """Train for so many steps; the losses, and the mean colour of a sample of each."""
    rng, key = np.random.default_rng(0), jax.random.key(0)
    params, batch = {"labels": 0.1 * jax.random.normal(key, (NOTHING + 1, 16))}, make_batch(rng)
    inputs = batch["images"], jnp.zeros(len(batch["images"])), embed_labels(params, batch)
    params["unet"] = nn.unbox(jax.jit(UNET.init)(key, *inputs)["params"])
    task = text_to_image(lambda _, batch: batch["images"], embed_labels, apply)
    loss_fn = diffusion_loss(task, "unet", schedule=SCHEDULE)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, state, batch, key):
        (loss, _), gradients = jax.value_and_grad(loss_fn, has_aux=True)(params, {}, batch, key)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, loss

    state, losses = optimizer.init(params), []
    for index in range(steps):
        params, state, loss = step(params, state, make_batch(rng), jax.random.fold_in(key, index))
        losses.append(float(loss))
    return losses, np.asarray(jax.jit(sample)(params, jnp.arange(NOTHING), key)).mean((1, 2))


if __name__ == "__main__":
    losses, colours = main()
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; sampled colours:\n{colours.round(1)}")
