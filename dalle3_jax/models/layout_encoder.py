"""The layout encoder: tokens and a vector, on which a UNet is conditioned, of what stands where in a picture."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.examples import floats, text_mask
from dalle3_jax.models.layout_head import HALVES, LETTERS, PATCHES, LayoutLogits
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["Layout", "LayoutEncoder", "empty_layout", "labelled_layout", "layout_errors", "likely_layout"]


class Layout(NamedTuple):
    """Probabilities of the m cells of a picture, of what `LayoutLogits` has.

    Tints and patches are those of an object that a cell may show, and weighted by the chance of any; letters likewise
    by that of a word.
    """

    classes: Float[Array, "b m k"]
    tints: Float[Array, "b m t"]
    patches: Float[Array, "b m p"]
    letters: Float[Array, "b m 2 l"]
    backgrounds: Float[Array, "b g"]


def likely_layout(logits: LayoutLogits) -> Layout:
    """The probabilities that a head's logits stand for."""
    classes, tints, patches, letters, backgrounds = (jax.nn.softmax(part) for part in logits)
    shows, reads = jnp.sum(classes[..., 1:-1], axis=-1, keepdims=True), classes[..., -1:, None]
    return Layout(classes, shows * tints, shows * patches, reads * letters, backgrounds)


def labelled_layout(labels: Mapping[str, Array], names: Any) -> Layout:
    """The layout that labels say for sure, in the classes that the names of a layout head or encoder stand for.

    Labels are `cells`, `tints` and `patches` (b m), `letters` (b m 2) and `background` (b), as `stages.layout_labels`
    reads them from records.
    """
    cells, word = labels["cells"], len(names.concepts) + 1
    shows, one_hot = ((cells > 0) & (cells < word))[..., None], jax.nn.one_hot
    reads = (cells == word)[..., None, None]
    return Layout(
        one_hot(cells, word + 1),
        shows * one_hot(labels["tints"], len(names.tints)),
        shows * one_hot(labels["patches"], math.prod(PATCHES)),
        reads * one_hot(labels["letters"], len(LETTERS) + 1),
        one_hot(labels["background"], len(names.backgrounds)),
    )


def empty_layout(names: Any, count: int) -> Layout:
    """Layouts of `count` pictures of which nothing is said, for the grid and the names of a layout head or encoder."""
    cells = math.prod(names.grid)
    return Layout(
        jnp.zeros((count, cells, len(names.concepts) + 2)),
        jnp.zeros((count, cells, len(names.tints))),
        jnp.zeros((count, cells, math.prod(PATCHES))),
        jnp.zeros((count, cells, HALVES, len(LETTERS) + 1)),
        jnp.zeros((count, len(names.backgrounds))),
    )


def layout_errors(modules: Mapping[str, Any]) -> list[str]:
    """The errors of a layout encoder whose cells or names are not those of the UNet and the layout head beside it."""
    encoder, head, unet = (modules.get(name) for name in ("layout_encoder", "layout_head", "unet"))
    if encoder is None:
        return []
    errors = []
    if unet is not None and unet.grid and tuple(unet.grid) != tuple(encoder.grid):
        errors.append(f"layout_encoder.grid is {tuple(encoder.grid)}, unet.grid {tuple(unet.grid)}")
    for field in ("grid", "concepts", "tints", "backgrounds") if head is not None else ():
        if tuple(getattr(head, field)) != tuple(getattr(encoder, field)):
            errors.append(f"layout_encoder has not the {field} of layout_head")
    return errors


@accept_explicit_axes
class LayoutEncoder(nn.Module):
    """A token of every cell, linear in the layout's probabilities, and a vector of the background.

    Every class has a code of `code_width`, and every patch of an object a map of its own from codes to tokens: what a
    cell shows, class by class and patch by patch, is a product of two tables, which learn from each other. A labelled
    picture and a caption say it in the same way, so that a UNet learns from labels what things look like, and from a
    text side, which learnt to read captions beside it, what people call them. What the text says besides is added to
    both, nothing at first. Our choice; nothing like it is published of DALL-E 3. The grid and the names are those of
    the `LayoutHead` beside it.
    """

    width: int
    vector_width: int
    code_width: int
    grid: tuple[int, int]
    concepts: tuple[str, ...] = ()
    tints: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, layout: Layout | LayoutLogits, text: Condition | None = None) -> Condition:
        """The condition of a layout, or of what a head reads from the text and that text: a token for every cell."""
        if isinstance(layout, LayoutLogits):
            layout = likely_layout(layout)

        def linear(features: int, name: str, std: float | None = None, *, zero: bool = False) -> Any:
            return dense(features, use_bias=False, zero=zero, std=std, dtype=self.dtype, name=name)

        codes = linear(self.code_width, "codes", 1.0)(layout.classes)
        pairs = layout.patches[..., :, None].astype(self.dtype) * codes[..., None, :]
        pairs = pairs.reshape(*codes.shape[:2], -1)
        tokens = linear(self.width, "patches", self.code_width**-0.5)(pairs)
        tokens += linear(self.width, "classes", self.code_width**-0.5)(codes)
        tokens += linear(self.width, "tints", 1.0)(layout.tints)
        tokens += linear(self.width, "letters", 1.0)(layout.letters.reshape(*codes.shape[:2], -1))
        tokens += linear(self.width, "backgrounds", 0.5)(layout.backgrounds)[:, None]
        vector = linear(self.vector_width, "vector", 1.0)(layout.backgrounds)
        if text is not None:
            tokens += linear(self.width, "text_tokens", zero=True)(text.tokens)
            vector += linear(self.vector_width, "text_vector", zero=True)(text.vector)
        return Condition(tokens, jnp.ones(tokens.shape[:2], bool), vector)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        cells = math.prod(self.grid)
        adapter: Any = modules.get("xfnet", self)
        layout = jax.eval_shape(lambda: empty_layout(self, 1))
        return layout, Condition(floats(1, cells, adapter.width), text_mask(cells), floats(1, adapter.vector_width))
