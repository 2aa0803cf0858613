"""The legend of shape letters and the types that rooms of the package share.

b batch           h w c height, width, channels       l text tokens       m tokens that the UNet attends to
d width           n heads        k size of a head     v width of the pooled vector        s size ids
"""

from collections.abc import Callable, Mapping
from typing import Any

from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

__all__ = ["Array", "Bool", "DTypeLike", "Denoise", "Float", "Int", "Key", "LossFn", "Params"]

Key = PRNGKeyArray
Params = Mapping[str, Any]

Denoise = Callable[[Float[Array, "b h w c"], Float[Array, " b"]], Float[Array, "b h w c"]]
"""(x_t, t in [0, 1] with 1 as noise) -> the estimate of x_0."""

LossFn = Callable[[Params, Params, Mapping[str, Array], Key], tuple[Float[Array, ""], dict[str, Array]]]
"""(params, frozen params, batch, key) -> (loss, metrics); frozen is an argument so that it can be sharded."""
