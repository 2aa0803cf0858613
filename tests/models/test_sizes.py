"""Published parameter counts, exactly, from abstract shapes: no weight is allocated."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet
from tests.networks import abstract, count

T5 = {  # width, mlp width, layers, heads: parameters of the encoder
    "v1_1-small": ((512, 1024, 8, 6), 35_332_800),
    "v1_1-base": ((768, 2048, 12, 12), 109_628_544),
    "v1_1-large": ((1024, 2816, 24, 16), 341_231_104),
    "v1_1-xl": ((2048, 5120, 24, 32), 1_223_527_424),
    "v1_1-xxl": ((4096, 10240, 24, 64), 4_762_310_656),
}
IDS, MASK = jnp.zeros((2, 9), int), jnp.ones((2, 9), bool)

SD15 = UNet(
    levels=(Level(320, 2, 1, 8), Level(640, 2, 1, 8), Level(1280, 2, 1, 8), Level(1280, 2, 0, 8)),
    time_conditioning="add",
    pooled=False,
)
SDXL = UNet(
    levels=(Level(320, 2, 0, 5), Level(640, 2, 2, 10), Level(1280, 2, 10, 20)),
    time_conditioning="add",
    size_ids=6,
    middle_depth=10,
)


def t5(size: str, **fields) -> T5Encoder:
    width, mlp_width, layers, heads = T5[size][0]
    return T5Encoder(32_128, width, layers, heads, 64, mlp_width, **fields)


def condition(width: int, vector: int) -> Condition:
    return Condition(jnp.zeros((1, 77, width)), jnp.ones((1, 77), bool), jnp.zeros((1, vector)))


@pytest.mark.parametrize("size", T5)
def test_t5_v1_1(size):
    assert count(t5(size), IDS, MASK) == T5[size][1]


def test_t5_v1_0_small():
    assert count(T5Encoder(32_128, 512, 6, 8, 64, 2048, "relu"), IDS, MASK) == 35_330_816


def test_byt5_small():
    # of the 299,637,760 that are published, the decoder and the output layer take 81,980,288
    assert count(T5Encoder(384, 1472, 12, 6, 64, 3584), IDS, MASK) == 299_637_760 - 81_980_288


def test_stable_diffusion_vae():
    assert count(VAE(), jnp.zeros((1, 64, 64, 3))) == 83_653_863


def test_stable_diffusion_15_unet():
    assert count(SD15, jnp.zeros((1, 16, 16, 4)), jnp.zeros(1), condition(768, 1)) == 859_520_964


def output_and_variables(module: nn.Module, *args):
    return jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), *args))


def output(module: nn.Module, *args):
    return output_and_variables(module, *args)[0]


@functools.cache
def sdxl():
    """What SDXL's network returns for latents of odd sizes, and its parameters, abstractly."""
    arguments = jnp.zeros((1, 15, 17, 4)), jnp.zeros(1), condition(2048, 1280), jnp.zeros((1, 6))
    return output_and_variables(SDXL, *arguments)


def test_sdxl_unet():
    assert sum(leaf.size for leaf in jax.tree.leaves(sdxl()[1]["params"])) == 2_567_463_684


def test_full_size_output_shapes():
    assert output(t5("v1_1-xxl"), IDS, MASK).shape == (2, 9, 4096)
    image = jnp.zeros((1, 64, 96, 3))
    assert [leaf.shape for leaf in output(VAE(), image)] == [(1, 64, 96, 3), (1, 8, 12, 4), (1, 8, 12, 4)]
    assert sdxl()[0].shape == (1, 15, 17, 4)


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        (lambda **fields: t5("v1_1-small", **fields), (IDS, MASK)),
        (
            lambda **fields: SDXL.clone(levels=(Level(32, 1, 0), Level(64, 1, 2, 2)), middle_depth=1, **fields),
            (jnp.zeros((1, 8, 8, 4)), jnp.zeros(1), condition(64, 8), jnp.zeros((1, 6))),
        ),
        (
            lambda **fields: XFNet("resampler", 64, 32, layers=2, **fields),
            (jnp.zeros((1, 9, 24)), jnp.ones((1, 9), bool)),
        ),
    ],
)
def test_compute_dtype_and_remat_leave_the_tree_alone(make, arguments):
    plain = nn.unbox(abstract(make(), *arguments))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(plain)} == {"float32"}
    assert nn.unbox(abstract(make(dtype=jnp.bfloat16, remat=True), *arguments)) == plain
