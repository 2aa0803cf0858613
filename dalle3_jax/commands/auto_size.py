"""What `sample --size auto` does: a size for each prompt, with the reason."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.commands import upsampling
from dalle3_jax.commands.prompts import AUTO, Line
from dalle3_jax.pictures import size_text
from dalle3_jax.text.sizes import Head, chosen

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

__all__ = ["sized", "sizes_of"]

SHIPPED = Path(str(files("dalle3_jax") / "releases" / "size_head"))
GRID = 16
ASPECTS = ((1, 1), (7, 4), (4, 7))
"""Width and height of DALL-E 3's three sizes."""


def sized(lines: Sequence[Line], arguments: argparse.Namespace, pipeline: "Pipeline") -> list[Line]:
    """The lines with a size of their own wherever "auto" was asked for; each choice is printed with its reason."""
    wanted = [line.settings.get("size", arguments.size) == AUTO for line in lines]
    if not any(wanted):
        return list(lines)
    sizes = sizes_of(pipeline)
    head = head_for(pipeline, sizes)
    chat = asking(arguments)
    return [choose(line, sizes, chat, head) if auto else line for line, auto in zip(lines, wanted, strict=True)]


def choose(line: Line, sizes: Sequence[tuple[int, int]], chat: Callable[[str], str] | None, head: Head | None) -> Line:
    """One line, said to the user: the words of the user count, where the prompt was revised."""
    prompt = line.settings.get("original_prompt") or line.settings["prompt"]
    choice = chosen(prompt, sizes, chat=chat, head=head)
    print(f"{size_text(choice.size)} for {upsampling.shown(prompt)!r}: {choice.reason}", file=sys.stderr)
    return replace(line, settings={**line.settings, "size": choice.size})


def sizes_of(pipeline: "Pipeline") -> list[tuple[int, int]]:
    """The release's sizes (height, width); where it names only one, that and a wide and a tall one of its area."""
    known = list(pipeline.release.sizes)
    if len(known) > 1:
        return known
    height, width = known[0] if known else pipeline.defaults["size"]
    side = (height * width) ** 0.5
    found = [
        tuple(
            max(GRID, round(side * (part / other) ** 0.5 / GRID) * GRID)
            for part, other in ((down, across), (across, down))
        )
        for across, down in ASPECTS
    ]
    return list(dict.fromkeys([(height, width), *((row[0], row[1]) for row in found[1:])]))


def asking(arguments: argparse.Namespace) -> Callable[[str], str] | None:
    """A function that asks the chat server, where prompts are upsampled by one."""
    if arguments.upsample != "chat":
        return None
    backend = upsampling.chat(arguments)
    return lambda question: backend.asked([{"role": "user", "content": question}])


def head_for(pipeline: "Pipeline", sizes: Sequence[tuple[int, int]]) -> Head | None:
    """The size head that ships in the package, where it was made for this text encoder and for these shapes."""
    from dalle3_jax.checkpoints.releases import load_release, weights_digest

    release = load_release(SHIPPED)
    encoder = pipeline.release.params.get("text_encoder")
    module: Any = release.modules["size_head"]
    if encoder is None or release.text.get("encoder") != weights_digest(encoder):
        return None
    if [*module.buckets] != [*sizes]:
        return None

    import jax

    @jax.jit
    def chances(params: Any, ids: Any, mask: Any) -> Any:
        features = pipeline.system.text_encoder.apply({"params": params["text_encoder"]}, ids, mask)
        return jax.nn.softmax(module.apply({"params": params["size_head"]}, features, mask))[0]

    params = {"text_encoder": encoder, "size_head": release.params["size_head"]}
    return lambda prompt: chances(params, *pipeline.tokenizer([prompt], release.text["length"])).tolist()
