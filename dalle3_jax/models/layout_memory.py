"""Layouts chosen cell by cell: what is known of a picture's cells already, for the next one to go with it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import Condition, encode_words
from dalle3_jax.models.examples import require_component
from dalle3_jax.models.layout_encoder import Layout, empty_layout, labelled_layout, likely_layout
from dalle3_jax.models.layout_head import LayoutLogits
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import conv, dense
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Params

__all__ = ["LayoutMemory", "choose_layout", "encode_labelled_text", "read_beside", "sample_layout"]

TEMPERATURE = 0.7
"""Of the sampling of layouts: a stray cell in sixty-four would spoil a picture."""


@accept_explicit_axes
class LayoutMemory(nn.Module):
    """The known cells of a layout -> what is added to xfnet's queries, one of which speaks for each cell.

    A caption leaves places open: cell by cell it says what is likely, and not that one panda stands in one place. With
    the cells that are known already beside it, the text side says what goes with them, and layouts are sampled cell by
    cell, in any order (arXiv 2110.02037). Two convolutions and a mean carry what is known to the cells around and to
    all others, which attention between queries was slow to learn. Nothing is added by a new network.
    """

    width: int
    grid: tuple[int, int]
    channels: int = 96
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, layout: Layout, known: Bool[Array, "b m"]) -> Float[Array, "b m d"]:
        """The features that the known cells give to every cell; the layout of others is not looked at."""
        parts = (layout.classes, layout.tints, layout.patches, layout.letters.reshape(*known.shape, -1))
        cells = jnp.concatenate([known[..., None], *parts], axis=-1) * known[..., None]
        x = dense(self.channels, use_bias=False, dtype=self.dtype, name="cells")(cells)
        everywhere = dense(self.channels, dtype=self.dtype, name="mean")(x.mean(axis=1, keepdims=True))
        x = x.reshape(len(x), *self.grid, -1)
        for layer in range(2):
            x = nn.gelu(conv(self.channels, 5, dtype=self.dtype, name=f"around_{layer}")(x))
        x = x.reshape(*known.shape, -1) + nn.gelu(everywhere)
        return dense(self.width, zero=True, dtype=self.dtype, name="project")(x)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        layout = jax.eval_shape(lambda: empty_layout(require_component("layout_head", modules, self), 1))
        return layout, jax.ShapeDtypeStruct(layout.classes.shape[:2], jnp.bool_)


def read_beside(modules: Mapping[str, nn.Module], params: Params, words: tuple[Any, ...], known: Array) -> Condition:
    """xfnet's condition of the words (see `condition.encode_words`) beside what is known of the cells."""
    condition: Any = modules["xfnet"].apply({"params": params["xfnet"]}, *words, known=known)
    return condition


def sample_layout(
    modules: Mapping[str, nn.Module],
    params: Params,
    batch: Mapping[str, Array],
    keys: Any,
    temperature: float = TEMPERATURE,
) -> tuple[Layout, Condition]:
    """A layout of each row of tokenized text, by its key, and xfnet's condition beside it (see `choose_layout`)."""
    head: Any = modules["layout_head"]
    words = encode_words(modules, params, batch)

    def read(layout: Layout, known: Array) -> tuple[Condition, LayoutLogits]:
        cells: Any = modules["layout_memory"].apply({"params": params["layout_memory"]}, layout, known)
        condition = read_beside(modules, params, words, cells)
        logits: Any = head.apply({"params": params["layout_head"]}, condition.tokens, condition.vector)
        return condition, logits

    return choose_layout(read, empty_layout(head, len(keys)), keys, temperature)


def encode_labelled_text(modules: Mapping[str, nn.Module], params: Params, batch: Mapping[str, Array]) -> Condition:
    """The condition of captions of pictures whose layouts are known, as it is in sampling beside a layout.

    A batch has the labels of `labelled_layout` beside its text. A caption of one token, its end, says nothing: its
    layout is what is likely, as of the null condition.
    """

    def apply(name: str, *inputs: Any) -> Any:
        return modules[name].apply({"params": params[name]}, *inputs)

    words, layout = encode_words(modules, params, batch), labelled_layout(batch, modules["layout_head"])
    text = read_beside(modules, params, words, apply("layout_memory", layout, jnp.ones_like(batch["cells"], bool)))
    null = apply("xfnet", *words)
    said = batch["mask"].sum(axis=1) > 1

    def choose(one: Array, other: Array) -> Array:
        return jnp.where(said.reshape(-1, *[1] * (one.ndim - 1)), one, other)

    layout = jax.tree.map(choose, layout, likely_layout(apply("layout_head", null.tokens, null.vector)))
    condition: Condition = apply("layout_encoder", layout, jax.tree.map(choose, text, null))
    return condition


def choose_layout(
    read: Callable[[Layout, Bool[Array, "b m"]], tuple[Condition, LayoutLogits]],
    empty: Layout,
    keys: Any,
    temperature: float = 1.0,
) -> tuple[Layout, Condition]:
    """Layouts sampled cell by cell, each picture's in an order of its own, and the text's condition at the end.

    read(layout, known) gives xfnet's condition and the head's logits with these cells known; `empty` is a layout of
    nothing. A picture's layout depends on its key alone. Below 1 the `temperature` makes likely classes likelier.
    """
    b, m, _ = empty.classes.shape
    split = jax.vmap(lambda key: jax.random.split(key, 3))(keys)
    order = jax.vmap(lambda key: jax.random.permutation(key, m))(split[:, 0])
    rows = jnp.arange(b)

    def one(step: Array, state: tuple[Layout, Array]) -> tuple[Layout, Array]:
        layout, known = state
        _, logits = read(layout, known)
        cell = order[:, step]
        here = jax.vmap(jax.random.fold_in, (0, None))(split[:, 1], step)
        chosen = sample_cells([part[rows, cell] for part in logits[:-1]], here, temperature)
        written = [old.at[rows, cell].set(new) for old, new in zip(layout[:-1], chosen, strict=True)]
        return Layout._make([*written, layout.backgrounds]), known.at[rows, cell].set(True)

    layout, known = jax.lax.fori_loop(0, m, one, (empty, jnp.zeros((b, m), bool)))
    condition, logits = read(layout, known)
    background = jax.vmap(jax.random.categorical)(split[:, 2], logits.backgrounds / temperature)
    return layout._replace(backgrounds=jax.nn.one_hot(background, logits.backgrounds.shape[-1])), condition


def sample_cells(logits: Sequence[Array], keys: Any, temperature: float) -> tuple[Array, ...]:
    """One cell of every picture: its class, tint, patch and letters, one-hot, or 0 where there are none."""
    keys = jax.vmap(lambda key: jax.random.split(key, 4))(keys)

    def one_hot(number: int) -> Array:
        sample = jax.vmap(lambda key, row: jax.random.categorical(key, row / temperature, axis=-1))
        return jax.nn.one_hot(sample(keys[:, number], logits[number]), logits[number].shape[-1])

    classes, tints, patches, letters = map(one_hot, range(4))
    shows, reads = jnp.sum(classes[:, 1:-1], axis=-1, keepdims=True), classes[:, -1:, None]
    return classes, shows * tints, shows * patches, reads * letters
