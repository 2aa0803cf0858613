"""A judge of pictures: any server with OpenAI's /chat/completions whose model sees, asked one question an atom.

The probability of an atom is that of the right answer among the first tokens that the model weighs (GenEval 2's
Soft-TIFA); a server that gives no probabilities counts as sure of what it says. What it does to a run is bounded as
`prompting.chat` bounds it: it may hang, drip, fail or answer with garbage, and the atom is then not judged.
"""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dalle3_jax.data.scenes.layouts import NUMBERS
from dalle3_jax.evaluation.atom_scores import AtomScores
from dalle3_jax.evaluation.atoms import Atom
from dalle3_jax.evaluation.questions import QuestionPrompt
from dalle3_jax.evaluation.row_bars import Bar, hide_progress
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.prompting.chat_server import ServerError, answer_text
from dalle3_jax.prompting.upsampler import BackendError

__all__ = ["Answer", "Judge", "JudgedPictures", "accepted_answers", "check_judge", "judge_pictures"]

LONGEST, WEIGHED = 8, 20
"""Tokens of an answer, and the likeliest first tokens whose probabilities are asked for."""

MOST_FAILURES = 20
"""Questions without an answer, before any has been answered or one after another, that end a run."""


class Answer(NamedTuple):
    """The probability of the right answer, and whether the server gave it (else it is 0 or 1)."""

    probability: float
    soft: bool


@dataclass(frozen=True)
class Judge:
    """A vision model behind a server, asked for probabilities where `soft`; `cache` is a folder of its answers."""

    chat: Chat
    soft: bool = True
    cache: Path | None = None

    def __call__(self, png: bytes, question: str, answer: str) -> Answer:
        """The judgement of a PNG; BackendError says why there is none."""
        said = json.dumps([self.chat.url, self.chat.model, self.soft, question, answer, sha256(png).hexdigest()])
        file = self.cache / f"{sha256(said.encode()).hexdigest()[:32]}.json" if self.cache else None
        if file is not None and (known := read_answer(file)) is not None:
            return known
        judged = answer_probability(self.chat.request_body(question_payload(png, question, self.soft)), answer)
        if file is not None:
            write_whole(file, json.dumps(judged._asdict()).encode(), parents=True)
        return judged


class JudgedPictures(NamedTuple):
    """Scores of the pictures all of whose questions were answered, and what was not as wanted of the others."""

    scores: list[AtomScores]
    questions: int
    hard: int
    errors: list[str]


def question_payload(png: bytes, question: str, soft: bool) -> dict[str, Any]:
    """The payload of a question to the server."""
    picture = {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}
    content = [
        {"type": "image_url", "image_url": picture},
        {"type": "text", "text": f"{question} Answer in one word."},
    ]
    weights = {"logprobs": True, "top_logprobs": WEIGHED} if soft else {}
    return {"messages": [{"role": "user", "content": content}], "max_tokens": LONGEST, "temperature": 0.0, **weights}


def answer_probability(body: bytes, answer: str) -> Answer:
    """The probability of an answer by what a server said; BackendError where it said nothing."""
    right = accepted_answers(answer)
    try:
        says_so = normalise_answer(answer_text(body, whole=False)) in right
    except ServerError as error:
        raise BackendError(str(error)) from None
    tokens = token_logprobs(json.loads(body)["choices"][0])
    if not tokens:
        return Answer(float(says_so), False)
    first = sum(math.exp(value) for token, value in tokens[0][1] if normalise_answer(token) in right)
    # An answer of several tokens is none of the first ones: then the whole of what was said counts, if it is right.
    whole = math.exp(sum(value for value, _ in tokens)) if says_so else 0.0
    return Answer(float(min(1.0, max(first, whole))), True)


def token_logprobs(choice: Any) -> list[tuple[float, list[tuple[str, float]]]]:
    """(its own logarithm, [(token, logarithm) of the likeliest]) of every token said; [] where they are not given."""
    try:
        rows = [
            (
                parse_logprob(row["logprob"]),
                [(str(one["token"]), parse_logprob(one["logprob"])) for one in row["top_logprobs"]],
            )
            for row in choice["logprobs"]["content"]
        ]
    except (KeyError, TypeError, ValueError):
        return []
    return rows


def parse_logprob(value: Any) -> float:
    """A logarithm of a probability; ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value <= 1e-3:
        raise ValueError(f"{value!r} is no logarithm of a probability")
    return min(float(value), 0.0)


def accepted_answers(answer: str) -> set[str]:
    """The ways to give an answer: numbers also in digits."""
    known = normalise_answer(answer)
    return {known, str(NUMBERS.index(known))} if known in NUMBERS else {known}


def normalise_answer(text: str) -> str:
    """An answer without case, and without blanks and stops around it."""
    return text.strip(" \t\n.,!\"'").casefold()


def check_judge(judge: Judge) -> Judge:
    """The judge as its server can be asked, after a question about a red picture; ValueError where it does not see."""
    png = encode_png(Image.new("RGB", (64, 64), (230, 20, 20)))
    question, answer = "What colour is this picture: red, green or blue?", "red"
    why = ""
    for soft in (True, False):
        try:
            judged = replace(judge, soft=soft, cache=None)(png, question, answer)
        except BackendError as error:
            why = str(error)
            continue
        if judged.probability < 0.5:
            raise ValueError(
                f"{judge.chat.model} at {judge.chat.url} does not see pictures: of a red one it does not say that it is"
                " red; name a model that takes images"
            )
        return replace(judge, soft=soft and judged.soft)
    raise ValueError(f"{why}; give the --judge-url and --judge-model of a server that answers")


def judge_pictures(
    judge: Judge,
    prompts: Sequence[QuestionPrompt],
    images: Sequence[Image.Image],
    *,
    threads: int = 8,
    bar: Bar = hide_progress,
) -> JudgedPictures:
    """The judgement of a picture of each prompt (several pictures of one come as several).

    ValueError where the server has stopped answering; what it has said until then is in the judge's cache.
    """
    files = [encode_png(image) for image in images]
    jobs = [(i, atom) for i, prompt in enumerate(prompts) for atom in prompt.atoms]
    values: dict[int, list[Answer]] = {i: [] for i in range(len(prompts))}
    unanswered: dict[int, str] = {}
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(ask, judge, files[i], atom) for i, atom in jobs]
        try:
            for (i, _), result in zip(bar(jobs, "judging"), answers_until_silence(futures), strict=True):
                if isinstance(result, Answer):
                    values[i].append(result)
                else:
                    unanswered[i] = str(result)
        finally:
            pool.shutdown(cancel_futures=True)
    scores = [
        AtomScores(prompt.id, prompt.atom_count, prompt.atoms, tuple(answer.probability for answer in values[i]))
        for i, prompt in enumerate(prompts)
        if i not in unanswered
    ]
    errors = [f"prompt {prompts[i].id!r}: {why}" for i, why in unanswered.items()]
    return JudgedPictures(scores, len(jobs), sum(not a.soft for row in values.values() for a in row), errors)


def ask(judge: Judge, png: bytes, atom: Atom) -> Answer | BackendError:
    """The answer, or why there is none."""
    try:
        return judge(png, atom.question, atom.answer)
    except BackendError as error:
        return error


def answers_until_silence(futures: Iterable[Any]) -> Iterator[Answer | BackendError]:
    """The results in turn; ValueError after `MOST_FAILURES` failures in a row."""
    silent = 0
    for future in futures:
        result = future.result()
        silent = 0 if isinstance(result, Answer) else silent + 1
        yield result
        if silent >= MOST_FAILURES:
            raise ValueError(f"{silent} questions in a row had no answer: {result}; run the command again to go on")


def read_answer(file: Path) -> Answer | None:
    """An answer that was kept; None where there is none, and it is asked for again."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Answer(float(values["probability"]), bool(values["soft"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
