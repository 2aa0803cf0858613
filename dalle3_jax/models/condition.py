"""The UNet's condition: tokens that it attends to, and one pooled vector; and how text becomes that."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import export

from dalle3_jax.nn.attention import KV, PromptedKV
from dalle3_jax.nn.transformer import ContextKeys
from dalle3_jax.typing import Array, Bool, Float, Params

__all__ = ["TEXT_COMPONENTS", "Condition", "ProjectedCondition", "encode_text", "encode_words", "serialize_records"]

TEXT_COMPONENTS = (
    *("text_encoder", "text_encoder_2", "glyph_encoder", "xfnet"),
    *("layout_head", "layout_encoder", "layout_memory"),
)
"""The components that turn text into a condition, of which a system has some."""


class Condition(NamedTuple):
    """The text's features that the UNet is conditioned on."""

    tokens: Float[Array, "b m d"]
    mask: Bool[Array, "b m"]
    vector: Float[Array, "b v"]

    def concatenate(self, second: "Condition") -> "Condition":
        """One condition of two text encoders: each token's features of both, and the second's vector (SDXL)."""
        return second._replace(tokens=jnp.concatenate([self.tokens, second.tokens], axis=-1))


class ProjectedCondition(NamedTuple):
    """The same with the keys and values that each transformer of a UNet, by its name, has of the tokens.

    They are of the text alone: a sampling loop computes them once (see `unet_call.project_condition`). The `score` is
    the last size id of SDXL's refiner, in place of that of good images; `grids` are the tokens on the grid of a UNet
    that has one, as each of its levels adds them.
    """

    keys: Mapping[str, ContextKeys]
    mask: Bool[Array, "b m"]
    vector: Float[Array, "b v"]
    score: Float[Array, " b"] | None = None
    grids: tuple[Float[Array, "b rows columns f"], ...] = ()


def serialize_records(*records: type) -> None:
    """Give records (NamedTuples) names under which programs that take or return them are kept in files."""
    for record in records:
        export.register_namedtuple_serialization(record, serialized_name=f"dalle3_jax.{record.__name__}")


serialize_records(Condition, KV, ProjectedCondition, PromptedKV)


def encode_text(modules: Mapping[str, nn.Module], params: Params, batch: Mapping[str, Array]) -> Condition:
    """The condition of a batch of tokenized text, in training and in sampling.

    A batch holds `ids` [b l] or the text encoder's `features` [b l d], and their `mask` [b l]; for a system with a
    `glyph_encoder` also `glyph_ids` and `glyph_mask` [b g], the bytes of quoted text. A `layout_encoder` is given what
    the `layout_head` reads from xfnet's output, and that beside it. Without an `xfnet` the text
    encoder (CLIP's) gives the condition itself, beside that of a `text_encoder_2` where there is one.
    """

    def apply(name: str, *inputs: Any) -> Any:
        return modules[name].apply({"params": params[name]}, *inputs)

    if "xfnet" not in modules:
        features: Any = batch["features"] if "features" in batch else apply("text_encoder", batch["ids"], batch["mask"])
        if "text_encoder_2" not in modules:
            return features
        return features.concatenate(apply("text_encoder_2", batch["ids"], batch["mask"]))
    condition = apply("xfnet", *encode_words(modules, params, batch))
    if "layout_encoder" not in modules:
        return condition
    return apply("layout_encoder", apply("layout_head", condition.tokens, condition.vector), condition)


def encode_words(modules: Mapping[str, nn.Module], params: Params, batch: Mapping[str, Array]) -> tuple[Any, ...]:
    """The inputs of xfnet of a batch of tokenized text: features and mask, and those of its quoted text."""

    def apply(name: str, ids: Array, mask: Array) -> Any:
        return modules[name].apply({"params": params[name]}, ids, mask)

    mask = batch["mask"]
    features = batch["features"] if "features" in batch else apply("text_encoder", batch["ids"], mask)
    if "glyph_encoder" not in modules or "glyph_ids" not in batch:
        return features, mask
    letters = batch["glyph_mask"]
    return features, mask, (apply("glyph_encoder", batch["glyph_ids"], letters), letters)
