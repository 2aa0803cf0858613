"""The choice of the next token: the likeliest, one sampled from the likeliest, or those of the likeliest texts."""

import functools

import jax
import jax.numpy as jnp

from dalle3_jax.typing import Array, Bool, Float, Int

__all__ = ["beam_step", "best_beam", "greedy", "sample_nucleus"]

NEVER = -1e30
"""The score of what must not be chosen; finite, so that sums of it stay numbers."""


def greedy(logits: Float[Array, "b vocab"]) -> Int[Array, " b"]:
    """The likeliest token."""
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def sample_nucleus(
    logits: Float[Array, "b vocab"], keys: Array, positions: Int[Array, " b"], temperature: float, top_p: float
) -> Int[Array, " b"]:
    """One of the fewest tokens whose chances sum to `top_p` (arXiv 1904.09751), drawn by a row's key and position.

    `keys` are one a row: a text repeats whatever stands beside it.
    """
    scaled = logits / temperature
    ranked = jnp.sort(scaled, axis=-1)[:, ::-1]
    before = jnp.cumsum(jax.nn.softmax(ranked, axis=-1), axis=-1) - jax.nn.softmax(ranked, axis=-1)
    least = jnp.min(jnp.where(before < top_p, ranked, jnp.inf), axis=-1, keepdims=True)
    kept = jnp.where(scaled >= least, scaled, NEVER)
    sampled = jax.vmap(lambda key, t, row: jax.random.categorical(jax.random.fold_in(key, t), row))
    return sampled(keys, positions, kept).astype(jnp.int32)


@functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
def beam_step(
    logits: Float[Array, "n vocab"], scores: Float[Array, " n"], done: Bool[Array, " n"], eos: int
) -> tuple[Int[Array, " n"], Int[Array, " n"], Float[Array, " n"]]:
    """Of each picture's `n` texts and every token after them the `n` likeliest: (text, token, log likelihood).

    A text that is done goes on as it is, with an end token that costs nothing.
    """
    n, vocab = logits.shape
    chances = jax.nn.log_softmax(logits, axis=-1)
    ended = jnp.where(jnp.arange(vocab) == eos, 0.0, NEVER)
    totals = scores[:, None] + jnp.where(done[:, None], ended[None], chances)
    values, places = jax.lax.top_k(totals.reshape(-1), n)
    return (places // vocab).astype(jnp.int32), (places % vocab).astype(jnp.int32), values


def best_beam(scores: Float[Array, "b n"], lengths: Int[Array, "b n"], penalty: float) -> Int[Array, " b"]:
    """Which text of each picture is the best: by log likelihood over length to the power of `penalty`."""
    return jnp.argmax(scores / jnp.maximum(lengths, 1).astype(jnp.float32) ** penalty, axis=-1)
