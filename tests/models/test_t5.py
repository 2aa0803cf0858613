"""The T5 encoder: positions, masks and the shared relative bias."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.t5 import T5Encoder, relative_buckets
from tests.networks import abstract, randomised

ENCODER = T5Encoder(
    vocab_size=30, width=8, layers=2, heads=2, head_size=4, mlp_width=12, relative_buckets=8, relative_max_distance=16
)
IDS = jnp.asarray(np.random.default_rng(0).integers(0, 30, (2, 7)))
MASK = jnp.arange(7)[None] < jnp.array([7, 4])[:, None]


@functools.cache
def random_params():
    return randomised(ENCODER, IDS, MASK)


@jax.jit
def encode(params, ids, mask):
    return ENCODER.apply({"params": params}, ids, mask)


def exact_bucket(distance: int, exact: int, half: int, max_distance: int) -> int:
    """floor(exact + (half - exact) log(distance / exact) / log(max_distance / exact)) by whole numbers alone."""
    if distance < exact:
        return distance
    span, k = half - exact, 0
    while k < span - 1 and distance**span * exact ** (k + 1) >= max_distance ** (k + 1) * exact**span:
        k += 1
    return exact + k


@pytest.mark.parametrize(("buckets", "max_distance"), [(32, 128), (8, 20), (64, 256), (12, 48)])
def test_buckets_are_exact_near_and_logarithmic_far(buckets, max_distance):
    half, length = buckets // 2, 300
    far = [exact_bucket(distance, half // 2, half, max_distance) for distance in range(length)]
    table = np.asarray(relative_buckets(length, buckets, max_distance))
    np.testing.assert_array_equal(table[:, 0], far)
    np.testing.assert_array_equal(table[0, 1:], half + np.array(far[1:]))
    np.testing.assert_array_equal(table[1:, 1:], table[:-1, :-1])


def test_keys_after_the_query_take_the_upper_half():
    np.testing.assert_array_equal(relative_buckets(3, 8, 16), [[0, 5, 6], [1, 0, 5], [2, 1, 0]])


def test_one_bias_table_serves_all_blocks():
    shapes = abstract(ENCODER, IDS, MASK)
    assert shapes["relative_bias"]["embedding"].value.shape == (8, 2)
    assert set(shapes["layers"]["attention"]) == {"query", "key", "value", "out"}


def test_bias_tells_direction():
    """Without a bias, or with one by distance alone, reversing the text would only reverse the features."""
    forward, backward = (encode(random_params(), ids, jnp.ones_like(MASK)) for ids in (IDS, IDS[:, ::-1]))
    assert jnp.abs(forward - backward[:, ::-1]).max() > 1e-2
    table = random_params()["relative_bias"]["embedding"]
    symmetric = random_params() | {"relative_bias": {"embedding": table.at[4:].set(table[:4])}}
    forward, backward = (encode(symmetric, ids, jnp.ones_like(MASK)) for ids in (IDS, IDS[:, ::-1]))
    np.testing.assert_allclose(forward, backward[:, ::-1], atol=1e-5)


def test_every_layer_feels_the_bias():
    """With the first block switched off, what changes with the bias is the second block's doing."""
    layers = jax.tree.map(lambda leaf: leaf, random_params()["layers"])
    for part, name in (("attention", "out"), ("feed_forward", "wo")):
        layers[part][name]["kernel"] = layers[part][name]["kernel"].at[0].set(0.0)
    params = random_params() | {"layers": layers}
    other = params | {"relative_bias": {"embedding": -random_params()["relative_bias"]["embedding"]}}
    assert jnp.abs(encode(params, IDS, MASK) - encode(other, IDS, MASK)).max() > 1e-2


def test_masked_tokens_never_change_the_others():
    spoiled = jnp.where(MASK, IDS, (IDS + 11) % 30)
    np.testing.assert_array_equal(
        encode(random_params(), IDS, MASK)[MASK], encode(random_params(), spoiled, MASK)[MASK]
    )
    unmasked = encode(random_params(), IDS, jnp.ones_like(MASK))
    assert jnp.abs(unmasked - encode(random_params(), IDS, MASK))[1, :4].max() > 1e-2


def test_only_relative_positions_count():
    """Padding before or after a text leaves its features as they are."""
    text = IDS[:1, :4]
    alone = encode(random_params(), text, jnp.ones((1, 4), bool))
    for before in (0, 3):
        ids = jnp.zeros((1, 7), int).at[:, before : before + 4].set(text)
        mask = jnp.zeros((1, 7), bool).at[:, before : before + 4].set(True)
        np.testing.assert_allclose(encode(random_params(), ids, mask)[:, before : before + 4], alone, atol=1e-5)


def test_one_layer_is_the_published_formula():
    """No division of the scores, RMS norms, tanh GELU, no biases."""
    one = ENCODER.clone(layers=1, heads=1)
    params = randomised(one, IDS, MASK)
    w = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    layer = jax.tree.map(lambda leaf: leaf[0], w["layers"])

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale

    x = w["token_embedding"]["embedding"][np.asarray(IDS[0])]
    h = norm(x, layer["norm_1"]["scale"])
    q, k, v = (h @ layer["attention"][name]["kernel"] for name in ("query", "key", "value"))
    bias = w["relative_bias"]["embedding"][np.asarray(relative_buckets(7, 8, 16)), 0]
    scores = np.exp(q @ k.T + bias)
    x = x + scores / scores.sum(-1, keepdims=True) @ v @ layer["attention"]["out"]["kernel"]
    h = norm(x, layer["norm_2"]["scale"])
    gate = h @ layer["feed_forward"]["wi_0"]["kernel"]
    gelu = gate / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))
    x = x + gelu * (h @ layer["feed_forward"]["wi_1"]["kernel"]) @ layer["feed_forward"]["wo"]["kernel"]
    expected = norm(x, w["final_norm"]["scale"])
    np.testing.assert_allclose(one.apply({"params": params}, IDS[:1], MASK[:1])[0], expected, atol=1e-5)


def test_remat_gives_equal_values_and_gradients():
    def loss(module):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(module.apply({"params": p}, IDS, MASK)[MASK] ** 2)))

    plain, remat = loss(ENCODER)(random_params()), loss(ENCODER.clone(remat=True))(random_params())
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, remat)


def test_bfloat16_is_close():
    exact = encode(random_params(), IDS, MASK)[MASK]
    rounded = ENCODER.clone(dtype=jnp.bfloat16).apply({"params": random_params()}, IDS, MASK)
    assert rounded.dtype == jnp.bfloat16
    assert jnp.abs(rounded[MASK] - exact).max() < 0.05 * jnp.abs(exact).max()


def test_relative_bias_begins_with_its_own_deviation():
    fields = {"vocab_size": 8, "width": 64, "layers": 1, "heads": 8, "head_size": 4, "mlp_width": 8}
    inputs = jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool)

    def deviation(**more) -> float:
        params = nn.unbox(jax.jit(T5Encoder(**fields, **more).init)(jax.random.key(0), *inputs)["params"])
        return float(params["relative_bias"]["embedding"].std())

    assert abs(deviation() - 64**-0.5) < 0.02
    assert abs(deviation(relative_std=2.0) - 2.0) < 0.3
