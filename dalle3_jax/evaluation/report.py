"""The report of an evaluation: for people as tables, plots and sheets of pictures, for programs as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from dalle3_jax.evaluation.atom_scores import AtomRow, atom_markdown, atoms_to_list, outcome_atom_rows, read_atoms
from dalle3_jax.evaluation.clip_score import Similarity
from dalle3_jax.evaluation.clip_score import similarity_markdown as similarities
from dalle3_jax.evaluation.decoders.fidelity import decibels
from dalle3_jax.evaluation.likeness import Likeness
from dalle3_jax.evaluation.outcomes import Outcome, RateRow, Truth, rate_rows, right_shares
from dalle3_jax.evaluation.seed_difference import seed_difference_markdown, seed_differences
from dalle3_jax.evaluation.statistics import Rate
from dalle3_jax.evaluation.tables import format_control, format_interval, format_percent, markdown_table
from dalle3_jax.evaluation.words import SpellingScore, scores_by_length
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet

SHOWN = 12  # pictures on a sheet


@dataclass(frozen=True)
class Report:
    """The whole evaluation; `unmeasured` says what it lacks and why."""

    settings: dict[str, Any]
    outcomes: list[Outcome]
    truths: list[Truth] = field(default_factory=list)
    unmeasured: list[str] = field(default_factory=list)
    likeness: Likeness | None = None
    similarity: dict[str, Similarity] = field(default_factory=dict)  # by protocol, where a captioner was given

    @cached_property
    def rows(self) -> dict[str, dict[str, RateRow]]:
        """Protocol -> line of its table -> rates."""
        return {name: rate_rows(outcomes, self.truths) for name, outcomes in self.by_protocol.items()}

    @cached_property
    def by_protocol(self) -> dict[str, list[Outcome]]:
        """The outcomes of each protocol."""
        names = dict.fromkeys(outcome.protocol for outcome in self.outcomes)
        return {name: [one for one in self.outcomes if one.protocol == name] for name in names}

    @cached_property
    def atoms(self) -> dict[str, dict[str, AtomRow]]:
        """Protocol -> line of its table of atoms -> their probabilities by the reader."""
        return {name: outcome_atom_rows(outcomes, self.truths) for name, outcomes in self.by_protocol.items()}

    @cached_property
    def seed_differences(self) -> dict[str, dict[str, Rate]]:
        """Protocol -> prompts -> how much their pictures differ from seed to seed; none of a single seed."""
        differences = {name: seed_differences(outcomes) for name, outcomes in self.by_protocol.items()}
        return {name: rates for name, rates in differences.items() if rates}

    def shares(self) -> dict[str, float]:
        """Line of the table -> share of the pictures of the first protocol that are right."""
        return right_shares([o for o in self.outcomes if o.protocol == self.outcomes[0].protocol])

    @cached_property
    def psnr(self) -> float | None:
        """Of the VAE's copies of the faultless pictures, in dB."""
        squares = [np.mean(np.square(truth.image.astype(np.float64) - truth.copy)) for truth in self.truths]
        return float(decibels(np.mean(squares))) if squares else None

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, as plain JSON values."""
        return {
            "settings": self.settings,
            "unmeasured": self.unmeasured,
            "reconstruction_psnr": self.psnr,
            "rates": {
                name: {key: namedtuple_to_dict(row) for key, row in table.items()} for name, table in self.rows.items()
            },
            "atoms": {
                name: {key: namedtuple_to_dict(row) for key, row in table.items()} for name, table in self.atoms.items()
            },
            "seed_differences": {
                name: {key: namedtuple_to_dict(rate) for key, rate in table.items()}
                for name, table in self.seed_differences.items()
            },
            "likeness": namedtuple_to_dict(self.likeness) if self.likeness else None,
            "similarity": {name: namedtuple_to_dict(one) for name, one in self.similarity.items()},
            "words": {
                name: {key: namedtuple_to_dict(score) for key, score in scores.items()}
                for name, scores in self.words.items()
            },
            "pictures": [outcome_to_dict(outcome) for outcome in self.outcomes],
        }

    @cached_property
    def words(self) -> dict[str, dict[int, SpellingScore]]:
        """Of the pictures of each protocol and of the faultless ones: how words of each length were drawn."""
        if not self.settings.get("ocr"):
            return {}
        asked = [o for o in self.outcomes if o.prompt.labels.words]
        images = {f"{name} prompts": [(o.prompt, o.sight) for o in asked if o.protocol == name] for name in self.rows}
        known = [truth for truth in self.truths if truth.prompt.labels.words]
        images["true scenes"] = [(truth.prompt, truth.sight) for truth in known]
        images["VAE's copies"] = [(truth.prompt, truth.copy_sight) for truth in known]
        return {
            name: scores_by_length((prompt.id, sight.words or (), prompt.labels.words) for prompt, sight in pairs)
            for name, pairs in images.items()
            if pairs
        }

    def markdown(self) -> str:
        """The report in Markdown: its settings, the rates with their controls, and what was not measured."""
        parts = [self.summary()]
        for name, lines in self.rows.items():
            if len(self.rows) > 1:
                parts.append(f"## Given the {name} prompts")
            parts.append(markdown_table(TITLES, [[key, *rate_cells(row)] for key, row in lines.items()]))
            parts += ["### Atoms", atom_markdown(self.atoms[name])]
            if rates := self.seed_differences.get(name):
                parts += ["### Differences between seeds", seed_difference_markdown(rates)]
        if self.words:
            parts += ["## Drawn words, by length", word_length_table(self.words)]
        if self.similarity:
            parts += ["## Similarity to the prompts, by a captioner", similarities(self.similarity)]
        if self.likeness:
            parts += ["## Likeness to true pictures", self.likeness.markdown()]
        if self.unmeasured:
            parts += ["## Not measured", "\n".join(f"- {line}" for line in self.unmeasured)]
        return "\n\n".join(parts) + "\n"

    def summary(self) -> str:
        """The settings in a sentence or two."""
        used = self.settings
        height, width = used["size"]
        psnr = "" if self.psnr is None else f" The VAE's copies of true scenes: {self.psnr:.1f} dB."
        return (
            f"{used['prompts']} prompts, {used['seeds']} picture{'s' * (used['seeds'] > 1)} each (seed {used['seed']}) "
            f"at {width}x{height}; {used['steps']} steps of {used['sampler']}, guidance {used['guidance_scale']:g}, "
            f"decoder {used['decoder']}; "
            f"release {used['checkpoint'][:10] or 'in memory'}.{psnr}"
        )

    def sheets(self) -> dict[str, Image.Image]:
        """The best, the median and the worst pictures: by the share of checks that hold, then by clearness."""
        ranked = sorted(self.outcomes, key=lambda one: one.quality, reverse=True)
        middle = max(0, (len(ranked) - SHOWN) // 2)
        parts = {"best": ranked[:SHOWN], "median": ranked[middle : middle + SHOWN], "worst": ranked[-SHOWN:]}
        return {name: outcome_sheet(f"{name} of {len(ranked)}", part) for name, part in parts.items()}


TITLES = (
    "",
    "prompts",
    "right",
    "95 % interval",
    "seen",
    "held out",
    "shuffled prompts",
    "true scenes",
    "VAE's copies",
)


def rate_cells(row: RateRow) -> list[str]:
    """The cells of a row of the table."""
    parts = [format_percent(rate.value) if rate else "-" for rate in (row.seen, row.held_out)]
    ends = [format_percent(value) if value is not None else "-" for value in (row.ceiling, row.copies)]
    return [
        str(row.model.prompts),
        format_percent(row.model.value),
        format_interval(row.model),
        *parts,
        format_control(row.shuffled),
        *ends,
    ]


def word_length_table(scores_by_source: Mapping[str, Mapping[int, SpellingScore]]) -> str:
    """A table of words of each length in each set of pictures: exact ones, and the character error rate."""
    rate = ("95 % interval", "shuffled prompts")
    titles = ["letters", "pictures", "words", "exact", *rate, "character errors", *rate]
    lines = []
    for length in sorted({length for scores in scores_by_source.values() for length in scores}):
        for name, score in ((name, scores[length]) for name, scores in scores_by_source.items() if length in scores):
            exact = (
                format_percent(score.exact.value),
                format_interval(score.exact),
                format_control(score.shuffled_exact),
            )
            errors = (
                format_percent(score.error_rate.value),
                format_interval(score.error_rate),
                format_control(score.shuffled_error_rate),
            )
            lines.append([str(length), name, str(score.words), *exact, *errors])
    return markdown_table(titles, lines)


def namedtuple_to_dict(value: Any) -> Any:
    """Named tuples as JSON objects, all the way down."""
    if hasattr(value, "_asdict"):
        return {
            key: namedtuple_to_dict(item) for key, item in value._asdict().items() if not isinstance(item, np.ndarray)
        }
    return value


def outcome_to_dict(outcome: Outcome) -> dict[str, Any]:
    """The outcome of one picture in plain values, as a report has it."""
    prompt = outcome.prompt
    atoms = read_atoms(prompt.id, prompt.labels, outcome.sight)
    return {
        "id": prompt.id,
        "kind": prompt.kind,
        "group": prompt.group,
        "held_out": prompt.held_out,
        "prompt": prompt.text,
        "protocol": outcome.protocol,
        "round": outcome.round,
        "seed": outcome.seed,
        "read": str(outcome.sight.reading),
        "words": list(outcome.sight.words or ()),
        "checks": outcome.checks,
        "right": outcome.right,
        "atoms": atoms_to_list(atoms) if atoms else [],
    }


def outcome_sheet(title: str, outcomes: Sequence[Outcome]) -> Image.Image:
    """Pictures above their prompts and what was read in them, with the checks that failed."""
    cells = []
    for one in outcomes:
        failed = [name for name, passed in one.checks.items() if not passed]
        read = ", ".join([str(one.sight.reading), *(f'"{word}"' for word in one.sight.words or ())])
        lines = [SheetLine(one.prompt.text), SheetLine(f"read: {read}", RED if failed else GREEN)]
        lines += [SheetLine(f"wrong: {', '.join(failed)}", RED)] if failed else []
        cells.append(SheetCell(Image.fromarray(one.image), tuple(lines)))
    return draw_sheet(cells, columns=4, title=title)
