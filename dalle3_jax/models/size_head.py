"""Which size a text asks for, read from its features; trained on captions and the shapes of their pictures."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats, text_mask
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense, layer_norm
from dalle3_jax.typing import Array, Bool, DTypeLike, Float

__all__ = ["SizeHead"]


@accept_explicit_axes
class SizeHead(nn.Module):
    """Text features of `width` numbers -> a logit for each of `buckets`, sizes as (height, width).

    Features are normed, projected to `hidden` numbers, pooled by their maximum over the text's tokens, and read. Our
    choice; the hosted DALL-E 3 leaves the size to the user or to the language model before it.
    """

    buckets: tuple[tuple[int, int], ...]
    width: int
    hidden: int = 32
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b n"]:
        """Logits in float32; padding plays no part."""
        x = dense(self.hidden, dtype=self.dtype, name="hidden")(layer_norm(dtype=self.dtype, name="norm")(features))
        pooled = jnp.max(jnp.where(mask[..., None], nn.gelu(x), -jnp.inf), axis=1)
        return dense(len(self.buckets), dtype=self.dtype, name="logits")(pooled).astype(jnp.float32)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return floats(1, 8, self.width), text_mask()
