"""Reading the text of a compiled program (optimised HLO): its operations, and what calls what how often."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

__all__ = ["HloProgram", "Instruction", "Visit", "parse_hlo", "shape_bytes"]

WIDTHS = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
ARRAY_PATTERN = re.compile(r"(pred|bf16|f\d+\w*|[su]\d+|c64|c128)\[([\d,]*)\](\{[^}]*\})?")
CALLED_PATTERN = re.compile(
    r"(?:calls|to_apply|body|condition|branch_computations|called_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
TRIP_COUNT_PATTERN = re.compile(r'known_trip_count"?:?\s*\{"?n"?:\s*"?(\d+)')


@dataclass(frozen=True)
class Instruction:
    """One operation: its result's type as text, its operands' names, and the text of its attributes."""

    name: str
    kind: str
    type: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def called_computations(self) -> tuple[str, ...]:
        """The computations that it runs, but for the condition of a loop."""
        names = (m[1] for m in CALLED_PATTERN.finditer(self.attributes) if not m[0].startswith("condition"))
        return tuple(name for group in names for name in re.findall(r"[\w.\-]+", group))


@dataclass(frozen=True)
class Visit:
    """An instruction as the program runs it: how often, what it sees by name, and within which fusion, if in one."""

    instruction: Instruction
    times: int
    operands_by_name: Mapping[str, Instruction]
    fusion: Instruction | None = None


@dataclass(frozen=True)
class HloProgram:
    """Computations by name, each its instructions by name, and the one that is run first."""

    computations: dict[str, dict[str, Instruction]] = field(default_factory=dict)
    entry: str = ""

    def visits(self, name: str = "", times: int = 1, fusion: Instruction | None = None) -> Iterator[Visit]:
        """Every instruction that runs, bodies of loops as often as they do."""
        known = self.computations[name or self.entry]
        for instruction in known.values():
            yield Visit(instruction, times, known, fusion)
            inside = fusion or (instruction if instruction.kind == "fusion" else None)
            if instruction.kind in ("fusion", "call", "conditional", "async-start", "while"):
                repeated = times * (self.trip_count(instruction) if instruction.kind == "while" else 1)
                for called in instruction.called_computations:
                    if called in self.computations:
                        yield from self.visits(called, repeated, inside)

    def trip_count(self, loop: Instruction) -> int:
        """The number of runs of a loop: as the compiler noted, else the bound in its condition; ValueError without."""
        if noted := TRIP_COUNT_PATTERN.search(loop.attributes):
            return int(noted[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
        body = self.computations.get(condition[1], {}) if condition else {}
        bounds = [re.match(r"\((\d+)\)", i.attributes) for i in body.values() if i.kind == "constant"]
        if len(counts := [int(bound[1]) for bound in bounds if bound]) == 1:
            return counts[0]
        raise ValueError(f"the program does not say how often its loop {loop.name} runs")


def parse_hlo(text: str) -> HloProgram:
    """The program of `compiled.as_text()`; ValueError where it has no entry."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if header := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{\s*$", line):
            current = computations.setdefault(header[2], {})
            entry = header[2] if header[1] else entry
        elif match := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", line):
            instruction = _parse_instruction(match[1], match[2])
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text of the program has no ENTRY computation")
    return HloProgram(computations, entry)


def shape_bytes(type_text: str, *, on_chip: bool = True) -> int:
    """Bytes of all arrays in a type; without `on_chip` but for those in a TPU's vector memory (S(1))."""
    arrays = ARRAY_PATTERN.findall(type_text)
    return sum(
        _element_count(dims) * _type_bytes(kind) for kind, dims, layout in arrays if on_chip or "S(1)" not in layout
    )


def array_shape(type_text: str) -> tuple[int, ...]:
    """The sides of a type's first array."""
    match = ARRAY_PATTERN.search(type_text)
    return tuple(int(n) for n in match[2].split(",") if n) if match else ()


def _parse_instruction(name: str, rest: str) -> Instruction:
    end = _closing_parenthesis(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, _, tail = rest[end:].strip().partition("(")
    close = _closing_parenthesis("(" + tail, 0)
    inside, attributes = tail[: close - 1], tail[close:]
    if kind == "constant":
        return Instruction(name, kind, rest[:end], (), f"({inside}){attributes}")
    return Instruction(name, kind, rest[:end], tuple(re.findall(r"%([\w.\-]+)", inside)), attributes)


def _closing_parenthesis(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")


def _element_count(dims: str) -> int:
    return math.prod(int(n) for n in dims.split(",") if n)


def _type_bytes(kind: str) -> int:
    return WIDTHS.get(kind) or max(int("".join(filter(str.isdigit, kind))[:2]) // 8, 1)
