"""Names and shapes of public files of weights, and whether a table fits them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn
from flax.traverse_util import flatten_dict

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, export_moves, import_moves, matches

Shapes = dict[str, tuple[int, ...]]


def tensors(name: str) -> Shapes:
    """The public file whose list is keys/<name>.txt."""
    lines = (Path(__file__).parent / "keys" / f"{name}.txt").read_text().splitlines()
    pairs = (line.partition(" ") for line in lines)
    return {tensor: tuple(map(int, shape.split("x"))) if shape else () for tensor, _, shape in pairs}


def parameters(module: nn.Module) -> Shapes:
    """Dotted paths and shapes of a network's parameters; no arithmetic is done."""
    tree = flatten_dict(nn.unbox(abstract_params({"network": module})["network"]), sep=".")
    return {name: leaf.shape for name, leaf in tree.items()}


def fits(layout: NetworkLayout, config: Mapping[str, Any], found: Shapes) -> nn.Module:
    """The network of a config, after checking that the tensors fill it exactly and are what it is written as."""
    module = layout.module(config)
    ours, table = parameters(module), rules(layout, config)
    belonging = {name: shape for name, shape in found.items() if not matches(layout.ignored, name)}
    used = [move.source for move in import_moves(table, belonging, ours)]
    assert sorted(used) == sorted(belonging)
    written = {move.source: (move.target, move.layer) for move in export_moves(table, ours)}
    assert written == {move.source: (move.target, move.layer) for move in import_moves(table, belonging, ours)}
    return module


def rules(layout: NetworkLayout, config: Mapping[str, Any]) -> list[Rule]:
    """The table of a config's tensors."""
    return layout.rules(config, layout.module(config))
