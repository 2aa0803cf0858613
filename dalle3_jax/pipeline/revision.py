"""Revised prompts: made before anything is drawn, shown, and kept to be edited; and notes on what a model reads."""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalle3_jax.checkpoints.origins import foreign_components
from dalle3_jax.files import user_cache_folder, write_whole
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.jobs import PromptLine
from dalle3_jax.pipeline.request import Request, shorten
from dalle3_jax.pipeline.setting_values import format_size
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.scene_lexicon import training_lexicon
from dalle3_jax.prompting.unknown_words import describe_unknown, unknown_words
from dalle3_jax.prompting.upsampler import Backend, template_backend, upsample
from dalle3_jax.text.glyphs import count_glyphs
from dalle3_jax.text.tokenizers import Tokenizer

__all__ = [
    "BACKENDS",
    "BASE",
    "KEY",
    "OFFICIAL",
    "UPSAMPLING",
    "chat_backend",
    "revise_lines",
    "revise_prompt",
    "revision_notices",
    "size_notices",
    "truncation_notices",
    "unknown_notes",
]

UPSAMPLING = ("none", "template")
"""How prompts are revised offline, where a release or the caller asks for it."""
BACKENDS = (*UPSAMPLING, "chat")

KEY, BASE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OFFICIAL = "https://api.openai.com/v1"
FILE = "prompts.jsonl"
"""What was revised, in the form of --prompts-file."""


def chat_backend(url: str | None, model: str, seconds: float) -> Chat:
    """The chat backend of a server, or of the environment's; its answers are kept in the user's cache."""
    where, key = url or os.environ.get(BASE) or OFFICIAL, os.environ.get(KEY, "")
    return Chat(where, model, key, deadline=seconds, cache=user_cache_folder("prompts"))


def revise_prompt(prompt: str, by: str, training: Mapping[str, Any], fits: Callable[[str], bool]) -> str:
    """A prompt as it is drawn, revised offline or not at all; ValueError for another way."""
    if by not in UPSAMPLING:
        raise ValueError(f"upsample is {by!r}: use {' or '.join(map(repr, UPSAMPLING))}")
    if by == "none" or not isinstance(prompt, str):
        return prompt
    lexicon = training_lexicon(training)
    return upsample(prompt, template_backend(lexicon), lexicon=lexicon, fits=fits).revised


def revise_lines(
    lines: Sequence[PromptLine],
    by: Chat | None,
    folder: Path,
    training: Mapping[str, Any],
    fits: Callable[[str], bool] | None = None,
) -> list[PromptLine]:
    """The lines with prompts revised by a language model, or offline; folder/prompts.jsonl holds them, to be edited.

    Each is shown. `training` is what the release says of its own: of a model of scenes, their words are the lexicon.
    A line that has an "original_prompt" was revised before. Nothing is written where no prompt was revised, and no
    revision is kept that the model could not read to its end, as `fits` says.
    """
    lexicon = training_lexicon(training)
    backend: Backend = by or template_backend(lexicon)
    revised = [revise_line(line, backend, lexicon, fits) for line in lines]
    if revised == list(lines):
        return revised
    content = "".join(json.dumps(line_values(line), ensure_ascii=False) + "\n" for line in revised)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / FILE, content.encode("utf-8", "replace"))
    except OSError as error:
        raise ValueError(f"cannot write {folder / FILE}: {error.strerror}; give another --outdir") from None
    print(f"note: revised prompts are in {folder / FILE}: edit them and give it as --prompts-file", file=sys.stderr)
    return revised


def revise_line(
    line: PromptLine, backend: Backend, lexicon: Lexicon | None, fits: Callable[[str], bool] | None = None
) -> PromptLine:
    """One line, said to the user."""
    prompt = line.settings["prompt"]
    if line.settings.get("original_prompt"):
        return line
    # A model's own words bound what is kept, not what a language model may add.
    made = upsample(prompt, backend, lexicon=lexicon, fits=fits)
    for note in made.notes:
        print(f"note: {printable_prompt(note)}", file=sys.stderr)
    if made.notice:
        print(
            f"note: {printable_prompt(prompt)!r} is drawn as {'it is' if made.revised == prompt else 'asked'}: "
            f"{made.notice}",
            file=sys.stderr,
        )
    if made.revised == prompt:
        return line
    print(f"{printable_prompt(prompt)} -> {made.revised}", file=sys.stderr)
    return replace(line, settings={**line.settings, "prompt": made.revised, "original_prompt": prompt})


def unknown_notes(prompts: Iterable[str], training: Mapping[str, Any]) -> list[str]:
    """One note for each prompt with words that the release's training never showed, with the nearest that it knows.

    None where a training began with weights from elsewhere: what those have seen, nobody knows.
    """
    lexicon = training_lexicon(training)
    if lexicon is None or foreign_components(training):
        return []
    notes = ((prompt, describe_unknown(unknown_words(prompt, lexicon))) for prompt in dict.fromkeys(prompts))
    return [f"{printable_prompt(prompt)!r}: {note}" for prompt, note in notes if note]


def revision_notices(revised: Mapping[str, str]) -> list[str]:
    """One notice for each prompt (key) that is drawn as another (value)."""
    return [f"{shorten(old)!r} is drawn as {new!r}" for old, new in revised.items() if new != old]


def truncation_notices(requests: Iterable[Request], text: Mapping[str, Any], tokenizer: Tokenizer) -> list[str]:
    """One notice for each prompt that will be cut, with its number of tokens; `text` is what the release says of it."""
    texts = dict.fromkeys(prompt for request in requests for prompt in request.texts)
    readers = [("the prompt", "tokens", tokenizer.count, text["length"])]
    if length := text.get("glyph_length"):
        readers.append(("the quoted text of the prompt", "bytes", count_glyphs, length))
    return [
        f"{what} {shorten(prompt)!r} has {n} {units}; this model reads the first {length}, the rest is cut"
        for what, units, count, length in readers
        for prompt in texts
        if (n := count(prompt)) > length
    ]


def size_notices(requests: Iterable[Request], sizes: Collection[tuple[int, int]]) -> list[str]:
    """One notice for each size (height, width) that is none of those that the model was trained on, where it says."""
    asked = dict.fromkeys(request.size for request in requests)
    known = ", ".join(format_size(size) for size in sizes)
    others = [size for size in asked if sizes and size not in sizes]
    return [f"this model was not trained on images of {format_size(size)}, but on {known}" for size in others]


def printable_prompt(prompt: str) -> str:
    """A prompt as a terminal can show it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shorten(prompt))


def line_values(line: PromptLine) -> dict[str, Any]:
    """A line's settings as JSON has them."""
    settings = dict(line.settings)
    size = settings.get("size")
    settings |= {name: value.name for name, value in settings.items() if isinstance(value, InputImage)}
    return settings | ({"size": f"{size[1]}x{size[0]}"} if isinstance(size, tuple) else {})
