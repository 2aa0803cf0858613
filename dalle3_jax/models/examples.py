"""Abstract arrays of which networks make their `example_inputs`: the smallest that they take within their system."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

__all__ = ["floats", "require_component", "text_inputs", "text_mask"]

LENGTH = 8
"""Tokens of an example's text."""


def floats(*shape: int) -> Any:
    """An abstract array of float32."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def text_mask(length: int = LENGTH) -> Any:
    """The abstract mask [1 l] of one text."""
    return jax.ShapeDtypeStruct((1, length), jnp.bool_)


def text_inputs(positions: int = LENGTH) -> tuple[Any, Any]:
    """Abstract ids and mask, [1 l] each, of one text of at most `positions` tokens."""
    length = min(LENGTH, positions)
    return jax.ShapeDtypeStruct((1, length), jnp.int32), text_mask(length)


def require_component(component: str, modules: Mapping[str, nn.Module], wanted_by: nn.Module) -> Any:
    """The system's network of this name; ValueError where `wanted_by` takes its input from it and it is missing."""
    if component not in modules:
        raise ValueError(f"a {type(wanted_by).__name__} takes its input from {component}, which the system lacks")
    return modules[component]
