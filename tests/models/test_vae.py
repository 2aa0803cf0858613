"""The autoencoder: sizes, folding, locality, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.vae import VAE, depth_to_space, space_to_depth
from tests.networks import abstract, normal, randomised

TINY = VAE(latent_channels=3, channels=(4, 6), decoder_channels=(8, 10), blocks=1, decoder_blocks=2, groups=2)


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_depth_to_space_undoes_space_to_depth(patch):
    x = normal(2, 8, 12, 3)
    folded = space_to_depth(x, patch)
    assert folded.shape == (2, 8 // patch, 12 // patch, 3 * patch**2)
    np.testing.assert_array_equal(depth_to_space(folded, patch), x)


def test_space_to_depth_gathers_neighbours():
    x = normal(1, 4, 6, 3)
    np.testing.assert_array_equal(space_to_depth(x, 2)[0, 1, 2], x[0, 2:4, 4:6].reshape(-1))


@pytest.mark.parametrize(
    ("fields", "factor"), [({}, 8), ({"channels": (4, 4)}, 2), ({"channels": (4, 4, 4), "patch": 2}, 8)]
)
def test_factor_is_pixels_per_latent(fields, factor):
    vae = VAE(**{"groups": 2, "blocks": 1, "decoder_blocks": 1, "channels": (2, 2, 2, 4)} | fields)
    assert vae.factor == factor
    images = jnp.zeros((2, 16, 32, 3))
    out = jax.eval_shape(lambda: vae.init_with_output(jax.random.key(0), images)[0])
    assert [leaf.shape for leaf in out] == [images.shape, *[(2, 16 // factor, 32 // factor, 4)] * 2]


@pytest.mark.parametrize("size", [(9, 8), (8, 9), (7, 7)])
def test_sides_must_be_multiples_of_the_factor(size):
    with pytest.raises(ValueError, match="must be multiples of 2"):
        abstract(TINY, jnp.zeros((1, *size, 3)))


def test_call_is_encode_then_decode_of_the_mean():
    images = normal(2, 8, 4, 3)
    params = randomised(TINY, images)
    reconstruction, mean, logvar = TINY.apply({"params": params}, images)
    encoded = TINY.apply({"params": params}, images, method="encode")
    np.testing.assert_array_equal(encoded[0], mean)
    np.testing.assert_array_equal(encoded[1], logvar)
    np.testing.assert_array_equal(TINY.apply({"params": params}, mean, method="decode"), reconstruction)


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("after", [None, True, False])
def test_the_decoder_follows_the_encoder_in_its_quant_conv_unless_told(both, after):
    vae = TINY.clone(quant_convs=both, decoder_quant_conv=after)
    names = {name for name in abstract(vae, jnp.zeros((1, 4, 4, 3))) if "quant" in name}
    expected = {"quant_conv": both, "post_quant_conv": both if after is None else after}
    assert names == {name for name, there in expected.items() if there}


def test_log_variance_is_bounded():
    images = normal(1, 4, 4, 3)
    params = randomised(TINY, images)
    params["quant_conv"]["bias"] = jnp.array([0.0, 0, 0, 1e4, -1e4, 0])
    _, logvar = TINY.apply({"params": params}, images, method="encode")
    assert (logvar[..., 0] == 20).all()
    assert (logvar[..., 1] == -30).all()


@pytest.mark.parametrize(("norm", "local"), [("rms", True), ("group", False)])
def test_rms_norm_makes_the_network_local(norm, local):
    """A change in one corner reaches the opposite one through GroupNorm's statistics, not through RMS norms."""
    vae = VAE(latent_channels=2, channels=(4, 4), blocks=1, decoder_blocks=1, groups=2, norm=norm, attention=False)
    images = normal(1, 48, 48, 3)
    params = randomised(vae, images)
    encode = jax.jit(lambda images: vae.apply({"params": params}, images, method="encode")[0])
    change = jnp.abs(encode(images) - encode(images.at[:, :4, :4].add(3.0)))[0, -1, -1].max()
    assert (change == 0) == local


def test_bfloat16_is_close():
    images = normal(1, 8, 8, 3)
    params = randomised(TINY, images)
    exact = TINY.apply({"params": params}, images)[0]
    rounded = TINY.clone(dtype=jnp.bfloat16).apply({"params": params}, images)[0]
    assert 0 < jnp.abs(rounded - exact).max() < 0.1 * jnp.abs(exact).max()
