"""xfnet: text features -> the tokens that the UNet attends to and one pooled vector for its time embedding.

All that is published of DALL-E 3's is that T5's outputs are "cross-attended to by xfnet"; the inside here is our
choice.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.examples import floats, require_component, text_mask
from dalle3_jax.nn.attention import Attention
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense, kernel_init, layer_norm
from dalle3_jax.nn.transformer import GEGLU, TransformerBlock, scan_layers
from dalle3_jax.typing import Array, Bool, DTypeLike, Float

__all__ = ["AttentionPool", "XFNet"]


class ResamplerBlock(nn.Module):
    """Queries attend to the features and to each other, then GEGLU (Perceiver resampler, arXiv 2204.14198)."""

    heads: int
    head_size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, queries: Float[Array, "b m d"], features: Float[Array, "b l d"], mask: Bool[Array, "b l"]
    ) -> tuple[Float[Array, "b m d"], None]:
        """Refine the queries once."""
        h = layer_norm(dtype=self.dtype, name="norm_1")(queries)
        context = jnp.concatenate([layer_norm(dtype=self.dtype, name="norm_features")(features), h], axis=1)
        keep = jnp.concatenate([mask, jnp.ones(h.shape[:2], bool)], axis=1)
        queries = queries + Attention(self.heads, self.head_size, dtype=self.dtype, name="attention")(h, context, keep)
        h = layer_norm(dtype=self.dtype, name="norm_2")(queries)
        return queries + GEGLU(dtype=self.dtype, name="feed_forward")(h), None


class AttentionPool(nn.Module):
    """One learned query attends to the tokens: a vector that ignores masked ones."""

    features: int
    heads: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "b m d"], mask: Bool[Array, "b m"]) -> Float[Array, "b v"]:
        """Pool the tokens."""
        b, _, d = tokens.shape
        query = self.param("query", kernel_init((None, "out"), std=d**-0.5), (1, d))
        query = jnp.broadcast_to(query[None].astype(tokens.dtype), (b, 1, d))
        attention = Attention(self.heads, d // self.heads, self.features, dtype=self.dtype, name="attention")
        return attention(query, tokens, mask)[:, 0]


@accept_explicit_axes
class XFNet(nn.Module):
    """The text adapter.

    `linear` and `mlp` map each token by itself; `transformer` lets them see each other; `resampler` turns any caption
    length into `queries` tokens, so that long captions cost the UNet no more than short ones. With `glyphs` the
    features of quoted text (`dalle3_jax.models.glyph`) are projected to further tokens, which join T5's before that.
    """

    kind: Literal["linear", "mlp", "transformer", "resampler"]
    width: int
    vector_width: int
    layers: int = 1
    heads: int = 8
    queries: int = 64
    glyphs: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "b l d_text"],
        mask: Bool[Array, "b l"],
        glyphs: tuple[Float[Array, "b g d_glyph"], Bool[Array, "b g"]] | None = None,
        known: Float[Array, "b m d"] | None = None,
    ) -> Condition:
        """Adapt text features, and with the field `glyphs` those of the quoted text behind them.

        Masked tokens reach neither the tokens' attention nor the vector. What is `known` already of the picture's cells
        (see `LayoutMemory`) is added to a resampler's queries.
        """
        if self.width % self.heads:
            raise ValueError(f"xfnet width {self.width} is not a multiple of its {self.heads} heads")
        if self.glyphs != (glyphs is not None):
            raise ValueError(f"xfnet.glyphs is {self.glyphs}: give the features of quoted text if and only if it is on")
        x = dense(self.width, dtype=self.dtype, name="project_in")(features)
        if glyphs is not None:
            # The bias is learnt, and added to glyphs alone: it marks them as such.
            x_glyphs = dense(self.width, dtype=self.dtype, name="project_glyphs")(glyphs[0])
            x, mask = jnp.concatenate([x, x_glyphs], axis=1), jnp.concatenate([mask, glyphs[1]], axis=1)
        match self.kind:
            case "linear":
                pass
            case "mlp":
                x = dense(self.width, dtype=self.dtype, name="project_hidden")(nn.gelu(x))
            case "transformer":
                blocks = scan_layers(TransformerBlock, self.layers, remat=self.remat)
                x, _ = blocks(self.heads, self.width // self.heads, cross=False, dtype=self.dtype, name="layers")(
                    x, None, mask
                )
            case "resampler":
                x, mask = self._resample(x, mask, known)
            case _:
                raise ValueError(f"unknown xfnet kind {self.kind!r}: use linear, mlp, transformer or resampler")
        tokens = layer_norm(dtype=self.dtype, name="final_norm")(x)
        vector = AttentionPool(self.vector_width, self.heads, self.dtype, name="pool")(tokens, mask)
        return Condition(tokens, mask, vector)

    def _resample(self, x: Array, mask: Array, known: Array | None) -> tuple[Array, Array]:
        shape = (self.queries, self.width)
        queries = self.param("queries", kernel_init((None, "out"), std=self.width**-0.5), shape)
        queries = jnp.broadcast_to(queries[None].astype(x.dtype), (x.shape[0], *shape))
        queries = queries if known is None else queries + known.astype(x.dtype)
        blocks = scan_layers(ResamplerBlock, self.layers, remat=self.remat)
        queries, _ = blocks(self.heads, self.width // self.heads, dtype=self.dtype, name="layers")(queries, x, mask)
        return queries, jnp.ones(queries.shape[:2], bool)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        text = floats(1, 8, require_component("text_encoder", modules, self).width), text_mask()
        if not self.glyphs:
            return text
        return *text, (floats(1, 8, require_component("glyph_encoder", modules, self).width), text_mask())
