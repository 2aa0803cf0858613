"""The decoder's UNet: the public one's weights by name, its inputs, its locality, folding and odd sizes."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.vae import depth_to_space, space_to_depth
from tests.networks import abstract, normal, randomised

# Names and shapes of openai/consistency-decoder's file of weights.
KEYS = Path(__file__).parents[1] / "convert" / "keys" / "consistency_decoder_vae.txt"
TOP = {
    "conv_in": "conv_in",
    "time_table": "time_proj",
    "time_embedding.linear_1": "time_embedding.linear_1",
    "time_embedding.linear_2": "time_embedding.linear_2",
    "norm_out": "conv_norm_out",
    "conv_out": "conv_out",
}
LAYERS = {
    "norm_1": "norm1",
    "conv_1": "conv1",
    "norm_2.norm": "norm2",
    "norm_2.modulation": "time_emb_proj",
    "conv_2": "conv2",
    "shortcut": "conv_shortcut",
}
LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
# torch's layout of a kernel: outputs first, the window last.
TRANSPOSED = {2: (1, 0), 4: (3, 2, 0, 1)}

TINY = DecoderUNet(
    channels=(4, 6), blocks=1, image_channels=4, latent_channels=2, out_channels=5, factor=2, time_entries=8, groups=2
)
X, T, LATENTS = normal(2, 8, 6, 4), jnp.array([3.0, 6.0]), normal(2, 4, 3, 2, seed=1)

REFINER = TINY.clone(image_channels=2, out_channels=2, factor=1, time_entries=0, norm="rms")
LINE = normal(1, 5, 106, 2), normal(1, 5, 106, 2, seed=1)  # x and latents


@functools.cache
def random_params():
    return randomised(TINY, X, T, LATENTS)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x, t, latents):
    return module.apply({"params": params}, x, t, latents)


def forward(params, x=X, t=T, latents=LATENTS):
    return run(TINY, params, x, t, latents)


def public_modules() -> dict[str, str]:
    """The public name of every module of ours that holds weights, of the full size."""
    blocks = {f"middle_{j}": f"mid_block.resnets.{j}" for j in range(2)}
    for i in range(4):
        blocks |= {f"down_{i}_{j}": f"down_blocks.{i}.resnets.{j}" for j in range(3)}
        blocks |= {f"up_{i}_{j}": f"up_blocks.{3 - i}.resnets.{j}" for j in range(4)}
    for i in range(3):
        blocks[f"down_{i}_downsample"] = f"down_blocks.{i}.downsamplers.0"
        blocks[f"up_{i + 1}_upsample"] = f"up_blocks.{2 - i}.upsamplers.0"
    layers = {f"{b}.{layer}": f"{blocks[b]}.{theirs}" for b in blocks for layer, theirs in LAYERS.items()}
    return TOP | layers


def public_weight(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Name and shape in the public file of a weight of ours."""
    module, _, leaf = name.rpartition(".")
    order = TRANSPOSED[len(shape)] if leaf == "kernel" else range(len(shape))
    return f"decoder_unet.{public_modules()[module]}.{LEAVES[leaf]}", tuple(shape[axis] for axis in order)


def test_full_size_is_the_public_decoder_weight_for_weight():
    ours = flatten_dict(nn.unbox(abstract_params({"decoder": DecoderUNet()})["decoder"]), sep=".")
    lines = (line.split() for line in KEYS.read_text().splitlines() if line.startswith("decoder_unet."))
    public = {name: tuple(map(int, shape.split("x"))) for name, shape in lines}
    assert dict(public_weight(name, leaf.shape) for name, leaf in ours.items()) == public
    assert len(ours) == len(public) == 407
    assert sum(leaf.size for leaf in ours.values()) == 621_277_702


def test_full_size_gives_images_eight_times_the_latents():
    arguments = jnp.zeros((1, 64, 40, 3)), jnp.zeros(1), jnp.zeros((1, 8, 5, 4))
    out = jax.eval_shape(lambda: DecoderUNet().init_with_output(jax.random.key(0), *arguments)[0])
    assert out.shape == (1, 64, 40, 3)


def test_compute_dtype_and_remat_leave_the_tree_alone():
    plain = nn.unbox(abstract(TINY, X, T, LATENTS))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(plain)} == {"float32"}
    assert nn.unbox(abstract(TINY.clone(dtype=jnp.bfloat16, remat=True), X, T, LATENTS)) == plain


def test_first_guess_is_zero():
    new = jax.jit(lambda: TINY.init(jax.random.key(0), X, T, LATENTS)["params"]["conv_out"])()
    np.testing.assert_array_equal(forward(random_params() | {"conv_out": nn.unbox(new)}), 0.0)


@pytest.mark.parametrize("change", [{"x": X + 1}, {"t": T - 2}, {"latents": LATENTS + 1}], ids=["x", "t", "latents"])
def test_every_input_matters(change):
    assert jnp.abs(forward(random_params(), **change) - forward(random_params())).max(axis=(1, 2, 3)).min() > 1e-2


def test_outputs_beyond_the_image_are_not_used():
    spoiled = random_params() | {
        "conv_out": jax.tree.map(lambda leaf: leaf.at[..., 4:].add(1.0), random_params()["conv_out"])
    }
    np.testing.assert_array_equal(forward(spoiled), forward(random_params()))


def test_rows_do_not_see_each_other():
    swapped = forward(random_params(), X[::-1], T[::-1], LATENTS[::-1])
    np.testing.assert_allclose(swapped[::-1], forward(random_params()), atol=1e-5)


def test_times_take_the_nearest_entry_of_the_table():
    whole = forward(random_params(), t=jnp.array([3.0, 7.0]))
    np.testing.assert_array_equal(forward(random_params(), t=jnp.array([3.4, 6.6])), whole)
    np.testing.assert_array_equal(forward(random_params(), t=jnp.array([2.6, 900.0])), whole)
    assert jnp.abs(forward(random_params(), t=jnp.array([3.6, 6.4])) - whole).max(axis=(1, 2, 3)).min() > 1e-2
    first = forward(random_params(), t=jnp.array([0.0, 4.0]))
    np.testing.assert_array_equal(forward(random_params(), t=jnp.array([-1.0, 3.6])), first)


@pytest.mark.parametrize(
    ("x", "latents"),
    [((8, 6, 4), (4, 4, 2)), ((8, 6, 4), (8, 6, 2)), ((8, 6, 3), (4, 3, 2)), ((8, 6, 4), (4, 3, 3))],
    ids=["sides", "factor", "channels_of_x", "channels_of_latents"],
)
def test_images_and_latents_that_do_not_fit_are_named(x, latents):
    with pytest.raises(ValueError, match="2 times smaller") as error:
        abstract(TINY, jnp.zeros((1, *x)), jnp.zeros(1), jnp.zeros((1, *latents)))
    assert f"x {x} and latents {latents}" in str(error.value)
    assert "4 channels of images and 2 of latents" in str(error.value)


def test_patch_must_divide_the_factor():
    with pytest.raises(ValueError, match="patch 4 does not divide the factor 2"):
        abstract(TINY.clone(patch=4), X, T, LATENTS)


def test_patch_is_the_network_of_folded_images():
    x = depth_to_space(X, 2)
    np.testing.assert_array_equal(space_to_depth(x, 2), X)
    # Of a pixel's two outputs the second is not the image's.
    conv_out = jax.tree.map(lambda leaf: jnp.repeat(leaf[..., :4], 2, axis=-1), random_params()["conv_out"])
    folding = TINY.clone(image_channels=1, out_channels=2, patch=2, factor=4)
    out = run(folding, random_params() | {"conv_out": conv_out}, x, T, LATENTS)
    np.testing.assert_allclose(out, depth_to_space(forward(random_params()), 2), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (13, 8)])
def test_a_refiner_keeps_any_size(size):
    refiner = REFINER.clone(channels=(4, 6, 8))
    x = jnp.zeros((1, *size, 2))
    out = jax.eval_shape(lambda: refiner.init_with_output(jax.random.key(0), x, jnp.zeros(1), x)[0])
    assert out.shape == x.shape


def window(module: DecoderUNet, first: int, last: int, time: float = 40.0) -> jax.Array:
    """What a module of random weights makes of some columns of LINE."""
    t, (x, latents) = jnp.array([time]), (part[:, :, first:last] for part in LINE)
    return run(module, randomised(module, x, t, latents), x, t, latents)


def test_without_a_table_every_time_is_its_own():
    assert "time_table" not in abstract(REFINER, LINE[0], jnp.zeros(1), LINE[1])
    assert jnp.abs(window(REFINER, 0, 91, 3.0) - window(REFINER, 0, 91, 3.3)).max() > 1e-3


@pytest.mark.parametrize(("norm", "local"), [("rms", True), ("group", False)])
def test_rms_norm_makes_a_crop_of_the_output_the_output_of_a_crop(norm, local):
    """Away from the edges of two windows, of odd and of even width, by as much as the convolutions reach."""
    module = REFINER.clone(norm=norm)
    first, second = window(module, 0, 91)[:, :, 16:], window(module, 16, 106)[:, :, :-15]
    # conv_in and conv_out, 4 blocks and the upsampling one, and twice the low level's 4 and the downsampling one.
    reach = 2 + 2 * 5 + 2 * (2 * 5) + 1
    difference = jnp.abs(first - second).max(axis=(0, 1, 3))
    assert (difference[reach:-reach].max() < 1e-5) == local
    assert difference.max() > 1e-2


def test_bfloat16_and_remat_are_close_and_return_float32():
    exact = forward(random_params())
    rounded = run(TINY.clone(dtype=jnp.bfloat16, remat=True), random_params(), X, T, LATENTS)
    assert rounded.dtype == jnp.float32
    assert 0 < jnp.abs(rounded - exact).max() < 0.05 * jnp.abs(exact).max()
