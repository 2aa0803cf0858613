"""Denoise functions of a batch: the base model on the rows of a condition, guided, or with features kept over steps."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import guidance, prediction, samplers
from dalle3_jax.diffusion.inpainting import inpaint
from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.models.unet_call import apply_unet, apply_unet_with_features
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Denoise, Float, Int, Params

__all__ = [
    "GuidanceRows",
    "KnownRows",
    "caching_denoiser",
    "channels_beside",
    "denoiser",
    "guide_denoise",
    "join_channels",
]


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


class KnownRows(NamedTuple):
    """Parts of images known before they are sampled: latents that stay where the mask is 0, and the noise they get.

    An inpainting UNet, which is shown the mask, has the latents of the image without the part in the mask `beside` it.
    """

    latents: Float[Array, "b h w c"]
    mask: Float[Array, "b h w 1"]
    noise: Float[Array, "b h w c"]
    beside: Float[Array, "b h w c"] | None = None


def channels_beside(known: KnownRows | None) -> Float[Array, "b h w k"] | None:
    """The further channels of an inpainting UNet's input: the mask, and the latents of what is around it."""
    if known is None or known.beside is None:
        return None
    return jnp.concatenate([known.mask, known.beside], axis=-1)


def join_channels(x_t: Float[Array, "r h w c"], beside: Float[Array, "b h w k"] | None) -> Float[Array, "r h w c2"]:
    """The input with its further channels, repeated where conditional and null rows are evaluated together."""
    if beside is None:
        return x_t
    return jnp.concatenate([x_t, jnp.tile(beside, (len(x_t) // len(beside), 1, 1, 1))], axis=-1)


def denoiser(
    params: Params,
    condition: Condition | ProjectedCondition,
    guide: GuidanceRows | None = None,
    *,
    system: PipelineSpec,
    beside: Float[Array, "b h w k"] | None = None,
) -> Denoise:
    """The base model's Denoise on the rows of a condition, for whole images.

    `guide` is for a UNet that reads the guidance scale; without one it is 1. `beside` are further channels of input.
    """

    def denoise(x_t: Array, t: Array) -> Array:
        scale = None if guide is None else guidance.scale_at(t, guide.scale, (guide.first, guide.last))

        def network(x_t: Array, t: Array) -> Array:
            x_t = join_channels(x_t, beside)
            return apply_unet(
                system.unet, params["unet"], x_t, t, condition, guidance=scale, factor=system.latent.factor
            )

        return prediction.denoiser(network, system.schedule, system.prediction)(x_t, t)

    return denoise


def guide_denoise(
    denoise: Denoise, guide: GuidanceRows | None, known: KnownRows | None, *, system: PipelineSpec
) -> Denoise:
    """The Denoise of a batch, of one that takes the rows of `programs.project_rows`, that keeps what is known.

    A UNet may see to guidance itself, and to what is known.
    """
    if guide is not None and not system.unet.guidance_width:
        interval = (guide.first, guide.last)
        denoise = guidance.classifier_free(
            denoise, guide.scale, system.schedule, interval, guide.rescale, system.rescaled, guide.projection
        )
    if known is not None and known.beside is None:
        denoise = inpaint(denoise, system.schedule, known.latents, known.mask, known.noise)
    return denoise


def caching_denoiser(
    params: Params,
    rows: ProjectedCondition,
    guide: GuidanceRows | None,
    known: KnownRows | None,
    x: Float[Array, "b h w c"],
    every: int,
    begin: int | Int[Array, ""],
    *,
    system: PipelineSpec,
) -> tuple[samplers.DenoiseWithMemory, Array]:
    """A guided Denoise and its empty memory: of `every` steps from `begin` on, the first computes deep features."""
    unet, factor, beside = system.unet, system.latent.factor, channels_beside(known)

    def denoise(x_t: Array, t: Array, memory: Array, index: Array) -> tuple[Array, Array]:
        scale = None
        if guide is not None and unet.guidance_width:
            scale = guidance.scale_at(t, guide.scale, (guide.first, guide.last))
        kept = []

        def network(x_t: Array, t: Array) -> Array:
            x_t = join_channels(x_t, beside)

            def whole() -> tuple[Array, Array]:
                return apply_unet_with_features(unet, params["unet"], x_t, t, rows, scale, factor=factor)[:2]

            def shallow() -> tuple[Array, Array]:
                output = apply_unet(unet, params["unet"], x_t, t, rows, None, scale, memory, factor=factor)
                return output, memory

            output, deep = jax.lax.cond((index - begin) % every == 0, whole, shallow)
            kept.append(deep)
            return output

        whole_batch = prediction.denoiser(network, system.schedule, system.prediction)
        x0 = guide_denoise(whole_batch, guide, known, system=system)(x_t, t)
        return x0, kept[0]

    many = len(rows.mask)
    inputs = join_channels(jnp.zeros((many, *x.shape[1:])), beside), jnp.zeros(many)
    scales = jnp.ones(many) if unet.guidance_width else None
    shape = jax.eval_shape(
        lambda: apply_unet_with_features(unet, params["unet"], *inputs, rows, scales, factor=factor)[1]
    )
    return denoise, jnp.zeros(shape.shape, shape.dtype)
