"""Texts written token by token for many pictures: one jitted loop, whose rows may begin and end at different times."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dalle3_jax.captioning.choosing import beam_step, best_beam, greedy, sample_nucleus
from dalle3_jax.captioning.decoding import CaptionDecoding
from dalle3_jax.models.captioner import Captioner, CaptionerCache, empty_cache
from dalle3_jax.typing import Array, Bool, Float, Int, Params

__all__ = [
    "DecodingState",
    "best_texts",
    "decode_tokens",
    "pack_unfinished",
    "start_decoding",
]


class DecodingState(NamedTuple):
    """The state of the texts of b pictures, `n` of each (1 unless there are beams); rows are picture by picture."""

    tokens: Int[Array, "b n l"]
    lengths: Int[Array, "b n"]
    done: Bool[Array, "b n"]
    scores: Float[Array, "b n"]  # log likelihood
    logits: Float[Array, "b n vocab"]
    positions: Int[Array, " b"]
    keys: Array  # of random draws, one a picture
    image_ids: Int[Array, " b"]  # what a picture is called by whoever asks; below 0: nobody does
    cache: CaptionerCache  # rows of b x n


@functools.partial(jax.jit, static_argnames=("module", "decoding"))
def start_decoding(
    params: Params,
    images: Float[Array, "b h w 3"],
    keys: Array,
    image_ids: Int[Array, " b"],
    start: Int[Array, ""],
    *,
    module: Captioner,
    decoding: CaptionDecoding,
) -> DecodingState:
    """The state in which pictures in [-1, 1] have been read and every text has begun with `start`."""
    b, n = len(images), decoding.width
    cache = empty_cache(module, b)
    ids, zeros = jnp.full(b, start, jnp.int32), jnp.zeros(b, jnp.int32)
    logits, cache = _decoder_step(module, params, ids, zeros, cache, images)
    cache = jax.tree.map(lambda x: jnp.repeat(x, n, axis=1), cache)
    length = decoding.length or module.positions
    # Beams begin alike: only the first may be chosen from, or all would stay alike.
    scores = jnp.broadcast_to(jnp.where(jnp.arange(n) == 0, 0.0, -jnp.inf), (b, n))
    return DecodingState(
        tokens=jnp.zeros((b, n, min(length, module.positions)), jnp.int32),
        lengths=jnp.zeros((b, n), jnp.int32),
        done=jnp.broadcast_to((image_ids < 0)[:, None], (b, n)),
        scores=scores,
        logits=jnp.broadcast_to(logits[:, None], (b, n, logits.shape[-1])),
        positions=zeros,
        keys=keys,
        image_ids=image_ids,
        cache=cache,
    )


@functools.partial(jax.jit, static_argnames=("module", "decoding"), donate_argnames=("state",))
def decode_tokens(
    params: Params, state: DecodingState, count: Int[Array, ""], *, module: Captioner, decoding: CaptionDecoding
) -> DecodingState:
    """Writes `count` more tokens of every text, or fewer where all are done before."""

    def going(carry: tuple[DecodingState, Array]) -> Array:
        state, left = carry
        return (left > 0) & ~state.done.all()

    def write(carry: tuple[DecodingState, Array]) -> tuple[DecodingState, Array]:
        state, left = carry
        return _write_token(params, state, module, decoding), left - 1

    return jax.lax.while_loop(going, write, (state, count))[0]


def _write_token(params: Params, state: DecodingState, module: Captioner, decoding: CaptionDecoding) -> DecodingState:
    """One more token of every text that is not done."""
    b, n, length = state.tokens.shape
    if decoding.method == "beam":
        source, token, scores = beam_step(state.logits, state.scores, state.done, module.eos_id)
        state = _reorder_beams(state, source)._replace(scores=scores)
    elif decoding.method == "top_p":
        sampled = sample_nucleus(state.logits[:, 0], state.keys, state.positions, decoding.temperature, decoding.top_p)
        token = sampled[:, None]
    else:
        token = greedy(state.logits.reshape(b * n, -1)).reshape(b, n)
    here = (jnp.arange(length) == state.positions[:, None])[:, None] & ~state.done[..., None]
    tokens = jnp.where(here, token[..., None], state.tokens)
    lengths = state.lengths + ~state.done
    positions = state.positions + 1
    done = state.done | (token == module.eos_id) | (positions >= length)[:, None]
    at = jnp.repeat(jnp.minimum(positions, module.positions - 1), n)
    logits, cache = _decoder_step(module, params, token.reshape(-1), at, state.cache)
    logits = logits.reshape(b, n, -1)
    return state._replace(tokens=tokens, lengths=lengths, done=done, logits=logits, positions=positions, cache=cache)


def _reorder_beams(state: DecodingState, source: Int[Array, "b n"]) -> DecodingState:
    """Each picture's texts in another order, some of them more than once."""
    b, n = source.shape
    rows = (jnp.arange(b)[:, None] * n + source).reshape(-1)

    def pick(x: Array) -> Array:
        return jnp.take_along_axis(x, source.reshape(b, n, *(1,) * (x.ndim - 2)), axis=1)

    cache = jax.tree.map(lambda x: x[:, rows], state.cache._replace(picture=None))
    return state._replace(
        tokens=pick(state.tokens),
        lengths=pick(state.lengths),
        done=pick(state.done),
        cache=cache._replace(picture=state.cache.picture),  # a picture's texts share it
    )


@functools.partial(jax.jit, donate_argnums=(0, 1))
def pack_unfinished(first: DecodingState, second: DecodingState) -> tuple[DecodingState, DecodingState]:
    """The rows of two states with those that are not done in front: what is left to write fills fewer batches."""
    n = first.done.shape[1]
    both = jnp.concatenate([first.done.all(-1), second.done.all(-1)])
    order = jnp.argsort(both, stable=True)
    rows = (order[:, None] * n + jnp.arange(n)).reshape(-1)

    def split(x: Array, y: Array, order: Array, axis: int) -> tuple[Array, Array]:
        half_one, half_two = jnp.split(jnp.take(jnp.concatenate([x, y], axis), order, axis), 2, axis)
        return half_one, half_two

    halves: list[dict[str, Any]] = [{}, {}]
    for name in DecodingState._fields:
        one, two = getattr(first, name), getattr(second, name)
        index, axis = (rows, 1) if name == "cache" else (order, 0)
        pairs = [split(x, y, index, axis) for x, y in zip(*map(jax.tree.leaves, (one, two)), strict=True)]
        for half, leaves in zip(halves, zip(*pairs, strict=True), strict=True):
            half[name] = jax.tree.unflatten(jax.tree.structure(one), leaves)
    return DecodingState(**halves[0]), DecodingState(**halves[1])


@functools.partial(jax.jit, static_argnames="decoding")
def best_texts(state: DecodingState, *, decoding: CaptionDecoding) -> tuple[Int[Array, "b l"], Int[Array, " b"]]:
    """The best text of each picture and its length, with its end token where it has one."""
    pick = best_beam(state.scores, state.lengths, decoding.length_penalty)
    rows = jnp.arange(len(pick))
    return state.tokens[rows, pick], state.lengths[rows, pick]


def _decoder_step(
    module: Captioner, params: Params, ids: Array, positions: Array, cache: CaptionerCache, images: Array | None = None
) -> Any:
    return module.apply({"params": params}, ids, positions, cache, images, method="step")
