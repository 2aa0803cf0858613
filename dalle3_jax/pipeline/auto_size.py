"""Sizes for prompts that ask for "auto": said in the prompt, or chosen by a language model or a size head."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.pipeline.jobs import AUTO, PromptLine
from dalle3_jax.pipeline.revision import printable_prompt
from dalle3_jax.pipeline.setting_values import format_size
from dalle3_jax.prompting.aspect import SizeScorer, choose_size
from dalle3_jax.prompting.chat import Chat

if TYPE_CHECKING:
    from dalle3_jax.checkpoints.releases import Release
    from dalle3_jax.pipeline import Pipeline

__all__ = ["AssignSizes", "candidate_sizes", "size_assigner"]

AssignSizes = Callable[[Sequence[PromptLine]], list[PromptLine]]
"""Lines -> the lines with a size of their own wherever "auto" was asked for; each choice is printed with its reason."""

SHIPPED = Path(str(files("dalle3_jax") / "releases" / "size_head"))
GRID = 16
ASPECTS = ((1, 1), (7, 4), (4, 7))
"""Width and height of DALL-E 3's three sizes."""


def size_assigner(
    lines: Sequence[PromptLine],
    pipeline: "Pipeline",
    default: tuple[int, int] | str | None = None,
    path: str | None = None,
    chat: Chat | None = None,
) -> AssignSizes:
    """The function that gives these lines their sizes, once revised; ValueError for a head that does not fit.

    `default` is the size of lines without one, `path` a size head of the user's own, `chat` who is asked before it.
    """

    def is_auto(line: PromptLine) -> bool:
        return line.settings.get("size", default) == AUTO

    if not any(map(is_auto, lines)):
        if path is not None:
            raise ValueError(f"--size-head {path} is for --size auto, which nothing asks for: add that")
        return list
    sizes, head = find_size_head(path, pipeline)
    ask = chat and (lambda question: chat.request_answer([{"role": "user", "content": question}]))
    return lambda given: [choose_line_size(line, sizes, ask, head) if is_auto(line) else line for line in given]


def choose_line_size(
    line: PromptLine, sizes: Sequence[tuple[int, int]], chat: Callable[[str], str] | None, head: SizeScorer | None
) -> PromptLine:
    """One line, said to the user: the words of the user count, where the prompt was revised."""
    prompt = line.settings.get("original_prompt") or line.settings["prompt"]
    choice = choose_size(prompt, sizes, chat=chat, head=head)
    print(f"{format_size(choice.size)} for {printable_prompt(prompt)!r}: {choice.reason}", file=sys.stderr)
    return replace(line, settings={**line.settings, "size": choice.size})


def candidate_sizes(pipeline: "Pipeline") -> list[tuple[int, int]]:
    """The release's sizes (height, width); where it names only one, that and a wide and a tall one of its area."""
    known = list(pipeline.release.sizes)
    if len(known) > 1:
        return known
    height, width = known[0] if known else pipeline.defaults["size"]
    side = (height * width) ** 0.5
    candidates = [
        tuple(
            max(GRID, round(side * (part / other) ** 0.5 / GRID) * GRID)
            for part, other in ((down, across), (across, down))
        )
        for across, down in ASPECTS
    ]
    return list(dict.fromkeys([(height, width), *((row[0], row[1]) for row in candidates[1:])]))


def find_size_head(path: str | None, pipeline: "Pipeline") -> tuple[list[tuple[int, int]], SizeScorer | None]:
    """The sizes to choose from and the head: the user's own, or the shipped one where it knows encoder and sizes."""
    from dalle3_jax.checkpoints.releases import load_release
    from dalle3_jax.loading.locate import find_release

    release = load_release(SHIPPED if path is None else find_release(path), ["size_head"])
    buckets, fits = [*release.modules["size_head"].buckets], matches_text_encoder(release, pipeline)
    if path is not None:
        if not fits:
            reason = "was trained on another text encoder than the checkpoint's"
            raise ValueError(f"--size-head {path} {reason}: train one on it, and leave --dtype out, which rounds it")
        return buckets, bind_size_head(release, pipeline)
    sizes = candidate_sizes(pipeline)
    return sizes, bind_size_head(release, pipeline) if fits and buckets == sizes else None


def matches_text_encoder(release: "Release", pipeline: "Pipeline") -> bool:
    """Whether a head was trained on the features that the pipeline's text encoder makes."""
    from dalle3_jax.checkpoints.releases import weights_digest

    encoder = pipeline.release.params.get("text_encoder")
    return encoder is not None and release.text.get("encoder") == weights_digest(encoder)


def bind_size_head(release: "Release", pipeline: "Pipeline") -> SizeScorer:
    """The head as a function of a prompt, on the pipeline's text encoder; one program for all prompts."""
    import jax

    module: Any = release.modules["size_head"]
    encoder: Any = pipeline.system.text_encoder

    @jax.jit
    def chances(params: Any, ids: Any, mask: Any) -> Any:
        features = encoder.apply({"params": params["text_encoder"]}, ids, mask)
        return jax.nn.softmax(module.apply({"params": params["size_head"]}, features, mask))[0]

    params = {**release.params, "text_encoder": pipeline.release.params["text_encoder"]}
    return lambda prompt: chances(params, *pipeline.tokenizer([prompt], release.text["length"])).tolist()
