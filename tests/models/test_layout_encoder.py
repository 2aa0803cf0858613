"""The layout encoder: linear in what cells may show, patch by patch, and a text that says nothing more at first."""

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.models.build import build_models
from dalle3_jax.models.condition import encode_text
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.layout_encoder import Layout, LayoutEncoder, likely_layout
from dalle3_jax.models.layout_head import HALVES, LETTERS, PATCHES, LayoutHead, LayoutLogits
from tests.networks import condition, normal, randomised

NAMES = {"concepts": ("fox", "owl"), "tints": ("natural", "red"), "backgrounds": ("beach", "sea")}
ENCODER = LayoutEncoder(width=5, vector_width=3, code_width=4, grid=(2, 3), **NAMES)
CELLS, PATCH, L = 6, PATCHES[0] * PATCHES[1], len(LETTERS) + 1
SHAPES = ((2, CELLS, 4), (2, CELLS, 2), (2, CELLS, PATCH), (2, CELLS, HALVES, L), (2, 2))
LOGITS = LayoutLogits(*(normal(*shape, seed=i) for i, shape in enumerate(SHAPES)))
TEXT = condition(2, CELLS, 7, 6)
PARAMS = randomised(ENCODER, likely_layout(LOGITS), TEXT)


@jax.jit
def encode(layout, text=None):
    return ENCODER.apply({"params": PARAMS}, layout, text)


def shown(classes, patches=None):
    """A layout of classes and patches alone, both rows the same."""
    zeros = Layout(*map(jnp.zeros, SHAPES))
    patches = zeros.patches if patches is None else jax.nn.one_hot(jnp.asarray([patches] * 2), PATCH)
    return zeros._replace(classes=jax.nn.one_hot(jnp.asarray([classes] * 2), 4), patches=patches)


def test_logits_become_probabilities_of_what_is_there_at_all():
    layout = likely_layout(LOGITS)
    np.testing.assert_allclose(layout.classes.sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(layout.tints.sum(-1), layout.classes[..., 1:-1].sum(-1), rtol=1e-5)
    np.testing.assert_allclose(layout.patches.sum(-1), layout.classes[..., 1:-1].sum(-1), rtol=1e-5)
    np.testing.assert_allclose(layout.letters.sum(-1), layout.classes[..., -1:].repeat(HALVES, -1), rtol=1e-5)
    np.testing.assert_allclose(layout.backgrounds.sum(-1), 1.0, rtol=1e-5)
    for one, other in zip(encode(LOGITS), encode(layout), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_token_says_what_its_cell_shows_and_which_patch_of_it():
    fox, owl = (encode(shown([0, concept, 0, 0, 0, 0], [2] * CELLS)).tokens for concept in (1, 2))
    np.testing.assert_array_equal(np.any(fox != owl, axis=(0, 2)), np.arange(CELLS) == 1)
    lower = encode(shown([0, 1, 0, 0, 0, 0], [2, 9, 2, 2, 2, 2])).tokens
    np.testing.assert_array_equal(np.any(fox != lower, axis=(0, 2)), np.arange(CELLS) == 1)
    # what a patch adds is another thing for every concept: more than a sum of the two
    change = lower - fox, encode(shown([0, 2, 0, 0, 0, 0], [2, 9, 2, 2, 2, 2])).tokens - owl
    assert np.abs(change[0] - change[1]).max() > 0.1


def test_a_likely_pair_of_layouts_gives_the_mean_of_their_tokens():
    one, other = shown([1, 0, 0, 3, 0, 0]), shown([0, 2, 0, 0, 3, 0])
    mean = jax.tree.map(lambda a, b: (a + b) / 2, one, other)
    np.testing.assert_allclose(
        encode(mean).tokens, (encode(one).tokens + encode(other).tokens) / 2, rtol=1e-4, atol=1e-5
    )


def test_the_background_is_in_every_token_and_in_the_vector_and_letters_in_their_halves():
    layout = shown([0] * CELLS)
    sea = encode(layout._replace(backgrounds=jnp.asarray([[0.0, 1.0]] * 2)))
    beach = encode(layout._replace(backgrounds=jnp.asarray([[1.0, 0.0]] * 2)))
    assert (sea.tokens != beach.tokens).any(axis=-1).all()
    assert (sea.vector != beach.vector).any(axis=-1).all()
    letters = [layout._replace(letters=layout.letters.at[:, 4, half, 7].set(1.0)) for half in (0, 1)]
    left, right = (encode(each).tokens for each in letters)
    np.testing.assert_array_equal(np.any(left != right, axis=(0, 2)), np.arange(CELLS) == 4)


def test_the_text_adds_nothing_at_first_and_something_once_it_learnt():
    new = ENCODER.init(jax.random.key(0), likely_layout(LOGITS), TEXT)["params"]
    new = jax.tree.map(lambda leaf: leaf.value, new, is_leaf=lambda leaf: hasattr(leaf, "value"))
    for one, other in zip(
        ENCODER.apply({"params": new}, LOGITS, TEXT), ENCODER.apply({"params": new}, LOGITS), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    told = encode(LOGITS, TEXT)
    assert (told.tokens != encode(LOGITS).tokens).any()
    assert (told.vector != encode(LOGITS).vector).any()
    assert told.mask.all()


def test_a_system_with_one_reads_its_layout_from_the_text():
    """`encode_text` gives the encoder what the head makes of xfnet's output, and that beside it."""
    text = {"vocab_size": 30, "width": 8, "layers": 1, "heads": 2, "head_size": 4, "mlp_width": 12}
    xfnet = {"kind": "resampler", "width": 7, "vector_width": 6, "heads": 1, "queries": CELLS}
    modules = {
        **build_models({"text_encoder": text, "xfnet": xfnet}),
        "layout_head": LayoutHead(ENCODER.grid, **NAMES),
        "layout_encoder": ENCODER,
    }
    assert text_components(modules) == tuple(modules)
    ids, mask = jnp.arange(8).reshape(2, 4), jnp.ones((2, 4), bool)
    features = normal(2, 4, 8)
    params = {
        "text_encoder": randomised(modules["text_encoder"], ids, mask),
        "xfnet": randomised(modules["xfnet"], features, mask),
        "layout_head": randomised(modules["layout_head"], TEXT.tokens, TEXT.vector),
        "layout_encoder": PARAMS,
    }
    batch = {"ids": ids, "mask": mask}
    found = jax.jit(lambda: encode_text(modules, params, batch))()
    parts = {name: module for name, module in modules.items() if not name.startswith("layout")}
    text = jax.jit(lambda: encode_text(parts, params, batch))()
    expected = encode(modules["layout_head"].apply({"params": params["layout_head"]}, text.tokens, text.vector), text)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
