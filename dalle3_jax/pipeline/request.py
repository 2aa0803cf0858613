"""Pictures and how they were made: the request behind each, and the PNG that carries it."""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

CHUNK = "dalle3_jax"
MAX_STEPS, MAX_SIDE = 1000, 4096
LATER = ("decoder", "decoder_steps", "tile", "spacing", "original_prompt")
"""Settings that older pictures do not have."""
HALO = 8
"""Cells of the latents on each side of a decoded tile that only serve what lies further in."""
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
"""stable-diffusion-webui's names of what it has alike."""


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
    return Request(prompt, **{key: _plain(key, value) for key, value in settings.items()})


def _plain(key: str, value: Any) -> Any:
    """One form for each value, since a request is known by its values: tuples, and floats for all of guidance."""
    if isinstance(value, list | tuple):
        return tuple(_plain(key, item) for item in value)
    return float(value) if key.startswith("guidance") and type(value) is int else value


def groups(requests: Sequence[Request]) -> list[list[int]]:
    """Indices of requests that one program can make: of the same size, sampling and decoder, guided or not."""
    found: dict[Any, list[int]] = {}
    for index, r in enumerate(requests):
        program = r.size, r.steps, r.sampler, r.spacing, r.guidance_scale == 1, r.decoder, r.decoder_steps, r.tile
        found.setdefault(program, []).append(index)
    return list(found.values())


def problems(
    request: Request,
    samplers: Collection[str],
    factor: int,
    decoders: Collection[str] = ("vae",),
    spacings: Collection[str] = (),
) -> list[str]:
    """Everything that keeps a request from being made, each with its remedy; nothing is computed."""
    found = _decoder_problems(request, factor, decoders)
    if not all(isinstance(text, str) for text in (request.prompt, request.negative_prompt, request.original_prompt)):
        found.append("prompts and negative prompts must be text")
    size = request.size
    if not (isinstance(size, tuple) and len(size) == 2 and all(_is_whole(side, factor, MAX_SIDE) for side in size)):
        found.append(f"{size_text(size)} is no size: two whole numbers from {factor} to {MAX_SIDE} are needed")
    elif any(side % factor for side in size):
        near = tuple(max(round(side / factor), 1) * factor for side in size)
        found.append(f"size {size_text(size)} is not a multiple of {factor}: use {size_text(near)}")
    if request.sampler not in samplers:
        found.append(f"unknown sampler {request.sampler!r}: use one of {', '.join(samplers)}")
    if request.spacing not in ("", *spacings):
        found.append(f"unknown spacing {request.spacing!r}: use one of {', '.join(spacings)}")
    if not _is_whole(request.steps, 1, MAX_STEPS):
        found.append(f"steps {request.steps!r} must be a whole number from 1 to {MAX_STEPS}")
    if not _is_whole(request.seed, 0, 2**32 - 1):
        found.append(
            f"seed {request.seed!r} must be a whole number from 0 to {2**32 - 1}, and so must those that follow it"
        )
    if not _is_real(request.guidance_scale):
        found.append(f"guidance scale {request.guidance_scale!r} must be a finite number")
    if not (_is_real(request.guidance_rescale) and 0 <= request.guidance_rescale <= 1):
        found.append(f"guidance rescale {request.guidance_rescale!r} must be a number from 0 to 1")
    interval = request.guidance_interval
    if not (isinstance(interval, tuple) and len(interval) == 2 and all(map(_is_real, interval))):
        found.append(f"guidance interval {interval!r} must be two numbers, the first and last time in [0, 1]")
    return found


def _decoder_problems(request: Request, factor: int, decoders: Collection[str]) -> list[str]:
    found, least = [], (2 * HALO + 2) * factor
    if request.decoder not in decoders:
        found.append(f"unknown decoder {request.decoder!r}: this release decodes with {', '.join(decoders)}")
    if not _is_whole(request.decoder_steps, 0, MAX_STEPS):
        found.append(f"decoder steps {request.decoder_steps!r} must be a whole number up to {MAX_STEPS}, 0 for its own")
    elif request.decoder_steps and request.decoder == "vae":
        found.append(f"{request.decoder_steps} decoder steps, but the decoder vae takes none: name another decoder")
    if request.tile != 0 and not (_is_whole(request.tile, least, MAX_SIDE) and request.tile % factor == 0):
        found.append(
            f"a tile of {request.tile!r} pixels: it must be a multiple of {factor} from {least} to {MAX_SIDE}, since "
            f"{HALO * factor} pixels on each side are its halo; 0 decodes the whole"
        )
    return found


def size_text(size: Any) -> str:
    """(height, width) as WIDTHxHEIGHT, the form of the command line."""
    return f"{size[1]}x{size[0]}" if isinstance(size, tuple) and len(size) == 2 else repr(size)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Picture:
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
    def settings(self) -> dict[str, Any]:
        """How it was made, in plain values: the content of the PNG's `dalle3_jax` chunk."""
        made = asdict(self.request)
        if not made["original_prompt"]:
            del made["original_prompt"]
        height, width = made.pop("size")
        made |= {"width": width, "height": height, "guidance_interval": list(made["guidance_interval"])}
        made |= {"batch_size": self.batch_size, "checkpoint": self.checkpoint}
        return made | {"software": software(), "digitalSourceType": SOURCE_TYPE}

    def png(self) -> bytes:
        """The PNG file: A1111's `parameters`, our JSON, and XMP with the source type of generated media."""
        texts = {"parameters": parameters(self.settings), CHUNK: json.dumps(self.settings)}
        return png_bytes(self.image, texts)

    def save(self, path: str | Path) -> None:
        """Writes the PNG whole: it has its name only when all of it is on the disk."""
        write_whole(Path(path), self.png())


def png_bytes(image: Image.Image, texts: Mapping[str, str] | None = None) -> bytes:
    """A PNG file with text chunks, and the XMP that tells any reader that the picture was generated."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    info.add_itxt("XML:com.adobe.xmp", XMP)
    file = BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def software() -> str:
    """The package and its version."""
    try:
        return f"dalle3_jax {version('dalle3_jax')}"
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "dalle3_jax"


def parameters(made: Mapping[str, Any]) -> str:
    """The text that stable-diffusion-webui writes under `parameters` and many tools read."""
    lines = [made["prompt"]]
    if made["negative_prompt"]:
        lines.append(f"Negative prompt: {made['negative_prompt']}")
    fields = {
        "Steps": made["steps"],
        "Sampler": SAMPLER_TITLES.get(made["sampler"], made["sampler"]),
        "Schedule type": SPACING_TITLES.get(made["spacing"], made["spacing"]),
        "CFG scale": f"{made['guidance_scale']:g}",
        "Seed": made["seed"],
        "Size": f"{made['width']}x{made['height']}",
        "Decoder": "" if made["decoder"] == "vae" else made["decoder"],
        "Model hash": made["checkpoint"][:10],
        "Version": made["software"],
    }
    lines.append(", ".join(f"{key}: {value}" for key, value in fields.items() if value != ""))
    # A PNG text ends at a NUL, and surrogates are no text.
    return "\n".join(lines).replace("\0", " ").encode("utf-8", "replace").decode()


def read_settings(path: str | Path) -> dict[str, Any]:
    """The `dalle3_jax` chunk of a PNG; ValueError when there is none or the file is no PNG."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            # Texts after the pixels are in .text alone, which reads the pixels too.
            text = image.info.get(CHUNK) or getattr(image, "text", {}).get(CHUNK)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read {path} as a PNG: {error}") from None
    if text is None:
        raise ValueError(f"{path} does not say how it was made: it has no {CHUNK} chunk")
    try:
        made = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the {CHUNK} chunk of {path} is damaged: {error}") from None
    if not isinstance(made, dict):
        raise ValueError(f"the {CHUNK} chunk of {path} is damaged: it is not an object")
    return made


def request_of(made: Mapping[str, Any]) -> Request:
    """The request behind a picture's settings; ValueError naming what is missing."""
    try:
        return Request(
            size=(made["height"], made["width"]),
            guidance_interval=tuple(made["guidance_interval"]),
            **{key: made[key] for key in ("prompt", "steps", "sampler", "guidance_scale", "seed")},
            **{key: made[key] for key in ("negative_prompt", "guidance_rescale")},
            # Of now, not of before:
            **{key: made[key] for key in LATER if key in made},
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"the settings of this picture are incomplete: {error}") from None


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside `path`, waits for the disk, and renames; OSError when the folder cannot be written."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.absolute().parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp lets only its owner read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else text[: length - 3] + "..."
