"""Prompts with questions about their pictures: of our own suites, or of a file in GenEval 2's format.

A line of such a file (arXiv 2512.16853; the benchmark itself is not here, its licence forbids it):

    {"prompt": "two red cats", "atom_count": 3, "skills": ["count", "attribute", "object"],
     "vqa_list": [["How many cats are in the image?", "two"], ["Are the cats red?", "Yes"],
                  ["Are there any cats in the image?", "Yes"]]}
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from dalle3_jax.evaluation.atoms import Atom, count_atoms, label_atoms
from dalle3_jax.evaluation.prompts import shorten_errors
from dalle3_jax.evaluation.suites import load_named_prompts

__all__ = ["QuestionPrompt", "load_questions", "read_questions"]

FIELDS = {"prompt": str, "vqa_list": list, "skills": list, "atom_count": int}


class QuestionPrompt(NamedTuple):
    """A prompt, its atoms, of how many it counts as a composition, and its picture's (width, height)."""

    id: str
    text: str
    atoms: tuple[Atom, ...]
    atom_count: int
    aspect: tuple[int, int] = (1, 1)


def load_questions(name: str, count: int | None = None) -> tuple[list[QuestionPrompt], list[str]]:
    """The prompts that `name` stands for, and what was left out and why; of a longer list `count`, evenly.

    A .jsonl with a "vqa_list" is GenEval 2's; anything else is what `load_named_prompts` takes. ValueError for what
    cannot be read.
    """
    if has_questions(Path(name)):
        prompts, errors = read_questions(name)
        wanted = min(count or len(prompts), len(prompts))
        return [prompts[i * len(prompts) // wanted] for i in range(wanted)], errors
    labelled, _, errors = load_named_prompts(name, count)
    prompts = []
    for prompt in labelled:
        atoms = label_atoms(prompt.labels)
        prompts.append(QuestionPrompt(prompt.id, prompt.text, atoms, count_atoms(atoms), prompt.aspect))
    return prompts, errors


def has_questions(path: Path) -> bool:
    """Whether this is a file in GenEval 2's format."""
    return path.suffix == ".jsonl" and path.is_file() and b'"vqa_list"' in path.read_bytes()


def read_questions(path: str | Path) -> tuple[list[QuestionPrompt], list[str]]:
    """The prompts of a file in GenEval 2's format, and what is wrong with its other lines; ValueError without any."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the suite {str(path)!r}: {error}") from None
    prompts, errors = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                prompts.append(parse_questions(json.loads(line), f"line {number}"))
            except ValueError as error:  # what is no JSON raises one too
                errors.append(f"line {number}: {error}")
    if not prompts:
        raise ValueError(f"the suite {str(path)!r}: {shorten_errors(errors) or 'it holds no prompt'}")
    return prompts, errors


def parse_questions(values: Any, name: str) -> QuestionPrompt:
    """The prompt of a line's values; ValueError says what is wrong with them."""
    if not isinstance(values, dict):
        raise ValueError(f"a prompt is a JSON object, not {values!r}")
    wrong = [f"{key} {values.get(key)!r} must be a {kind.__name__}" for key, kind in FIELDS.items()
             if type(values.get(key)) is not kind]  # fmt: skip
    if wrong:
        raise ValueError("; ".join(wrong))
    pairs, skills, count = values["vqa_list"], values["skills"], values["atom_count"]
    if not pairs or len(pairs) != len(skills) or count < 1:
        raise ValueError(
            f"{len(pairs)} questions, {len(skills)} skills, {count} atoms: give a skill for each, and one atom"
        )
    if not all(is_texts(pair, 2) for pair in pairs) or not is_texts(skills, len(skills)):
        raise ValueError("a question is [question, answer], two texts, and a skill is a text")
    atoms = tuple(
        Atom(skill, question, answer, not (skill == "count" and answer == "one"))
        for (question, answer), skill in zip(pairs, skills, strict=True)
    )
    return QuestionPrompt(name, values["prompt"], atoms, count)


def is_texts(values: Any, count: int) -> bool:
    """Whether these are so many texts, none of them empty."""
    return isinstance(values, list) and len(values) == count and all(isinstance(v, str) and v.strip() for v in values)
