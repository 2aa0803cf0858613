"""Decoders beside the VAE's: which of them fit a release's latents, and what they make of those."""

import dataclasses
from typing import Any, NamedTuple

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.pipeline import programs
from dalle3_jax.typing import Array, Float, Params

__all__ = ["FittedDecoder", "apply_decoder", "fitting_decoders"]


class FittedDecoder(NamedTuple):
    """A decoder that fits: its network, its parameters, and how it decodes."""

    module: DecoderUNet
    params: Params
    decoding: DecoderSettings


def fitting_decoders(source: Release, release: Release) -> list[tuple[str, FittedDecoder]]:
    """The decoders in `source`, for the latents of `release`, with the names by which they are chosen.

    A decoder in pixels is called by its kind, "consistency" or "diffusion", one in the latents "refiner". ValueError
    names what differs where a decoder was made for other latents.
    """
    found = []
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
        programs.DecoderSpec.from_decoding(module, decoding)
        found.append((name, FittedDecoder(module, source.params[component], decoding)))
    return found


def apply_decoder(
    decoder: FittedDecoder,
    latents: Float[Array, "b h w c"],
    seeds: Any,
    latent: Latent,
    *,
    steps: int | None = None,
    temperature: float | None = None,
    cells: int = 0,
) -> Array:
    """What a decoder makes of latents of the space `latent`: images, or of a refiner latents of that space.

    The noise comes from the seeds (b), whole numbers on the host or on devices. At its own number of steps and
    temperature, or at these; in windows of `cells`, or (0) the whole.
    """
    decoding = decoder.decoding
    if temperature is not None:
        decoding = dataclasses.replace(decoding, temperature=temperature)
    drawer = programs.DecoderSpec.from_decoding(decoder.module, decoding, steps)
    shown = drawer.latent
    given = latents if shown == latent else shown.normalise(latent.denormalise(latents))
    made = programs.sample_decoder(decoder.params, given, seeds, decoder=drawer, tile=cells)
    if decoder.module.factor > 1 or shown == latent:
        return made
    return latent.normalise(shown.denormalise(made))
