"""The PNG of an image, and how it was made, written into it and read back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.request import Request, Setting, ordered_settings, request_from_metadata, stored_values
from dalle3_jax.pipeline.setting_values import format_size

__all__ = ["GeneratedImage", "a1111_parameters", "encode_png", "read_metadata", "to_pixels"]

METADATA_CHUNK = "dalle3_jax"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    f'Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
SAMPLER_TITLES = {
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpmsolver++": "DPM++ 2M",
    "dpmsolver++_sde": "DPM++ 2M SDE",
    "unipc": "UniPC",
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
        """How it was made, in plain values: the content of the PNG's `dalle3_jax` chunk."""
        values = stored_values(self.request)
        height, width = values.pop("size")
        made = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        made |= {"width": width, "height": height, "batch_size": self.batch_size, "checkpoint": self.checkpoint}
        return made | {"software": software_version(), "digitalSourceType": SOURCE_TYPE}

    def to_png(self) -> bytes:
        """The PNG file: A1111's `parameters`, our JSON, and XMP with the source type of generated media."""
        texts = {"parameters": a1111_parameters(self.metadata), METADATA_CHUNK: json.dumps(self.metadata)}
        return encode_png(self.image, texts)

    def save(self, path: str | Path) -> None:
        """Writes the PNG whole: it has its name only when all of it is on the disk."""
        write_whole(Path(path), self.to_png())


def to_pixels(images: Any) -> np.ndarray:
    """uint8 from images in [-1, 1], rounded to nearest; what lies outside is clipped, what is no number is refused."""
    levels = np.asarray(images, np.float32) * 127.5 + 127.5
    if np.isnan(levels).any():
        raise FloatingPointError("the model gave pixels that are no numbers: lower the guidance scale")
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def encode_png(image: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """A PNG file with text chunks, and the XMP that tells any reader that the picture was generated."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    info.add_itxt("XML:com.adobe.xmp", XMP)
    file = BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


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
        return f"{value:g}"
    return format_size(value) if isinstance(value, tuple) else str(TITLES.get(setting.name, {}).get(value, value))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The `dalle3_jax` chunk of a PNG; ValueError when there is none or the file is no PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            # Texts after the pixels are in .text alone, which reads the pixels too.
            text = image.info.get(METADATA_CHUNK) or getattr(image, "text", {}).get(METADATA_CHUNK)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path} as a PNG: {error}") from None
    if text is None:
        raise ValueError(f"{path} does not say how it was made: it has no {METADATA_CHUNK} chunk")
    try:
        made = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the {METADATA_CHUNK} chunk of {path} is damaged: {error}") from None
    if not isinstance(made, dict):
        raise ValueError(f"the {METADATA_CHUNK} chunk of {path} is damaged: it is not an object")
    return made
