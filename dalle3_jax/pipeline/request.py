"""The request behind an image: its settings, and what is wrong with them."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

__all__ = ["MAX_SIDE", "Request", "format_size", "make_request", "request_errors", "request_from_metadata", "shorten"]

MAX_STEPS, MAX_SIDE = 1000, 4096
HALO = 8
"""Latent pixels on each side of a decoded tile that only serve what lies further in."""
LATER_SETTINGS = ("decoder", "decoder_steps", "tile", "spacing", "original_prompt")
"""Settings that older pictures do not have."""


@dataclass(frozen=True)
class Request:
    """Everything that decides one picture, besides the release: the same request gives the same picture."""

    prompt: str
    size: tuple[int, int]  # height, width in pixels
    steps: int
    sampler: str
    guidance_scale: float
    seed: int = 0
    negative_prompt: str = ""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    decoder: str = "vae"
    decoder_steps: int = 0  # 0: as many as the decoder was made for
    tile: int = 0  # pixels along the windows in which it is decoded; 0: as a whole
    spacing: str = ""  # how the sampler's times are laid; "": as the release says
    original_prompt: str = field(default="", compare=False)  # what was asked for, where `prompt` is a revision of it

    def identity(self, checkpoint: str) -> str:
        """SHA-256 of the request and the release: two jobs with the same one are the same job."""
        decisive = {key: value for key, value in asdict(self).items() if key != "original_prompt"}
        content = json.dumps([decisive, checkpoint], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def make_request(prompt: str, settings: Mapping[str, Any]) -> Request:
    """The request with these settings; ValueError for names that are none."""
    known = [field.name for field in fields(Request) if field.name != "prompt"]
    if unknown := sorted(settings.keys() - set(known)):
        raise ValueError(f"unknown setting {', '.join(unknown)}: known are {', '.join(known)}")
    return Request(prompt, **{key: _normalise_setting(key, value) for key, value in settings.items()})


def _normalise_setting(key: str, value: Any) -> Any:
    """One form for each value, since a request is known by its values: tuples, and floats for all of guidance."""
    if isinstance(value, list | tuple):
        return tuple(_normalise_setting(key, item) for item in value)
    return float(value) if key.startswith("guidance") and type(value) is int else value


def request_errors(
    request: Request,
    samplers: Collection[str],
    factor: int,
    decoders: Collection[str] = ("vae",),
    spacings: Collection[str] = (),
) -> list[str]:
    """Everything that keeps a request from being made, each with its remedy; nothing is computed."""
    found = _decoder_errors(request, factor, decoders)
    if not all(isinstance(text, str) for text in (request.prompt, request.negative_prompt, request.original_prompt)):
        found.append("prompts and negative prompts must be text")
    size = request.size
    if not (
        isinstance(size, tuple) and len(size) == 2 and all(_is_int_between(side, factor, MAX_SIDE) for side in size)
    ):
        found.append(f"{format_size(size)} is no size: two whole numbers from {factor} to {MAX_SIDE} are needed")
    elif any(side % factor for side in size):
        near = tuple(max(round(side / factor), 1) * factor for side in size)
        found.append(f"size {format_size(size)} is not a multiple of {factor}: use {format_size(near)}")
    if request.sampler not in samplers:
        found.append(f"unknown sampler {request.sampler!r}: use one of {', '.join(samplers)}")
    if request.spacing not in ("", *spacings):
        found.append(f"unknown spacing {request.spacing!r}: use one of {', '.join(spacings)}")
    if not _is_int_between(request.steps, 1, MAX_STEPS):
        found.append(f"steps {request.steps!r} must be a whole number from 1 to {MAX_STEPS}")
    if not _is_int_between(request.seed, 0, 2**32 - 1):
        found.append(
            f"seed {request.seed!r} must be a whole number from 0 to {2**32 - 1}, and so must those that follow it"
        )
    if not _is_finite_number(request.guidance_scale):
        found.append(f"guidance scale {request.guidance_scale!r} must be a finite number")
    if not (_is_finite_number(request.guidance_rescale) and 0 <= request.guidance_rescale <= 1):
        found.append(f"guidance rescale {request.guidance_rescale!r} must be a number from 0 to 1")
    interval = request.guidance_interval
    if not (isinstance(interval, tuple) and len(interval) == 2 and all(map(_is_finite_number, interval))):
        found.append(f"guidance interval {interval!r} must be two numbers, the first and last time in [0, 1]")
    return found


def _decoder_errors(request: Request, factor: int, decoders: Collection[str]) -> list[str]:
    found, least = [], (2 * HALO + 2) * factor
    if request.decoder not in decoders:
        found.append(f"unknown decoder {request.decoder!r}: this release decodes with {', '.join(decoders)}")
    if not _is_int_between(request.decoder_steps, 0, MAX_STEPS):
        found.append(f"decoder steps {request.decoder_steps!r} must be a whole number up to {MAX_STEPS}, 0 for its own")
    elif request.decoder_steps and request.decoder == "vae":
        found.append(f"{request.decoder_steps} decoder steps, but the decoder vae takes none: name another decoder")
    if request.tile != 0 and not (_is_int_between(request.tile, least, MAX_SIDE) and request.tile % factor == 0):
        found.append(
            f"a tile of {request.tile!r} pixels: it must be a multiple of {factor} from {least} to {MAX_SIDE}, since "
            f"{HALO * factor} pixels on each side are its halo; 0 decodes the whole"
        )
    return found


def format_size(size: Any) -> str:
    """(height, width) as WIDTHxHEIGHT, the form of the command line."""
    return f"{size[1]}x{size[0]}" if isinstance(size, tuple) and len(size) == 2 else repr(size)


def _is_int_between(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def request_from_metadata(metadata: Mapping[str, Any]) -> Request:
    """The request behind a picture's settings; ValueError naming what is missing."""
    try:
        return Request(
            size=(metadata["height"], metadata["width"]),
            guidance_interval=tuple(metadata["guidance_interval"]),
            **{key: metadata[key] for key in ("prompt", "steps", "sampler", "guidance_scale", "seed")},
            **{key: metadata[key] for key in ("negative_prompt", "guidance_rescale")},
            # Of now, not of before:
            **{key: metadata[key] for key in LATER_SETTINGS if key in metadata},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the settings of this picture are incomplete: {error}") from None


def shorten(text: str, length: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else text[: length - 3] + "..."
