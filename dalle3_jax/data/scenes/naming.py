"""Other names of the concepts, in English and in Chinese, as people type them.

They are rows of names.csv, in the order of sprites/concepts.csv. A synonym names its concept and no other; it is lower
case and singular, with its plural behind a slash where no rule forms it ("knife/knives"). A star behind it says that it
takes no article and no number when one thing is meant: "fries on a beach", "bread in the snow".
"""

import csv
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from io import StringIO

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS, Concept
from dalle3_jax.data.scenes.tints import TINTS

COLUMNS = ("name", "synonyms", "chinese")
MOST_SYNONYMS, MOST_CHINESE = 4, 3
CONSONANT_SOUNDS = re.compile(r"(?:ufo|uni|use|eu|ewe|one\b)")
"""Openings that take "a" for all that they begin with a vowel."""
VOWEL_SOUNDS = re.compile(r"[aeiou8]")


@dataclass(frozen=True)
class Synonym:
    """Another name of a concept; a bare one takes neither an article nor a number, and its plural is itself."""

    text: str
    plural: str
    bare: bool = False

    @property
    def article(self) -> str:
        """The article before it; "" of a bare one."""
        if self.bare:
            return ""
        return "an" if VOWEL_SOUNDS.match(self.text) and not CONSONANT_SOUNDS.match(self.text) else "a"

    @property
    def single(self) -> str:
        """One of it, as a prompt says it: "a bike", "an aeroplane", "fries"."""
        return f"{self.article} {self.text}".strip()


def parse_synonym(cell: str) -> Synonym:
    """The synonym of "bike", "knife/knives" or "fries*"."""
    if cell.endswith("*"):
        return Synonym(cell[:-1], cell[:-1], bare=True)
    text, _, plural = cell.partition("/")
    return Synonym(text, plural or regular_plural(text))


def regular_plural(text: str) -> str:
    """The plural of a name whose last word has a regular one."""
    if re.search(r"[^aeiou]y$", text):
        return f"{text[:-1]}ies"
    return f"{text}es" if text.endswith(("s", "x", "z", "ch", "sh")) else f"{text}s"


def read_names(
    text: str, concepts: Sequence[Concept], reserved: Collection[str] = ()
) -> tuple[dict[str, tuple[Synonym, ...]], dict[str, tuple[str, ...]]]:
    """The synonyms and the Chinese names by concept, of the text of a names.csv.

    ValueError names every row that is missing, stands twice or is not whole, and every name that is not one concept's
    alone or holds a word of `reserved`.
    """
    rows = list(csv.DictReader(StringIO(text)))
    if errors := [*_row_errors(rows, concepts)]:
        raise ValueError(f"names.csv: {'; '.join(errors)}")
    synonyms = {row["name"]: tuple(map(parse_synonym, _split(row["synonyms"]))) for row in rows}
    chinese = {row["name"]: tuple(_split(row["chinese"])) for row in rows}
    if errors := [*_clashes(synonyms, concepts), *_taken(synonyms, reserved), *_shared_names(chinese)]:
        raise ValueError(f"names.csv: {'; '.join(errors)}")
    return synonyms, chinese


def _split(cell: str) -> list[str]:
    """The names of a cell."""
    return cell.split("|") if cell else []


def _row_errors(rows: Sequence[dict[str, str]], concepts: Sequence[Concept]) -> Iterator[str]:
    """Rows that are not whole, and concepts that are not there exactly once."""
    for line, row in enumerate(rows, 2):
        if tuple(row) != COLUMNS or None in row.values():
            yield f"line {line} does not have the columns {', '.join(COLUMNS)}"
            return
        names = [*_split(row["synonyms"]), *_split(row["chinese"])]
        if any(not name.strip(" */") or name != name.strip() for name in names):
            yield f"line {line}: {row['name']!r} has an empty name, or blanks around one"
        if len(_split(row["synonyms"])) > MOST_SYNONYMS or not 1 <= len(_split(row["chinese"])) <= MOST_CHINESE:
            yield f"line {line}: {row['name']!r} needs 0 to {MOST_SYNONYMS} synonyms and 1 to {MOST_CHINESE} in Chinese"
        if row["synonyms"] != row["synonyms"].lower():
            yield f"line {line}: {row['synonyms']!r} is not in lower case"
    if [row["name"] for row in rows] != [concept.name for concept in concepts]:
        yield "its rows are not the concepts of concepts.csv, each once and in that order"


def _clashes(synonyms: Mapping[str, Sequence[Synonym]], concepts: Sequence[Concept]) -> Iterator[str]:
    """Names and plurals that stand for two concepts, and synonyms that a concept has already."""
    owners: dict[str, str] = {}
    for concept in concepts:
        owners |= {concept.name: concept.name, concept.plural: concept.name}
    names = {*owners} - {concept.plural for concept in concepts} | {concept.name for concept in concepts}
    for concept, others in synonyms.items():
        texts = [synonym.text for synonym in others]
        if len({*texts}) < len(texts) or {*texts} & names:
            yield f"a synonym of {concept!r} is a name already, or stands twice: {', '.join(texts)}"
        for form in {form for synonym in others for form in (synonym.text, synonym.plural)}:
            if owners.setdefault(form, concept) != concept:
                yield f"{form!r} is both {owners[form]!r} and {concept!r}"


def _taken(synonyms: Mapping[str, Sequence[Synonym]], reserved: Collection[str]) -> Iterator[str]:
    """Synonyms that hold a reserved word or phrase."""
    if not reserved:
        return
    words = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, sorted(reserved)))})(?![\w-])")
    for concept, others in synonyms.items():
        for form in {form for synonym in others for form in (synonym.text, synonym.plural)}:
            if word := words.search(form):
                yield f"{form!r} of {concept!r} holds {word[0]!r}, which means something else"


def _shared_names(chinese: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Chinese names that two concepts have, or one has twice."""
    owners: dict[str, str] = {}
    for concept, names in chinese.items():
        for name in names:
            if name in owners:
                yield f"{name!r} is both {owners[name]!r} and {concept!r}"
            owners[name] = concept


RESERVED = frozenset({*TINTS, *(background.name for background in BACKGROUNDS)})
SYNONYMS: Mapping[str, tuple[Synonym, ...]]
CHINESE: Mapping[str, tuple[str, ...]]
SYNONYMS, CHINESE = read_names(
    (files("dalle3_jax.data.scenes") / "names.csv").read_text(encoding="utf-8"), CONCEPTS, RESERVED
)
