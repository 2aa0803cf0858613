"""A release joined by the decoders and the upscalers of others."""

from collections.abc import Sequence
from dataclasses import replace

from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline.pipeline import Pipeline
from dalle3_jax.pipeline.request import make_request, request_errors

__all__ = ["join_decoders", "join_upscaler"]


def join_decoders(release: Release, add: Sequence[str], decoder: str | None) -> Release:
    """The release with decoders and upscalers of others; ValueError for misfits, or where the default is unknown."""
    for path in add:
        part = open_release(path)
        if part.upscaler:
            release = join_upscaler(release, part, path)
            continue
        if not part.decoders:
            stages = "distill, distill_refiner and distill_upscaler"
            raise ValueError(f"{path} holds no decoder and no upscaler: give the stages {stages}, or their releases")
        names = part.decoders.keys()
        trained = release.training.get("decoders", {}) | dict.fromkeys(names, part.training)
        release = replace(
            release,
            modules=release.modules | {name: part.modules[name] for name in names},
            params=release.params | {name: part.params[name] for name in names},
            decoders=release.decoders | part.decoders,
            training=release.training | {"decoders": trained},
        )
    if decoder is not None:
        release = replace(release, sampling=release.sampling | {"decoder": decoder})
    if add or decoder is not None:
        check_defaults(Pipeline(release))
    return release


def check_defaults(pipeline: Pipeline) -> None:
    """ValueError for a default that the release cannot have; that it needs an image, or a mask, is none."""
    anything = replace(pipeline.capabilities, reads_text=True, needs_mask=False)
    if errors := request_errors(make_request("", pipeline.defaults), anything):
        raise ValueError("; ".join(errors))


def join_upscaler(release: Release, part: Release, path: str) -> Release:
    """The release with the upscaler of another; ValueError where that read captions by other networks than these."""
    own, others = release.params, {name: part.params[name] for name in text_components(part.modules)}
    differ = [name for name in others if name not in own or weights_digest(own[name]) != weights_digest(others[name])]
    latent = part.upscaler.latent if part.upscaler else None
    if latent and (release.latent is None or latent.mismatches(release.latent)):
        differ.append("vae")
    if differ:
        raise ValueError(f"the upscaler of {path} was trained with another {', '.join(differ)} than this release has")
    return replace(
        release,
        modules=release.modules | {"upscaler": part.modules["upscaler"]},
        params=own | {"upscaler": part.params["upscaler"]},
        upscaler=part.upscaler,
        training=release.training | {"upscaler": part.training},
    )
