"""The image prompt: an image's features as tokens that a UNet attends to beside its text (IP-Adapter, 2308.06721).

Every cross-attention has keys and values of its own for them, and adds `scale` times what it finds there to what it
finds in the text: at 0 the UNet is as it was. `kind="linear"` makes the tokens of one vector (IP-Adapter), "resampler"
of a sequence, by learned queries (IP-Adapter Plus).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.condition import ProjectedCondition
from dalle3_jax.models.examples import floats, require_component
from dalle3_jax.models.unet import UNet
from dalle3_jax.nn.attention import KV, PromptedKV, attend
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense, kernel_init, layer_norm
from dalle3_jax.nn.transformer import scan_layers
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = [
    "ImageAttention",
    "ImagePrompt",
    "add_image_keys",
    "fit_image_prompt",
    "image_attentions",
    "image_prompt_errors",
]


@dataclass(frozen=True)
class ImageAttention:
    """The cross-attentions of one transformer of a UNet: its name (`place`), its layers, its heads and their size."""

    place: str
    layers: int
    heads: int
    head_size: int


class ImageKeys(nn.Module):
    """Keys and values of image tokens for one cross-attention; values, and with them what is added, begin at zero."""

    heads: int
    head_size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, carry: None, tokens: Float[Array, "b m d"]) -> tuple[None, KV]:
        """Project every token."""
        linear = functools.partial(
            dense, self.heads * self.head_size, use_bias=False, dtype=self.dtype, axes=("embed", "heads")
        )
        shape = *tokens.shape[:-1], self.heads, self.head_size
        return carry, KV(
            linear(name="key")(tokens).reshape(shape), linear(name="value", zero=True)(tokens).reshape(shape)
        )


class ResamplerBlock(nn.Module):
    """Queries attend to the features and to themselves, then a feed-forward without biases (Flamingo's, 2204.14198)."""

    heads: int
    head_size: int
    expansion: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, queries: Float[Array, "b m d"], features: Float[Array, "b l d"]
    ) -> tuple[Float[Array, "b m d"], None]:
        """Apply the block."""
        width, norm = queries.shape[-1], functools.partial(layer_norm, dtype=self.dtype)
        linear = functools.partial(dense, use_bias=False, dtype=self.dtype)
        inner = self.heads * self.head_size
        own = norm(name="norm_queries")(queries)
        both = jnp.concatenate([norm(name="norm_features")(features), own], axis=1)
        q = linear(inner, axes=("embed", "heads"), name="query")(own)
        k, v = jnp.split(linear(2 * inner, axes=("embed", "heads"), name="key_value")(both), 2, axis=-1)
        heads = (x.reshape(*x.shape[:2], self.heads, self.head_size) for x in (q, k, v))
        y = attend(*heads, scale=self.head_size**-0.5)
        y = linear(width, axes=("from_heads", "whole"), name="out")(y.reshape(*y.shape[:2], -1))
        queries = queries + y
        h = linear(self.expansion * width, axes=("embed", "mlp"), name="wide")(norm(name="norm")(queries))
        h = linear(width, axes=("from_mlp", "whole"), name="narrow")(nn.gelu(h, approximate=False))
        return queries + h, None


@accept_explicit_axes
class ImagePrompt(nn.Module):
    """Features of images -> the keys and values that each of a UNet's cross-attentions has of their tokens.

    `features` is the width of what it reads: one vector, of a resampler the tokens of an image. `width` is that of the
    UNet's context; `tokens` is their number. What is left at 0 or () follows from the system (`fit_image_prompt`).
    `layers`, `heads`, `head_size`, `inner` (its width) and `expansion` are the resampler's. IP-Adapter for Stable
    Diffusion 1.5: linear, 1024 to 4 tokens of 768; Plus: a resampler of 4 layers, 12 heads of 64, inner 768, from 1280
    to 16 tokens.
    """

    attentions: tuple[ImageAttention, ...] = ()
    features: int = 0
    width: int = 0
    tokens: int = 4
    kind: Literal["linear", "resampler"] = "linear"
    layers: int = 4
    heads: int = 12
    head_size: int = 64
    inner: int = 768
    expansion: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, features: Float[Array, "b *l d"]) -> Mapping[str, KV]:
        """Keys and values [layers b m n k] by the names of the UNet's transformers."""
        tokens = self._linear(features) if self.kind == "linear" else self._resample(features)
        keys = {}
        for at in self.attentions:
            project = scan_layers(ImageKeys, at.layers)(at.heads, at.head_size, self.dtype, name=at.place)
            keys[at.place] = project(None, tokens)[1]
        return keys

    def _linear(self, features: Array) -> Array:
        tokens = dense(self.tokens * self.width, dtype=self.dtype, name="project")(features.astype(self.dtype))
        return layer_norm(dtype=self.dtype, name="norm")(tokens.reshape(len(tokens), self.tokens, self.width))

    def _resample(self, features: Array) -> Array:
        queries = self.param("queries", kernel_init((None, "out"), std=self.inner**-0.5), (self.tokens, self.inner))
        x = dense(self.inner, dtype=self.dtype, name="project_in")(features.astype(self.dtype))
        blocks = scan_layers(ResamplerBlock, self.layers)
        resample = blocks(self.heads, self.head_size, self.expansion, self.dtype, name="layers")
        tokens, _ = resample(jnp.broadcast_to(queries.astype(self.dtype), (len(x), *queries.shape)), x)
        return layer_norm(dtype=self.dtype, name="norm")(
            dense(self.width, dtype=self.dtype, name="project_out")(tokens)
        )

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return (floats(1, self.features) if self.kind == "linear" else floats(1, 5, self.features),)


def image_attentions(unet: UNet) -> tuple[ImageAttention, ...]:
    """The cross-attentions of a UNet, of which an image prompt for it has keys and values."""
    return tuple(
        ImageAttention(name, transformer.depth, transformer.heads, transformer.head_size)
        for name, transformer in unet.transformers()
    )


def fit_image_prompt(module: ImagePrompt, modules: Mapping[str, nn.Module]) -> ImagePrompt:
    """The image prompt for the UNet of a system that reads the vectors of its captioner."""
    unet, captioner = require_component("unet", modules, module), require_component("captioner", modules, module)
    width = unet.context_width or require_component("xfnet", modules, module).width
    fitting = {"attentions": image_attentions(unet), "features": captioner.projection, "width": width}
    return module.clone(**{name: getattr(module, name) or value for name, value in fitting.items()})


def image_prompt_errors(module: ImagePrompt, unet: UNet) -> list[str]:
    """Errors that keep an image prompt from being a UNet's: it must know every cross-attention, and no other."""
    ours, theirs = set(image_attentions(unet)), set(module.attentions)
    errors = [f"it has none for {at.place} ({at.layers} layers of {at.heads} x {at.head_size})" for at in ours - theirs]
    return sorted(errors) or sorted(f"it has one for {at.place}, which the UNet lacks" for at in theirs - ours)


def add_image_keys(
    condition: ProjectedCondition, keys: Mapping[str, KV], scale: Float[Array, " b"]
) -> ProjectedCondition:
    """The condition with an image's keys and values beside those of the text; `scale` is how much they count."""
    joined = {}
    for name, own in condition.keys.items():
        text, image = own["cross_attention"], keys[name]
        assert isinstance(text, KV)
        scales = jnp.broadcast_to(scale, (len(image.keys), len(scale)))
        joined[name] = {**own, "cross_attention": PromptedKV(text, image, scales)}
    return condition._replace(keys=joined)
