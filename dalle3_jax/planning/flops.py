"""FLOPs of a traced program (a jaxpr), without compiling it: its products, bodies of scans as often as they run."""

import functools
import math
from typing import Any

import numpy as np

__all__ = ["count_tap_products", "jaxpr_flops"]


def jaxpr_flops(jaxpr: Any, shards: int = 1) -> float:
    """Two for each multiplication and addition of the program's products, over all devices.

    `shards` is how many devices run the same program on parts of arrays, as inside `shard_map`. A loop whose length is
    not known counts once, of a choice the dearest branch.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return float(sum(_equation_flops(equation, shards) for equation in jaxpr.eqns))


def _equation_flops(equation: Any, shards: int) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (left, _), _ = params["dimension_numbers"]
        inner = math.prod(equation.invars[0].aval.shape[axis] for axis in left)
        return shards * 2.0 * equation.outvars[0].aval.size * inner
    if name == "conv_general_dilated":
        return shards * _convolution_flops(equation)
    if name == "pallas_call":
        if stated := params["cost_estimate"]:
            return shards * float(stated.flops)
        return math.prod(params["grid_mapping"].grid) * jaxpr_flops(params["jaxpr"], shards)
    if name == "shard_map":
        shards *= math.prod(dict(params["mesh"].shape).values())
    if name == "cond":
        return max(jaxpr_flops(branch, shards) for branch in params["branches"])
    times = params["length"] if name == "scan" else 1
    return float(times) * sum(jaxpr_flops(inner, shards) for inner in _inner_jaxprs(params))


@functools.lru_cache(maxsize=4096)
def count_tap_products(inputs: int, taps: int, outputs: int, stride: int, low: int, dilation: tuple[int, int]) -> int:
    """The number of times that a tap of a kernel meets an input along one axis, and not padding or a hole between.

    `low` is the padding before the first input, `dilation` the input's and the kernel's. Compilers write products as
    convolutions over as much padding as they like.
    """
    spread, apart = dilation
    places = np.arange(outputs)[:, None] * stride + np.arange(taps)[None] * apart - low
    return int(((places >= 0) & (places <= (inputs - 1) * spread) & (places % spread == 0)).sum())


def _convolution_flops(equation: Any) -> float:
    (left, right), out = (invar.aval.shape for invar in equation.invars), equation.outvars[0].aval.shape
    params = equation.params
    layout = params["dimension_numbers"]
    dilations = zip(params["lhs_dilation"], params["rhs_dilation"], strict=True)
    axes = zip(layout.lhs_spec[2:], layout.rhs_spec[2:], layout.out_spec[2:], strict=True)
    ways = zip(axes, params["window_strides"], params["padding"], dilations, strict=True)
    met = [count_tap_products(left[a], right[b], out[c], step, low, holes) for (a, b, c), step, (low, _), holes in ways]
    batch, features = (out[axis] for axis in layout.out_spec[:2])
    return 2.0 * batch * features * right[layout.rhs_spec[1]] * math.prod(met)


def _inner_jaxprs(params: Any) -> list[Any]:
    """The programs among an equation's parameters; of a derivative rule's the function itself only."""
    values = [value for key, value in params.items() if key not in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd")]
    return [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]
