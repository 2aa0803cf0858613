"""What a compiled program computes and moves: FLOPs of its products, bytes of its memory traffic and collectives."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dalle3_jax.planning.hlo import Instruction, Program, Visit, dimensions, shape_bytes

__all__ = ["Collective", "Costs", "measure"]

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "conditional", "call", "after-all")
"""Operations that move nothing themselves."""


@dataclass(frozen=True)
class Collective:
    """One collective of the program: its kind, how many devices take part, bytes of the whole array, how often.

    The whole array is what a gathering gives, what a reducing takes, and what the others move.
    """

    kind: str
    group: int
    bytes: int
    times: int
    name: str = ""

    @property
    def moved(self) -> float:
        """Bytes that every device receives in all."""
        share = (self.group - 1) / self.group if self.kind != "collective-permute" else 1.0
        return self.bytes * self.times * share * (2.0 if self.kind == "all-reduce" else 1.0)


@dataclass(frozen=True)
class Costs:
    """Of one device and one run of the program; `constants` are the sizes of arrays that it holds, in bytes."""

    flops: float
    bytes: float
    collectives: tuple[Collective, ...]
    constants: tuple[int, ...]

    def by_kind(self) -> dict[str, dict[str, int | float]]:
        """Collectives by kind: how many run, bytes of whole arrays, bytes that a device receives."""
        totals: dict[str, dict[str, int | float]] = defaultdict(lambda: {"count": 0, "bytes": 0, "moved": 0.0})
        for one in self.collectives:
            totals[one.kind]["count"] += one.times
            totals[one.kind]["bytes"] += one.bytes * one.times
            totals[one.kind]["moved"] += one.moved
        return dict(sorted(totals.items()))


def measure(program: Program, devices: int) -> Costs:
    """Costs of the whole program, bodies of loops as often as they run."""
    flops, moved, collectives, constants = 0.0, 0.0, [], list[int]()
    for visit in program.visits():
        one = visit.instruction
        if one.kind in ("dot", "convolution"):
            flops += visit.times * _flops(one, visit.known)
        if stated := re.search(r'"cost_estimate":\{"flops":"?(\d+)', one.attributes):
            flops += visit.times * int(stated[1])  # a kernel of our own says what it computes
        if one.kind == "constant":
            constants.append(shape_bytes(one.type))
        if visit.fusion is None and one.kind not in FREE and not one.kind.endswith("-done"):
            moved += visit.times * _traffic(one, visit.known)
        if found := _collective(visit, devices, program):
            collectives.append(found)
    return Costs(flops, moved, tuple(collectives), tuple(constants))


def _collective(visit: Visit, devices: int, program: Program) -> Collective | None:
    """The collective that this is, if it is one. TPU's asynchronous ones are counted where they start; they stand in
    the products that they run beside, and in their end, as well."""
    one, fusion = visit.instruction, visit.fusion
    scatters = [name for name in one.called if name.startswith("all-reduce-scatter")]
    if one.kind == "fusion" and scatters:
        inside = program.computations[scatters[0]].values()
        group = next((_group(part, devices) for part in inside if part.kind == "all-reduce"), devices)
        return Collective("reduce-scatter", group, _operand_bytes(one, visit.known), visit.times, one.name)
    kind = one.kind.removesuffix("-start")
    inside = fusion is not None and not fusion.name.startswith("async-collective-start")
    if kind not in COLLECTIVES or inside:
        return None
    whole = _operand_bytes(one, visit.known) if kind == "reduce-scatter" else shape_bytes(one.type)
    if one.kind == "collective-permute-start":
        whole = shape_bytes(one.type) // 2  # the pair of source and target
    elif one.kind == "all-gather-start":
        whole -= _operand_bytes(one, visit.known)
    return Collective(kind, _group(one, devices), whole, visit.times, one.name)


def _group(one: Instruction, devices: int) -> int:
    """How many devices share one run of a collective."""
    text = one.attributes
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(listed[1].split(","))
    if tiled := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
        return int(tiled[2])
    if axes := re.search(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}", text):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", axes[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", axes[2]))
    return devices


def _operand_bytes(one: Instruction, known: Mapping[str, Instruction], *, on_chip: bool = True) -> int:
    return sum(shape_bytes(known[name].type, on_chip=on_chip) for name in one.operands if name in known)


def _traffic(one: Instruction, known: Mapping[str, Instruction]) -> int:
    """Bytes that an operation reads from and writes to the device's main memory, fusions as one operation."""
    if one.kind in ("dynamic-slice", "slice", "gather"):
        return 2 * shape_bytes(one.type, on_chip=False)
    return shape_bytes(one.type, on_chip=False) + _operand_bytes(one, known, on_chip=False)


def _flops(one: Instruction, known: Mapping[str, Instruction]) -> float:
    """Two for each multiplication and addition; those with the zeros of a convolution's padding count, of its dilation
    do not."""
    out = math.prod(dimensions(one.type))
    left, right = (dimensions(known[name].type) for name in one.operands[:2])
    if one.kind == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
        return 2.0 * out * math.prod(left[int(axis)] for axis in axes[1].split(",") if axis) if axes else 2.0 * out
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    outputs = right[labels[2].index("o")] if labels else right[-1]
    dilation = re.search(r"lhs_dilate=([\dx]+)", one.attributes)
    zeros = math.prod(int(n) for n in dilation[1].split("x")) if dilation else 1
    return 2.0 * out * math.prod(right) / outputs / zeros
