"""Layouts cell by cell: each goes with those that are known, and hangs on its own key."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.models.build import build_models
from dalle3_jax.models.condition import Condition, encode_text
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.layout_encoder import Layout, LayoutEncoder, empty_layout
from dalle3_jax.models.layout_head import HALVES, LETTERS, PATCHES, LayoutHead, LayoutLogits
from dalle3_jax.models.layout_memory import LayoutMemory, choose_layout, encode_labelled_text
from tests.networks import randomised

NAMES = LayoutEncoder(4, 4, 4, (2, 2), concepts=("fox", "owl"), tints=("natural", "red"), backgrounds=("beach", "sea"))
CELLS, WORD, SURE = 4, 3, 50.0
KEYS = jax.vmap(jax.random.key)(jnp.arange(64))


def test_a_new_memory_adds_nothing_and_a_trained_one_what_is_known():
    memory, layout = LayoutMemory(5, (2, 2), 6), empty_layout(NAMES, 2)
    layout = layout._replace(classes=layout.classes.at[:, :, 1].set(1.0))
    known = jnp.asarray([[True, False, False, True], [False] * 4])
    new = memory.init(jax.random.key(0), layout, known)
    assert not np.any(memory.apply(new, layout, known))
    params = randomised(memory, layout, known)
    recalled = jax.jit(lambda layout: memory.apply({"params": params}, layout, known))
    other = layout.classes.at[:, :, 2].set(1.0)
    before, unknown, after = (
        np.asarray(recalled(layout._replace(classes=classes)))
        for classes in (layout.classes, jnp.where(known[..., None], layout.classes, other), other)
    )
    np.testing.assert_array_equal(before, unknown)  # of cells that are not known nothing is heard
    assert (before != after)[0].any(axis=-1).all()  # of one that is, in all
    np.testing.assert_array_equal(before[1], after[1])


def logits_of(classes, patches=None):
    """Logits of cells that show a class each, or are undecided between some (b m k), all with the same rest."""
    b = len(classes)
    zeros = (jnp.zeros((b, CELLS, 2)), jnp.zeros((b, CELLS, PATCHES[0] * PATCHES[1])))
    letters = jnp.zeros((b, CELLS, HALVES, len(LETTERS) + 1)).at[..., 8].set(SURE)
    return LayoutLogits(classes, *zeros, letters, jnp.asarray([[0.0, SURE]] * b))


def one_fox(layout: Layout, known):
    """Exactly one fox in some cell: nothing is likely beside one that is known, and all that is left must be one."""
    fox = jnp.any(known & (layout.classes[..., 1] > 0), axis=1, keepdims=True)
    last = (known.sum(axis=1, keepdims=True) == CELLS - 1) & ~fox
    left = CELLS - known.sum(axis=1, keepdims=True)
    chance = jnp.where(fox, 0.0, jnp.where(last, 1.0, 1.0 / left))
    classes = jnp.full((*known.shape, 4), -SURE)
    classes = classes.at[..., 0].set(jnp.log(1e-9 + 1 - chance)).at[..., 1].set(jnp.log(1e-9 + chance))
    return Condition(jnp.zeros((len(known), 1, 1)), known, known.astype(jnp.float32)), logits_of(classes)


@functools.partial(jax.jit, static_argnums=1)
def choose(keys, temperature=1.0):
    return choose_layout(one_fox, empty_layout(NAMES, len(keys)), keys, temperature)


def test_each_layout_is_whole_though_every_cell_is_open():
    layout, condition = choose(KEYS)
    foxes = np.asarray(layout.classes[..., 1])
    np.testing.assert_array_equal(foxes.sum(axis=1), 1)  # sampled apart, a third of them would have none
    assert (foxes.sum(axis=0) > 6).all()  # in every cell now and then
    np.testing.assert_array_equal(layout.tints.sum(-1), foxes)
    np.testing.assert_array_equal(layout.patches.sum(-1), foxes)
    assert not np.any(layout.letters)
    np.testing.assert_array_equal(layout.backgrounds, [[0, 1]] * len(KEYS))
    assert np.asarray(condition.vector).all()  # read once more with all that is known


def test_a_layout_hangs_on_its_key_alone():
    layout, again = choose(KEYS)[0], choose(KEYS[5:9])[0]
    for one, other in zip(layout, again, strict=True):
        np.testing.assert_array_equal(one[5:9], other)


def test_words_have_letters_and_a_low_temperature_takes_the_likeliest():
    def word_or_fox(layout, known):
        classes = jnp.zeros((*known.shape, 4)).at[..., WORD].set(1.0)
        return Condition(jnp.zeros((len(known), 1, 1)), known, known.astype(jnp.float32)), logits_of(classes)

    empty = empty_layout(NAMES, len(KEYS))
    layout, _ = jax.jit(lambda: choose_layout(word_or_fox, empty, KEYS, 0.01))()
    np.testing.assert_array_equal(layout.classes.argmax(-1), WORD)
    np.testing.assert_array_equal(layout.letters.argmax(-1), 8)
    assert not np.any(layout.patches)
    layout, _ = jax.jit(lambda: choose_layout(word_or_fox, empty, KEYS, 1.0))()
    assert len(np.unique(layout.classes.argmax(-1))) == 4


def test_captions_are_read_beside_layouts_and_empty_ones_are_not():
    text = {"vocab_size": 30, "width": 8, "layers": 1, "heads": 2, "head_size": 4, "mlp_width": 12}
    xfnet = {"kind": "resampler", "width": 6, "vector_width": 5, "heads": 1, "queries": CELLS}
    names = {"concepts": NAMES.concepts, "tints": NAMES.tints, "backgrounds": NAMES.backgrounds}
    modules = {
        **build_models({"text_encoder": text, "xfnet": xfnet}),
        "layout_head": LayoutHead(NAMES.grid, **names),
        "layout_encoder": NAMES,
        "layout_memory": LayoutMemory(6, NAMES.grid, 4),
    }
    assert text_components(modules) == tuple(modules)
    inputs = {name: module.example_inputs(modules) for name, module in modules.items()}
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), inputs)
    params = {name: randomised(module, *zeros[name]) for name, module in modules.items()}
    mask = jnp.arange(4) < jnp.asarray([[4], [1], [4]])
    batch = {"ids": jnp.arange(12).reshape(3, 4), "mask": mask}
    labels = {
        "cells": jnp.asarray([[0, 1, 2, 3]] * 3),
        "tints": jnp.zeros((3, CELLS), int),
        "patches": jnp.ones((3, CELLS), int),
        "letters": jnp.full((3, CELLS, HALVES), 3),
        "background": jnp.ones(3, int),
    }
    moved = {**labels, "cells": labels["cells"].at[:, 2].set(1)}
    encode = jax.jit(lambda labels: encode_labelled_text(modules, params, {**batch, **labels}))
    one, other = encode(labels), encode(moved)
    plain = jax.jit(lambda: encode_text(modules, params, batch))()
    assert (np.asarray(one.tokens != other.tokens).any(axis=(1, 2)) == [True, False, True]).all()
    np.testing.assert_allclose(one.tokens[1], plain.tokens[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.vector[1], plain.vector[1], rtol=1e-4, atol=1e-5)
    # the text is read beside what its cells show: another cell is heard of in the tokens of all
    assert np.asarray(one.tokens != other.tokens)[0].any(axis=1).all()
