"""Tokens on a grid: where a UNet adds them, in pictures of any shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.token_grid import TokenGrid, add_at_places
from dalle3_jax.models.unet import Level, UNet
from tests.networks import apply, condition, normal, randomised


@pytest.mark.parametrize("size", [(8, 12), (4, 6), (13, 5)])
def test_a_cell_is_added_where_it_lies_in_a_picture_of_any_shape(size):
    rows, columns = 2, 3
    for row, column in np.ndindex(rows, columns):
        placed = jnp.zeros((1, rows, columns, 1)).at[0, row, column].set(1.0)
        added = np.asarray(add_at_places(jnp.ones((1, *size, 1)), placed))[0, ..., 0] - 1
        middle = int((row + 0.5) * size[0] / rows), int((column + 0.5) * size[1] / columns)
        y, x = np.argwhere(added > 0.5 * added.max()).mean(axis=0) + 0.5
        assert added[middle] > 0.5
        assert abs(y - (row + 0.5) * size[0] / rows) < size[0] / rows / 2
        assert abs(x - (column + 0.5) * size[1] / columns) < size[1] / columns / 2
    np.testing.assert_allclose(add_at_places(jnp.ones((1, *size, 1)), jnp.ones((1, rows, columns, 1))), 2, atol=1e-6)


def test_tokens_are_laid_row_by_row():
    tokens = normal(1, 6, 4)
    module = TokenGrid((2, 3), 5)
    params = randomised(module, tokens)
    placed = apply(module, params, tokens)
    for i in range(6):
        other = apply(module, params, tokens.at[0, i].add(1.0))
        assert [tuple(at) for at in np.argwhere(np.abs(other - placed).max(axis=(0, 3)) > 0)] == [divmod(i, 3)]


def test_every_level_reads_the_grid():
    """Without its own map of the tokens a level gives another output, though nothing attends to them."""
    levels = (Level(8, 1), Level(8, 1), Level(8, 1))
    unet = UNet(levels, groups=4, pooled=False, middle_depth=0, grid=(5, 1))
    x, t, text = normal(2, 8, 8, 4), jnp.array([3.0, 700.0]), condition()
    params = randomised(unet, x, t, text)
    assert {name for name in params if name.startswith("grid")} == {name for name, _ in unet.token_grids()}
    whole = apply(unet, params, x, t, text)
    for name, _ in unet.token_grids():
        without = params | {name: jax.tree.map(jnp.zeros_like, params[name])}
        assert jnp.abs(apply(unet, without, x, t, text) - whole).max() > 1e-3


def test_a_grid_wants_a_token_for_every_cell():
    unet = UNet((Level(8, 1),), groups=4, grid=(2, 2))
    with pytest.raises(ValueError, match="5 tokens do not fill a grid of 2 x 2"):
        jax.eval_shape(unet.init, jax.random.key(0), normal(2, 8, 8, 4), jnp.ones(2), condition())
