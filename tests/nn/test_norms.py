"""Normalisations against their closed forms in float64, and the identities that tie them together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.nn.layers import ScaleShiftGroupNorm
from dalle3_jax.nn.norms import GroupNorm, RMSNorm, standardise
from tests.networks import normal, randomised

B, H, W, C = 3, 4, 5, 12
EPS = 1e-3
AXES = {"batch": (0, 1, 2), "layer": (1, 2, 3), "instance": (1, 2)}


def image(seed: int = 0) -> np.ndarray:
    """Every image and channel with a mean and deviation of its own, so that no two kinds agree."""
    rng = np.random.default_rng(seed)
    spread, centre = rng.uniform(0.5, 4, (B, 1, 1, C)), rng.normal(size=(B, 1, 1, C)) * 3
    return (rng.normal(size=(B, H, W, C)) * spread + centre).astype(np.float32)


def closed_form(x: np.ndarray, kind: str, groups: int = 1) -> np.ndarray:
    x = x.astype(np.float64)
    if kind == "group":
        x = x.reshape(*x.shape[:-1], groups, -1)
        axes = (*range(1, x.ndim - 2), x.ndim - 1)
    else:
        axes = AXES[kind]
    out = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)
    return out.reshape(*out.shape[:3], -1)


@pytest.mark.parametrize("kind", ["batch", "layer", "instance"])
def test_closed_form(kind):
    x = image()
    np.testing.assert_allclose(standardise(jnp.asarray(x), kind, eps=EPS), closed_form(x, kind), atol=1e-4)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_group_closed_form(groups):
    x = image()
    out = standardise(jnp.asarray(x), "group", groups, eps=EPS)
    np.testing.assert_allclose(out, closed_form(x, "group", groups), atol=1e-4)


def test_the_four_kinds_differ():
    outs = [closed_form(image(), kind, 3) for kind in ("batch", "layer", "instance", "group")]
    assert min(np.abs(a - b).max() for i, a in enumerate(outs) for b in outs[:i]) > 0.1


@pytest.mark.parametrize(("groups", "same_as"), [(1, "layer"), (C, "instance")])
def test_extreme_groups_are_layer_and_instance(groups, same_as):
    x = jnp.asarray(image())
    np.testing.assert_array_equal(standardise(x, "group", groups, eps=EPS), standardise(x, same_as, eps=EPS))


def test_batch_of_one_image_is_instance():
    x = jnp.asarray(image()[:1])
    np.testing.assert_allclose(standardise(x, "batch", eps=EPS), standardise(x, "instance", eps=EPS), atol=1e-6)


@pytest.mark.parametrize("kind", ["layer", "group", "instance"])
def test_images_of_a_batch_do_not_see_each_other(kind):
    x = image()
    other = x.copy()
    other[1:] += 5
    args = {"kind": kind, "groups": 3, "eps": EPS}
    np.testing.assert_array_equal(standardise(jnp.asarray(x), **args)[0], standardise(jnp.asarray(other), **args)[0])


def test_scale_and_shift_follow_the_normalisation():
    x, scale, shift = image(), normal(B, C, seed=1), normal(B, C, seed=2)
    out = standardise(jnp.asarray(x), "group", 4, eps=EPS, scale=scale, shift=shift)
    expected = closed_form(x, "group", 4) * np.asarray(scale)[:, None, None] + np.asarray(shift)[:, None, None]
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_statistics_of_bfloat16_are_float32():
    """In bfloat16 a mean over 4,096 pixels would be off by per cents; here only the input and output are rounded."""
    x = jnp.asarray(np.random.default_rng(0).normal(3, 1, (1, 64, 64, 4)), jnp.bfloat16)
    out = standardise(x, "instance", eps=EPS)
    assert out.dtype == jnp.bfloat16
    exact = standardise(x.astype(jnp.float32), "instance", eps=EPS)
    np.testing.assert_array_equal(np.asarray(out), np.asarray(exact.astype(jnp.bfloat16)))


def test_a_constant_image_stays_finite():
    out = standardise(jnp.full((1, 8, 8, 4), 1000.1), "group", 2, eps=1e-6)
    assert jnp.isfinite(out).all()


def test_groups_must_divide_the_channels():
    with pytest.raises(ValueError, match="12 channels cannot be split into 5 groups"):
        standardise(jnp.asarray(image()), "group", 5, eps=EPS)


def test_group_norm_is_flax_group_norm():
    x = jnp.asarray(image())
    module = GroupNorm(4, EPS)
    params = randomised(module, x)
    flax = nn.GroupNorm(num_groups=4, epsilon=EPS).apply({"params": params}, x)
    np.testing.assert_allclose(module.apply({"params": params}, x), flax, atol=1e-5)


def test_affine_comes_before_scale_and_shift():
    x, scale, shift = jnp.asarray(image()), normal(B, C, seed=1), normal(B, C, seed=2)
    module = GroupNorm(4, EPS)
    params = randomised(module, x)
    plain = np.asarray(module.apply({"params": params}, x), np.float64)
    expected = plain * (1 + np.asarray(scale)[:, None, None]) + np.asarray(shift)[:, None, None]
    np.testing.assert_allclose(module.apply({"params": params}, x, scale, shift), expected, atol=2e-5)


def test_rms_norm_closed_form():
    x = image()
    module = RMSNorm(EPS)
    params = randomised(module, jnp.asarray(x))
    x64 = x.astype(np.float64)
    expected = x64 / np.sqrt((x64**2).mean(-1, keepdims=True) + EPS) * np.asarray(params["scale"])
    np.testing.assert_allclose(module.apply({"params": params}, jnp.asarray(x)), expected, atol=1e-5)


class TestScaleShiftGroupNorm:
    x = jnp.asarray(image())
    e = normal(B, 7, seed=3)
    module = ScaleShiftGroupNorm(groups=4, eps=EPS)

    def modulation(self, params) -> tuple[np.ndarray, np.ndarray]:
        e = np.asarray(self.e, np.float64)
        silu = e / (1 + np.exp(-e))
        both = silu @ np.asarray(params["modulation"]["kernel"]) + np.asarray(params["modulation"]["bias"])
        return tuple(half[:, None, None] for half in np.split(both, 2, axis=-1))

    @pytest.mark.parametrize("affine", [False, True])
    def test_is_group_norm_then_the_affine_of_the_embedding(self, affine):
        module = self.module.clone(affine=affine)
        params = randomised(module, self.x, self.e)
        scale, shift = self.modulation(params)
        normed = closed_form(np.asarray(self.x), "group", 4)
        if affine:
            normed = normed * np.asarray(params["norm"]["scale"]) + np.asarray(params["norm"]["bias"])
        out = np.asarray(module.apply({"params": params}, self.x, self.e))
        np.testing.assert_allclose(out, normed * (1 + scale) + shift, atol=5e-5)
        # The comparison above would notice a lost 1, a swapped pair and a lost term.
        for mutant in (normed * scale + shift, normed * (1 + shift) + scale, normed * (1 + scale), normed + shift):
            assert np.abs(out - mutant).max() > 0.1

    def test_starts_as_the_plain_norm_without_weights_of_its_own(self):
        params = nn.unbox(jax.jit(self.module.init)(jax.random.key(0), self.x, self.e)["params"])
        assert set(params) == {"modulation"}
        out = self.module.apply({"params": params}, self.x, self.e)
        np.testing.assert_array_equal(out, standardise(self.x, "group", 4, eps=EPS))
