"""Matrices in 8 bits: whole numbers of -127 to 127, times a scale for each output channel of each stacked layer.

A file holds such a matrix as I8 under its own name, and under the name with SUFFIX its scales as F32, of the matrix's
shape with 1 in place of every axis that a scale goes over: their product is the matrix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Float, Int8

from dalle3_jax.nn.fsdp import COMPUTE_AXES
from dalle3_jax.typing import Params

__all__ = ["INT8", "SCALE", "SUFFIX", "Quantized", "input_axes", "joined", "quantize"]

INT8, SCALE = np.dtype(np.int8), np.dtype(np.float32)
SUFFIX = "-scale"
"""What follows a matrix's name in that of its scales; names of parameters are Python's, without a hyphen."""
STEPS = 127
MANTISSA = 16
"""Bits of a scale: with the 7 of a number their product is exact in float32, so that storing it again changes nothing.

Scales of float16 would save 0.6 % of the files; those of small weights (below 0.008) would be subnormal there.
"""
SMALLEST, LARGEST = np.finfo(SCALE).tiny, np.finfo(SCALE).max / (STEPS + 1)
"""Bounds of a scale, between which all products are finite and none is flushed to zero."""


@dataclass(frozen=True)
class Quantized:
    """A matrix that is computed where it is indexed: an index gives a new array of float32, of that part alone."""

    steps: Int8[np.ndarray, "..."]
    scale: Float[np.ndarray, "..."]  # of as many axes, each as long as the matrix's or 1

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the matrix."""
        return self.steps.shape

    @property
    def dtype(self) -> np.dtype:
        """That of the values."""
        return SCALE

    def __getitem__(self, index: Any) -> Float[np.ndarray, "..."]:
        """The values at a numpy index."""
        return np.multiply(self.steps[index], np.broadcast_to(self.scale, self.shape)[index], dtype=SCALE, order="C")


def input_axes(params: Params) -> dict[str, tuple[int, ...]]:
    """The axes that a scale goes over, by dotted name, of those leaves of a boxed tree that are stored in 8 bits.

    These are the kernels of dense layers and convolutions. By their logical names a scale goes over the inputs and
    over space, not over outputs, heads or layers; tables, norms, biases and learned queries have none.
    """
    leaves = flatten_dict(params, sep=".")
    return {name: _inputs(leaf) for name, leaf in leaves.items() if name.rpartition(".")[2] == "kernel"}


def quantize(values: np.ndarray, axes: tuple[int, ...]) -> Quantized:
    """The nearest matrix in 8 bits, with one scale for all values along `axes`; no value moves by over half a scale.

    Raises ValueError where values are not finite, or so large that they would not be.
    """
    values = np.asarray(values, np.float32)
    largest = np.maximum(
        values.max(axes, keepdims=True, initial=0), -values.min(axes, keepdims=True, initial=0), dtype=np.float64
    )
    mantissa, exponent = np.frexp(largest / STEPS)
    scale = np.ldexp(np.ceil(np.ldexp(mantissa, MANTISSA)), exponent - MANTISSA)
    if not (scale <= LARGEST).all():  # NaN too
        raise ValueError("it is not finite as int8; store float32, or repair it")
    scale = np.maximum(scale, SMALLEST).astype(SCALE)
    return Quantized(np.rint(values / scale).astype(INT8), scale)


def joined(
    tensors: Mapping[str, np.ndarray], axes: Mapping[str, tuple[int, ...]], other: np.dtype
) -> dict[str, np.ndarray | Quantized]:
    """The tensors of a component in 8 bits by the names of its parameters, each matrix with its scales.

    `axes` are those of `input_axes`; what they do not name is of the type `other`. Raises ValueError that lists every
    tensor of another type than it should be, and every scale that is missing, left over, or no scale.
    """
    if errors := list(_type_errors(tensors, axes, other)):
        more = f"; and {len(errors) - 8} more" if len(errors) > 8 else ""
        raise ValueError("; ".join(errors[:8]) + more)
    return {
        name: Quantized(value, tensors[name + SUFFIX]) if name in axes else value
        for name, value in tensors.items()
        if not name.endswith(SUFFIX)
    }


def _inputs(leaf: Any) -> tuple[int, ...]:
    """Axes before the last that are inputs, or have no name: those of space."""
    names = getattr(leaf, "names", None) or (None,) * jnp.ndim(leaf)
    return tuple(axis for axis, name in enumerate(names[:-1]) if name is None or name in COMPUTE_AXES)


def _type_errors(
    tensors: Mapping[str, np.ndarray], axes: Mapping[str, tuple[int, ...]], other: np.dtype
) -> Iterator[str]:
    for name, value in tensors.items():
        if name.endswith(SUFFIX):
            if name.removesuffix(SUFFIX) not in tensors.keys() & axes.keys():
                yield f"{name} is there without a matrix that it could be the scale of"
            continue
        wanted = INT8 if name in axes else other
        if value.dtype != wanted:
            yield f"{name} is {value.dtype} and should be {wanted}"
        elif name in axes and (error := _no_scale(tensors.get(name + SUFFIX), value, axes[name])):
            yield f"{name}{SUFFIX} {error}"


def _no_scale(scale: np.ndarray | None, matrix: np.ndarray, axes: tuple[int, ...]) -> str:
    """Why this is not the scale of that matrix, or ""."""
    shape = tuple(1 if axis in axes else length for axis, length in enumerate(matrix.shape))
    if scale is None:
        return "is missing"
    if scale.dtype != SCALE:
        return f"is {scale.dtype} and should be {SCALE}"
    if scale.shape != shape:
        return f"is {scale.shape} and should be {shape}"
    if not ((scale >= SMALLEST) & (scale <= LARGEST)).all():  # NaN too
        return f"holds scales that are not finite and positive, of {SMALLEST:.3g} to {LARGEST:.3g}"
    return ""
