"""Distances have their closed forms, keep their units, and do not depend on how the work is cut into blocks."""

import inspect

import numpy as np
import pytest

from dalle3_jax.evaluation import distances
from dalle3_jax.evaluation.distances import (
    frechet_distance,
    kernel_distance,
    measure_copying,
    nearest_neighbours,
    precision,
)


def normal(seed: int, rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width))


def with_covariance(rows: np.ndarray, root: np.ndarray) -> np.ndarray:
    """The rows, made to have mean 0 and covariance root^T root exactly."""
    rows = rows - rows.mean(0)
    return rows @ np.linalg.inv(np.linalg.cholesky(np.cov(rows.T)).T) @ root


@pytest.mark.parametrize("count", [5, 200])
def test_frechet_of_a_set_with_itself_is_zero(count):
    rows = normal(0, count, 20)
    assert frechet_distance(rows, rows.copy(), samples=2).value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("count", [5, 200])
def test_frechet_of_a_shift_is_its_squared_length(count):
    rows, shift = normal(0, count, 20), normal(1, 1, 20)
    assert frechet_distance(rows, rows + shift, samples=2).value == pytest.approx((shift**2).sum(), rel=1e-10)


def test_frechet_of_scaled_axes_is_the_closed_form():
    """Covariances that commute: the squared distance of the vectors of standard deviations."""
    one, two = np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.5, 3.0])
    a, b = (with_covariance(normal(seed, 50, 3), np.diag(scale)) for seed, scale in ((0, one), (1, two)))
    assert frechet_distance(a, b, samples=2).value == pytest.approx(((one - two) ** 2).sum(), rel=1e-10)


def test_frechet_is_the_formula_with_covariances():
    a, b = normal(0, 40, 6) @ normal(2, 6, 6), normal(1, 90, 6) + 0.3
    one, two = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(one @ two).real).sum()
    formula = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one) + np.trace(two) - 2 * root
    assert frechet_distance(a, b, samples=2).value == pytest.approx(formula, rel=1e-9)
    assert frechet_distance(b, a, samples=2).value == pytest.approx(formula, rel=1e-9)


def test_frechet_is_biased_upwards_by_few_rows_and_its_interval_no_further():
    few = frechet_distance(normal(0, 60, 8), normal(1, 60, 8))
    many = frechet_distance(normal(2, 6000, 8), normal(3, 6000, 8), samples=20)
    assert few.value > 10 * many.value > 0
    assert few.low <= few.value <= few.high
    assert few.high < 2 * few.value


def kernel_of_all_pairs(a, b):
    """The unbiased estimate, pair by pair."""

    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j]) for rows in (a, b)]
    return sum(within) - 2 * np.mean([k(x, y) for x in a for y in b])


def test_kernel_distance_is_the_mean_over_pairs():
    a, b = normal(0, 9, 3), normal(1, 14, 3) + 0.5
    assert kernel_distance(a, b, samples=2).value == pytest.approx(kernel_of_all_pairs(a, b), rel=1e-12)


def test_kernel_distance_is_unbiased():
    """Equal sources give 0 on average, not a positive number as any estimate that counts a row against itself."""
    values = [kernel_distance(normal(seed, 10, 4), normal(seed + 1000, 10, 4), samples=1).value for seed in range(400)]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / 20)
    assert min(values) < 0


def test_interval_of_the_kernel_distance_scatters_as_its_value_does():
    pairs = [(normal(seed, 100, 4), normal(seed + 500, 100, 4) + 0.5) for seed in range(60)]
    found = [kernel_distance(a, b) for a, b in pairs]
    widths = np.mean([one.high - one.low for one in found]) / 3.92
    assert widths == pytest.approx(np.std([one.value for one in found]), rel=0.3)


def test_precision_and_recall_tell_narrow_from_wide():
    wide, narrow = normal(0, 300, 2), normal(1, 200, 2) * 0.2
    assert precision(narrow, wide).value > 0.97
    assert precision(wide, narrow).value < 0.3
    assert precision(narrow, wide).prompts == 200


def test_precision_of_a_set_with_itself_is_one_and_of_strangers_none():
    rows = normal(0, 50, 5)
    assert precision(rows, rows.copy())[:3] == (1, 1, 1)
    assert precision(rows + 100, rows)[:3] == (0, 0, 0)


def test_radius_reaches_the_neighbour_asked_for():
    true = np.array([[0.0], [1.0], [3.0], [6.0]])
    inside = np.array([[-0.99], [8.99]])  # 0 has its first neighbour at 1; 6 at 3
    assert precision(inside, true, neighbours=1).value == 1
    assert precision(np.array([[-1.01], [9.01]]), true, neighbours=1).value == 0
    assert precision(np.array([[-2.99], [-3.01]]), true, neighbours=2).value == 0.5


def test_nearest_is_that_of_all_distances():
    a, b = normal(0, 30, 4), normal(1, 17, 4)
    every = np.linalg.norm(a[:, None] - b, axis=-1)
    found = nearest_neighbours(a, b)
    assert (found.indices == every.argmin(1)).all()
    assert found.distances == pytest.approx(every.min(1), rel=1e-9)


def test_a_copy_is_no_distance_away():
    rows = normal(0, 20, 64) + 50
    order = np.random.default_rng(0).permutation(20)
    found = nearest_neighbours(rows[order], rows)
    assert (found.distances == 0).all()
    assert (found.indices == order).all()


def test_blocks_change_nothing(monkeypatch):
    a, b = normal(0, 23, 4), normal(1, 31, 4)
    whole = nearest_neighbours(a, b), kernel_distance(a, b), precision(a, b)
    monkeypatch.setattr(distances, "BLOCK", 70)  # two rows at a time
    assert (nearest_neighbours(a, b).indices == whole[0].indices).all()
    assert kernel_distance(a, b) == pytest.approx(whole[1], rel=1e-9)
    assert precision(a, b) == whole[2]
    monkeypatch.setattr(distances, "BLOCK", 1)
    assert len(nearest_neighbours(a, b).indices) == 23


def test_pictures_of_nobody_are_as_far_from_training_as_held_out_ones():
    training, held_out, fresh = (normal(seed, count, 3) for seed, count in enumerate((300, 2000, 2000)))
    found = measure_copying(fresh, held_out, training)
    assert found.nearer.low <= 0.01 <= found.nearer.high
    assert found.generated_median == pytest.approx(found.held_out_median, rel=0.1)


def test_memorised_pictures_show():
    training, held_out, fresh = (normal(seed, count, 3) for seed, count in enumerate((300, 1000, 100)))
    fresh[:40] = training[:40] + 1e-6
    found = measure_copying(fresh, held_out, training)
    assert found.nearer.value == pytest.approx(0.4, abs=0.05)
    assert found.generated_median < found.held_out_median
    assert found.threshold > 1e-3


def test_held_out_pictures_that_were_trained_on_are_refused():
    training = normal(0, 100, 3)
    with pytest.raises(ValueError, match="100 held-out pictures are in the training set"):
        measure_copying(training, training, training)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: frechet_distance(normal(0, 2, 3), normal(0, 1, 3)), "2 first rows: at least 3 .*; 1 second rows"),
        (lambda: kernel_distance(normal(0, 3, 3), normal(0, 4, 3)), "at least 4"),
        (lambda: precision(normal(0, 1, 3), normal(0, 3, 3)), "3 true rows: at least 4"),
        (lambda: measure_copying(normal(0, 1, 3), normal(0, 99, 3), normal(0, 1, 3)), "99 held-out rows: at least 100"),
        (
            lambda: nearest_neighbours(np.zeros((0, 3)), np.full((2, 3), np.nan)),
            "at least 1 .*; second features are not",
        ),
        (lambda: inspect.unwrap(nearest_neighbours)(normal(0, 4, 2), normal(0, 4, 3)), r"first \(2,\), second \(3,\)"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
