"""CLIP's text encoder and its two towers: causality, the end of a text, which layer is read, what is a unit vector."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder, Tower, activate, end_positions
from tests.networks import abstract, count, normal, randomised

END = 29
ENCODER = CLIPTextEncoder(vocab_size=30, width=8, layers=3, heads=2, mlp_width=12, positions=7, projection=5)
IDS = jnp.asarray([[28, 3, 4, 5, 6, 7, END], [28, 3, 9, END, END, END, END]])
MASK = jnp.arange(7)[None] < jnp.array([7, 4])[:, None]

SCORER = CLIP(
    Tower(8, 1, 2, 12), Tower(12, 2, 3, 20, "gelu"), vocab_size=30, projection=6, positions=7, image_size=8, patch=4
)
IMAGES = normal(3, 8, 8, 3)


@functools.cache
def random_scorer():
    return randomised(SCORER, IDS, MASK, IMAGES)


@functools.cache
def random_params():
    return randomised(ENCODER, IDS, MASK)


@functools.partial(jax.jit, static_argnames=("module", "method"))
def apply(module, params, *args, method=None):
    return module.apply({"params": params}, *args, method=method)


def encode(params, ids, mask=MASK):
    return apply(ENCODER, params, ids, mask)


def called(params=None, ids=IDS, mask=MASK, **fields):
    """The encoder with other fields on the same parameters."""
    return apply(ENCODER.clone(**fields), random_params() if params is None else params, ids, mask)


def test_a_token_sees_nothing_behind_it():
    before, after = encode(random_params(), IDS), encode(random_params(), IDS.at[:, 4].set(11))
    np.testing.assert_array_equal(before.tokens[:, :4], after.tokens[:, :4])
    assert jnp.abs(before.tokens - after.tokens)[:, 4:].max(-1).min() > 1e-3


def test_padding_is_attended_to_unless_it_is_replaced():
    """Stable Diffusion's networks read the features of padding, so the mask hides nothing and every token counts."""
    seen = encode(random_params(), IDS)
    assert seen.mask.all()
    np.testing.assert_array_equal(seen.tokens, encode(random_params(), IDS, jnp.ones_like(MASK)).tokens)
    replaced = called(pad_id=0)
    np.testing.assert_allclose(replaced.tokens, called(ids=jnp.where(MASK, IDS, 0)).tokens, atol=1e-6)
    assert jnp.abs(replaced.tokens - seen.tokens)[1, 4:].max(-1).min() > 1e-3
    np.testing.assert_allclose(replaced.vector, seen.vector, atol=1e-6)


@pytest.mark.parametrize(("eos_id", "expected"), [(None, [6, 3]), (END, [6, 3]), (3, [1, 1]), (9, [0, 2])])
def test_a_text_ends_at_its_first_end_token_or_its_largest_id(eos_id, expected):
    np.testing.assert_array_equal(end_positions(IDS, eos_id), expected)


def test_the_vector_is_the_projected_last_layer_at_the_end():
    plain = called({name: tree for name, tree in random_params().items() if name != "projection"}, projection=0)
    at_end = jnp.stack([plain.tokens[0, 6], plain.tokens[1, 3]])
    np.testing.assert_allclose(plain.vector, at_end, atol=1e-6)
    expected = at_end @ random_params()["projection"]["kernel"]
    np.testing.assert_allclose(encode(random_params(), IDS).vector, expected, atol=1e-5)
    np.testing.assert_allclose(called(skip=1, normed=False).vector, expected, atol=1e-5)


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_skipped_layers_are_those_that_a_shorter_encoder_lacks(skip):
    layers = jax.tree.map(lambda leaf: leaf[: 3 - skip], random_params()["layers"])
    shorter = called(random_params() | {"layers": layers}, layers=3 - skip)
    np.testing.assert_allclose(called(skip=skip).tokens, shorter.tokens, atol=1e-6)


def test_features_without_the_norm_are_what_is_normed():
    raw = called(skip=1, normed=False).tokens
    norm = random_params()["final_norm"]
    mean, deviation = raw.mean(-1, keepdims=True), raw.std(-1, keepdims=True)
    expected = (raw - mean) / jnp.sqrt(deviation**2 + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(called(skip=1).tokens, expected, atol=1e-5)


def test_activations_are_the_published_formulas():
    x = jnp.asarray([-3.0, -1.0, 0.0, 0.5, 2.0])
    np.testing.assert_allclose(activate("quick_gelu", x), x / (1 + jnp.exp(-1.702 * x)), rtol=1e-6)
    np.testing.assert_allclose(activate("gelu", x), [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x], atol=1e-6)
    assert jnp.abs(called(activation="gelu").tokens - encode(random_params(), IDS).tokens).max() > 1e-3


def test_one_layer_is_stacked_like_many():
    shapes = nn.unbox(abstract(ENCODER.clone(layers=1), IDS, MASK))
    assert shapes["layers"]["attention"]["query"]["kernel"].shape == (1, 8, 8)
    assert shapes["layers"]["attention"]["query"]["bias"].shape == (1, 8)


def test_one_layer_is_the_published_formula():
    """Learned positions, pre-norm, biases everywhere, scores divided by the root of the head size, causal."""
    params = randomised(ENCODER.clone(layers=1, heads=1), IDS, MASK)
    w = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    layer = jax.tree.map(lambda leaf: leaf[0], w["layers"])

    def norm(x, tree):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * tree["scale"] + tree["bias"]

    def linear(x, tree):
        return x @ tree["kernel"] + tree["bias"]

    x = w["token_embedding"]["embedding"][np.asarray(IDS[0])] + w["position_embedding"]["embedding"]
    h = norm(x, layer["norm_1"])
    q, k, v = (linear(h, layer["attention"][name]) for name in ("query", "key", "value"))
    scores = np.exp(np.where(np.tri(7, dtype=bool), q @ k.T / np.sqrt(8), -np.inf))
    x = x + linear(scores / scores.sum(-1, keepdims=True) @ v, layer["attention"]["out"])
    h = linear(norm(x, layer["norm_2"]), layer["wide"])
    x = x + linear(h / (1 + np.exp(-1.702 * h)), layer["narrow"])
    expected = norm(x, w["final_norm"])
    out = called(params, layers=1, heads=1)
    np.testing.assert_allclose(out.tokens[0], expected, atol=1e-5)
    np.testing.assert_allclose(out.vector[0], expected[6] @ w["projection"]["kernel"], atol=1e-5)


def test_remat_gives_equal_values_and_gradients():
    def loss(module):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(module.apply({"params": p}, IDS, MASK).tokens ** 2)))

    plain, remat = loss(ENCODER)(random_params()), loss(ENCODER.clone(remat=True))(random_params())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, remat)


def test_bfloat16_is_close():
    exact, rounded = encode(random_params(), IDS), called(dtype=jnp.bfloat16)
    for ours, theirs in ((rounded.tokens, exact.tokens), (rounded.vector, exact.vector)):
        assert ours.dtype == jnp.bfloat16
        assert jnp.abs(ours - theirs).max() < 0.06 * jnp.abs(theirs).max()


def test_what_cannot_be_encoded_is_named():
    with pytest.raises(ValueError, match="8 tokens exceeds the 7 positions"):
        called(ids=jnp.zeros((1, 8), int), mask=jnp.ones((1, 8), bool))
    with pytest.raises(ValueError, match="skip=3 leaves none of 3 layers"):
        called(skip=3)
    with pytest.raises(ValueError, match="width 8 is not a multiple of its 3 heads"):
        called(heads=3)
    with pytest.raises(ValueError, match="unknown activation 'relu'"):
        activate("relu", IDS.astype(jnp.float32))


def test_towers_give_unit_vectors_and_their_product_is_scaled_cosine():
    texts = apply(SCORER, random_scorer(), IDS, MASK, method="encode_text")
    images = apply(SCORER, random_scorer(), IMAGES, method="encode_image")
    for vectors in (texts, images):
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-5)
    assert jnp.abs(images - images[:1]).max() > 1e-2
    scores = apply(SCORER, random_scorer(), IDS, MASK, IMAGES)
    np.testing.assert_allclose(scores, jnp.exp(random_scorer()["logit_scale"]) * texts @ images.T, rtol=1e-5)


def test_the_image_is_read_at_the_class_token_after_all_patches():
    tower = CLIPVisionEncoder(Tower(12, 2, 3, 20), image_size=8, patch=4)
    params = random_scorer()["vision_encoder"]
    out, tokens = apply(tower, params, IMAGES)
    assert tokens.shape == (3, 5, 12)
    assert out.shape == (3, 12)
    assert params["position_embedding"]["embedding"].shape == (5, 12)
    for row, column in np.ndindex(2, 2):  # no patch goes unseen, none for another
        patch = slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4)
        other, _ = apply(tower, params, IMAGES.at[0, *patch].multiply(-1.0))
        assert jnp.abs(other - out)[0].max() > 1e-3
        np.testing.assert_allclose(other[1:], out[1:], atol=1e-6)
    swapped, _ = apply(tower, params, jnp.roll(IMAGES, 4, axis=1))
    assert jnp.abs(swapped - out).max() > 1e-3
    attention = params["layers"]["attention"]  # without it every token keeps to itself, the class token too
    alone = params["layers"] | {"attention": attention | {"out": jax.tree.map(jnp.zeros_like, attention["out"])}}
    blind, _ = apply(tower, params | {"layers": alone}, IMAGES)
    np.testing.assert_array_equal(blind[1:], blind[:-1])
    with pytest.raises(ValueError, match="takes 8 x 8"):
        apply(tower, params, normal(1, 8, 12, 3))


SIZES = {  # width, mlp width, layers, heads, activation, projection: parameters
    "openai_l14": ((768, 3072, 12, 12, "quick_gelu", 0), 123_060_480),
    "openclip_h14_23_layers": ((1024, 4096, 23, 16, "gelu", 0), 340_387_840),
    "openclip_bigg14": ((1280, 5120, 32, 20, "gelu", 1280), 694_659_840),
}


@pytest.mark.parametrize("name", SIZES)
def test_published_counts_of_text_encoders(name):
    (width, mlp_width, layers, heads, activation, projection), expected = SIZES[name]
    encoder = CLIPTextEncoder(
        49408, width, layers, heads, mlp_width, activation=activation, projection=projection, remat=True
    )
    assert count(encoder, IDS, MASK) == expected


def test_published_count_of_both_towers():
    b32 = CLIP(Tower(512, 12, 8, 2048), Tower(768, 12, 12, 3072))
    assert count(b32, IDS, MASK, jnp.zeros((1, 224, 224, 3))) == 151_277_313
