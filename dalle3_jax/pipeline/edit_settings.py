"""The part of a request that says with which image it begins: the record, and everything that can be wrong with it."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from dalle3_jax.data.transforms import LONGEST
from dalle3_jax.diffusion.strength import steps_of_strength
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.setting_values import MAX_SIDE, MAX_STEPS, Capabilities

__all__ = [
    "INPUTS",
    "NO_EDIT",
    "Borders",
    "Edit",
    "begin_step",
    "canvas_size",
    "check_edit",
    "default_strength",
    "edit_errors",
    "outpaint_borders",
    "supply_inputs",
]

LEAST_SIDE = 8
"""Pixels of the smallest image that is edited, or that is an image prompt."""


@dataclass(frozen=True)
class Edit:
    """The image that a request begins with (None: noise), and what of it may change.

    `strength` in (0, 1] is how far it is noised: how much changes. Of an image with a `mask` or `outpaint` nothing
    outside the mask changes; `feather` is the width in pixels, inside the mask, over which the new fades into it.
    `outpaint` is the shape that the image is to grow to, such as "16:9", or the pixels added on its left, top, right
    and bottom. With a `source_prompt`, what the image shows, its noise is found by inversion instead of drawn.
    `prompt_image` is an image prompt: what the new image is to show beside its text, `prompt_scale` how much it counts.
    """

    image: InputImage | None = None
    mask: InputImage | None = None
    strength: float | None = None
    outpaint: str = ""
    feather: int = 4
    source_prompt: str = ""
    prompt_image: InputImage | None = None
    prompt_scale: float = 1.0

    @property
    def kind(self) -> str:
        """Its program: "" of one that begins with noise, "image", "inverted", or "mask" where a part stays."""
        if self.image is None:
            return ""
        if self.source_prompt:
            return "inverted"
        return "mask" if self.mask is not None or self.outpaint else "image"


EDIT_FIELDS = ("image", "mask", "strength", "outpaint", "source_prompt")
INPUTS = {"image": "image", "mask": "mask", "image_prompt": "prompt_image"}
"""The settings that are images, which a picture made of them names by their digests alone -> their fields."""
NO_EDIT = Edit()
"""Of a request that begins with noise."""


class Borders(NamedTuple):
    """Pixels that are added to an image."""

    left: int
    top: int
    right: int
    bottom: int


def outpaint_borders(outpaint: str, size: tuple[int, int]) -> Borders:
    """The borders of an image of this size (height, width) that an `outpaint` asks for; "" for none.

    "16:9" is the smallest frame of that ratio (width to height) that holds the image, which stands in its middle;
    "64" as many pixels on every side; "64,0,64,0" those on the left, top, right and bottom. ValueError for other texts.
    """
    height, width = size
    if not outpaint:
        return Borders(0, 0, 0, 0)
    if ratio := re.fullmatch(r"\s*(\d{1,4})\s*:\s*(\d{1,4})\s*", outpaint):
        across, down = int(ratio[1]), int(ratio[2])
        if not across or not down:
            raise ValueError(f"outpaint {outpaint!r} is no shape: write one such as 16:9")
        share = Fraction(across, down)
        wide, high = max(round(height * share), width), max(round(width / share), height)
        left, top = (wide - width) // 2, (high - height) // 2
        return Borders(left, top, wide - width - left, high - height - top)
    sides = re.fullmatch(r"\s*\d{1,5}\s*(?:,\s*\d{1,5}\s*){0,3}", outpaint) and [*map(int, outpaint.split(","))]
    if not sides or len(sides) not in (1, 4):
        forms = "a shape such as 16:9, pixels for every side such as 64, or for left,top,right,bottom such as 64,0,64,0"
        raise ValueError(f"outpaint {outpaint!r} must be {forms}")
    return Borders(*(sides * 4 if len(sides) == 1 else sides))


def canvas_size(edit: Edit) -> tuple[int, int]:
    """Height and width in pixels of what is edited: the image with the borders that are added to it."""
    height, width = edit.image.size if edit.image is not None else (0, 0)
    left, top, right, bottom = outpaint_borders(edit.outpaint, (height, width))
    return height + top + bottom, width + left + right


def begin_step(edit: Edit, steps: int) -> int:
    """The step at which a loop of `steps` begins: 0 without an image, later the less it is to change."""
    if edit.image is None or edit.strength is None:
        return 0
    return steps - steps_of_strength(steps, edit.strength)


def edit_errors(edit: Edit, steps: int, enlarged: bool, capabilities: Capabilities) -> list[str]:
    """Errors that keep an image from being edited so, each with its remedy; steps are those of the sampler."""
    return _image_prompt_errors(edit, capabilities) + _begin_errors(edit, steps, enlarged, capabilities)


def _image_prompt_errors(edit: Edit, capabilities: Capabilities) -> list[str]:
    if edit.prompt_image is None:
        errors = ["image prompt scale without an image prompt: give image_prompt"] if edit.prompt_scale != 1 else []
        needed = "this model draws variations of images: give the image as image_prompt"
        return errors + ([] if capabilities.reads_text else [needed])
    if not capabilities.takes_image_prompts:
        part = "load it with an IP-Adapter for it (adapter), or a release of the stage image_prompt"
        return [f"an image prompt, but this model has no part that reads one: {part}"]
    if edit.prompt_scale != 1 and not capabilities.reads_text:
        return ["image prompt scale, but this model reads nothing beside the image: use guidance_scale"]
    if edit.prompt_image.read is None:
        sha = edit.prompt_image.sha256
        return [f"its image prompt, of SHA-256 {sha}, is not in it: give that as image_prompt"]
    height, width = edit.prompt_image.size
    shape = f"an image prompt of {width}x{height} pixels"
    if min(height, width) < LEAST_SIDE:
        return [f"{shape} is too small to be seen: give one of {LEAST_SIDE} a side"]
    if max(height, width) > LONGEST * min(height, width):
        return [f"{shape} is a strip: crop it to a side of at most {LONGEST} times the other"]
    return []


def _begin_errors(edit: Edit, steps: int, enlarged: bool, capabilities: Capabilities) -> list[str]:
    if edit.image is None:
        given = {"mask": edit.mask is not None, "strength": edit.strength is not None, "outpaint": edit.outpaint}
        given["source prompt"] = edit.source_prompt
        errors = [f"{name} without an image to edit: give image" for name, is_given in given.items() if is_given]
        needed = "this model paints into masks alone: give an image with a mask, or with outpaint"
        return errors + ([needed] if capabilities.needs_mask else [])
    if edit.image.read is None:
        sha = edit.image.sha256
        return [f"it was made from the image of SHA-256 {sha}, which it does not hold: give that as image"]
    errors = _image_errors(edit) + _strength_errors(edit, steps) + _mask_errors(edit)
    if edit.kind == "inverted" and (edit.mask is not None or edit.outpaint):
        errors.append("a source prompt, by which the whole image is inverted, beside a mask or outpaint: leave one out")
    if edit.kind in ("image", "inverted") and capabilities.needs_mask:
        errors.append("an image without a mask, but this model paints into masks alone: give a mask, or outpaint")
    if edit.kind == "mask" and enlarged:
        errors.append("upscale beside a mask, outside which no pixel may change: enlarge the result with upscale")
    return errors


def default_strength(edit: Edit) -> float:
    """Of an edit that names none: a part is made anew, a whole image is kept to some extent."""
    return 1.0 if edit.kind == "mask" else 0.8


def check_edit(settings: Mapping[str, Any]) -> None:
    """ValueError for what is wrong with the settings of an edit whatever the model: before it is loaded."""
    edit = Edit(**{name: settings[name] for name in EDIT_FIELDS if name in settings})
    if edit.strength is None and edit.image is not None:
        edit = replace(edit, strength=default_strength(edit))
    anything = Capabilities(samplers=())
    if errors := edit_errors(edit, MAX_STEPS, bool(settings.get("upscale")), anything):
        raise ValueError("; ".join(errors))


def supply_inputs(edit: Edit, settings: Mapping[str, Any]) -> Edit:
    """The edit of a picture's metadata with its own image, mask and image prompt; ValueError where others are given."""
    for name, field in INPUTS.items():
        given, wanted, title = settings.get(name), getattr(edit, field), name.replace("_", " ")
        if given is None:
            continue
        if wanted is None:
            raise ValueError(f"the picture was made without {'a' if name == 'mask' else 'an'} {title}: leave it out")
        if given != wanted:
            raise ValueError(f"{given!r} has SHA-256 {given.sha256}, and the {title} of the picture {wanted.sha256}")
        edit = replace(edit, **{field: given})
    return edit


def _image_errors(edit: Edit) -> list[str]:
    assert edit.image is not None
    height, width = edit.image.size
    if min(height, width) < LEAST_SIDE:
        return [f"an image of {width}x{height} pixels is too small to be edited: give one of {LEAST_SIDE} a side"]
    if not edit.outpaint:
        return []
    try:
        rows, columns = canvas_size(edit)
    except ValueError as error:
        return [str(error)]
    if (rows, columns) == (height, width):
        return [f"outpaint {edit.outpaint!r} adds nothing to an image of {width}x{height}: give another shape"]
    if max(rows, columns) > MAX_SIDE:
        return [f"outpaint {edit.outpaint!r} makes {columns}x{rows} pixels: at most {MAX_SIDE} a side"]
    return []


def _strength_errors(edit: Edit, steps: int) -> list[str]:
    strength = edit.strength
    if strength is None or not math.isfinite(strength):
        return [f"strength {strength!r} must be a number above 0 and at most 1"]
    try:
        steps_of_strength(steps, strength)
    except ValueError as error:
        return [str(error)]
    if strength == 1 and edit.kind == "image":
        return ["strength 1 keeps nothing of the image: leave the image out, or give less, such as 0.8"]
    return []


def _mask_errors(edit: Edit) -> list[str]:
    mask, image = edit.mask, edit.image
    if mask is None or image is None:
        return []
    if mask.read is None:
        return [f"it was made with the mask of SHA-256 {mask.sha256}, which it does not hold: give that as mask"]
    if mask.size != image.size:
        sizes = [f"{width}x{height}" for height, width in (mask.size, image.size)]
        return [f"a mask of {sizes[0]} pixels for an image of {sizes[1]}: give one of the image's size"]
    least, most = mask.extrema
    painted = "make white, or transparent, what is to be edited, and black, or opaque, what is to stay"
    if most == 0:
        return [f"the mask is empty, nothing would be edited: {painted}"]
    if least == 255:
        return [f"the mask is full, nothing would stay: leave it out, or {painted}"]
    return []
