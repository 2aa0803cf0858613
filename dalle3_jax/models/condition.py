"""What the UNet is conditioned on: tokens that it attends to, and one pooled vector."""

from typing import NamedTuple

import jax.numpy as jnp

from dalle3_jax.typing import Array, Bool, Float

__all__ = ["Condition"]


class Condition(NamedTuple):
    """What the UNet is told of the text."""

    tokens: Float[Array, "b m d"]
    mask: Bool[Array, "b m"]
    vector: Float[Array, "b v"]

    def concatenate(self, second: "Condition") -> "Condition":
        """One condition of two text encoders: each token's features of both, and the second's vector (SDXL)."""
        return second._replace(tokens=jnp.concatenate([self.tokens, second.tokens], axis=-1))
