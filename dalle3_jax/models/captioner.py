"""The captioner: CoCa (arXiv 2205.01917), a contrastive pair of towers and a language model that reads the picture.

The layout is OpenCLIP's: the image tower is a vision transformer, pooled by learned queries; the text tower is causal
and ends with a class token; the decoder goes on from the text tower's tokens and attends to the picture.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.clip import Tower
from dalle3_jax.models.coca import ImageTower, TextDecoder, TextTower
from dalle3_jax.models.examples import floats, text_inputs
from dalle3_jax.nn.attention import KV
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import with_logical_axes
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int

__all__ = ["Captioner", "CaptionerCache", "CaptionerOutputs", "empty_cache"]


class CaptionerCache(NamedTuple):
    """Keys and values of all layers, on leading axes: of the text tower, and of the decoder's text and picture."""

    text: KV
    decoder: KV
    picture: KV | None


class CaptionerOutputs(NamedTuple):
    """Unit vectors of pictures and texts, the scale of their product, and the logits of the token after each."""

    images: Float[Array, "b v"]
    texts: Float[Array, "b v"]
    scale: Float[Array, ""]
    logits: Float[Array, "b l vocab"]


@accept_explicit_axes
class Captioner(nn.Module):
    """Pictures to captions, and how well a caption suits a picture.

    `text` and `decoder` have the same width; `positions` is the longest text, with the token that begins it and without
    the class token. `start_id` begins a text, for tokenizers that do not (T5's: its padding); None where they do.
    `patch_positions` and `token_positions` (`ImageTower` says of what) are 0 in the public networks; a small captioner
    that learns from nothing needs them to say where things are.
    CoCa-ViT-B/32 of OpenCLIP: vision (768, 12 layers, 12 heads, 3072), text and decoder (512, 12, 8, 2048), all "gelu",
    projection 512, 256 queries, patch 32, 49,408 tokens, 76 positions.
    """

    vision: Tower
    text: Tower
    decoder: Tower
    vocab_size: int
    positions: int
    image_size: tuple[int, int] = (224, 224)
    patch: int = 32
    projection: int = 512
    queries: int = 256
    pooling_heads: int = 8
    start_id: int | None = 0
    eos_id: int = 1
    patch_positions: float = 0.0
    token_positions: float = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    # setup, against the house's habit: several entry points share the weights, and `nn.compact` allows one.
    def setup(self) -> None:
        """Make the towers, the decoder, and the scale of the towers' product."""
        if self.text.width != self.decoder.width:
            raise ValueError(
                f"the text tower is {self.text.width} wide, the decoder {self.decoder.width}: make them one"
            )
        if self.queries and self.token_positions:
            raise ValueError(f"token_positions with {self.queries} queries, which stand nowhere: set one of them to 0")
        how = {"remat": self.remat, "dtype": self.dtype}
        read = self.projection, self.queries, self.pooling_heads, self.patch_positions, self.token_positions
        self.image_tower = ImageTower(self.vision, self.image_size, self.patch, *read, **how)
        self.text_tower = TextTower(self.text, self.vocab_size, self.positions, self.projection, **how)
        self.text_decoder = TextDecoder(self.decoder, self.vocab_size, **how)
        scale: Callable = with_logical_axes(nn.initializers.constant(math.log(1 / 0.07)), ())
        self.logit_scale = self.param("logit_scale", scale, ())

    def __call__(
        self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"], images: Float[Array, "b h w 3"]
    ) -> CaptionerOutputs:
        """Vectors, and the logits after each token of texts that begin with their start, for images in [-1, 1]."""
        seen = self.image_tower(images)
        tokens, vector, _ = self.text_tower(ids, mask)
        logits, _ = self.text_decoder(tokens, seen.tokens)
        return CaptionerOutputs(seen.vector, vector, jnp.exp(self.logit_scale), logits)

    def encode_image(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b v"]:
        """Unit vectors of images in [-1, 1]."""
        return self.image_tower(images).vector

    def encode_text(self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b v"]:
        """Unit vectors of texts that begin with their start."""
        return self.text_tower(ids, mask)[1]

    def step(
        self,
        ids: Int[Array, " b"],
        positions: Int[Array, " b"],
        cache: CaptionerCache,
        images: Float[Array, "b h w 3"] | None = None,
    ) -> tuple[Float[Array, "b vocab"], CaptionerCache]:
        """Logits of what follows the tokens `ids` at `positions`, and the cache with these in it.

        The first step, of the tokens that begin texts, is given the images, later ones find them in the cache.
        """
        picture = None if images is None else self.image_tower(images).tokens
        x, _, text = self.text_tower(ids[:, None], cache=cache.text, positions=positions)
        logits, (decoder, seen) = self.text_decoder(x, picture, (cache.decoder, cache.picture), positions)
        return logits[:, 0], CaptionerCache(text, decoder, seen)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return *text_inputs(self.positions), floats(1, *self.image_size, 3)


def empty_cache(module: Captioner, count: int) -> CaptionerCache:
    """The cache of `count` texts before the first step, which adds the picture's part."""

    def room(tower: Tower) -> KV:
        shape = tower.layers, count, module.positions, tower.heads, tower.width // tower.heads
        return KV(jnp.zeros(shape, module.dtype), jnp.zeros(shape, module.dtype))

    return CaptionerCache(room(module.text), room(module.decoder), None)
