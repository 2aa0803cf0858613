"""Decoders beside the VAE's: which of them fit a release's latents, and what they make of those."""

import dataclasses
from typing import Any, NamedTuple

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.request import Decoding
from dalle3_jax.pipeline.specs import DecoderSpec
from dalle3_jax.typing import Array, Float, Params

__all__ = ["FittedDecoder", "apply_decoder", "fitting_decoders"]


class FittedDecoder(NamedTuple):
    """A decoder that fits: its network, its parameters, and how it decodes."""

    module: DecoderUNet
    params: Params
    settings: DecoderSettings


def fitting_decoders(source: Release, release: Release) -> list[tuple[str, FittedDecoder]]:
    """The decoders in `source`, for the latents of `release`, with the names by which they are chosen.

    A decoder in pixels is called by its kind, "consistency" or "diffusion", one in the latents "refiner". ValueError
    names what differs where a decoder was made for other latents.
    """
    decoders = []
    for component, decoding in source.decoders.items():
        name = "refiner" if component == "refiner" else decoding.kind
        module = source.modules[component]
        if not isinstance(module, DecoderUNet) or release.latent is None:
            raise ValueError(f"the decoder {name} is a {type(module).__name__} of a release: it must be a DecoderUNet")
        if wrong := decoding.latent.mismatches(release.latent):
            raise ValueError(
                f"the decoder {name} was made for other latents than this release's: {'; '.join(wrong)}; take a "
                "decoder that was trained on this release's VAE"
            )
        DecoderSpec.from_decoding(module, decoding)
        decoders.append((name, FittedDecoder(module, source.params[component], decoding)))
    return decoders


def apply_decoder(
    decoder: FittedDecoder,
    latents: Float[Array, "b h w c"],
    seeds: Any,
    latent: Latent,
    decoding: Decoding,
) -> Array:
    """Images that a decoder makes of latents of the space `latent`, or of a refiner latents of that space.

    The noise comes from the seeds (b), whole numbers on the host or on devices.
    """
    settings = decoder.settings
    if decoding.temperature is not None:
        settings = dataclasses.replace(settings, temperature=decoding.temperature)
    spec = DecoderSpec.from_decoding(decoder.module, settings, decoding.steps or None)
    shown = spec.latent
    given = latents if shown == latent else shown.normalise(latent.denormalise(latents))
    made = programs.sample_decoder(decoder.params, given, seeds, decoder=spec, tile=decoding.tile // latent.factor)
    if decoder.module.factor > 1 or shown == latent:
        return made
    return latent.normalise(shown.denormalise(made))
