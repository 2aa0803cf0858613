"""Targets of the scene reader: heat with a peak at every centre, classes and boxes in the peaks' cells.

The heat's loss is CenterNet's (arXiv 1904.07850 eq. 1). Pictures are spoiled as those of generators are (soft, noisy,
of other light or resolution, through an autoencoder), so that they can be read as well.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dalle3_jax.typing import Array, Bool, Float, Int, Key, LossFn, Params

__all__ = ["box_targets", "centre_cells", "degrade_images", "focal_loss", "heat_targets", "scene_reader_loss"]

EVERY = 8  # one picture in so many goes through the autoencoder
BLUR, SCALE, NOISE, CONTRAST, LIGHT = 2.5, 3.0, 40 / 127.5, 0.4, 0.3
"""The most that is done to a picture: pixels, factor, and parts of half the range of pixels."""


def scene_reader_loss(networks: Mapping[str, Callable[..., Any]], stride: int) -> LossFn:
    """Heat, classes and boxes at the objects' centres, and the background of the whole.

    networks: `reader` (params, images, cells), whose cells have sides of `stride` pixels, and, to spoil one picture in
    eight, `vae` (params, images) -> images.
    A batch holds `images` and, for n slots, `centres` (across, down) and `sides` (of the shorter side) as fractions,
    `concepts`, `tints`, `valid`; `style`, which all objects share, and `background`. Nothing is asked of slots that are
    not valid.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        images, weights = batch["images"], {**frozen, **params}
        if "vae" in networks:
            images = images.at[::EVERY].set(networks["vae"](weights["vae"], images[::EVERY]).astype(images.dtype))
        images = jax.lax.stop_gradient(degrade_images(images, key))
        cells = centre_cells(batch["centres"], images.shape[1] // stride, images.shape[2] // stride)
        return loss_and_metrics(networks["reader"](weights["reader"], images, cells), cells, batch)

    return loss_fn


def loss_and_metrics(
    sight: Any, cells: Int[Array, "b n"], batch: Mapping[str, Array]
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics of what the network says in the cells of the batch's objects."""
    valid, styles = batch["valid"], jnp.broadcast_to(batch["style"][:, None], cells.shape)
    rows, columns = sight.heat.shape[1:]
    wanted = box_targets(batch["centres"], batch["sides"], rows, columns)
    parts = {
        "heat": focal_loss(sight.heat, heat_targets(cells, batch["sides"], valid, rows, columns)),
        "concept": masked_cross_entropy(sight.concepts, batch["concepts"], valid),
        "tint": masked_cross_entropy(sight.tints, batch["tints"], valid),
        "box": masked_mean(jnp.abs(sight.boxes - wanted).sum(axis=-1), valid),
        "style": masked_cross_entropy(sight.styles, styles, valid),
        "background": masked_cross_entropy(sight.backgrounds, batch["background"], jnp.ones(len(cells), bool)),
    }
    hot = jnp.take_along_axis(sight.heat.reshape(len(cells), -1), cells, axis=1) > 0.0
    right = sight.concepts.argmax(-1) == batch["concepts"]
    shares = {
        "found": masked_mean(hot & right, valid),
        "concepts": masked_mean(right, valid),
        "tints": masked_mean(sight.tints.argmax(-1) == batch["tints"], valid),
        "styles": masked_mean(sight.styles.argmax(-1) == styles, valid),
        "backgrounds": jnp.mean(sight.backgrounds.argmax(-1) == batch["background"]),
    }
    return sum(parts.values(), jnp.zeros((), jnp.float32)), {
        **{f"loss_{name}": part for name, part in parts.items()},
        **shares,
    }


def centre_cells(centres: Float[Array, "b n 2"], rows: int, columns: int) -> Int[Array, "b n"]:
    """The cell in which each centre (across, down; fractions) lies, numbered row by row."""
    across = jnp.clip(jnp.floor(centres[..., 0] * columns), 0, columns - 1)
    down = jnp.clip(jnp.floor(centres[..., 1] * rows), 0, rows - 1)
    return (down * columns + across).astype(jnp.int32)


def box_targets(
    centres: Float[Array, "b n 2"], sides: Float[Array, "b n"], rows: int, columns: int
) -> Float[Array, "b n 3"]:
    """Centres as steps down and across from the middle of their cells, and logarithms of the sides, in cells."""
    cells = centre_cells(centres, rows, columns)
    down = centres[..., 1] * rows - (cells // columns + 0.5)
    across = centres[..., 0] * columns - (cells % columns + 0.5)
    side = jnp.log(jnp.maximum(sides * min(rows, columns), 1e-3))  # empty slots have no side
    return jnp.stack([down, across, side], axis=-1)


def heat_targets(
    cells: Int[Array, "b n"], sides: Float[Array, "b n"], valid: Bool[Array, "b n"], rows: int, columns: int
) -> Float[Array, "b i j"]:
    """1 in the cell of every centre, falling off around it as a bell that is wider for larger objects."""
    down = jnp.arange(rows)[None, None] - (cells // columns)[..., None]
    across = jnp.arange(columns)[None, None] - (cells % columns)[..., None]
    width = jnp.maximum(sides * min(rows, columns) / 8.0, 0.5)[..., None, None]
    squares = jnp.square(down)[..., :, None] + jnp.square(across)[..., None, :]
    bells = jnp.exp(-squares / (2.0 * jnp.square(width)))
    return jnp.max(bells * valid[..., None, None], axis=1)


def focal_loss(heat: Float[Array, "b i j"], target: Float[Array, "b i j"]) -> Float[Array, ""]:
    """CenterNet's penalty-reduced focal loss of logits, for each object: alpha = 2, beta = 4."""
    hot, cold = jax.nn.log_sigmoid(heat), jax.nn.log_sigmoid(-heat)
    peak = target == 1.0
    missed = jnp.exp(2.0 * cold) * hot
    false = jnp.power(1.0 - target, 4) * jnp.exp(2.0 * hot) * cold
    return -jnp.sum(jnp.where(peak, missed, false)) / jnp.maximum(peak.sum(), 1)


def masked_cross_entropy(
    logits: Float[Array, "*b k"], target: Int[Array, "*b"], valid: Bool[Array, "*b"]
) -> Float[Array, ""]:
    """Mean over what is valid."""
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(logits, target), valid)


def masked_mean(values: Array, valid: Bool[Array, "*b"]) -> Float[Array, ""]:
    """Mean over what is valid; 0 where nothing is."""
    return jnp.sum(jnp.where(valid, values, 0.0)) / jnp.maximum(valid.sum(), 1)


def degrade_images(images: Float[Array, "b h w 3"], key: Key) -> Float[Array, "b h w 3"]:
    """A fifth each of the pictures untouched, blurred, shrunk and enlarged again, noisy, and of other light."""
    kind_key, amount_key, light_key, noise_key = jax.random.split(key, 4)
    kind = jax.random.randint(kind_key, (len(images), 1, 1), 0, 5, jnp.int32)
    amount = jax.random.uniform(amount_key, kind.shape, jnp.float32)
    down, across = (
        jnp.where(
            kind == 1,
            blur_matrices(side, BLUR * amount),
            jnp.where(kind == 2, rescale_matrices(side, SCALE**amount), whole),
        )
        for side in images.shape[1:3]
        for whole in (jnp.eye(side, dtype=jnp.float32)[None],)
    )
    images = jnp.einsum("bij,bjwc->biwc", down, images)
    images = jnp.einsum("bij,bhjc->bhic", across, images)
    kind, amount = kind[..., None], amount[..., None]
    contrast, light = jax.random.uniform(light_key, (2, *kind.shape), jnp.float32, minval=-1.0)
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    images = images + jnp.where(kind == 3, NOISE * amount, 0.0) * noise
    lit = images * (1.0 + CONTRAST * contrast) + LIGHT * light
    return jnp.clip(jnp.where(kind == 4, lit, images), -1.0, 1.0)


def blur_matrices(side: int, sigma: Float[Array, "b 1 1"]) -> Float[Array, "b i j"]:
    """The matrices that blur a line of `side` pixels by bells of deviation `sigma`."""
    away = jnp.arange(side)[:, None] - jnp.arange(side)[None]
    return normalise_rows(jnp.exp(-0.5 * jnp.square(away[None] / jnp.maximum(sigma, 1e-2))))


def rescale_matrices(side: int, factor: Float[Array, "b 1 1"]) -> Float[Array, "b i j"]:
    """The matrices that shrink a line of `side` pixels by `factor` and enlarge it again, both bilinear."""
    pixels = jnp.arange(side, dtype=jnp.float32)
    middles = (pixels + 0.5)[None, :, None] / factor - 0.5
    kept = pixels < jnp.round(side / factor)
    tents = jnp.maximum(1.0 - jnp.abs(middles - pixels), 0.0) * kept
    return normalise_rows(tents) @ normalise_rows(tents.swapaxes(1, 2))


def normalise_rows(rows: Float[Array, "b i j"]) -> Float[Array, "b i j"]:
    """Rows that add up to 1, but for those of nothing."""
    return rows / jnp.maximum(rows.sum(axis=-1, keepdims=True), 1e-6)
