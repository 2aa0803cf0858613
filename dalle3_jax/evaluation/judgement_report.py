"""The report of a judge: rates by kinds of atoms, all answers, and a plot."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.atom_scores import atom_markdown, atom_rows, atoms_to_list
from dalle3_jax.evaluation.judge import Judge, JudgedPictures
from dalle3_jax.evaluation.report import namedtuple_to_dict
from dalle3_jax.files import write_whole

__all__ = ["write_judgement"]


def write_judgement(
    judge: Judge, judged: JudgedPictures, notes: Sequence[str], settings: Mapping[str, Any], folder: Path
) -> None:
    """Prints the table, and writes it with all answers and the plot; ValueError where nothing was judged.

    `notes` name prompts that were left out; `settings` hold the "suite", the number of "seeds", and all else to keep.
    """
    if not judged.scores:
        raise ValueError(f"no picture had all its questions answered: {judged.errors[0]}")
    rows = atom_rows(judged.scores)
    title = (
        f"{len({one.prompt for one in judged.scores})} prompts of {settings['suite']}, {settings['seeds']} a prompt, "
        f"{judged.questions} questions, judged by {judge.chat.model}"
    )
    hard = f"{judged.hard} answers came without a probability and count as 0 or 1."
    left = [*notes, *judged.errors]
    parts = [f"{title}.", atom_markdown(rows), *([hard] if judged.hard else [])]
    parts += ["## Not measured", "\n".join(f"- {line}" for line in left)] if left else []
    text = "\n\n".join(parts) + "\n"
    print(text)
    values = {
        "settings": {**settings, "judge_url": judge.chat.url, "judge_model": judge.chat.model},
        "rates": {name: namedtuple_to_dict(row) for name, row in rows.items()},
        "hard_answers": judged.hard,
        "unmeasured": left,
        "pictures": [{"id": one.prompt, "atoms": atoms_to_list(one)} for one in judged.scores],
    }
    write_whole(folder / "atoms.md", text.encode())
    write_whole(folder / "atoms.json", (json.dumps(values, indent=1, allow_nan=False) + "\n").encode())
    if plots.has_matplotlib():
        write_whole(folder / "atoms.png", plots.atoms_figure(rows, title))
    print(f"wrote {folder}/atoms.md, atoms.json, the plot, the pictures and the answers")
