"""TPU chips and the slices that they come in. Figures are a chip's, from Google Cloud's pages on TPU versions.

https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e (peak bf16 compute, HBM capacity and bandwidth, interconnect
bandwidth of all links together, both directions) and /system-architecture-tpu-vm (chips of a host).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CHIPS", "Chip", "Topology", "parse_topology"]


@dataclass(frozen=True)
class Chip:
    """Peak bf16 FLOP/s, HBM bytes and bytes/s, interconnect bytes/s, and how slices of it are laid out.

    `sides` is the dimension of a slice's grid, `cores` what a product's name counts for a chip, `host` a host's chips.
    """

    flops: float
    memory: float
    bandwidth: float
    interconnect: float
    sides: int
    cores: int
    host: int


GIB = 2.0**30
GBIT = 1e9 / 8
CHIPS: Mapping[str, Chip] = {
    "v4": Chip(275e12, 32 * GIB, 1228e9, 2400 * GBIT, sides=3, cores=2, host=4),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 1600 * GBIT, sides=2, cores=1, host=4),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 4800 * GBIT, sides=3, cores=2, host=4),
    "v6e": Chip(918e12, 32 * GIB, 1640e9, 3584 * GBIT, sides=2, cores=1, host=4),
}

PRODUCTS: Mapping[int, Mapping[int, tuple[int, ...]]] = {
    2: {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)},
    3: {
        4: (2, 2, 1),
        8: (2, 2, 2),
        16: (2, 2, 4),
        32: (2, 4, 4),
        64: (4, 4, 4),
        128: (4, 4, 8),
        256: (4, 8, 8),
        512: (8, 8, 8),
        1024: (8, 8, 16),
    },
}
"""The grid of a product's slice, by the dimension of grids and its chips."""


@dataclass(frozen=True)
class Topology:
    """A slice: the chip and the sides of its grid."""

    version: str
    grid: tuple[int, ...]

    @property
    def chip(self) -> Chip:
        """The figures of one chip."""
        return CHIPS[self.version]

    @property
    def chips(self) -> int:
        """The number of chips."""
        return math.prod(self.grid)

    @property
    def name(self) -> str:
        """As libtpu takes it: v5e:16x16."""
        return f"{self.version}:{'x'.join(map(str, self.grid))}"


def parse_topology(name: str) -> Topology:
    """The slice of a grid ("v5e:16x16", "v5p:4x4x4") or of a product ("v5e-256", "v5p-128": TensorCores, two a chip).

    Google Cloud's "v5litepod-256" is v5e-256.

    Raises ValueError naming what there is.
    """
    grid = re.fullmatch(r"(v\w+):(\d+(?:x\d+)*)", name)
    product = re.fullmatch(r"(v\w+?)-(\d+)", name.replace("v5litepod-", "v5e-"))
    version = (grid or product or [name, ""])[1]
    if version in CHIPS and grid:
        sides = tuple(map(int, grid[2].split("x")))
        if len(sides) == CHIPS[version].sides and min(sides) > 0:
            return Topology(version, sides)
    if version in CHIPS and product:
        chip = CHIPS[version]
        slices = PRODUCTS[chip.sides]
        if sides := slices.get(int(product[2]) // chip.cores):
            return Topology(version, sides)
        sizes = ", ".join(f"{version}-{chips * chip.cores}" for chips in slices)
        raise ValueError(
            f"topology {name!r}: {version} comes as {sizes}, or give a grid such as {_example_topology(version)}"
        )
    known = ", ".join(f"{version} ({_example_topology(version)})" for version in CHIPS)
    raise ValueError(f"topology {name!r}: give a chip and a grid; chips are {known}")


def _example_topology(version: str) -> str:
    return f"{version}:16x16" if CHIPS[version].sides == 2 else f"{version}:4x4x4"
