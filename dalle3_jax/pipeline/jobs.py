"""The jobs of the sample command: prompts from arguments and files, each with its own settings, as requests."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dalle3_jax.pipeline.prompts_file import read_prompts_file
from dalle3_jax.pipeline.request import SETTINGS, Request, Setting
from dalle3_jax.pipeline.setting_values import INTEGER, parse_size

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

__all__ = ["AUTO", "PromptLine", "check_shared_settings", "make_requests", "parse_size_or_auto", "read_prompt_lines"]

MAX_PICTURES = 1_000_000
SHOWN = 8
AUTO = "auto"
"""The size that is chosen from the prompt."""
KEYS = {**SETTINGS, "n": Setting("n", "", INTEGER, "pictures of this prompt")}
"""What a line of a .jsonl may set."""


@dataclass(frozen=True)
class PromptLine:
    """One prompt with the settings given for it alone, and where it stands, for messages."""

    source: str
    settings: Mapping[str, Any]


def parse_size_or_auto(text: str) -> tuple[int, int] | str:
    """(height, width) from WIDTHxHEIGHT; "auto" stays what it is."""
    if text.strip().lower() == AUTO:
        return AUTO
    try:
        return parse_size(text)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def read_prompt_lines(prompts: Sequence[str], file: str | None) -> list[PromptLine]:
    """The prompts of the command line, then those of the file, as `read_prompts_file` reads it; - is standard input.

    Raises one ValueError that names every line that cannot be used.
    """
    lines = [PromptLine(f"--prompt {number}", {"prompt": prompt}) for number, prompt in enumerate(prompts, start=1)]
    if file is not None:
        lines += _file_lines(file)
    if not lines:
        where = f"{file} holds no prompts" if file else "there is no prompt"
        raise ValueError(f"{where}: give --prompt TEXT, or --prompts-file FILE with one prompt a line")
    return lines


def check_shared_settings(pipeline: "Pipeline", settings: Mapping[str, Any]) -> None:
    """ValueError for settings of all lines that no line could change; a line may bring the image."""
    if "image" in settings:
        pipeline.request("", **settings)
    elif pipeline.capabilities.reads_text and not pipeline.capabilities.needs_mask:
        pipeline.request("", **{name: value for name, value in settings.items() if SETTINGS[name].part != "edit"})


def make_requests(lines: Sequence[PromptLine], make: Callable[..., Request], *, seed: int, n: int) -> list[Request]:
    """A request for each picture: `n` a line, picture i of all with seed + i, or a line's own seed counted within it.

    `make` raises ValueError for settings that cannot be used; this raises one that names every such line.
    """
    counts = [line.settings.get("n", n) for line in lines]
    if min(counts) < 1 or sum(counts) > MAX_PICTURES:
        raise ValueError(f"the number of pictures must be at least 1 a prompt and at most {MAX_PICTURES:,} in all")
    requests, errors, index = [], [], 0
    for line, count in zip(lines, counts, strict=True):
        own = {key: value for key, value in line.settings.items() if key not in ("seed", "n")}
        first = line.settings.get("seed", seed + index)
        try:
            ends = [make(**own, seed=end) for end in dict.fromkeys((first, first + count - 1))]
        except ValueError as error:
            errors.append(f"{line.source}: {error}")
        else:
            requests += [replace(ends[0], seed=first + i) for i in range(count)]
        index += count
    _raise_errors(errors)
    return requests


def _file_lines(file: str) -> list[PromptLine]:
    lines, errors = [], []
    for source, entry in read_prompts_file(file, lambda key: key in KEYS and KEYS[key].type.annotation is str):
        try:
            lines.append(PromptLine(source, _check_settings({"prompt": entry} if isinstance(entry, str) else entry)))
        except ValueError as error:
            errors.append(f"{source}: {error}")
    _raise_errors(errors)
    return lines


def _check_settings(settings: Any) -> dict[str, Any]:
    """The settings of one entry of a file."""
    if isinstance(settings, ValueError):
        raise settings
    if not isinstance(settings, dict):
        raise ValueError('neither a text nor an object like {"prompt": "a panda"}')
    errors = [] if "prompt" in settings else ["it has no prompt"]
    errors += [f"unknown key {key!r} (known are {', '.join(KEYS)})" for key in settings if key not in KEYS]
    values = {}
    for key, value in settings.items():
        try:
            if key in KEYS:
                sized = key == "size" and isinstance(value, str)
                values[key] = parse_size_or_auto(value) if sized else KEYS[key].read(value)
        except ValueError as error:
            errors.append(str(error))
    if errors:
        raise ValueError("; ".join(errors))
    return values


def _raise_errors(errors: Sequence[str]) -> None:
    if errors:
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise ValueError("; ".join(errors[:SHOWN]) + more)
