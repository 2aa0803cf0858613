"""The PNG of an image, and how it was made, written into it and read back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.request import Request

__all__ = ["GeneratedImage", "a1111_parameters", "encode_png", "read_metadata"]

METADATA_CHUNK = "dalle3_jax"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="SOURCE_TYPE"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
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
        made = asdict(self.request)
        if not made["original_prompt"]:
            del made["original_prompt"]
        height, width = made.pop("size")
        made |= {"width": width, "height": height, "guidance_interval": list(made["guidance_interval"])}
        made |= {"batch_size": self.batch_size, "checkpoint": self.checkpoint}
        return made | {"software": software_version(), "digitalSourceType": SOURCE_TYPE}

    def to_png(self) -> bytes:
        """The PNG file: A1111's `parameters`, our JSON, and XMP with the source type of generated media."""
        texts = {"parameters": a1111_parameters(self.metadata), METADATA_CHUNK: json.dumps(self.metadata)}
        return encode_png(self.image, texts)

    def save(self, path: str | Path) -> None:
        """Writes the PNG whole: it has its name only when all of it is on the disk."""
        write_whole(Path(path), self.to_png())


def encode_png(image: Image.Image, texts: Mapping[str, str] | None = None, source_type: str = SOURCE_TYPE) -> bytes:
    """A PNG file with text chunks, and the XMP that tells any reader that the picture was generated, or enhanced."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    info.add_itxt("XML:com.adobe.xmp", XMP.replace("SOURCE_TYPE", source_type))
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
    lines = [metadata["prompt"]]
    if metadata["negative_prompt"]:
        lines.append(f"Negative prompt: {metadata['negative_prompt']}")
    fields = {
        "Steps": metadata["steps"],
        "Sampler": SAMPLER_TITLES.get(metadata["sampler"], metadata["sampler"]),
        "Schedule type": SPACING_TITLES.get(metadata["spacing"], metadata["spacing"]),
        "CFG scale": f"{metadata['guidance_scale']:g}",
        "Seed": metadata["seed"],
        "Size": f"{metadata['width']}x{metadata['height']}",
        "Decoder": "" if metadata["decoder"] == "vae" else metadata["decoder"],
        "Model hash": metadata["checkpoint"][:10],
        "Version": metadata["software"],
    }
    lines.append(", ".join(f"{key}: {value}" for key, value in fields.items() if value != ""))
    # A PNG text ends at a NUL, and surrogates are no text.
    return "\n".join(lines).replace("\0", " ").encode("utf-8", "replace").decode()


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
