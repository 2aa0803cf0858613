"""Values of settings: how each kind is written, what is checked of one value, and what a pipeline can do."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dalle3_jax.pipeline.input_images import InputImage, open_input_image, open_input_mask

__all__ = [
    "HALO",
    "IMAGE",
    "INTEGER",
    "INTERVAL",
    "MASK",
    "MAX_SIDE",
    "MAX_STEPS",
    "NAME",
    "NUMBER",
    "SIZE",
    "TEXT",
    "Capabilities",
    "Check",
    "ValueType",
    "check_integer",
    "check_interval",
    "check_nothing",
    "check_number",
    "check_size",
    "check_text",
    "check_tile",
    "format_size",
    "parse_size",
]

MAX_STEPS, MAX_SIDE = 1000, 4096
HALO = 8
"""Latent pixels on each side of a decoded tile that only serve what lies further in."""


@dataclass(frozen=True)
class ValueType:
    """A kind of value, as the command line and JSON write it.

    `description` follows "must be" in messages, `accepts` tells whether JSON's value is of this kind, `flag` are the
    keywords of argparse, and `read` makes the value of Python out of that of JSON, the command line or a caller: one
    form for each value, since a request is known by its values. What is of another kind it leaves as it is. `store`
    and `restore` turn the value of Python into that of a picture's metadata, and back.
    """

    annotation: Any
    description: str
    accepts: Callable[[Any], bool]
    flag: Mapping[str, Any]
    read: Callable[[Any], Any] = lambda value: value
    store: Callable[[Any], Any] = lambda value: list(value) if isinstance(value, tuple) else value
    restore: Callable[[Any], Any] = lambda value: tuple(value) if isinstance(value, list) else value


@dataclass(frozen=True)
class Capabilities:
    """All that a pipeline can do: a request is checked against this, and nothing else.

    Names of samplers, spacings and decoders; pixels of an image along a latent one; the sizes (height, width) that the
    model was trained for (others work); the only `texts` that can still be encoded (None: any); and what keeps a
    sampler's times from being laid out as a `Sampling` says, as error messages. By how much its upscaler enlarges, and
    what keeps it from doing so as an `Upscaling` says. The times at which the steps of a `Sampling` that can be laid
    begin (none: not known), and whether the network takes the guidance scale itself, without a null pass. Whether its
    UNet is shown a mask, and paints into masks alone. Whether it can be prompted with images, and whether by texts.
    """

    samplers: tuple[str, ...]
    spacings: tuple[str, ...] = ()
    decoders: tuple[str, ...] = ("vae",)
    factor: int = 8
    sizes: tuple[tuple[int, int], ...] = ()
    texts: frozenset[str] | None = None
    timing_errors: Callable[[Any], list[str]] = field(default=lambda sampling: [], compare=False)
    upscale_factors: tuple[int, ...] = ()
    upscaling_errors: Callable[[Any], list[str]] = field(default=lambda upscaling: [], compare=False)
    step_times: Callable[[Any], tuple[float, ...]] = field(default=lambda sampling: (), compare=False)
    takes_guidance_scale: bool = False
    needs_mask: bool = False
    takes_image_prompts: bool = False
    reads_text: bool = True


Check = Callable[[Any, Capabilities], str]
"""(value, what the pipeline can do) -> the rest of the message after the setting's name and value; "": all is well."""


def format_size(size: Any) -> str:
    """(height, width) as WIDTHxHEIGHT, the form of the command line."""
    return f"{size[1]}x{size[0]}" if isinstance(size, tuple) and len(size) == 2 else repr(size)


def parse_size(text: str) -> tuple[int, int]:
    """(height, width) from WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no size: write WIDTHxHEIGHT, for example 128x128")
    return int(match[2]), int(match[1])


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


def _read_number(value: Any) -> Any:
    return float(value) if type(value) is int else value


def _read_interval(value: Any) -> Any:
    return tuple(map(_read_number, value)) if isinstance(value, list | tuple) else value


def _read_size(value: Any) -> Any:
    if isinstance(value, str):
        return parse_size(value)
    return tuple(value) if isinstance(value, list) else value


def _read_image(value: Any) -> Any:
    return value if value is None else open_input_image(value)


def _read_mask(value: Any) -> Any:
    return value if value is None else open_input_mask(value)


def _store_image(image: Any) -> Any:
    return image.sha256 if isinstance(image, InputImage) else image


def _restore_image(sha256: Any) -> Any:
    if sha256 is None or (isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
        return sha256 and InputImage(sha256)
    raise ValueError(f"the settings of this picture are damaged: {sha256!r} is no SHA-256 of an image")


TEXT = ValueType(str, "a text", _is_text, {"metavar": "TEXT"})
NAME = ValueType(str, "a name", _is_text, {"metavar": "NAME"})
INTEGER = ValueType(int, "a whole number", _is_integer, {"metavar": "N", "type": int})
NUMBER = ValueType(float, "a number", _is_number, {"metavar": "X", "type": float}, _read_number)
INTERVAL = ValueType(
    tuple[float, float],
    "a list of two numbers",
    _is_pair,
    {"metavar": "T", "type": float, "nargs": 2},
    _read_interval,
)
IMAGE = ValueType(Any, "the path of an image", _is_text, {"metavar": "FILE"}, _read_image, _store_image, _restore_image)
MASK = ValueType(Any, "the path of an image", _is_text, {"metavar": "FILE"}, _read_mask, _store_image, _restore_image)
SIZE = ValueType(tuple[int, int], 'a text like "128x128"', _is_text, {"metavar": "WIDTHxHEIGHT"}, _read_size)


def check_nothing(value: Any, capabilities: Capabilities) -> str:
    """Anything will do."""
    return ""


def check_text(value: Any, capabilities: Capabilities) -> str:
    """Any text will do."""
    return "" if _is_text(value) else "must be text"


def check_integer(least: int, most: int, remark: str = "", optional: bool = False) -> Check:
    """A check for whole numbers in a range; None passes where it is `optional`."""

    def check(value: Any, capabilities: Capabilities) -> str:
        if (_is_integer(value) and least <= value <= most) or (optional and value is None):
            return ""
        return f"must be a whole number from {least} to {most}{remark}"

    return check


def check_number(least: float = -math.inf, most: float = math.inf, optional: bool = False) -> Check:
    """A check for finite numbers, in a range where there is one; None passes where it is `optional`."""
    wanted = "a finite number" if math.isinf(least) else f"a finite number of at least {least:g}"
    wanted = wanted if math.isinf(most) else f"a number from {least:g} to {most:g}"

    def check(value: Any, capabilities: Capabilities) -> str:
        if (_is_number(value) and math.isfinite(value) and least <= value <= most) or (optional and value is None):
            return ""
        return f"must be {wanted}"

    return check


def check_interval(value: Any, capabilities: Capabilities) -> str:
    """Two finite times, the earlier first; they may lie outside [0, 1], where the interval is open."""
    if not (isinstance(value, tuple) and _is_pair(value) and all(map(math.isfinite, value))):
        return "must be two numbers, the first and last time in [0, 1]"
    first, last = value
    return "" if first <= last else f"holds no time: give {last:g} {first:g}, the lower number first (1 is noise)"


def check_size(value: Any, capabilities: Capabilities) -> str:
    """Multiples of the latents' factor."""
    factor = capabilities.factor
    valid = isinstance(value, tuple) and len(value) == 2
    if not valid or not all(_is_integer(side) and factor <= side <= MAX_SIDE for side in value):
        return f"is no size: two whole numbers from {factor} to {MAX_SIDE} are needed"
    if any(side % factor for side in value):
        near = tuple(max(round(side / factor), 1) * factor for side in value)
        return f"is not a multiple of {factor}: use {format_size(near)}"
    return ""


def check_upscale(value: Any, capabilities: Capabilities) -> str:
    """A factor of the release's upscaler, or 0."""
    factors = capabilities.upscale_factors
    if _is_integer(value) and value in (0, *factors):
        return ""
    if not factors:
        return "cannot be had: this release has no upscaler"
    return f"must be {' or '.join(map(str, factors))}, 0 for none"


def check_tile(value: Any, capabilities: Capabilities) -> str:
    """Room between two halos, or 0."""
    factor = capabilities.factor
    least = (2 * HALO + 2) * factor
    if value == 0 or (_is_integer(value) and least <= value <= MAX_SIDE and value % factor == 0):
        return ""
    return (
        f"must be a multiple of {factor} from {least} to {MAX_SIDE} pixels, since {HALO * factor} on each side are its "
        "halo; 0 decodes the whole"
    )
