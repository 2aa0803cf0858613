"""The network of the scene reader: its grid, its budget, and that nothing looks where it should not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.scene_reader import SceneReader
from tests.networks import abstract, apply, count, normal, randomised

NAMES = {"concepts": tuple("abcde"), "tints": ("natural", "red"), "styles": ("flat",), "backgrounds": tuple("xyz")}
TINY = SceneReader(**NAMES, channels=(4, 8, 8), hidden=8)
SHIPPED = SceneReader(
    **{field: tuple(map(str, range(n))) for field, n in (("concepts", 320), ("tints", 8), ("styles", 3))},
    backgrounds=tuple(map(str, range(15))),
)
IMAGES = normal(2, 32, 48, 3)


@functools.cache
def random_params():
    return randomised(TINY, IMAGES)


def look(images, cells=None):
    return apply(TINY, random_params(), images, cells)


def test_outputs_have_a_cell_for_eight_pixels_and_a_number_for_each_name():
    shapes = {name: output.shape for name, output in look(IMAGES)._asdict().items()}
    assert shapes == {
        "heat": (2, 4, 6),
        "concepts": (2, 24, 5),
        "tints": (2, 24, 2),
        "boxes": (2, 24, 3),
        "styles": (2, 24, 1),
        "backgrounds": (2, 3),
        "features": (2, TINY.width),
    }


def test_chosen_cells_are_read_as_among_all():
    whole, chosen = look(IMAGES), look(IMAGES, jnp.array([[5, 0, 23], [7, 7, 1]]))
    for name in ("concepts", "tints", "boxes", "styles"):
        expected = np.asarray(getattr(whole, name))[[[0], [1]], [[5, 0, 23], [7, 7, 1]]]
        np.testing.assert_allclose(getattr(chosen, name), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(chosen.heat, whole.heat, rtol=1e-5, atol=1e-5)


def test_a_picture_is_read_alike_whatever_stands_beside_it():
    other = look(IMAGES.at[1].set(7.0 - IMAGES[1]))
    for one, two in zip(look(IMAGES), other, strict=True):
        np.testing.assert_allclose(one[0], two[0], rtol=1e-5, atol=1e-6)
        assert not np.allclose(one[1], two[1])


def test_heat_lies_where_the_picture_changes():
    change = np.abs(look(IMAGES.at[:, :8, 40:].add(3.0)).heat - look(IMAGES).heat)
    assert (change.reshape(2, -1).argmax(1) == 5).all()


def test_the_shipped_shape_is_under_two_million_parameters():
    assert count(SHIPPED, jnp.zeros((1, 16, 16, 3))) < 2_000_000


def test_the_shipped_shape_costs_about_a_quarter_of_a_billion_products_a_picture():
    images = jax.ShapeDtypeStruct((1, 128, 128, 3), np.float32)
    params = nn.unbox(abstract(SHIPPED, jnp.zeros((1, 16, 16, 3))))
    cost = jax.jit(lambda p, x: SHIPPED.apply({"params": p}, x)).lower(params, images).cost_analysis()
    assert cost is not None
    assert cost["flops"] / 2 < 0.32e9


@pytest.mark.parametrize("sides", [(24, 32), (32, 40)])
def test_sides_that_do_not_fit_the_grid_are_refused(sides):
    with pytest.raises(ValueError, match="multiples of 16"):
        look(normal(1, *sides, 3))
