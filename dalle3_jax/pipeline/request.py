"""The request behind an image, and SETTINGS: the one table of all that can be set.

Command line, prompts files, the metadata of a PNG, A1111's line, the identity of a request and the keywords of a
`Pipeline` are derived from it. A new setting is a field of one of the records and a row at the end of the table.
"""

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

from dalle3_jax.pipeline import setting_values as kinds
from dalle3_jax.pipeline.edit_settings import NO_EDIT, Edit, edit_errors
from dalle3_jax.pipeline.setting_values import INTEGER, INTERVAL, MAX_STEPS, NAME, NUMBER, SIZE, TEXT, Capabilities

__all__ = [
    "PARTS",
    "SETTINGS",
    "Decoding",
    "Edit",
    "Guidance",
    "Request",
    "Sampling",
    "Setting",
    "Upscaling",
    "document_settings",
    "make_request",
    "ordered_settings",
    "request_errors",
    "request_from_metadata",
    "setting_values",
    "shorten",
    "stored_values",
]


Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampling loop: the sampler, its steps, and how its times are spaced ("": as the release says).

    Two shortcuts: of every `deep_cache` steps (1: none) only the first evaluates the whole UNet, and below the time
    `text_gate` (0: none) what the text adds is frozen and nothing is guided.
    """

    steps: int = 20
    sampler: str = "ddim"
    spacing: str = ""
    deep_cache: int = 1
    text_gate: float = 0.0


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: its scale (1: none), the times between which it acts, and its rescale (0: none).

    Adaptive projected guidance leaves the share `parallel` (1: all) of its part along the image and cuts its norm to
    `norm` (0: not at all).
    """

    scale: float = 3.0
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    parallel: float = 1.0
    norm: float = 0.0

    @property
    def is_projected(self) -> bool:
        """Whether it is adaptive projected guidance."""
        return (self.parallel, self.norm) != (1.0, 0.0)


@dataclass(frozen=True)
class Decoding:
    """Settings of decoding: the decoder, its steps (0) and temperature (None: its own), windows in pixels.

    A `tile` of 0 decodes the whole image at once.
    """

    decoder: str = "vae"
    steps: int = 0
    temperature: float | None = None
    tile: int = 0


@dataclass(frozen=True)
class Upscaling:
    """Settings of enlarging: the `factor` (0: none), and what is the upscaler's own where it is left out.

    `noise_level` is that of the input in thousandths of time: more lets the upscaler invent more. `tile` is the side in
    pixels of the windows in which the network is evaluated; 0: the whole of small images, windows of 512 in large ones.
    """

    factor: int = 0
    steps: int = 0
    noise_level: int | None = None
    guidance_scale: float | None = None
    tile: int = 0


@dataclass(frozen=True)
class Request:
    """Everything that decides one image, besides the release: the same request gives the same image.

    `size` is (height, width) in pixels; `original_prompt` what was asked for, where `prompt` is a revision of it.
    """

    prompt: str
    size: tuple[int, int]
    seed: int = 0
    negative_prompt: str = ""
    sampling: Sampling = Sampling()
    guidance: Guidance = Guidance()
    decoding: Decoding = Decoding()
    upscaling: Upscaling = Upscaling()
    edit: Edit = NO_EDIT
    original_prompt: str = field(default="", compare=False)

    @property
    def texts(self) -> tuple[str, ...]:
        """All that is encoded of it: the prompt, the negative one, and that of an image whose noise is found."""
        return (self.prompt, self.negative_prompt, *filter(None, [self.edit.source_prompt]))

    def identity(self, checkpoint: str) -> str:
        """SHA-256 of the request and the release: two jobs with the same one are the same job."""
        decisive = {name: value for name, value in stored_values(self).items() if SETTINGS[name].decisive}
        content = json.dumps([decisive, checkpoint], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


PARTS: dict[str, type[Any]] = {
    "sampling": Sampling,
    "guidance": Guidance,
    "": Request,
    "decoding": Decoding,
    "upscaling": Upscaling,
    "edit": Edit,
}
"""The records by the field of a request that holds them, in the order in which people read settings."""


@dataclass(frozen=True)
class Setting:
    """A row of SETTINGS.

    `name` is the keyword, the key of JSON and, with hyphens, the flag; `place` where the value stands in a request;
    `choices` the field of Capabilities that lists the names that it may have; `parameter` its name in the line of
    stable-diffusion-webui. `since` tells which pictures have it in their metadata: 1, all; 2, all but the oldest; 3,
    those in which it is not at its default, so that no identity of before changes: what a new setting takes. One that
    is not `decisive` is told, and is no part of the identity.
    """

    name: str
    place: str
    type: kinds.ValueType
    help: str
    check: kinds.Check = kinds.check_nothing
    choices: str = ""
    parameter: str = ""
    since: int = 3
    has_flag: bool = True
    decisive: bool = True

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def part(self) -> str:
        """The field of the request that holds it; "" for the request itself."""
        return self.place.rpartition(".")[0]

    @property
    def default(self) -> Any:
        """The value where nobody, the release included, says another; of the prompt and the size, none that counts."""
        return self.value(Request("", (0, 0)))

    def value(self, request: Request) -> Any:
        """The value that a request has."""
        return attrgetter(self.place)(request)

    def read(self, value: Any) -> Any:
        """The value of JSON or of the command line as Python has it; ValueError for one of another kind."""
        if not self.type.accepts(value):
            wanted = f"a {self.name}'s name" if self.choices else self.type.description
            raise ValueError(f"{self.name} must be {wanted}, not {value!r}")
        return self.type.read(value)

    def error(self, value: Any, capabilities: Capabilities) -> str:
        """The error of a value, with its remedy; "" where all is well."""
        label = self.name.replace("_", " ")
        if self.choices:
            names = getattr(capabilities, self.choices)
            known = value in names or value == self.default == ""
            return "" if known else f"unknown {label} {value!r}: use one of {', '.join(names)}"
        rest = self.check(value, capabilities)
        return rest and f"{label} {kinds.format_size(value) if self.type is SIZE else repr(value)} {rest}"


ANY_STEPS = kinds.check_integer(1, MAX_STEPS)
OWN_STEPS = kinds.check_integer(0, MAX_STEPS, ", 0 for its own")
ANY_SEED = kinds.check_integer(0, 2**32 - 1, ", and so must those that follow it")
SAMPLER = (
    "ddim, ddpm, euler, euler_ancestral, heun (two evaluations a step), dpmsolver++, dpmsolver++_sde, unipc, pndm or "
    "pndm_prk; consistency or lcm for a distilled model"
)
SPACING = (
    "how its times are laid: uniform, trailing, leading, linspace, logsnr, karras or, of lcm, skipping "
    "(default: the release's own)"
)
SCALE = "1 is none; higher follows the prompt more"
PERIOD = "guide from one time to another, 1 is noise"
RESCALE = "0 to 1; tames the contrast of high guidance"
DECODER = "vae, consistency or refiner, as the release has them"
REFINING = "steps of a consistency decoder or refiner"
WARMTH = "noise of a consistency decoder or refiner: 1 is a sample, 0 none (default: its own)"
TILE = "decode large pictures in windows of so many pixels a side"
WORDS = "the prompt of which this one is a revision"
LARGER = "enlarge the picture 2 or 4 times by the release's upscaler (default 0: not at all)"
GRAIN = "noise that the upscaler's input gets, in thousandths: more lets it invent more (default: its own)"
WINDOW = "evaluate the upscaler in windows of so many pixels a side (default: 512, in large pictures)"
CACHING = "evaluate the whole UNet at every second or third step only: 2 or 3 (default 1: at every step)"
GATE = "freeze what the text adds, and guide nothing, below this time, 1 is noise (default 0: never)"
PARALLEL = "0 to 1: how much of guidance along the image is left; less saturates less at high scales"
LIMIT = "longest that guidance may be in an image's latents (default 0: any length)"
ANY_LEVEL = kinds.check_integer(0, 999, optional=True)
ANY_TILE = kinds.check_integer(0, kinds.MAX_SIDE, ", 0 for its own choice")
FRAME = "multiples of 8 (default: the release's first size; of an image to edit, what fits that)"
START = "the image to begin with: image to image, or with a mask or outpaint inpainting"
PLACE = "what of the image to edit: white, or where there are transparent pixels those; all else stays, in every pixel"
CHANGE = "how much of the image changes, above 0 and up to 1 (default: 0.8; 1 with a mask or outpaint)"
BEYOND = "grow the image to a shape such as 16:9, or by pixels: for every side 64, for left,top,right,bottom 64,0,64,0"
SHOWN = "what the image shows now: its noise is then found by DDIM inversion instead of drawn, and more of it stays"
LIKE = "an image whose content the new one is to show, beside what the prompt says (not where it begins)"
LIKENESS = "how much the image prompt counts beside the prompt, from 0 (default 1)"
SOFT = "pixels within the edge of the mask over which the new fades into the old (default 4)"

# In the order of the PNG's metadata: a new row comes last.
ROWS = (
    Setting("prompt", "prompt", TEXT, "what to show", kinds.check_text, since=1, has_flag=False),
    Setting("steps", "sampling.steps", INTEGER, "steps of the sampler", ANY_STEPS, parameter="Steps", since=1),
    Setting("sampler", "sampling.sampler", NAME, SAMPLER, choices="samplers", parameter="Sampler", since=1),
    Setting("guidance_scale", "guidance.scale", NUMBER, SCALE, kinds.check_number(), parameter="CFG scale", since=1),
    Setting("seed", "seed", INTEGER, "seed of the first picture (default 0)", ANY_SEED, parameter="Seed", since=1),
    Setting("negative_prompt", "negative_prompt", TEXT, "what to keep away from", kinds.check_text, since=1),
    Setting("guidance_interval", "guidance.interval", INTERVAL, PERIOD, kinds.check_interval, since=1),
    Setting("guidance_rescale", "guidance.rescale", NUMBER, RESCALE, kinds.check_number(0.0, 1.0), since=1),
    Setting("decoder", "decoding.decoder", NAME, DECODER, choices="decoders", parameter="Decoder", since=2),
    Setting("decoder_steps", "decoding.steps", INTEGER, REFINING, OWN_STEPS, since=2),
    Setting("tile", "decoding.tile", INTEGER, TILE, kinds.check_tile, since=2),
    Setting("spacing", "sampling.spacing", NAME, SPACING, choices="spacings", parameter="Schedule type", since=2),
    Setting("original_prompt", "original_prompt", TEXT, WORDS, kinds.check_text, has_flag=False, decisive=False),
    Setting("size", "size", SIZE, FRAME, kinds.check_size, parameter="Size", since=1),
    Setting("decoder_temperature", "decoding.temperature", NUMBER, WARMTH, kinds.check_number(0.0, optional=True)),
    Setting("upscale", "upscaling.factor", INTEGER, LARGER, kinds.check_upscale),
    Setting("upscale_steps", "upscaling.steps", INTEGER, "steps of the upscaler", OWN_STEPS),
    Setting("upscale_noise_level", "upscaling.noise_level", INTEGER, GRAIN, ANY_LEVEL),
    Setting(
        "upscale_guidance_scale", "upscaling.guidance_scale", NUMBER, SCALE, kinds.check_number(0.0, optional=True)
    ),
    Setting("upscale_tile", "upscaling.tile", INTEGER, WINDOW, ANY_TILE),
    Setting("deep_cache", "sampling.deep_cache", INTEGER, CACHING, kinds.check_integer(1, 3)),
    Setting("text_gate", "sampling.text_gate", NUMBER, GATE, kinds.check_number(0.0, 1.0)),
    Setting("guidance_parallel", "guidance.parallel", NUMBER, PARALLEL, kinds.check_number(0.0, 1.0)),
    Setting("guidance_norm", "guidance.norm", NUMBER, LIMIT, kinds.check_number(0.0)),
    Setting("image", "edit.image", kinds.IMAGE, START),
    Setting("mask", "edit.mask", kinds.MASK, PLACE),
    Setting("strength", "edit.strength", NUMBER, CHANGE, parameter="Denoising strength"),
    Setting("outpaint", "edit.outpaint", TEXT, BEYOND, kinds.check_text),
    Setting("feather", "edit.feather", INTEGER, SOFT, kinds.check_integer(0, 512)),
    Setting("source_prompt", "edit.source_prompt", TEXT, SHOWN, kinds.check_text),
    Setting("image_prompt", "edit.prompt_image", kinds.IMAGE, LIKE),
    Setting("image_prompt_scale", "edit.prompt_scale", NUMBER, LIKENESS, kinds.check_number(0.0)),
)
SETTINGS: dict[str, Setting] = {setting.name: setting for setting in ROWS}
"""Every setting by its name."""


def ordered_settings() -> list[Setting]:
    """The settings in the order in which people read them: sampling, guidance, the image, decoding."""
    return sorted(SETTINGS.values(), key=lambda setting: [*PARTS].index(setting.part))


def document_settings(function: Function) -> Function:
    """The function, which takes **settings: its docstring and signature now name them all."""
    signature = inspect.signature(function)
    plain = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    rest = [row for row in ordered_settings() if row.name != "prompt" and row.name not in signature.parameters]
    lines = "".join(f"\n    {row.name}: {row.type.description}. {row.help[:1].upper()}{row.help[1:]}." for row in rest)
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nSettings:\n{lines}\n"
    keywords = [inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None) for row in rest]
    function.__signature__ = signature.replace(parameters=[*plain, *keywords])  # pyright: ignore
    return function


def setting_values(request: Request) -> dict[str, Any]:
    """All values of a request by the names of their settings."""
    return {name: setting.value(request) for name, setting in SETTINGS.items()}


def stored_values(request: Request) -> dict[str, Any]:
    """The values that tell one request from another, as metadata have them: not later settings at their defaults."""
    values = setting_values(request)
    rows = [row for row in SETTINGS.values() if row.since < 3 or values[row.name] != row.default]
    return {row.name: row.type.store(values[row.name]) for row in rows}


def make_request(prompt: str, settings: Mapping[str, Any]) -> Request:
    """The request with these settings; ValueError for names that are none."""
    known = [setting.name for setting in ordered_settings() if setting.name != "prompt"]
    if unknown := sorted(settings.keys() - set(known)):
        raise ValueError(f"unknown setting {', '.join(unknown)}: known are {', '.join(known)}")
    values = {name: SETTINGS[name].type.read(value) for name, value in settings.items()}
    return _build_request({"prompt": prompt, **values})


def _build_request(values: Mapping[str, Any]) -> Request:
    """The request of flat values, with the records' own defaults for what is left out."""
    fields: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for name, value in values.items():
        fields[SETTINGS[name].part][SETTINGS[name].place.rpartition(".")[2]] = value
    parts = {part: PARTS[part](**given) for part, given in fields.items() if part}
    return Request(**fields[""], **parts)


def request_from_metadata(metadata: Mapping[str, Any]) -> Request:
    """The request behind a PNG's metadata; ValueError naming what is missing.

    Settings that came later have their defaults in pictures of before.
    """
    flat = {**metadata, "size": (metadata.get("height"), metadata.get("width"))}
    needed = [name for name, setting in SETTINGS.items() if setting.since == 1] + ["height", "width"]
    if missing := [name for name in needed if name not in flat]:
        raise ValueError(f"the settings of this picture are incomplete: it lacks {', '.join(missing)}")
    return _build_request({name: SETTINGS[name].type.restore(flat[name]) for name in SETTINGS if name in flat})


def request_errors(request: Request, capabilities: Capabilities) -> list[str]:
    """Everything that keeps a request from being made, each with its remedy; nothing is computed."""
    values, decoding = setting_values(request), request.decoding
    errors = [setting.error(values[setting.name], capabilities) for setting in ordered_settings()]
    if decoding.decoder == "vae" and (decoding.steps or decoding.temperature is not None):
        given = f"{decoding.steps} decoder steps and temperature {decoding.temperature}"
        errors.append(f"{given}, but the decoder vae takes none: name another decoder")
    if request.upscaling != Upscaling() and not request.upscaling.factor:
        errors.append("settings of the upscaler without upscale: give it, 2 or 4")
    if not any(errors):
        errors += capabilities.timing_errors(request.sampling)
        errors += capabilities.upscaling_errors(request.upscaling) if request.upscaling.factor else []
        errors += edit_errors(request.edit, request.sampling.steps, request.upscaling.factor > 0, capabilities)
    if not capabilities.reads_text and (request.prompt or request.negative_prompt):
        errors.append("a prompt, but this model reads images alone: leave the prompt and the negative prompt out")
    if capabilities.texts is not None:
        lost = [text for text in request.texts if text not in capabilities.texts]
        errors += [f"{shorten(text)!r} was not encoded before the text encoder was dropped" for text in lost]
    return [error for error in errors if error]


def shorten(text: str, length: int = 60) -> str:
    """The beginning of a text, for messages."""
    return text if len(text) <= length else text[: length - 3] + "..."
