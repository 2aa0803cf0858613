"""A generated image, and how it was made, written into its file and read back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.image_formats import (
    COMPOSITE_TYPE,
    METADATA_CHUNK,
    MOST_EXIF,
    SOURCE_TYPE,
    encode_image,
    encode_png,
    open_generated,
    read_metadata_text,
)
from dalle3_jax.pipeline.request import (
    Request,
    Setting,
    ordered_settings,
    request_from_metadata,
    shorten,
    stored_values,
)
from dalle3_jax.pipeline.setting_values import format_size

__all__ = ["GeneratedImage", "a1111_parameters", "encode_png", "jpeg_errors", "read_metadata", "to_pixels"]

SAMPLER_TITLES = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpmsolver++": "DPM++ 2M",
    "dpmsolver++_sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
    "pndm": "PLMS",
    "lcm": "LCM",
}
SPACING_TITLES = {
    "uniform": "SGM Uniform",
    "trailing": "SGM Uniform",
    "leading": "DDIM",
    "linspace": "Uniform",
    "karras": "Karras",
}
TITLES = {"sampler": SAMPLER_TITLES, "spacing": SPACING_TITLES}
"""stable-diffusion-webui's names of what it has alike."""


@dataclass(frozen=True)
class GeneratedImage:
    """An image together with the request, the digest of the release and the batch size that made it."""

    image: Image.Image
    request: Request
    checkpoint: str
    batch_size: int

    @property
    def prompt(self) -> str:
        """The prompt, uncut."""
        return self.request.prompt

    @property
    def seed(self) -> int:
        """The picture's own seed."""
        return self.request.seed

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata on how it was made, in plain values: the content of the PNG's `dalle3_jax` chunk."""
        made = stored_values(self.request)
        height, width = made.pop("size")
        made |= {"width": width, "height": height, "batch_size": self.batch_size, "checkpoint": self.checkpoint}
        return made | {"software": software_version(), "digitalSourceType": self.source_type}

    @property
    def source_type(self) -> str:
        """IPTC's name of what it is: generated, or where a mask kept a part of another image composed with that."""
        return COMPOSITE_TYPE if self.request.edit.kind == "mask" else SOURCE_TYPE

    def to_png(self) -> bytes:
        """The PNG file: A1111's `parameters`, our JSON, and XMP with the source type of generated media."""
        return encode_png(self.image, self.texts, self.source_type)

    @property
    def texts(self) -> dict[str, str]:
        """The texts that go along with it: A1111's parameters and our JSON."""
        return {"parameters": a1111_parameters(self.metadata), METADATA_CHUNK: json.dumps(self.metadata)}

    def save(self, path: str | Path) -> None:
        """Writes the file whole, a PNG, WebP or JPEG by its suffix: it has its name only when all is on the disk."""
        path = Path(path)
        write_whole(path, encode_image(self.image, self.texts, path.suffix, source_type=self.source_type))


def jpeg_errors(requests: Iterable[Request]) -> list[str]:
    """One message for each prompt that the metadata of a JPEG have no room for."""
    errors = []
    for request in requests:
        texts = f"{request.prompt}{request.original_prompt}{request.negative_prompt}"
        if len(json.dumps(texts)) + 4 * len(texts) > MOST_EXIF - 4096:
            errors.append(f"{shorten(request.prompt)!r} is too long for a JPEG: use png or webp")
    return errors


def to_pixels(images: Any) -> np.ndarray:
    """uint8 from images in [-1, 1], rounded to nearest; what lies outside is clipped, what is not finite is refused."""
    levels = np.asarray(images, np.float32) * 127.5 + 127.5
    if not np.isfinite(levels).all():
        raise FloatingPointError(
            "the model gave pixels that are no finite numbers: in float16 it may pass the range (use --dtype bf16 or "
            "fp32, dtype in Python); otherwise lower the guidance scale"
        )
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def software_version() -> str:
    """The package and its version."""
    try:
        return f"dalle3_jax {version('dalle3_jax')}"
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "dalle3_jax"


def a1111_parameters(metadata: Mapping[str, Any]) -> str:
    """The text that stable-diffusion-webui writes under `parameters` and many tools read."""
    request = request_from_metadata(metadata)
    lines = [request.prompt]
    if request.negative_prompt:
        lines.append(f"Negative prompt: {request.negative_prompt}")
    fields = {
        setting.parameter: _parameter_text(setting, value)
        for setting in ordered_settings()
        # Settings that came later are told where they are not at their defaults.
        if setting.parameter and ((value := setting.value(request)) != setting.default or setting.since == 1)
    }
    fields |= {"Model hash": metadata["checkpoint"][:10], "Version": metadata["software"]}
    lines.append(", ".join(f"{key}: {value}" for key, value in fields.items() if value))  # in memory: no hash
    # A PNG text ends at a NUL, and surrogates are no text.
    return "\n".join(lines).replace("\0", " ").encode("utf-8", "replace").decode()


def _parameter_text(setting: Setting, value: Any) -> str:
    """A value as stable-diffusion-webui writes it."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return format_size(value) if isinstance(value, tuple) else str(TITLES.get(setting.name, {}).get(value, value))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The metadata of a generated image's file; ValueError when it has none, or is no PNG, WebP or JPEG."""
    try:
        with open_generated(path) as image:
            text = read_metadata_text(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path} as an image: {error}") from None
    if text is None:
        raise ValueError(f"{path} does not say how it was made: it has no {METADATA_CHUNK} chunk")
    try:
        made = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the {METADATA_CHUNK} chunk of {path} is damaged: {error}") from None
    if not isinstance(made, dict):
        raise ValueError(f"the {METADATA_CHUNK} chunk of {path} is damaged: it is not an object")
    return made
