"""Residual blocks, resampling and transformer stacks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.nn.layers import ScaleShiftRMSNorm, conv, grid_sinusoids, sinusoids
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.nn.resnet import Downsample, ResBlock, Upsample, downsample_mean, upsample_nearest
from dalle3_jax.nn.transformer import SpatialTransformer, TransformerBlock, scan_layers
from tests.networks import abstract, apply, condition, normal, randomised, spoiled

X, E = normal(2, 4, 6, 8), normal(2, 5, seed=1)


def initial(module: nn.Module, *args):
    return nn.unbox(jax.jit(module.init)(jax.random.key(0), *args)["params"])


@pytest.mark.parametrize("conditioning", ["add", "scale_shift"])
def test_conditioned_blocks_start_as_the_identity_with_modulation_at_zero(conditioning):
    block = ResBlock(8, conditioning, modulate_first=True, groups=2)
    params = initial(block, X, E)
    np.testing.assert_array_equal(apply(block, params, X, E), X)
    if conditioning == "scale_shift":
        for norm in ("norm_1", "norm_2"):
            assert not any(leaf.any() for leaf in jax.tree.leaves(params[norm]["modulation"]))


def test_a_spatial_transformer_starts_as_the_identity():
    module, context = SpatialTransformer(1, 2, 4, groups=2), condition()
    params = initial(module, X, context.tokens, context.mask)
    np.testing.assert_array_equal(apply(module, params, X, context.tokens, context.mask), X)


@pytest.mark.parametrize("norm", ["norm_1", "norm_2"])
def test_every_modulated_norm_listens_to_the_embedding_and_nothing_else_does(norm):
    block = ResBlock(8, "scale_shift", modulate_first=True, affine=False, groups=2)
    params = randomised(block, X, E)
    listening = params[norm]["modulation"]
    for name in ("norm_1", "norm_2"):
        params[name]["modulation"] = jax.tree.map(jnp.zeros_like, params[name]["modulation"])
    np.testing.assert_array_equal(apply(block, params, X, E), apply(block, params, X, E + 1))
    params[norm]["modulation"] = listening
    change = apply(block, params, X, E) - apply(block, params, X, E + 1)
    assert jnp.abs(change).max() > 1e-3


def test_only_the_second_norm_is_modulated_unless_told():
    shapes = abstract(ResBlock(8, "scale_shift", groups=2), X, E)
    assert set(shapes["norm_1"]) == {"scale", "bias"}
    assert set(shapes["norm_2"]) == {"modulation", "norm"}


def test_add_is_the_plain_block_with_a_constant_between_the_convolutions():
    block = ResBlock(8, "add", groups=2)
    params = randomised(block, X, E)
    added = nn.silu(E[:1]) @ params["embedding"]["kernel"] + params["embedding"]["bias"]
    plain = {name: dict(tree) for name, tree in params.items() if name != "embedding"}
    plain["conv_1"]["bias"] = plain["conv_1"]["bias"] + added[0]
    expected = apply(ResBlock(8, groups=2), plain, X[:1])
    np.testing.assert_allclose(apply(block, params, X[:1], E[:1]), expected, atol=1e-5)


@pytest.mark.parametrize("conditioning", ["add", "scale_shift"])
def test_a_conditioned_block_needs_its_embedding(conditioning):
    with pytest.raises(ValueError, match="needs the embedding"):
        abstract(ResBlock(8, conditioning, groups=2), X)


def test_shortcut_exists_only_where_the_width_changes():
    assert "shortcut" not in abstract(ResBlock(8, groups=2), X)
    assert abstract(ResBlock(4, groups=2), X)["shortcut"]["kernel"].value.shape == (1, 1, 8, 4)


def test_modulated_rms_norm_is_the_norm_times_one_plus_scale_plus_shift():
    params = randomised(ScaleShiftRMSNorm(), X, E)
    modulation = nn.silu(E) @ params["modulation"]["kernel"] + params["modulation"]["bias"]
    scale, shift = modulation[:, None, None, :8], modulation[:, None, None, 8:]
    expected = apply(RMSNorm(1e-5), params["norm"], X) * (1 + scale) + shift
    np.testing.assert_allclose(apply(ScaleShiftRMSNorm(), params, X, E), expected, atol=1e-5)


def test_a_new_modulated_rms_norm_is_the_plain_one():
    params = initial(ScaleShiftRMSNorm(), X, E)
    plain = RMSNorm(1e-5).apply({"params": {"scale": jnp.ones(8)}}, X)
    np.testing.assert_array_equal(apply(ScaleShiftRMSNorm(), params, X, E), plain)


def test_rms_blocks_norm_each_pixel_alone():
    block = ResBlock(8, "scale_shift", norm="rms")
    shapes = abstract(block, X, E)
    assert set(shapes["norm_1"]) == set(shapes["norm_2"]["norm"]) == {"scale"}
    params = randomised(block, X, E)
    far = X.at[:, 0, 0].add(3.0)
    change = jnp.abs(apply(block, params, far, E) - apply(block, params, X, E))
    assert change[:, :3, :3].max() > 1e-2
    assert change[:, 3:].max() == change[:, :, 3:].max() == 0


def means(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return np.asarray(x).reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))


def repeated(x: jax.Array) -> jax.Array:
    return np.kron(x, np.ones((1, 2, 2, 1)))


@pytest.mark.parametrize(("resample", "resized"), [("down", means), ("up", repeated)])
def test_a_resampling_block_resizes_after_its_first_activation_and_on_the_way_past(resample, resized):
    block = ResBlock(4, resample=resample, groups=2)
    params = randomised(block, X)

    def part(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
        return apply(module, params[name], jnp.asarray(x, jnp.float32))

    norm, wide, narrow = (
        GroupNorm(2),
        conv(4, name="conv", dtype=jnp.float32),
        conv(4, 1, name="conv", dtype=jnp.float32),
    )
    h = part(wide, "conv_1", resized(nn.silu(part(norm, "norm_1", X))))
    h = part(wide, "conv_2", nn.silu(part(norm, "norm_2", h)))
    expected = part(narrow, "shortcut", resized(X)) + h
    np.testing.assert_allclose(apply(block, params, X), expected, atol=1e-5)


@pytest.mark.parametrize("resample", ["down", "up"])
def test_a_new_resampling_block_only_resizes(resample):
    block = ResBlock(8, "scale_shift", resample=resample, groups=2)
    expected = downsample_mean(X) if resample == "down" else upsample_nearest(X)
    np.testing.assert_array_equal(block.apply({"params": initial(block, X, E)}, X, E), expected)


def test_halving_an_odd_side_repeats_its_last_pixels():
    x = normal(2, 5, 7, 3)
    half = downsample_mean(x)
    assert half.shape == (2, 3, 4, 3)
    np.testing.assert_allclose(half[:, :2, :3], means(x[:, :4, :6]), atol=1e-6)
    np.testing.assert_allclose(half[:, 2, :3], (x[:, 4, 0:6:2] + x[:, 4, 1:6:2]) / 2, atol=1e-6)
    np.testing.assert_allclose(half[:, 2, 3], x[:, 4, 6], atol=1e-6)


@pytest.mark.parametrize(("size", "half"), [((4, 6), (2, 3)), ((5, 7), (3, 4)), ((1, 1), (1, 1))])
def test_downsample_rounds_up_and_upsample_undoes_it(size, half):
    x = jnp.zeros((1, *size, 3))
    down = Downsample(3).apply({"params": initial(Downsample(3), x)}, x)
    assert down.shape[1:3] == half
    up = Upsample(3)
    assert up.apply({"params": initial(up, down)}, down, size).shape == x.shape


def test_upsample_repeats_pixels():
    x = normal(1, 3, 2, 1)
    kernel = jnp.zeros((3, 3, 1, 1)).at[1, 1].set(1.0)
    out = Upsample(1).apply({"params": {"conv": {"kernel": kernel, "bias": jnp.zeros(1)}}}, x)
    np.testing.assert_array_equal(out[0, :, :, 0], np.kron(np.asarray(x)[0, :, :, 0], np.ones((2, 2))))


def test_sinusoids_closed_form():
    t = np.array([0.0, 1.0, 333.5, 1000.0])
    angles = t[:, None] * 10_000.0 ** (-np.arange(8) / 8)
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(sinusoids(jnp.asarray(t, jnp.float32), 16), expected, atol=2e-4)


def test_grid_sinusoids_say_row_and_column_and_have_one_size():
    grid = np.asarray(grid_sinusoids(3, 5, 16)).reshape(3, 5, 2, 8)
    rates = 10.0 ** -np.arange(0, 1, 0.25)  # down to 1 / (2 x 5)
    for axis, place in ((0, np.arange(3) - 1.0), (1, np.arange(5) - 2.0)):
        expected = np.concatenate([np.cos(place[:, None] * rates), np.sin(place[:, None] * rates)], -1)
        of = np.moveaxis(grid[:, :, axis], axis, 0)
        np.testing.assert_allclose(of, np.broadcast_to(expected[:, None], of.shape), atol=1e-6)
    np.testing.assert_allclose(np.square(grid).mean((2, 3)), 0.5, atol=1e-6)
    with pytest.raises(ValueError, match="18 has no room"):
        grid_sinusoids(2, 2, 18)


class TestStack:
    context = condition()
    x = normal(2, 4, 8)

    @pytest.mark.parametrize("depth", [1, 3])
    def test_layers_are_stacked_at_any_depth_and_run_in_order(self, depth):
        stack = scan_layers(TransformerBlock, depth)(2, 4)
        params = randomised(stack, self.x, self.context.tokens, self.context.mask)
        assert {leaf.shape[0] for leaf in jax.tree.leaves(params)} == {depth}
        out, _ = apply(stack, params, self.x, self.context.tokens, self.context.mask)
        expected = self.x
        for i in range(depth):
            layer = jax.tree.map(lambda leaf, i=i: leaf[i], params)
            arguments = (expected, self.context.tokens, self.context.mask)
            expected, _ = apply(TransformerBlock(2, 4), layer, *arguments)
        np.testing.assert_allclose(out, expected, atol=1e-5)

    def test_layers_start_different(self):
        stack = scan_layers(TransformerBlock, 2)(2, 4)
        kernel = initial(stack, self.x, self.context.tokens, None)["self_attention"]["query"]["kernel"]
        assert jnp.abs(kernel[0] - kernel[1]).max() > 0.01

    def test_masked_context_has_no_influence(self):
        module = SpatialTransformer(1, 2, 4, groups=2)
        x = normal(2, 3, 2, 8)
        params = randomised(module, x, self.context.tokens, self.context.mask)
        out = apply(module, params, x, *self.context[:2])
        other = apply(module, params, x, spoiled(*self.context[:2]), self.context.mask)
        np.testing.assert_array_equal(out, other)
        unmasked = apply(module, params, x, self.context.tokens, jnp.ones_like(self.context.mask))
        assert jnp.abs(unmasked - out)[1].max() > 1e-3
