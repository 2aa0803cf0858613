"""Distances of two sets of pictures, by features of any network: a row per picture, float64.

Values depend on the network behind the features and on the number of rows: compare only what agrees in both.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from dalle3_jax.evaluation.statistics import Rate, bootstrap

BLOCK = 1 << 22
"""Distances held at a time (32 MB), however many rows there are."""

ROUNDING = 1e-12
"""Squared distances below this share of the squared norms are rounding: a picture and its copy are 0 apart."""


class Distance(NamedTuple):
    """A distance with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


class Neighbours(NamedTuple):
    """For each row, which row of the other set is nearest, and its Euclidean distance."""

    indices: Int[np.ndarray, " n"]
    distances: Float[np.ndarray, " n"]


class Copying(NamedTuple):
    """Nearness of pictures to the training set.

    `nearer` is the share of generated pictures nearer to a training picture than all but 1 % of held-out true ones
    (`threshold`): about 0.01 for a model that copies nothing. Medians are those of the distances to the nearest.
    """

    nearer: Rate
    threshold: float
    generated_median: float
    held_out_median: float


def frechet_distance(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], *, seed: int = 0, samples: int = 100, level: float = 0.95
) -> Distance:
    """The squared Frechet distance of the Gaussians with the means and covariances of two sets of rows.

    |mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)): Dowson and Landau 1982, doi 10.1016/0047-259X(82)90077-X;
    on features of Inception it is arXiv 1706.08500. Where there are not more rows than features a covariance is
    singular and the value still defined. It is biased upwards, the more the fewer the rows (arXiv 1911.07023), and
    rows drawn again are biased once more: the interval is that of the draws, moved by the mean that they add.
    Raises ValueError for fewer than three rows.
    """
    _check_features(("first", a, 3), ("second", b, 3))
    random = np.random.default_rng(seed)
    value = _frechet_value(a, b)
    draws = [
        _frechet_value(*(rows[random.integers(len(rows), size=len(rows))] for rows in (a, b))) for _ in range(samples)
    ]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) + value - np.mean(draws)
    return Distance(value, max(0.0, float(low)), float(high))


def _frechet_value(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """The distance alone; the trace of the root is the sum of the singular values of R_a R_b^T, C = R^T R."""
    roots = [_covariance_root(a), _covariance_root(b)]
    spread = sum(float((root**2).sum()) for root in roots)
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return max(0.0, float(((a.mean(0) - b.mean(0)) ** 2).sum() + spread - 2.0 * shared))


def _covariance_root(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k d"]:
    """R with R^T R the covariance of the rows: the rows themselves, or as many as there are features."""
    root = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    if len(root) <= root.shape[1]:
        return root
    values, vectors = np.linalg.eigh(root.T @ root)
    return np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T


def kernel_distance(
    a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"], *, seed: int = 0, samples: int = 100, level: float = 0.95
) -> Distance:
    """The squared maximum mean discrepancy under the kernel (x.y / d + 1)^3, unbiased: 0 on average for equal sources.

    arXiv 1801.01401, where it is averaged over subsets; here the value is that of all rows, and the interval that of
    `samples` halves drawn without replacement, which scatter about the whole as the whole about the truth (for equal
    sources up to 1.7 times as much). Raises ValueError for fewer than four rows.
    """
    _check_features(("first", a, 4), ("second", b, 4))
    random = np.random.default_rng(seed)
    chosen = [np.stack([np.ones(len(rows)), *_halves(len(rows), samples, random)], 1) for rows in (a, b)]
    within = [_mean_kernels(rows, rows, some, some, apart=True) for rows, some in zip((a, b), chosen, strict=True)]
    values = within[0] + within[1] - 2.0 * _mean_kernels(a, b, *chosen)
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return Distance(float(values[0]), float(low), float(high))


def _halves(count: int, samples: int, random: np.random.Generator) -> Iterator[Float[np.ndarray, " n"]]:
    """1 for half of the rows, 0 for the others, drawn `samples` times."""
    for _ in range(samples):
        yield (random.permutation(count) < count // 2).astype(np.float64)


def _mean_kernels(
    a: Float[np.ndarray, "n d"],
    b: Float[np.ndarray, "m d"],
    some: Float[np.ndarray, "n s"],
    others: Float[np.ndarray, "m s"],
    *,
    apart: bool = False,
) -> Float[np.ndarray, " s"]:
    """The mean kernel of chosen rows of a with chosen rows of b, for each of s choices; `apart`: not with itself."""
    total = np.zeros(some.shape[1])
    for part in _blocks(len(a), len(b)):
        total += (some[part] * (_cubic(a[part] @ b.T, a.shape[1]) @ others)).sum(0)
    if apart:
        total -= _cubic((a * a).sum(1), a.shape[1]) @ some
    return total / (some.sum(0) * (others.sum(0) - apart))


def _cubic(products: np.ndarray, width: int) -> np.ndarray:
    """The kernel of rows with these scalar products."""
    return (products / width + 1.0) ** 3


def precision(
    generated: Float[np.ndarray, "n d"], true: Float[np.ndarray, "m d"], *, neighbours: int = 3, seed: int = 0
) -> Rate:
    """The share of generated pictures that lie among true ones: within the k-th neighbour's radius of one of them.

    arXiv 1904.06991; `precision(true, generated)` is its recall, the share of true pictures that lie among generated
    ones. The interval draws the judged pictures again and takes the other set as it is.
    Raises ValueError for no more rows than neighbours.
    """
    _check_features(("generated", generated, 1), ("true", true, neighbours + 1))
    radii = _radii(true, neighbours)
    inside = [
        (_squared_distances(generated[part], true) <= radii).any(1) for part in _blocks(len(generated), len(true))
    ]
    return bootstrap(np.concatenate(inside), seed=seed)


def _radii(rows: Float[np.ndarray, "n d"], neighbours: int) -> Float[np.ndarray, " n"]:
    """The squared distance of each row to the k-th nearest of the others."""
    radii = []
    for part in _blocks(len(rows), len(rows)):
        squared = _squared_distances(rows[part], rows)
        squared[np.arange(len(squared)), np.arange(len(rows))[part]] = np.inf
        radii.append(np.partition(squared, neighbours - 1, axis=1)[:, neighbours - 1])
    return np.concatenate(radii)


def nearest_neighbours(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Neighbours:
    """For each row of a the nearest row of b, the first where several are."""
    _check_features(("first", a, 1), ("second", b, 1))
    indices, distances = [], []
    for part in _blocks(len(a), len(b)):
        squared = _squared_distances(a[part], b)
        indices.append(squared.argmin(1))
        distances.append(np.sqrt(squared.min(1)))
    return Neighbours(np.concatenate(indices), np.concatenate(distances))


def measure_copying(
    generated: Float[np.ndarray, "n d"],
    held_out: Float[np.ndarray, "m d"],
    training: Float[np.ndarray, "k d"],
    *,
    seed: int = 0,
) -> Copying:
    """Whether generated pictures come nearer to training pictures than true ones that nobody trained on.

    Raises ValueError for fewer than 100 held-out pictures, which have no 1st percentile, and where as many as 1 % of
    them are training pictures, so that nothing could be nearer.
    """
    _check_features(("generated", generated, 1), ("held-out", held_out, 100), ("training", training, 1))
    apart, near = (nearest_neighbours(rows, training).distances for rows in (held_out, generated))
    threshold = float(np.quantile(apart, 0.01))
    if not threshold:
        raise ValueError(f"{(apart == 0).sum()} held-out pictures are in the training set: leave its copies out")
    return Copying(bootstrap(near < threshold, seed=seed), threshold, float(np.median(near)), float(np.median(apart)))


def _squared_distances(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Squared Euclidean distances of every row of a to every row of b."""
    norms = (a * a).sum(1)[:, None] + (b * b).sum(1)
    squared = norms - 2.0 * (a @ b.T)
    squared[squared < ROUNDING * norms] = 0.0
    return squared


def _blocks(rows: int, columns: int) -> Iterator[slice]:
    """Parts of the rows, each with at most BLOCK distances to the columns."""
    step = max(1, BLOCK // columns)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def _check_features(*sets: tuple[str, np.ndarray, int]) -> None:
    """ValueError with everything that is wrong with sets of features: (name, rows, how many there must be)."""
    errors = [
        f"{len(rows)} {name} rows: at least {least} are needed" for name, rows, least in sets if len(rows) < least
    ]
    errors += [f"{name} features are not all finite" for name, rows, _ in sets if not np.isfinite(rows).all()]
    widths = {name: rows.shape[1:] for name, rows, _ in sets}
    if len(set(widths.values())) > 1 or any(len(width) != 1 for width in widths.values()):
        sizes = ", ".join(f"{name} {width}" for name, width in widths.items())
        errors.append(f"features of shapes {sizes}: one vector per picture is needed, all of one network")
    if errors:
        raise ValueError("; ".join(errors))
