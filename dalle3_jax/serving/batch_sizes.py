"""Sizes of batches: those that are compiled, and the one of them that is the quickest for what waits."""

from collections.abc import Mapping, Sequence

__all__ = ["batch_sizes", "fill_batch", "learn_seconds"]

FADING = 0.99
"""What is left of the seconds of a size after a batch of another: ten times too many are forgotten in 230 batches."""


def batch_sizes(most: int, devices: int = 1) -> tuple[int, ...]:
    """The sizes of batches that are compiled: powers of two up to `most`, and it, as multiples of the devices."""
    powers = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return tuple(dict.fromkeys(-(-size // devices) * devices for size in (*powers, most)))


def fill_batch(waiting: int, sizes: Sequence[int], seconds: Mapping[int, float]) -> int:
    """The most images to make at once where so many wait: one of the sizes, in rising order, of batches.

    A batch that is not full takes as long as a full one. So too few for a full one may be quicker as a smaller batch
    and the rest after it, above all on a device that one image fills: of those sizes it is the one that makes most
    images a second. `seconds` are those of a batch of each size; where they are not known it is the next size above.
    """
    if waiting >= sizes[-1]:
        return sizes[-1]
    enough = next(size for size in sizes if size >= waiting)
    choices = [size for size in sizes if size <= enough and size in seconds] if enough in seconds else [enough]
    return max(choices, key=lambda size: min(size, waiting) / seconds.get(size, 1))


def learn_seconds(seconds: dict[int, float], size: int, measured: float) -> None:
    """Replaces the seconds of a batch of this size by those that one took.

    The other sizes are taken for a little quicker from then on: so one that is passed over since a single batch of it
    was slow is made again some day, and measured.
    """
    for other in seconds:
        seconds[other] *= FADING
    seconds[size] = measured
