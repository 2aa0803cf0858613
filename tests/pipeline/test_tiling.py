"""Tiled functions: equal to the whole where the halo is wide enough, without seams, in one body and little memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.pipeline.tiling import apply_in_tiles
from tests.networks import normal

KERNEL = 0.3 * normal(3, 3, 4, 4, seed=5)


def conv(x):
    """3 x 3 and a bend: every one looks one pixel further."""
    kernel = KERNEL[:, :, : x.shape[-1]]
    return jnp.tanh(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))


def doubled(x, times=2):
    return jnp.repeat(jnp.repeat(x, times, axis=1), times, axis=2)


def decode(latents):
    """Three cells far: two convolutions of cells, and two at twice the resolution that look half a cell each."""
    return conv(conv(doubled(conv(conv(latents)))))


def denoise(x_t, t, latents):
    """Two cells far: pixels are averaged over cells, and those convolved once; five convolutions of pixels."""
    b, height, width, c = x_t.shape
    cells = x_t.reshape(b, height // 8, 8, width // 8, 8, c).mean(axis=(2, 4))
    x = x_t + doubled(conv(cells + latents), 8) + t[:, None, None, None]
    for _ in range(5):
        x = conv(x)
    return x


def run(function, *arrays, tile, halo):
    return jax.jit(apply_in_tiles(function, tile=tile, halo=halo))(*arrays)


def worst(a, b):
    assert a.shape == b.shape
    return float(jnp.abs(a - b).max())


@pytest.mark.parametrize(
    ("size", "tile"), [((30, 30), 14), ((31, 17), 14), ((9, 40), 14), ((40, 15), 14), ((12, 9), 8), ((15, 31), 11)]
)
def test_a_halo_as_wide_as_the_function_looks_gives_the_whole_result(size, tile):
    latents = normal(2, *size, 3)
    assert worst(run(decode, latents, tile=tile, halo=3), decode(latents)) < 1e-5


def test_a_narrower_halo_does_not():
    latents = normal(2, 31, 17, 3)
    assert worst(run(decode, latents, tile=14, halo=2), decode(latents)) > 1e-2


@pytest.mark.parametrize("size", [(16, 21), (9, 12)])
def test_arrays_of_two_resolutions_are_cut_alike_and_times_are_passed_whole(size):
    x_t, t, latents = normal(2, 8 * size[0], 8 * size[1], 4), jnp.array([0.3, -2.0]), normal(2, *size, 4, seed=1)
    drawn = run(denoise, x_t, t, latents, tile=10, halo=2)
    assert worst(drawn, denoise(x_t, t, latents)) < 1e-5


@pytest.mark.parametrize(("size", "seen"), [((10, 10), (10, 10)), ((7, 11), (7, 10)), ((25, 4), (10, 4))])
def test_a_side_that_fits_into_a_tile_stays_whole(size, seen):
    shapes = set()

    def function(latents):
        shapes.add(latents.shape[1:3])
        return latents

    latents = normal(1, *size, 2)
    np.testing.assert_allclose(run(function, latents, tile=10, halo=2), latents, rtol=1e-6, atol=1e-6)
    assert shapes == {seen}


def test_an_image_that_fits_into_a_tile_is_given_to_the_function_itself():
    latents = normal(1, 10, 7, 2)
    assert apply_in_tiles(lambda x: x, tile=10, halo=2)(latents) is latents


@pytest.mark.parametrize(("tile", "halo"), [(8, 2), (6, 2), (8, 1), (24, 6)])
def test_what_is_constant_stays_so(tile, halo):
    """The shares of all windows add up to one, at the borders and where the last window overlaps several."""
    for size in [(25, 26), (26, 9)]:
        image = jnp.full((1, *size, 1), 3.0)
        np.testing.assert_allclose(run(doubled, image, tile=tile, halo=halo), doubled(image), rtol=1e-6)


def average(x):
    """A function that knows no neighbours: every window gets a value of its own."""
    return jnp.broadcast_to(x.mean(axis=(1, 2), keepdims=True), (*doubled(x).shape[:3], x.shape[3]))


def test_neighbours_fade_into_each_other_between_their_halos():
    """Windows of cells 0 to 7 and 2 to 9: from cell 4, two past where the second begins, to 6, two before the end."""
    latents = normal(1, 1, 10, 1)
    first, second = latents[:, :, :8].mean(), latents[:, :, 2:].mean()
    share = np.array([0] * 8 + [0.125, 0.375, 0.625, 0.875] + [1] * 8)
    drawn = run(average, latents, tile=8, halo=2)
    np.testing.assert_allclose(drawn[0, 0, :, 0], first + share * (second - first), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 41), (43, 32), (36, 12)])
def test_no_seam_is_steeper_than_the_fade(size):
    latents = normal(1, *size, 1)
    drawn = run(average, latents, tile=12, halo=3)
    # Two pixels a cell, three cells of fade: a sixth of what lies between the windows' values.
    allowed = (drawn.max() - drawn.min()) / 6
    steps = [float(jnp.abs(jnp.diff(drawn, axis=axis)).max()) for axis in (1, 2)]
    assert 0.1 * allowed < max(steps) <= allowed * 1.001


def test_a_low_precision_is_kept_and_not_worsened():
    image = jnp.full((1, 30, 17, 1), 1.0, jnp.bfloat16)
    drawn = run(doubled, image, tile=12, halo=3)
    assert drawn.dtype == jnp.bfloat16
    np.testing.assert_array_equal(drawn, doubled(image))


def test_one_body_serves_all_windows_of_a_size():
    traces = []

    def function(latents):
        traces.append(latents.shape)
        return decode(latents)

    jitted = jax.jit(apply_in_tiles(function, tile=14, halo=3))
    counts = []
    for side in (16, 60):  # 4 windows, 121 windows
        jitted(normal(1, side, side, 3))
        counts.append(len(traces))
        jitted(normal(1, side, side, 3, seed=1))
        assert len(traces) == counts[-1]
        assert jitted.lower(normal(1, side, side, 3)).as_text().count("stablehlo.convolution") == 4
    assert counts[1] == 2 * counts[0]
    assert set(traces) == {(1, 14, 14, 3)}


def test_memory_grows_with_the_images_alone():
    def narrow(x):
        for _ in range(3):
            x = conv(doubled(x).repeat(4, axis=-1)[..., :4])
        return x[..., :1]

    def temporary(function, side):
        compiled = jax.jit(function).lower(jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    small, large = 32, 128
    assert temporary(narrow, large) > 12 * temporary(narrow, small)
    windows = apply_in_tiles(narrow, tile=16, halo=3)
    assert temporary(windows, large) < 1.2 * temporary(windows, small) < 1.2 * temporary(narrow, small)


@pytest.mark.parametrize(("tile", "halo"), [(8, 4), (9, 4), (6, 8), (16, 0), (0, 0), (-4, 2), (16, -1)])
def test_a_tile_without_room_between_its_halos_is_refused(tile, halo):
    with pytest.raises(
        ValueError, match=rf"tile of {tile} cells with a halo of {halo}: give .*at least {2 * max(halo, 1) + 2}"
    ):
        apply_in_tiles(decode, tile=tile, halo=halo)


@pytest.mark.parametrize("shape", [(1, 40, 31, 1), (1, 40, 45, 1), (1, 60, 30, 1), (1, 20, 10, 1)])
def test_arrays_that_show_something_else_are_refused(shape):
    with pytest.raises(ValueError, match="20 x 15 cells" if shape[1] > 20 else "20 x 1[05]"):
        apply_in_tiles(lambda a, b: a, tile=10, halo=2)(jnp.zeros((1, 20, 15, 1)), jnp.zeros(shape))


def test_an_output_coarser_than_the_cells_is_refused():
    with pytest.raises(ValueError, match="array of 5 x 5 beside one of 10 x 10 cells"):
        apply_in_tiles(lambda a: a[:, ::2, ::2], tile=10, halo=2)(jnp.zeros((1, 20, 20, 1)))


def test_nothing_to_tile_is_refused():
    with pytest.raises(ValueError, match="at least one array"):
        apply_in_tiles(lambda t: t, tile=10, halo=2)(jnp.zeros(3))
