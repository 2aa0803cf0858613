"""The training step on a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.training.step import ema_decay
from tests.training import toy


def host(tree):
    """A copy that donation cannot take away."""
    return jax.tree.map(lambda x: np.array(x), jax.device_get(tree))


def poisoned(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with one value that makes loss and gradient NaN."""
    x = rows["x"].copy()
    x[0, 0] = np.nan
    return {**rows, "x": x}


@pytest.fixture(scope="module")
def step_and_state():
    """One compilation for all tests that take the plain step."""
    return toy.compiled(ema=0.9)


@pytest.fixture
def step(step_and_state):
    """The compiled step."""
    return step_and_state[0]


@pytest.fixture
def state(step_and_state):
    """A copy of the first state, free to be donated."""
    return jax.tree.map(jnp.copy, step_and_state[1])


def test_average_follows_the_parameters_with_its_warm_up(step, state):
    average = host(state.ema["net"]["kernel"])
    for n in range(12):
        state, _ = step(state, toy.FROZEN, toy.batch(n))
        decay = min(0.9, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * host(state.params["net"]["kernel"])
    np.testing.assert_allclose(state.ema["net"]["kernel"], average, rtol=1e-5)
    assert np.abs(average - host(state.params["net"]["kernel"])).max() > 1e-2


def test_average_decay_ends_at_its_value():
    np.testing.assert_allclose(ema_decay(0.998, jnp.int32(0)), 0.1)
    np.testing.assert_allclose(ema_decay(0.998, jnp.int32(10**6)), 0.998)


def test_step_moves_towards_the_frozen_target(step, state):
    losses = []
    for n in range(200):
        state, metrics = step(state, toy.FROZEN, toy.batch(n))
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < 0.1 * np.mean(losses[:10])


def test_nonfinite_gradient_changes_nothing_but_the_counters(step, state):
    state, _ = step(state, toy.FROZEN, toy.batch(0))
    before = host((state.params, state.ema, state.opt_state))
    for count in (1, 2):
        state, metrics = step(state, toy.FROZEN, poisoned(toy.batch(count)))
        assert (int(metrics["skipped"]), int(metrics["skipped_in_a_row"])) == (count, count)
    jax.tree.map(np.testing.assert_array_equal, before, host((state.params, state.ema, state.opt_state)))
    assert int(state.step) == 3

    state, metrics = step(state, toy.FROZEN, toy.batch(3))
    assert (int(metrics["skipped"]), int(metrics["skipped_in_a_row"])) == (2, 0)
    assert not np.array_equal(before[0]["net"]["kernel"], state.params["net"]["kernel"])


def test_infinite_loss_with_finite_gradient_is_skipped():
    def loss(params, frozen, batch, key):
        value, metrics = toy.loss_fn(params, frozen, batch, key)
        return value + jax.lax.stop_gradient(jnp.where(batch["weight"][0] > 0, jnp.inf, 0.0)), metrics

    step, state = toy.compiled(loss=loss)
    before = host(state.params)
    state, metrics = step(state, toy.FROZEN, toy.batch(0))
    assert int(metrics["skipped"]) == 1
    jax.tree.map(np.testing.assert_array_equal, before, host(state.params))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradient_is_that_of_the_whole_batch(step, state, parts):
    in_parts, other = toy.compiled(ema=0.9, accumulate=parts)
    for n in range(3):
        rows = toy.batch(n)
        state, whole = step(state, toy.FROZEN, rows)
        other, split = in_parts(other, toy.FROZEN, rows)
    np.testing.assert_allclose(split["loss"], whole["loss"], rtol=1e-5)
    np.testing.assert_allclose(split["grad_norm"], whole["grad_norm"], rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), other.params, state.params)


def test_frozen_parameters_stay_and_have_no_moments(step, state):
    before = host(toy.FROZEN)
    state, _ = step(state, toy.FROZEN, toy.batch(0))
    jax.tree.map(np.testing.assert_array_equal, before, host(toy.FROZEN))
    assert set(state.params) == set(state.ema) == {"net"}
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) == 2 * (6 + 2) + 2  # two moments, two counters


def test_state_is_donated(step, state):
    before = jax.tree.leaves((state.params, state.ema, state.opt_state))
    step(state, toy.FROZEN, toy.batch(0))
    assert all(leaf.is_deleted() for leaf in before)


def test_steps_draw_different_noise():
    def loss(params, frozen, batch, key):
        value, _ = toy.loss_fn(params, frozen, batch, key)
        return value, {"drawn": jax.random.uniform(key)}

    step, state = toy.compiled(loss=loss)
    drawn = []
    for _ in range(3):
        state, metrics = step(state, toy.FROZEN, toy.batch(0))
        drawn.append(float(metrics["drawn"]))
    assert len(set(drawn)) == 3
