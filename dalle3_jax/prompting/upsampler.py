"""Prompts brought into the form of the captions that a model was trained on (DALL-E 3's paper, appendix C).

from dalle3_jax.prompting.upsampler import template_backend, upsample

print(upsample("a panda", template_backend()).revised)
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from dalle3_jax.prompting import template as templates
from dalle3_jax.prompting.edits import REMOVED, added_part, edit_description
from dalle3_jax.prompting.faithfulness import LEAST, MOST, content_words, format_errors, is_usable, missing_content
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.translation import Translation, translate
from dalle3_jax.text.glyphs import find_quotes

__all__ = [
    "Backend",
    "BackendError",
    "CutAnswer",
    "KeepsAnswers",
    "RevisedPrompt",
    "Turn",
    "UpsampleRequest",
    "prompt_as_is",
    "template_backend",
    "upsample",
]

ATTEMPTS = 3
GROWTH = 1.25
"""How much longer a description may get by an edit."""

ORDINARY = frozenset(
    (
        *("add", "another", "background", "change", "color", "colour", "exchange", "extra", "instead", "make", "more"),
        *("move", "now", "paint", "place", "places", "put", "replace", "set", "swap", "switch", "too", "turn"),
    )
)
"""Words of edits that say what to do, and need not be in the description."""

AS_IS = re.compile(
    r"I NEED to test how the tool works with extremely simple prompts\.\s*"
    r"DO NOT add any detail,\s*just use it AS-IS:\s*"  # what users of the hosted DALL-E 3 are told to write
    r"|^\s*(?:as[- ]is|verbatim|exact(?:ly)?|raw)\s*:\s*"
    r"|\b(?:use (?:exactly )?this (?:exact )?prompt(?: exactly| as it is| as[- ]is| verbatim)?|do(?:n't| not) "
    r"(?:change|revise|rewrite|expand|modify|add to) (?:this|the|my) prompt"
    r"|(?:just )?use (?:it|this|the prompt) (?:as[- ]is|verbatim))\s*[:.,!]*\s*",
    re.I,
)
"""How users ask to be taken at their word."""


class BackendError(Exception):
    """A backend has no answer; the message says why."""


class CutAnswer(BackendError):
    """The answer has no end: another may have one."""


@dataclass(frozen=True)
class Turn:
    """An earlier turn of a conversation: what the user said, and the description that it led to."""

    said: str
    revised: str


@dataclass(frozen=True)
class UpsampleRequest:
    """A request to a backend: a prompt, the turns before it, and what its last answer lost."""

    prompt: str
    previous: tuple[Turn, ...] = ()
    attempt: int = 0
    complaints: tuple[str, ...] = ()


Backend = Callable[[UpsampleRequest], str]
"""Answers with one description; BackendError where it cannot."""


@runtime_checkable
class KeepsAnswers(Protocol):
    """A backend that is told which of its answers was used, and gives that again."""

    def keep(self, ask: UpsampleRequest, answer: str) -> None:
        """Keep the answer as that to `ask`."""


@dataclass(frozen=True)
class RevisedPrompt:
    """A prompt and what is to be drawn in its place; `notice` says why that is the prompt itself, where it is.

    `notes` say which of its words were replaced by words that the model knows: "bike -> bicycle".
    """

    prompt: str
    revised: str
    notice: str = ""
    notes: tuple[str, ...] = ()


def upsample(
    prompt: str,
    backend: Backend,
    *,
    lexicon: Lexicon | None = None,
    previous: Sequence[Turn] = (),
    seed: int = 0,
    fits: Callable[[str], bool] | None = None,
) -> RevisedPrompt:
    """The backend's description of the prompt where it keeps all that was asked, else the prompt as it was.

    A prompt that asks to be used as it is, is left alone, but for the words that ask it. With `previous` turns the
    prompt is an edit of what they led to, and the answer a new description of the whole. With a lexicon, emoji,
    Chinese and other names in the prompt become names that it has, before anybody is asked; `seed` decides what general
    words such as "bird" become. An answer that does not fit into what the model reads, as `fits` says, is not used.
    """
    if not prompt.strip():
        return RevisedPrompt(prompt, prompt, "there is nothing to revise")
    if not is_usable(prompt):
        return RevisedPrompt(prompt, prompt, "it holds characters that are no text")
    if (plain := prompt_as_is(prompt)) is not None:
        return RevisedPrompt(prompt, plain, "it asks to be used as it is")
    known = Translation(prompt) if lexicon is None else translate(prompt, lexicon, seed)
    first, complaints = UpsampleRequest(known.text, tuple(previous)), ()
    for attempt in range(ATTEMPTS):
        try:
            answer = strip_answer(backend(replace(first, attempt=attempt, complaints=complaints)))
        except CutAnswer as error:
            complaints = (str(error),)
            continue
        except BackendError as error:
            return RevisedPrompt(prompt, known.text, str(error), known.notes)
        complaints = answer_errors(known.text, answer, lexicon, previous)
        if fits is not None and not fits(answer):
            complaints = (*complaints, "it is longer than what the model reads")
        if not complaints:
            if isinstance(backend, KeepsAnswers):
                backend.keep(first, answer)
            return RevisedPrompt(prompt, answer, notes=known.notes)
    notice = f"the revised prompt was not kept: {'; '.join(complaints[:4])}"
    return RevisedPrompt(prompt, known.text, notice, known.notes)


def strip_answer(answer: str) -> str:
    """An answer without blanks around it, nor quotes around the whole of it."""
    answer = answer.strip()
    return answer[1:-1].strip() if re.fullmatch(r'"[^"]*[.!]"', answer) else answer


def prompt_as_is(prompt: str) -> str | None:
    """The prompt without the words by which it asks to be used as it is; None where it does not ask."""
    if not AS_IS.search(prompt):
        return None
    return AS_IS.sub(" ", prompt).strip() or prompt


def answer_errors(prompt: str, answer: str, lexicon: Lexicon | None, previous: Sequence[Turn]) -> tuple[str, ...]:
    """Error messages for an answer that cannot be used."""
    errors = format_errors(answer, prompt)
    if not previous:
        return (*errors, *(f"it lost {what}" for what in missing_content(prompt, answer, lexicon)))
    errors += tuple(f"it lost {what}" for what in missing_edits(prompt, answer))
    before = len(previous[-1].revised.split())
    if len(answer.split()) > max(GROWTH * before, LEAST + len(prompt.split()) + before // 2):
        errors = (*errors, f"it grew from {before} to {len(answer.split())} words")
    return errors


def missing_edits(edit: str, answer: str) -> list[str]:
    """Parts of an edit that the answer lacks: quotes, and words of content, unless it removes."""
    missing = [f'the quoted "{word}"' for word in find_quotes(edit) if word not in find_quotes(answer)]
    if REMOVED.search(edit):
        return missing
    here = {templates.stem(word) for word in content_words(answer)}
    asked = [word for word in content_words(added_part(edit)) if word not in ORDINARY]
    return missing + [f"the word {word!r}" for word in asked if templates.stem(word) not in here]


def template_backend(lexicon: Lexicon | None = None, seed: int = 0) -> Backend:
    """The backend that needs nothing but a lexicon: see `dalle3_jax.prompting.template`."""

    def answer(ask: UpsampleRequest) -> str:
        if not ask.previous:
            if len(ask.prompt.split()) > MOST:
                raise BackendError(f"it has more than {MOST} words already")
            return templates.write_description(ask.prompt, lexicon, seed)
        text = edit_description(ask.previous[-1].revised, ask.prompt, lexicon, seed) if lexicon else ""
        if not text:
            raise BackendError("the template backend does not understand this edit: write the whole prompt again")
        return text

    return answer
