"""The text adapter: what each kind keeps of the text's length, masks, pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.xfnet import AttentionPool, XFNet
from tests.networks import abstract, normal, randomised, spoiled

KINDS = ("linear", "mlp", "transformer", "resampler")
MASK = jnp.arange(6)[None] < jnp.array([6, 2])[:, None]
FEATURES = normal(2, 6, 5)


def xfnet(kind: str, **fields) -> XFNet:
    return XFNet(kind, width=8, vector_width=3, layers=2, heads=2, queries=4, **fields)


def apply(module: XFNet, params, features=FEATURES, mask=MASK):
    return jax.jit(lambda params: module.apply({"params": params}, features, mask))(params)


@pytest.mark.parametrize("length", [1, 3, 50])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_vector_shapes(kind, length):
    features, mask = jnp.zeros((2, length, 5)), jnp.ones((2, length), bool)
    tokens, mask, vector = jax.eval_shape(lambda: xfnet(kind).init_with_output(jax.random.key(0), features, mask)[0])
    m = 4 if kind == "resampler" else length
    assert (tokens.shape, mask.shape, vector.shape) == ((2, m, 8), (2, m), (2, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_masked_tokens_have_no_influence(kind):
    module = xfnet(kind)
    params = randomised(module, FEATURES, MASK)
    tokens, mask, vector = apply(module, params)
    other = apply(module, params, spoiled(FEATURES, MASK))
    np.testing.assert_array_equal(tokens[mask], other.tokens[mask])
    np.testing.assert_array_equal(vector, other.vector)
    np.testing.assert_array_equal(mask, jnp.ones((2, 4), bool) if kind == "resampler" else MASK)
    # The second row hides four tokens; an ignored mask would show here.
    unmasked = apply(module, params, mask=jnp.ones_like(MASK))
    assert jnp.abs(unmasked.vector - vector)[1].max() > 1e-3


@pytest.mark.parametrize("kind", ["transformer", "resampler"])
def test_tokens_see_each_other(kind):
    module = xfnet(kind)
    params = randomised(module, FEATURES, MASK)
    changed = apply(module, params, FEATURES.at[:, 1].add(1.0)).tokens - apply(module, params).tokens
    assert jnp.abs(changed).max(axis=-1).min(axis=0)[0] > 1e-4


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_each_token_is_mapped_by_itself(kind):
    module = xfnet(kind)
    params = randomised(module, FEATURES, MASK)
    changed = apply(module, params, FEATURES.at[:, 1].add(1.0)).tokens - apply(module, params).tokens
    assert jnp.abs(changed[:, 1]).max() > 1e-3
    np.testing.assert_array_equal(jnp.delete(changed, 1, axis=1), 0.0)


def test_resampler_ignores_padding_length():
    module = xfnet("resampler")
    params = randomised(module, FEATURES, MASK)
    longer = jnp.pad(FEATURES, ((0, 0), (0, 9), (0, 0))), jnp.pad(MASK, ((0, 0), (0, 9)))
    short, long = apply(module, params), apply(module, params, *longer)
    np.testing.assert_allclose(long.tokens, short.tokens, atol=1e-5)
    np.testing.assert_allclose(long.vector, short.vector, atol=1e-5)


def test_pool_of_one_token_is_a_linear_map_of_it():
    pool = AttentionPool(3, heads=2)
    tokens, mask = normal(2, 4, 8), jnp.arange(4)[None] == jnp.array([[1], [3]])
    params = randomised(pool, tokens, mask)
    chosen = tokens[jnp.arange(2), jnp.array([1, 3])]
    attention = params["attention"]
    expected = chosen @ attention["value"]["kernel"] @ attention["out"]["kernel"] + attention["out"]["bias"]
    np.testing.assert_allclose(pool.apply({"params": params}, tokens, mask), expected, atol=1e-5)


def test_a_wholly_masked_text_stays_finite():
    for kind in KINDS:
        module = xfnet(kind)
        params = randomised(module, FEATURES, MASK)
        condition = apply(module, params, mask=jnp.zeros_like(MASK))
        assert jnp.isfinite(condition.tokens).all()
        assert jnp.isfinite(condition.vector).all()


@pytest.mark.parametrize("kind", ["transformer", "resampler"])
def test_remat_gives_equal_values(kind):
    module = xfnet(kind)
    params = randomised(module, FEATURES, MASK)
    for plain, remat in zip(apply(module, params), apply(module.clone(remat=True), params), strict=True):
        np.testing.assert_allclose(plain, remat, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close(kind):
    module = xfnet(kind)
    params = randomised(module, FEATURES, MASK)
    exact, rounded = apply(module, params), apply(module.clone(dtype=jnp.bfloat16), params)
    assert rounded.tokens.dtype == jnp.bfloat16
    for ours, theirs in (
        (rounded.tokens[MASK[:, : exact.tokens.shape[1]]], exact.tokens[MASK[:, : exact.tokens.shape[1]]]),
    ):
        assert jnp.abs(ours - theirs).max() < 0.1


GLYPHS = normal(2, 3, 7, seed=5), jnp.array([[True, True, False], [False, False, False]])


def with_glyphs(module: XFNet, params, glyphs, features=FEATURES, mask=MASK):
    return jax.jit(lambda params: module.apply({"params": params}, features, mask, glyphs))(params)


@pytest.mark.parametrize("kind", KINDS)
def test_glyphs_are_further_tokens(kind):
    module = xfnet(kind, glyphs=True)
    tokens, mask, _ = with_glyphs(module, randomised(module, FEATURES, MASK, GLYPHS), GLYPHS)
    assert tokens.shape == (2, 4 if kind == "resampler" else 9, 8)
    joined = jnp.concatenate([MASK, GLYPHS[1]], axis=1)
    np.testing.assert_array_equal(mask, jnp.ones((2, 4), bool) if kind == "resampler" else joined)


@pytest.mark.parametrize("kind", KINDS)
def test_glyphs_reach_the_condition_of_their_own_row_unless_masked(kind):
    module = xfnet(kind, glyphs=True)
    params = randomised(module, FEATURES, MASK, GLYPHS)
    tokens, mask, vector = with_glyphs(module, params, GLYPHS)
    other = with_glyphs(module, params, (GLYPHS[0].at[:, 1].add(1.0), GLYPHS[1]))
    assert jnp.abs(other.vector - vector)[0].max() > 1e-3
    np.testing.assert_array_equal(other.vector[1], vector[1])
    hidden = with_glyphs(module, params, (spoiled(*GLYPHS), GLYPHS[1]))
    np.testing.assert_array_equal(hidden.tokens[mask], tokens[mask])
    np.testing.assert_array_equal(hidden.vector, vector)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_glyphs_leave_what_the_text_says(kind):
    module, plain = xfnet(kind, glyphs=True), xfnet(kind)
    params = randomised(module, FEATURES, MASK, GLYPHS)
    without = {name: tree for name, tree in params.items() if name != "project_glyphs"}
    masked = with_glyphs(module, params, (GLYPHS[0], jnp.zeros_like(GLYPHS[1])))
    alone = apply(plain, without)
    np.testing.assert_allclose(masked.vector, alone.vector, atol=1e-5)
    # all kinds of one token for each text token begin with those
    where = alone.mask
    np.testing.assert_allclose(masked.tokens[:, : where.shape[1]][where], alone.tokens[where], atol=1e-5)


def test_the_bias_of_glyphs_marks_them_and_nothing_else():
    module = xfnet("linear", glyphs=True)
    params = randomised(module, FEATURES, MASK, GLYPHS)
    moved = jax.tree.map(lambda leaf: leaf, params)
    moved["project_glyphs"]["bias"] += jnp.arange(8.0)
    changed = with_glyphs(module, moved, GLYPHS).tokens - with_glyphs(module, params, GLYPHS).tokens
    np.testing.assert_array_equal(changed[:, :6], 0.0)
    assert jnp.abs(changed[:, 6:]).max(axis=-1).min() > 1e-2


@pytest.mark.parametrize("on", [True, False])
def test_glyphs_are_taken_if_and_only_if_the_switch_is_on(on):
    arguments = (FEATURES, MASK) if on else (FEATURES, MASK, GLYPHS)
    with pytest.raises(ValueError, match=f"xfnet.glyphs is {on}: give the features"):
        abstract(xfnet("linear", glyphs=on), *arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_heads_must_divide_the_width(kind):
    with pytest.raises(ValueError, match="width 8 is not a multiple of its 3 heads"):
        abstract(XFNet(kind, 8, 3, heads=3), FEATURES, MASK)
