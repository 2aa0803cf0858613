"""A UNet's call in training and in sampling: with inputs that follow from others, and with its text's keys computed."""

from typing import Any

import jax.numpy as jnp

from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.models.unet import UNet
from dalle3_jax.nn.transformer import project_context
from dalle3_jax.typing import Array, Float, Params

__all__ = ["apply_unet", "apply_unet_with_features", "project_condition", "whole_image_sizes"]

REFINER_SIZE_IDS, AESTHETIC_SCORE, NEGATIVE_AESTHETIC_SCORE = 5, 6.0, 2.5
"""What diffusers tells SDXL's refiner of how good an image is to look, and how bad one that it is led away from."""


def apply_unet(
    module: UNet,
    params: Params,
    x_t: Float[Array, "b h w c"],
    t: Float[Array, " b"],
    condition: Condition | ProjectedCondition,
    sizes: Float[Array, "b s"] | None = None,
    guidance: Float[Array, " b"] | None = None,
    deep: Float[Array, "b h2 w2 c2"] | None = None,
    *,
    factor: int,
) -> Float[Array, "b h w c_out"]:
    """The UNet's output at the network times t, in training and in sampling.

    A UNet with `size_ids` is given `sizes`, or without any those of uncropped images of `factor` times the sides of
    x_t; others are given none. One with `guidance_width` is given the guidance scales, or without any 1, that of no
    guidance; others are not.
    """
    inputs = _unet_inputs(module, x_t, t, condition, sizes, guidance, factor)
    inputs |= {} if deep is None else {"deep": deep}
    output: Any = module.apply({"params": params}, **inputs)
    return output


def apply_unet_with_features(
    module: UNet,
    params: Params,
    x_t: Float[Array, "b h w c"],
    t: Float[Array, " b"],
    condition: Condition | ProjectedCondition,
    guidance: Float[Array, " b"] | None = None,
    *,
    factor: int,
) -> tuple[Float[Array, "b h w c_out"], Float[Array, "b h2 w2 c2"], dict[str, Float[Array, "layers b l d"]]]:
    """`apply_unet`'s output, the features that it takes as `deep`, and what the text adds in each transformer."""
    inputs = _unet_inputs(module, x_t, t, condition, None, guidance, factor)
    result: Any = module.apply({"params": params}, **inputs, mutable=["intermediates"])
    output, features = result[0], dict(result[1]["intermediates"])
    [deep] = features.pop("deep")
    return output, deep, {name: tree["layers"]["text"][0] for name, tree in features.items()}


def _unet_inputs(
    module: UNet,
    x_t: Array,
    t: Array,
    condition: Condition | ProjectedCondition,
    sizes: Array | None,
    guidance: Array | None,
    factor: int,
) -> dict[str, Any]:
    """The inputs of `UNet.__call__` by name, those that the module does not take left out."""
    rows, height, width, _ = x_t.shape
    inputs: dict[str, Any] = {"x": x_t, "t": t, "condition": condition}
    if module.size_ids:
        whole = whole_image_sizes(rows, factor * height, factor * width, module.size_ids)
        if isinstance(condition, ProjectedCondition) and condition.score is not None:
            whole = whole.at[:, -1].set(condition.score)
        inputs["sizes"] = whole if sizes is None else sizes
    if module.guidance_width:
        inputs["guidance"] = jnp.ones(rows) if guidance is None else guidance
    return inputs


def project_condition(module: UNet, params: Params, condition: Condition) -> ProjectedCondition:
    """The condition with its tokens' keys and values in every transformer, and on the grid of a UNet that has one.

    `apply_unet` else computes them each time. ValueError for tokens of another width than the UNet's.
    """
    module.check_condition(condition)
    keys = {
        name: project_context(transformer, params[name], condition.tokens)
        for name, transformer in module.transformers()
    }
    maps = dict(module.token_grids())
    grids: Any = tuple(grid.apply({"params": params[name]}, condition.tokens) for name, grid in maps.items())
    return ProjectedCondition(keys, condition.mask, condition.vector, grids=grids)


def whole_image_sizes(rows: int, height: int, width: int, count: int = 6) -> Float[Array, "b s"]:
    """Size ids of uncropped images of so many pixels: original size, crop of 0, target size (SDXL's conditioning).

    Of five, SDXL's refiner's, the last is AESTHETIC_SCORE in place of the target size.
    """
    end = (AESTHETIC_SCORE,) if count == REFINER_SIZE_IDS else (height, width)
    ids = jnp.asarray([height, width, 0, 0, *end], jnp.float32)
    return jnp.broadcast_to(ids, (rows, len(ids)))
