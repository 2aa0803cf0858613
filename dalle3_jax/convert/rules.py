"""One strict engine for tables of weights: which public tensor fills which parameter, or which slice of one.

A table is a list of rules. Every tensor must match exactly one rule, every parameter and every slice of a stacked one
must be filled exactly once, with the right shape; everything that does not fit is named in one error.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = [
    "AS_IS",
    "CONV",
    "LINEAR",
    "POINTWISE",
    "Move",
    "Rule",
    "Transform",
    "conv",
    "embedding",
    "export_moves",
    "import_moves",
    "linear",
    "matches",
    "norm",
    "pointwise",
]

Shape = tuple[int, ...]
SHOWN = 50
"""Misfits of each side that an error lists; of more it gives the number."""


class Transform(NamedTuple):
    """A change of axes, both ways, as views: nothing is copied."""

    name: str
    ours: Callable[[np.ndarray], np.ndarray]
    public: Callable[[np.ndarray], np.ndarray]


AS_IS = Transform("as it is", lambda x: x, lambda x: x)
LINEAR = Transform("(o, i) -> (i, o)", lambda x: x.transpose(1, 0), lambda x: x.transpose(1, 0))
POINTWISE = Transform(
    "(o, i, 1, 1) -> (i, o)",
    lambda x: x.squeeze((2, 3)).transpose(1, 0),  # a kernel of another size raises ValueError
    lambda x: x.transpose(1, 0)[:, :, None, None],
)
CONV = Transform("(o, i, h, w) -> (h, w, i, o)", lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))


class Rule(NamedTuple):
    """One line of a table.

    In both names `{layer}` (or another word in braces) stands for one whole number. A target that ends in `[{layer}]`
    is the slice of a parameter that `nn.scan` stacked. Of several rules with one target the first is the one by which
    parameters are written; the others are older names that are read.
    """

    source: str
    target: str
    transform: Transform = AS_IS


class Move(NamedTuple):
    """A public tensor and the parameter, or the slice of it, that holds the same numbers."""

    source: str
    target: str
    layer: int | None
    transform: Transform


def linear(source: str, target: str, bias: bool = True, kernel: Transform = LINEAR) -> list[Rule]:
    """The rules of a dense layer: `weight` and `bias` to `kernel` and `bias`."""
    rules = [Rule(f"{source}.weight", _with_leaf(target, "kernel"), kernel)]
    return rules + ([Rule(f"{source}.bias", _with_leaf(target, "bias"))] if bias else [])


def pointwise(source: str, target: str, bias: bool = True) -> list[Rule]:
    """Those of a 1x1 convolution that is a dense layer here."""
    return linear(source, target, bias, POINTWISE)


def conv(source: str, target: str, bias: bool = True) -> list[Rule]:
    """Those of a convolution."""
    return linear(source, target, bias, CONV)


def norm(source: str, target: str, bias: bool = True) -> list[Rule]:
    """Those of a normalisation: `weight` and `bias` to `scale` and `bias`."""
    rules = [Rule(f"{source}.weight", _with_leaf(target, "scale"))]
    return rules + ([Rule(f"{source}.bias", _with_leaf(target, "bias"))] if bias else [])


def embedding(source: str, target: str) -> list[Rule]:
    """That of a table of vectors."""
    return [Rule(f"{source}.weight", _with_leaf(target, "embedding"))]


def import_moves(rules: Sequence[Rule], tensors: Mapping[str, Shape], params: Mapping[str, Shape]) -> list[Move]:
    """The move of each tensor, in the order of `tensors`; ValueError listing all that does not fit on either side.

    `params` are dotted paths with their shapes.
    """
    moves, errors = [], []
    literal, patterns = _split_rules(rules)
    for name in tensors:
        candidates = literal.get(name, []) + _moves_by_pattern(name, patterns)
        if len(candidates) == 1:
            moves.append(candidates[0])
        else:
            what = f"matches {len(candidates)} rules" if candidates else "has no place here"
            errors.append(f"tensor {name} {tensors[name]} {what}")
    errors += [error for move in moves if (error := _move_error(move, tensors, params))]
    _raise_mismatches(errors, _fill_errors(moves, params))
    return moves


def export_moves(rules: Sequence[Rule], params: Mapping[str, Shape]) -> list[Move]:
    """The tensors to write for `params` (dotted paths with their shapes), by the first rule of each target.

    ValueError listing the parameters that no rule writes.
    """
    moves, seen = [], set()
    for rule in rules:
        path, bracket, _ = rule.target.partition("[")
        for name in _instances(path, params):
            count = params[name[0]][0] if bracket else 1
            for index in range(count):
                key = name[0], index if bracket else None
                if key not in seen:
                    seen.add(key)
                    values = name[1] | ({rule.target[len(path) + 2 : -2]: index} if bracket else {})
                    moves.append(Move(rule.source.format(**values), *key, rule.transform))
    _raise_mismatches([], _fill_errors(moves, params))
    return moves


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name fits one of the patterns: with `{layer}` for a whole number and, at the end, `*` for anything."""
    return any(_regex(pattern).fullmatch(name) for pattern in patterns)


def _with_leaf(target: str, leaf: str) -> str:
    path, bracket, rest = target.partition("[")
    return f"{path}.{leaf}{bracket}{rest}"


def _regex(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template.removesuffix("*"))
    text = "".join(f"(?P<{part}>0|[1-9][0-9]{{0,5}})" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    return re.compile(text + (".*" if template.endswith("*") else ""))


def _split_rules(rules: Sequence[Rule]) -> tuple[dict[str, list[Move]], list[tuple[re.Pattern[str], Rule]]]:
    """Rules without placeholders by their tensor's name, and the others with their patterns."""
    literal: dict[str, list[Move]] = {}
    for rule in rules:
        if "{" not in rule.source:
            literal.setdefault(rule.source, []).append(_move(rule.source, rule, {}))
    return literal, [(_regex(rule.source), rule) for rule in rules if "{" in rule.source]


def _moves_by_pattern(name: str, patterns: Sequence[tuple[re.Pattern[str], Rule]]) -> list[Move]:
    fits = ((rule, regex.fullmatch(name)) for regex, rule in patterns)
    return [_move(name, rule, fit.groupdict()) for rule, fit in fits if fit]


def _move(source: str, rule: Rule, values: Mapping[str, str]) -> Move:
    path, bracket, index = rule.target.format(**values).partition("[")
    return Move(source, path, int(index[:-1]) if bracket else None, rule.transform)


def _instances(path: str, params: Collection[str]) -> list[tuple[str, dict[str, str]]]:
    """The parameters that a target without its bracket names, with the numbers in place of its braces."""
    if "{" not in path:
        return [(path, {})] if path in params else []
    return [(name, fit.groupdict()) for name in params if (fit := _regex(path).fullmatch(name))]


def _move_error(move: Move, tensors: Mapping[str, Shape], params: Mapping[str, Shape]) -> str:
    """Why a tensor cannot fill what its rule names; empty when it can."""
    wanted, shape = params.get(move.target), tensors[move.source]
    if wanted is None:
        return f"tensor {move.source} {shape} goes to {move.target}, which this network does not have"
    if move.layer is not None:
        if move.layer >= wanted[0]:
            return f"tensor {move.source} {shape} is number {move.layer} of {wanted[0]} layers, counted from 0"
        wanted = wanted[1:]
    try:
        filled = move.transform.ours(np.broadcast_to(np.uint8(0), shape)).shape
    except ValueError:
        return f"tensor {move.source} {shape} has not the axes of {move.transform.name}"
    return "" if filled == wanted else f"tensor {move.source} {shape} gives {filled}, {move.target} takes {wanted}"


def _fill_errors(moves: Sequence[Move], params: Mapping[str, Shape]) -> list[str]:
    """The parameters, or slices, that are filled never or more than once."""
    counts = Counter((move.target, move.layer) for move in moves)
    stacked = {move.target for move in moves if move.layer is not None}
    errors = []
    for name, shape in params.items():
        if name in stacked:
            errors += _missing_layer_errors(name, shape[0], counts)
        elif (name, None) not in counts:
            errors.append(f"parameter {name} {shape} is not filled")
    for (name, index), count in counts.items():
        if name in params and (count > 1 or (index is None and name in stacked)):
            errors.append(f"parameter {name}{'' if index is None else f' layer {index}'} is filled twice")
    return errors


def _missing_layer_errors(name: str, layers: int, filled: Collection[tuple[str, int | None]]) -> list[str]:
    """The first layers that are not there: of a network that says it has millions, not all."""
    absent = (str(index) for index in range(layers) if (name, index) not in filled)
    missing = list(itertools.islice(absent, SHOWN + 1))
    more = ", ..." if len(missing) > SHOWN else ""
    return [f"parameter {name} lacks layers {', '.join(missing[:SHOWN])}{more}"] if missing else []


def _raise_mismatches(*sides: Sequence[str]) -> None:
    lines = [line for side in sides for line in _shorten_lines(side)]
    if lines:
        raise ValueError("weights do not fit the network:\n  " + "\n  ".join(lines))


def _shorten_lines(lines: Sequence[str]) -> list[str]:
    more = [f"... and {len(lines) - SHOWN} more like these"] if len(lines) > SHOWN else []
    return [*lines[:SHOWN], *more]
