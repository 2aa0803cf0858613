"""Attention against its closed form; masks, bias, and the tiled path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.nn import attention
from dalle3_jax.nn.attention import Attention, attend
from tests.networks import normal, randomised, spoiled

B, L, M, N, K = 2, 5, 7, 3, 4
MASK = jnp.arange(M)[None] < jnp.array([M, 3])[:, None]


def inputs() -> tuple[jax.Array, jax.Array, jax.Array]:
    return normal(B, L, N, K, seed=1), normal(B, M, N, K, seed=2), normal(B, M, N, K, seed=3)


def closed_form(q, k, v, mask=None, bias=0.0, scale=1.0) -> np.ndarray:
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    weights = np.exp(scale * np.einsum("blnk,bmnk->bnlm", q, k) + np.asarray(bias))
    if mask is not None:
        weights = weights * np.asarray(mask)[:, None, None, :]
    return np.einsum("bnlm,bmnk->blnk", weights / weights.sum(-1, keepdims=True), v)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("bias", [None, normal(1, N, L, M, seed=4)])
def test_closed_form(mask, bias):
    q, k, v = inputs()
    expected = closed_form(q, k, v, mask, 0.0 if bias is None else bias, scale=0.7)
    np.testing.assert_allclose(attend(q, k, v, mask, bias, scale=0.7), expected, atol=1e-6)


def test_ignoring_mask_bias_or_scale_would_be_noticed():
    q, k, v = inputs()
    bias = normal(1, N, L, M, seed=4)
    right = closed_form(q, k, v, MASK, bias, scale=0.7)
    for mutant in ((None, bias, 0.7), (MASK, 0.0, 0.7), (MASK, bias, 1.0), (MASK, -bias, 0.7)):
        assert np.abs(closed_form(q, k, v, *mutant) - right).max() > 0.05


def test_masked_keys_have_no_influence():
    q, k, v = inputs()
    keep = MASK[:, :, None]
    np.testing.assert_array_equal(
        attend(q, k, v, MASK, scale=1.0), attend(q, spoiled(k, keep), spoiled(v, keep), MASK, scale=1.0)
    )


def test_a_row_without_keys_is_finite():
    q, k, v = inputs()
    out, gradient = jax.value_and_grad(lambda q: attend(q, k, v, jnp.zeros((B, M), bool), scale=1.0).sum())(q)
    assert jnp.isfinite(out)
    assert jnp.isfinite(gradient).all()


@pytest.mark.parametrize("mask", [None, MASK])
def test_tiled_equals_plain_with_gradients(mask, monkeypatch):
    arguments, weight = inputs(), normal(B, L, N, K, seed=5)

    def total(q, k, v):
        out = attend(q, k, v, mask, scale=0.5)
        return (out * weight).sum(), out

    gradients, out = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*arguments)
    monkeypatch.setattr(attention, "TILED_FROM", 0)
    monkeypatch.setattr(attention, "_attend_at_once", None)
    tiled_gradients, tiled_out = jax.grad(total, argnums=(0, 1, 2), has_aux=True)(*arguments)
    for plain, tiled in zip((out, *gradients), (tiled_out, *tiled_gradients), strict=True):
        np.testing.assert_allclose(tiled, plain, atol=1e-6)


@pytest.mark.parametrize("tiled_from", [0, 10**9])
def test_scores_and_softmax_are_float32_in_bfloat16(tiled_from, monkeypatch):
    """Scores near 40, where bfloat16 would round by an eighth."""
    monkeypatch.setattr(attention, "TILED_FROM", tiled_from)
    q, k, v = (x.astype(jnp.bfloat16) for x in inputs())
    k = k.at[..., 0].set(20)
    q = q.at[..., 0].set(2)
    out = attend(q, k, v, MASK, scale=1.0)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(out, np.float64), closed_form(q, k, v, MASK), atol=0.02)


def test_a_query_that_matches_one_key_returns_its_value():
    keys = 50 * jnp.eye(M)[None, :, None, :]
    values = normal(1, M, 1, M)
    np.testing.assert_allclose(attend(keys[:, 2:4], keys, values, scale=1.0), values[:, 2:4], atol=1e-6)


@pytest.mark.parametrize(
    ("length", "keys", "size", "dtype", "masked", "fits"),
    [
        (64, 64, 64, jnp.bfloat16, True, True),
        (63, 77, 64, jnp.bfloat16, False, True),
        (64, 77, 64, jnp.bfloat16, True, False),
        (63, 64, 64, jnp.bfloat16, True, False),
        (64, 64, 36, jnp.bfloat16, False, False),
        (64, 64, 160, jnp.float16, False, False),
        (64, 64, 64, jnp.float32, False, False),
    ],
)
def test_what_cudnn_would_refuse_is_not_sent_there(length, keys, size, dtype, masked, fits):
    q, k = jnp.zeros((1, length, 1, size), dtype), jnp.zeros((1, keys, 1, size), dtype)
    assert attention.fits_cudnn(q, k, masked=masked) == fits


class TestModule:
    x, context = normal(B, L, 10, seed=1), normal(B, M, 6, seed=2)

    @pytest.mark.parametrize("fields", [{}, {"scale": 1.0}, {"qkv_bias": True, "out_bias": False}, {"qk_norm": True}])
    def test_closed_form(self, fields):
        module = Attention(N, K, out_features=8, **fields)
        params = randomised(module, self.x, self.context, MASK)
        p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

        def project(x, name):
            y = np.asarray(x, np.float64) @ p[name]["kernel"] + p[name].get("bias", 0.0)
            y = y.reshape(*y.shape[:-1], N, K)
            if f"{name}_norm" in p:
                y = y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p[f"{name}_norm"]["scale"]
            return y

        q, k, v = project(self.x, "query"), project(self.context, "key"), project(self.context, "value")
        y = closed_form(q, k, v, MASK, scale=fields.get("scale", K**-0.5)).reshape(B, L, N * K)
        expected = y @ p["out"]["kernel"] + p["out"].get("bias", 0.0)
        out = module.apply({"params": params}, self.x, self.context, MASK)
        np.testing.assert_allclose(out, expected, atol=1e-5)

    def test_context_defaults_to_the_input(self):
        module = Attention(N, K)
        params = randomised(module, self.x)
        np.testing.assert_array_equal(
            module.apply({"params": params}, self.x), module.apply({"params": params}, self.x, self.x)
        )


def test_what_is_differentiated_forwards_takes_no_fused_kernel(monkeypatch):
    """The kernel of a TPU has no rule for `jax.jvp`: within `plain_attention` it is not asked, and after it again."""
    q, k, v = (normal(1, 128, 1, 64, seed=i) for i in range(3))
    monkeypatch.setattr(attention, "target_platform", lambda: "tpu")
    monkeypatch.setattr(attention, "suits_flash", lambda q, k: True)
    monkeypatch.setattr(attention, "flash_attention", lambda *inputs, **how: asked.append(how) or inputs[0])
    asked = []
    with attention.plain_attention():
        out, tangent = jax.jvp(lambda q: attention.attend(q, k, v, scale=0.1), (q,), (k,))
    assert not asked
    step = 1e-2
    moved = [attention._attend_at_once(q + sign * step * k, k, v, None, None, 0.1) for sign in (1, -1)]
    np.testing.assert_allclose(out, attention._attend_at_once(q, k, v, None, None, 0.1), atol=1e-5)
    np.testing.assert_allclose(tangent, (moved[0] - moved[1]) / (2 * step), atol=1e-2)
    attention.attend(q, k, v, scale=0.1)
    assert len(asked) == 1
