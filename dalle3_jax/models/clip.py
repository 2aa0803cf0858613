"""CLIP (arXiv 2103.00020): the text encoders of Stable Diffusion, and the two towers that score pictures by prompts.

The layout is transformers'; OpenCLIP's models (Stable Diffusion 2's, SDXL's second) have the exact GELU.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.examples import floats, text_inputs
from dalle3_jax.nn.attention import Attention
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.kv_cache import causal_bias
from dalle3_jax.nn.layers import conv, dense, embedding, kernel_init, layer_norm, with_logical_axes
from dalle3_jax.nn.transformer import scan_layers
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int

__all__ = [
    "CLIP",
    "CLIP_MEAN",
    "CLIP_STD",
    "CLIPBlock",
    "CLIPTextEncoder",
    "CLIPVisionEncoder",
    "ImageFeatures",
    "Tower",
    "activate",
    "end_positions",
    "unit_vectors",
]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that CLIP was trained on, in [0, 1], by channel."""

Activation = Literal["quick_gelu", "gelu"]


@dataclass(frozen=True)
class Tower:
    """The transformer of one tower. ViT-B/32: width 768, 12 layers, 12 heads, mlp_width 3072; its text 512 and 8."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation = "quick_gelu"
    eps: float = 1e-5


class ImageFeatures(NamedTuple):
    """Features of images: a vector of each, to compare with texts, and tokens to be read."""

    vector: Float[Array, "b v"]
    tokens: Float[Array, "b m d"]


class CLIPBlock(nn.Module):
    """Layer norm, self-attention, layer norm, feed-forward; every linear layer has a bias."""

    tower: Tower
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], bias: Float[Array, "1 n l l"] | None = None
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b l d"]]:
        """Apply the block; its output is there twice, for the next block and to be kept."""
        tower = self.tower
        if tower.width % tower.heads:
            raise ValueError(f"a CLIP tower's width {tower.width} is not a multiple of its {tower.heads} heads")
        size = tower.width // tower.heads
        attention = Attention(tower.heads, size, qkv_bias=True, dtype=self.dtype, name="attention")
        x = x + attention(layer_norm(dtype=self.dtype, eps=tower.eps, name="norm_1")(x), bias=bias)
        h = layer_norm(dtype=self.dtype, eps=tower.eps, name="norm_2")(x)
        h = activate(tower.activation, dense(tower.mlp_width, dtype=self.dtype, axes=("embed", "mlp"), name="wide")(h))
        x = x + dense(tower.width, dtype=self.dtype, axes=("from_mlp", "whole"), name="narrow")(h)
        x = nn.with_logical_constraint(x, ("batch", None, None))
        return x, x


def activate(activation: str, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x sigmoid(1.702 x), with which OpenAI's models were trained, or the exact GELU."""
    match activation:
        case "quick_gelu":
            return x * nn.sigmoid(1.702 * x)
        case "gelu":
            return nn.gelu(x, approximate=False)
    raise ValueError(f"unknown activation {activation!r}: use quick_gelu or gelu")


def end_positions(ids: Int[Array, "b l"], eos_id: int | None) -> Int[Array, " b"]:
    """The position of each text's end: its first `eos_id`, or (None, OpenAI's own rule) the first of its largest id."""
    return jnp.argmax(ids if eos_id is None else ids == eos_id, axis=-1)


@accept_explicit_axes
class CLIPTextEncoder(nn.Module):
    """Token ids -> a condition: one feature vector per token, and one of the whole text.

    `skip` leaves that many of the last layers out of the features, `normed` applies the final norm to them: 0 and True
    is Stable Diffusion 1 and 2, 1 and False SDXL. `projection` is the width to which the vector is projected (0: it is
    not). `eos_id`: see `end_positions`. `pad_id` takes the place of masked ids, for a model trained with other padding
    than the tokenizer's (None: the ids stay). OpenAI's L/14: vocab_size 49408, width 768, 12 layers, 12 heads,
    mlp_width 3072.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    positions: int = 77
    activation: Activation = "quick_gelu"
    projection: int = 0
    eos_id: int | None = None
    pad_id: int | None = None
    eps: float = 1e-5
    skip: int = 0
    normed: bool = True
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Condition:
        """Encode. Every token counts, padding too: Stable Diffusion's networks learnt to attend to it.

        Raises ValueError for a text longer than `positions` and for a `skip` of all layers.
        """
        b, length = ids.shape
        if length > self.positions:
            raise ValueError(f"a text of {length} tokens exceeds the {self.positions} positions of this CLIP encoder")
        if not 0 <= self.skip < self.layers:
            raise ValueError(f"skip={self.skip} leaves none of {self.layers} layers: use 0 to {self.layers - 1}")
        ids = ids if self.pad_id is None else jnp.where(mask, ids, self.pad_id)
        x = embedding(self.vocab_size, self.width, std=0.02, dtype=self.dtype, name="token_embedding")(ids)
        places = embedding(self.positions, self.width, std=0.01, dtype=self.dtype, name="position_embedding")
        tower = Tower(self.width, self.layers, self.heads, self.mlp_width, self.activation, self.eps)
        blocks = scan_layers(CLIPBlock, self.layers, remat=self.remat)(tower, self.dtype, name="layers")
        last, every = blocks(x + places(jnp.arange(length))[None], causal_bias(length, self.heads))
        norm = layer_norm(dtype=self.dtype, eps=self.eps, name="final_norm")
        features = every[self.layers - 1 - self.skip]
        vector = norm(last[jnp.arange(b), end_positions(ids, self.eos_id)])
        if self.projection:
            vector = dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")(vector)
        return Condition(norm(features) if self.normed else features, jnp.ones_like(mask), vector)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return text_inputs(self.positions)


@accept_explicit_axes
class CLIPVisionEncoder(nn.Module):
    """A vision transformer (arXiv 2010.11929), read at the class token: images -> `ImageFeatures`.

    `projection` is the width to which the vector is projected (0: it is not). The tokens, the class token first, are
    those before the last layer, without a norm: what IP-Adapter Plus reads.
    """

    tower: Tower
    image_size: int = 224
    patch: int = 32
    projection: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> ImageFeatures:
        """Encode images that are normalised by CLIP's mean and deviation, square and of `image_size` pixels."""
        side = self.image_size
        if images.shape[1:3] != (side, side):
            raise ValueError(f"images of {images.shape[1:3]} pixels: this CLIP takes {side} x {side}, resize them")
        tower, b = self.tower, images.shape[0]
        patches = conv(
            *(tower.width, self.patch),
            stride=self.patch,
            padding=((0, 0), (0, 0)),
            use_bias=False,
            dtype=self.dtype,
            name="patch_embedding",
        )
        x = patches(images).reshape(b, -1, tower.width)
        first = self.param("class_embedding", kernel_init(("out",), std=0.02), (tower.width,))
        x = jnp.concatenate([jnp.broadcast_to(first.astype(x.dtype), (b, 1, tower.width)), x], axis=1)
        places = embedding(x.shape[1], tower.width, std=0.02, dtype=self.dtype, name="position_embedding")
        norm = functools.partial(layer_norm, dtype=self.dtype, eps=tower.eps)
        x = norm(name="pre_norm")(x + places(jnp.arange(x.shape[1]))[None])
        last, every = scan_layers(CLIPBlock, tower.layers)(tower, self.dtype, name="layers")(x)
        vector = norm(name="final_norm")(last[:, 0])
        if self.projection:
            vector = dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")(vector)
        return ImageFeatures(vector, every[-2] if tower.layers > 1 else x)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return (floats(1, self.image_size, self.image_size, 3),)


@accept_explicit_axes
class CLIP(nn.Module):
    """Both towers, each projected to `projection` numbers: how well a text and an image go together."""

    text: Tower
    vision: Tower
    vocab_size: int = 49408
    projection: int = 512
    positions: int = 77
    image_size: int = 224
    patch: int = 32
    eos_id: int | None = None
    pad_id: int | None = None
    dtype: DTypeLike = jnp.float32

    # setup, against the house's habit: two entry points share the weights, and `nn.compact` allows one.
    def setup(self) -> None:
        """Make the two towers and the scale of their product."""
        text = self.text
        self.text_encoder = CLIPTextEncoder(
            *(self.vocab_size, text.width, text.layers, text.heads, text.mlp_width),
            positions=self.positions,
            activation=text.activation,
            projection=self.projection,
            eos_id=self.eos_id,
            pad_id=self.pad_id,
            eps=text.eps,
            dtype=self.dtype,
        )
        self.vision_encoder = CLIPVisionEncoder(self.vision, self.image_size, self.patch, dtype=self.dtype)
        self.vision_projection = dense(self.projection, use_bias=False, dtype=self.dtype, name="vision_projection")
        scale: Callable = with_logical_axes(nn.initializers.constant(math.log(1 / 0.07)), ())
        self.logit_scale = self.param("logit_scale", scale, ())

    def encode_text(self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b v"]:
        """Unit vectors of texts."""
        return unit_vectors(self.text_encoder(ids, mask).vector)

    def encode_image(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b v"]:
        """Unit vectors of images that are normalised by CLIP's mean and deviation."""
        return unit_vectors(self.vision_projection(self.vision_encoder(images).vector))

    def __call__(
        self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"], images: Float[Array, "b_images h w 3"]
    ) -> Float[Array, "b b_images"]:
        """exp(logit_scale) times the cosine of every text with every image."""
        return jnp.exp(self.logit_scale) * self.encode_text(ids, mask) @ self.encode_image(images).T

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return *text_inputs(self.positions), floats(1, self.image_size, self.image_size, 3)


def unit_vectors(vectors: Float[Array, "b v"]) -> Float[Array, "b v"]:
    """The vectors in float32, of length 1."""
    vectors = vectors.astype(jnp.float32)
    return vectors / jnp.linalg.norm(vectors, axis=-1, keepdims=True)
