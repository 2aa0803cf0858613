"""A plan: what one step costs a chip, how long it must at least take, and what in it is wrong."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dalle3_jax.planning.chips import Topology

__all__ = ["BIG_BYTES", "Plan", "counted_memory", "plan_findings", "plan_markdown", "roofline_seconds"]

BIG_BYTES = 2**20
"""Bytes from which a replicated parameter, a constant or a gradient that is not scattered is worth a word."""


@dataclass(frozen=True)
class Plan:
    """Figures of one chip and one step, in bytes, FLOPs and seconds; `how` is full, quick or estimate.

    `collectives` holds count, bytes of whole arrays and bytes that a chip receives, by kind; `seconds` the time that
    computing, memory and interconnect take each; `model_flops` what the step would compute without recomputation. Where
    several programs run one after another (sampling), `parts` are the FLOPs of each, and a batch stands for the step.
    """

    how: str
    what: str
    config: str
    topology: str
    mesh: Mapping[str, int]
    bucket: tuple[int, int]
    batch: int
    inputs: str
    parameters: Mapping[str, int]
    memory: Mapping[str, int]
    capacity: int
    flops: float
    model_flops: float
    bytes: float
    collectives: Mapping[str, Mapping[str, int | float]]
    seconds: Mapping[str, float]
    findings: Sequence[str]
    left_out: Sequence[str]
    compile_seconds: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """The unit that the figures are of."""
        return "batch" if self.parts else "step"

    @property
    def used_bytes(self) -> int:
        """Bytes of a chip's memory that the step is known to take."""
        return sum(counted_memory(self.memory, self.how).values())

    @property
    def overlapped_seconds(self) -> float:
        """Seconds of a step in which computing, memory and interconnect work at once: the roofline."""
        return max(self.seconds.values())

    @property
    def serial_seconds(self) -> float:
        """Seconds of a step in which nothing hides the interconnect's."""
        return max(self.seconds["compute"], self.seconds["memory"]) + self.seconds["interconnect"]

    def utilisation(self, step: float, peak: float) -> float:
        """Model FLOPs utilisation (arXiv 2204.02311 appendix B) of steps of so many seconds."""
        return self.model_flops / (step * peak) if step else math.nan

    def to_json(self) -> str:
        """All figures."""
        return json.dumps({**dataclasses.asdict(self), "used": self.used_bytes}, indent=1) + "\n"


def roofline_seconds(flops: float, moved: float, collectives: Sequence[Any], topology: Topology) -> dict[str, float]:
    """The least time of computing, memory and interconnect, each at its peak.

    A collective among fewer chips than the slice has uses the links along as many sides of the grid as it must span.
    """
    chip = topology.chip
    links = math.fsum(
        one.received_bytes / (chip.interconnect * _usable_link_share(one.group, topology)) for one in collectives
    )
    return {"compute": flops / chip.flops, "memory": moved / chip.bandwidth, "interconnect": links}


def _usable_link_share(group: int, topology: Topology) -> float:
    """The share of a chip's links that a group of so many chips can use."""
    sides = sorted(topology.grid, reverse=True)
    spanned = next((n for n in range(1, len(sides)) if math.prod(sides[:n]) >= group), len(sides))
    return spanned / len(sides)


def counted_memory(memory: Mapping[str, int], how: str) -> dict[str, int]:
    """The parts of a plan's memory that a chip takes: temporaries of the CPU's program in quick plans are none.

    That fuses and lays out otherwise: of base_512 they are 31 GiB, where all that a chip takes is 7.1 GiB.
    """
    return {name: amount for name, amount in memory.items() if (how, name) != ("quick", "temporaries")}


def plan_findings(
    memory: Mapping[str, int],
    capacity: int,
    collectives: Sequence[Any],
    constants: Sequence[int],
    replicated: Mapping[str, int],
) -> list[str]:
    """Findings that a reader should repair, each with its size."""
    findings = []
    free = 1.0 - sum(memory.values()) / capacity
    if free < 0.1:
        findings.append(f"{'does not fit' if free < 0 else 'leaves less than a tenth free'}: {free:.1%} of HBM is left")
    if exchanged := [one for one in collectives if one.kind == "all-to-all" and one.bytes >= BIG_BYTES]:
        findings.append(f"{len(exchanged)} all-to-alls of a MiB or more")
    if reduced := [one for one in collectives if one.kind == "all-reduce" and one.bytes >= BIG_BYTES]:
        total = sum(one.bytes * one.times for one in reduced)
        findings.append(
            f"{len(reduced)} all-reduces of a MiB or more, {format_bytes(total)}: gradients reduced, not scattered"
        )
    if held := [one for one in constants if one >= BIG_BYTES]:
        findings.append(f"{len(held)} constants of a MiB or more, {format_bytes(sum(held))}")
    for name, amount in replicated.items():
        findings.append(f"{name}, {format_bytes(amount)}, is whole on every chip")
    return findings


def plan_markdown(plan: Plan, topology: Topology) -> str:
    """The plan as a Markdown document that reads as plain text too."""
    chip = topology.chip
    mesh = " x ".join(f"{name} {length}" for name, length in plan.mesh.items() if length > 1) or "one chip"
    head = (
        f"# {plan.config} on {plan.topology}: {plan.what}, {plan.how}\n\n"
        f"{topology.chips} chips ({mesh}), {plan.bucket[1]}x{plan.bucket[0]} pixels, {plan.batch} images a {plan.unit} "
        f"({plan.batch / topology.chips:g} a chip), given as {plan.inputs}."
    )
    names = [(name, f"{count / 1e6:,.1f} M") for name, count in plan.parameters.items()]
    counted = counted_memory(plan.memory, plan.how)
    memory = [
        (name if name in counted else f"{name} on a CPU, not counted", format_bytes(amount))
        for name, amount in plan.memory.items()
    ]
    least, most = ("", "") if plan.how == "full" else (", at least", ", at most")
    memory += [(f"in all{least}", format_bytes(plan.used_bytes)), ("HBM", format_bytes(plan.capacity))]
    memory += [(f"headroom{most}", f"{1 - plan.used_bytes / plan.capacity:.1%}")]
    moved = [
        (kind, f"{row['count']:,.0f}", format_bytes(row["bytes"]), format_bytes(row["moved"]))
        for kind, row in plan.collectives.items()
    ]
    known = {
        "compute": True,
        "memory": plan.bytes > 0,
        "interconnect": plan.how == "full" or bool(plan.collectives) or math.prod(plan.mesh.values()) == 1,
    }
    steps = {"overlapped": plan.overlapped_seconds, "not overlapped": plan.serial_seconds}
    times = [(name, f"{1e3 * amount:,.1f} ms" if known[name] else "not known") for name, amount in plan.seconds.items()]
    times += [
        (f"{plan.unit}, {name}", f"{1e3 * step:,.1f} ms, {plan.utilisation(step, chip.flops):.1%} MFU")
        for name, step in steps.items()
    ]
    times += (
        [("images/s, overlapped", f"{plan.batch / plan.overlapped_seconds:,.0f}")] if plan.overlapped_seconds else []
    )
    work = [
        ("FLOPs of the program", format_flops(plan.flops)),
        ("of the model", format_flops(plan.model_flops)),
        *((name, format_flops(amount)) for name, amount in plan.parts.items()),
    ]
    work += [("HBM traffic", format_bytes(plan.bytes))] if plan.bytes else []
    parts = [
        head,
        aligned_table(("parameters", "number"), names),
        aligned_table(("memory of a chip", "bytes"), memory),
        aligned_table((f"work of a chip, a {plan.unit}", ""), work),
        *([aligned_table(("collectives", "number", "whole arrays", "received by a chip"), moved)] if moved else []),
        aligned_table(("roofline", "time"), times),
        "\n".join(f"- {one}" for one in plan.findings) or "Nothing to repair was found.",
    ]
    parts += ["Left out: " + "; ".join(plan.left_out) + "."] if plan.left_out else []
    parts += [f"Compiled in {plan.compile_seconds:,.0f} s."] if plan.compile_seconds else []
    return "\n\n".join(parts) + "\n"


def format_bytes(amount: int | float) -> str:
    """Bytes as people read them."""
    for unit, width in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= width:
            return f"{amount / width:,.2f} {unit}"
    return f"{amount:,.0f} B"


def format_flops(amount: float) -> str:
    """FLOPs as people read them."""
    unit, width = next(((unit, width) for unit, width in (("T", 1e12), ("G", 1e9)) if amount >= width), ("M", 1e6))
    return f"{amount / width:,.2f} {unit}"


def aligned_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text."""
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    rows = [titles, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)
