"""The costs of a compiled program: FLOPs of its products, bytes of its memory traffic and collectives."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dalle3_jax.planning.flops import count_tap_products
from dalle3_jax.planning.hlo import HloProgram, Instruction, Visit, array_shape, shape_bytes

__all__ = ["Collective", "Costs", "program_costs", "uncounted_notes"]

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE_OPERATIONS = (
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
)
"""Operations that move nothing themselves."""

KERNEL_PRODUCTS = {"flash_mha_bwd_dkv": 4, "flash_mha_bwd_dq": 3}
"""How many products as large as the scores' jax's backward attention kernels compute, which they do not say."""


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
    def received_bytes(self) -> float:
        """Bytes that every device receives in all."""
        share = (self.group - 1) / self.group if self.kind != "collective-permute" else 1.0
        return self.bytes * self.times * share * (2.0 if self.kind == "all-reduce" else 1.0)


@dataclass(frozen=True)
class Costs:
    """Of one device and one run of the program; `constants` are the sizes of arrays that it holds, in bytes.

    `unknown` names kernels whose FLOPs are not known and not counted.
    """

    flops: float
    bytes: float
    collectives: tuple[Collective, ...]
    constants: tuple[int, ...]
    unknown: tuple[str, ...] = ()

    def collectives_by_kind(self) -> dict[str, dict[str, int | float]]:
        """Collectives by kind: how many run, bytes of whole arrays, bytes that a device receives."""
        totals: dict[str, dict[str, int | float]] = defaultdict(lambda: {"count": 0, "bytes": 0, "moved": 0.0})
        for one in self.collectives:
            totals[one.kind]["count"] += one.times
            totals[one.kind]["bytes"] += one.bytes * one.times
            totals[one.kind]["moved"] += one.received_bytes
        return dict(sorted(totals.items()))


def program_costs(program: HloProgram, devices: int) -> Costs:
    """Costs of the whole program, bodies of loops as often as they run."""
    flops, moved, collectives, constants, unknown = 0.0, 0.0, [], list[int](), list[str]()
    for visit in program.visits():
        one = visit.instruction
        if one.kind in ("dot", "convolution"):
            flops += visit.times * _instruction_flops(one, visit.operands_by_name)
        if 'custom_call_target="tpu_custom_call"' in one.attributes:
            computed = _kernel_flops(one, visit.operands_by_name)
            flops += visit.times * (computed or 0.0)
            unknown += [one.name] if computed is None else []
        if one.kind == "constant":
            constants.append(shape_bytes(one.type))
        if visit.fusion is None and one.kind not in FREE_OPERATIONS and not one.kind.endswith("-done"):
            moved += visit.times * _memory_traffic(one, visit.operands_by_name)
        if collective := _collective(visit, devices, program):
            collectives.append(collective)
    return Costs(flops, moved, tuple(collectives), tuple(constants), tuple(unknown))


def uncounted_notes(costs: Costs) -> list[str]:
    """Notes on what the FLOPs leave out, for people."""
    return [f"FLOPs of {len(costs.unknown)} kernels that do not say them"] if costs.unknown else []


def _collective(visit: Visit, devices: int, program: HloProgram) -> Collective | None:
    """The collective that this is, if it is one. TPU's asynchronous ones are counted where they start; they stand in
    the products that they run beside, and in their end, as well."""
    one, fusion = visit.instruction, visit.fusion
    scatters = [name for name in one.called_computations if name.startswith("all-reduce-scatter")]
    if one.kind == "fusion" and scatters:
        inside = program.computations[scatters[0]].values()
        group = next((_group_size(part, devices) for part in inside if part.kind == "all-reduce"), devices)
        return Collective("reduce-scatter", group, _operand_bytes(one, visit.operands_by_name), visit.times, one.name)
    kind = one.kind.removesuffix("-start")
    inside = fusion is not None and not fusion.name.startswith("async-collective-start")
    if kind not in COLLECTIVES or inside:
        return None
    whole = _operand_bytes(one, visit.operands_by_name) if kind == "reduce-scatter" else shape_bytes(one.type)
    if one.kind == "collective-permute-start":
        whole = shape_bytes(one.type) // 2  # the pair of source and target
    elif one.kind == "all-gather-start":
        whole -= _operand_bytes(one, visit.operands_by_name)
    return Collective(kind, _group_size(one, devices), whole, visit.times, one.name)


def _group_size(one: Instruction, devices: int) -> int:
    """The number of devices that share one run of a collective."""
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


def _memory_traffic(one: Instruction, known: Mapping[str, Instruction]) -> int:
    """Bytes that an operation reads from and writes to the device's main memory, fusions as one operation."""
    if one.kind in ("dynamic-slice", "slice", "gather"):
        return 2 * shape_bytes(one.type, on_chip=False)
    return shape_bytes(one.type, on_chip=False) + _operand_bytes(one, known, on_chip=False)


def _instruction_flops(one: Instruction, known: Mapping[str, Instruction]) -> float:
    """Two for each multiplication and addition of numbers, not of a convolution's padding."""
    out = array_shape(one.type)
    left, right = (array_shape(known[name].type) for name in one.operands[:2])
    if one.kind == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.attributes)
        inner = [left[int(axis)] for axis in axes[1].split(",") if axis] if axes else []
        return 2.0 * math.prod(out) * math.prod(inner)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", one.attributes)
    if labels is None:
        raise ValueError(f"the program does not say how its convolution {one.name} is laid out")
    window = dict(re.findall(r"(\w+)=(\S+)", (re.search(r"window=\{([^}]*)\}", one.attributes) or ["", ""])[1]))

    def along(name: str, axis: int, default: str) -> int:
        """A window's property along a spatial axis; of a padding what is before."""
        return int(window[name].split("x")[axis].split("_")[0] if name in window else default)

    met = 1
    for axis in range(len(labels[1]) - 2):
        inputs, taps, outputs = (
            sides[labels[i].index(str(axis))] for i, sides in enumerate((left, right, out), start=1)
        )
        holes = along("lhs_dilate", axis, "1"), along("rhs_dilate", axis, "1")
        met *= count_tap_products(inputs, taps, outputs, along("stride", axis, "1"), along("pad", axis, "0"), holes)
    batch, features = (out[labels[3].index(letter)] for letter in "bf")
    return 2.0 * batch * features * right[labels[2].index("i")] * met


def _kernel_flops(one: Instruction, known: Mapping[str, Instruction]) -> float | None:
    """FLOPs of a kernel of our own, as it says or as is known of it."""
    if stated := re.search(r'"cost_estimate":\{"flops":"?(\d+)', one.attributes):
        return float(stated[1])
    products = next((count for name, count in KERNEL_PRODUCTS.items() if one.name.startswith(name)), None)
    if products is None:
        return None
    queries, keys = (array_shape(known[name].type) for name in one.operands[:2])  # both (b n l k)
    return products * 2.0 * math.prod(queries) * keys[2]
