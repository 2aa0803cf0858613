"""FLOPs of a traced program (a jaxpr), without compiling it: its products, bodies of scans as often as they run."""

import math
from typing import Any

__all__ = ["flops"]


def flops(jaxpr: Any, shards: int = 1) -> float:
    """Two for each multiplication and addition of the program's products, over all devices.

    `shards` is how many devices run the same program on parts of arrays, as inside `shard_map`. A loop whose length is
    not known counts once, of a choice the dearest branch.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return float(sum(_equation(equation, shards) for equation in jaxpr.eqns))


def _equation(equation: Any, shards: int) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (left, _), _ = params["dimension_numbers"]
        inner = math.prod(equation.invars[0].aval.shape[axis] for axis in left)
        return shards * 2.0 * equation.outvars[0].aval.size * inner
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        outputs = kernel[params["dimension_numbers"].rhs_spec[0]]
        zeros = math.prod(params["lhs_dilation"])
        return shards * 2.0 * equation.outvars[0].aval.size * math.prod(kernel) / outputs / zeros
    if name == "shard_map":
        shards *= math.prod(dict(params["mesh"].shape).values())
    if name == "cond":
        return max(flops(branch, shards) for branch in params["branches"])
    times = params["length"] if name == "scan" else 1
    return float(times) * sum(flops(inner, shards) for inner in _inner(params))


def _inner(params: Any) -> list[Any]:
    """The programs among an equation's parameters; of a derivative rule's the function itself only."""
    values = [value for key, value in params.items() if key not in ("jvp_jaxpr_fun", "fwd_jaxpr_thunk", "bwd")]
    return [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]
