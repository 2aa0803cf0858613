"""Sizes of batches: those that are compiled, and the one of them that is the quickest for what waits."""

from collections.abc import Mapping, Sequence

__all__ = ["batch_sizes", "fill_batch"]


def batch_sizes(most: int, devices: int = 1) -> tuple[int, ...]:
    """The sizes of batches that are compiled: powers of two up to `most`, and it, as multiples of the devices."""
    powers = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return tuple(dict.fromkeys(-(-size // devices) * devices for size in (*powers, most)))


def fill_batch(waiting: int, sizes: Sequence[int], seconds: Mapping[int, float]) -> int:
    """The size of the next batch where so many images wait: of the sizes, in rising order, the one above or below.

    A batch that is not full takes as long as a full one. So it may be quicker to fill the size below and to leave the
    rest to another batch, above all on a device that one image fills. `seconds` are those of a batch of each size; one
    that is not in it counts as the quicker one, so that it is measured, and of two the larger.
    """
    above = next((size for size in sizes if size >= waiting), sizes[-1])
    below = max((size for size in sizes if size <= waiting), default=above)
    return below if seconds.get(below, 0) / below < seconds.get(above, 0) / waiting else above
