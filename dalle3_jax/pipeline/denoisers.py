"""Denoise functions of a batch: the base model on the rows of a condition, guided, or with features kept over steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import guidance, prediction, samplers
from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.models.unet import apply_unet, apply_unet_with_features
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Denoise, Float, Params

__all__ = ["GuidanceRows", "caching_denoiser", "denoiser", "guide_denoise"]


class GuidanceRows(NamedTuple):
    """Classifier-free guidance, one value an image, so that none of them is part of the program."""

    scale: Float[Array, " b"]
    first: Float[Array, " b"]
    last: Float[Array, " b"]
    rescale: Float[Array, " b"]
    parallel: Float[Array, " b"] | None = None
    norm: Float[Array, " b"] | None = None

    @property
    def projection(self) -> tuple[Array, Array] | None:
        """The two of adaptive projected guidance, where it is that."""
        return None if self.parallel is None or self.norm is None else (self.parallel, self.norm)


def denoiser(
    params: Params,
    condition: Condition | ProjectedCondition,
    guide: GuidanceRows | None = None,
    *,
    system: PipelineSpec,
) -> Denoise:
    """The base model's Denoise on the rows of a condition, for whole images.

    `guide` is for a UNet that reads the guidance scale; without one it is 1.
    """

    def denoise(x_t: Array, t: Array) -> Array:
        scale = None if guide is None else guidance.scale_at(t, guide.scale, (guide.first, guide.last))

        def network(x_t: Array, t: Array) -> Array:
            return apply_unet(
                system.unet, params["unet"], x_t, t, condition, guidance=scale, factor=system.latent.factor
            )

        return prediction.denoiser(network, system.schedule, system.prediction)(x_t, t)

    return denoise


def guide_denoise(denoise: Denoise, guide: GuidanceRows | None, *, system: PipelineSpec) -> Denoise:
    """The Denoise of a batch, of one that takes the rows of `project_rows`; a UNet may see to guidance itself."""
    if guide is None or system.unet.guidance_width:
        return denoise
    interval = (guide.first, guide.last)
    return guidance.classifier_free(
        denoise, guide.scale, system.schedule, interval, guide.rescale, system.rescaled, guide.projection
    )


def caching_denoiser(
    params: Params,
    rows: ProjectedCondition,
    guide: GuidanceRows | None,
    x: Float[Array, "b h w c"],
    every: int,
    *,
    system: PipelineSpec,
) -> tuple[samplers.DenoiseWithMemory, Array]:
    """A guided Denoise whose UNet computes its deep features at every so manieth step only, and their empty memory."""
    unet, factor = system.unet, system.latent.factor

    def denoise(x_t: Array, t: Array, memory: Array, index: Array) -> tuple[Array, Array]:
        scale = None
        if guide is not None and unet.guidance_width:
            scale = guidance.scale_at(t, guide.scale, (guide.first, guide.last))
        kept = []

        def network(x_t: Array, t: Array) -> Array:
            def whole() -> tuple[Array, Array]:
                return apply_unet_with_features(unet, params["unet"], x_t, t, rows, scale, factor=factor)[:2]

            def shallow() -> tuple[Array, Array]:
                output = apply_unet(unet, params["unet"], x_t, t, rows, None, scale, memory, factor=factor)
                return output, memory

            output, deep = jax.lax.cond(index % every == 0, whole, shallow)
            kept.append(deep)
            return output

        whole_batch = prediction.denoiser(network, system.schedule, system.prediction)
        x0 = guide_denoise(whole_batch, guide, system=system)(x_t, t)
        return x0, kept[0]

    many = len(rows.mask)
    inputs = jnp.zeros((many, *x.shape[1:])), jnp.zeros(many)
    scales = jnp.ones(many) if unet.guidance_width else None
    shape = jax.eval_shape(
        lambda: apply_unet_with_features(unet, params["unet"], *inputs, rows, scales, factor=factor)[1]
    )
    return denoise, jnp.zeros(shape.shape, shape.dtype)
