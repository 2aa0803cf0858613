"""How the tests check types at run time: by beartype, and of functions inside others the first few instances only."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from beartype import beartype

INSTANCES = 8
_instances: Counter[tuple[str, str]] = Counter()


def check_types(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its arguments and its result checked, or as it is.

    Whoever calls a function that defines others defines them anew: writing checks for the same code again and again
    took a third of the time of tracing networks. jaxtyping asks for two wrappers an instance.
    """
    place = (function.__module__, function.__qualname__)
    if "<locals>" in place[1]:
        _instances[place] += 1
        if _instances[place] > 2 * INSTANCES:
            return function
    return beartype(function)
