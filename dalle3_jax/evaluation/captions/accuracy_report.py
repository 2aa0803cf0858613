"""The report of how true captions are: tables, all captions, and a sheet; and a captioner as a CLIP."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import world_of
from dalle3_jax.evaluation.captions.accuracy import (
    CaptionScores,
    caption_scores_markdown,
    examples_sheet,
    retrieval_rate,
)
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.png import encode_png

__all__ = ["accuracy_markdown", "captioner_similarity", "world_title", "write_accuracy"]

SHOWN = 16  # pictures on the sheet


def captioner_similarity(
    model: CaptionModel, version: str, pictures: Sequence[np.ndarray], records: Sequence[Record]
) -> dict[str, Any]:
    """The captioner as a CLIP: similarity of pictures with their exact captions and with others', and retrieval."""
    texts = [record.captions.get(version, record.captions["alt"]) for record in records]
    images, vectors = model.image_vectors(pictures), model.text_vectors(texts)
    own = 100 * np.einsum("nv,nv->n", images, vectors)
    others = 100 * np.einsum("nv,nv->n", images, np.roll(vectors, 1, 0))
    return {"own": float(own.mean()), "others": float(others.mean()), "retrieval": retrieval_rate(images, vectors)}


def accuracy_markdown(
    title: str, results: Mapping[str, CaptionScores], likeness: Mapping[str, Mapping[str, Any]]
) -> str:
    """The tables of how true captions are, and where there are any, of captioners as a CLIP, under a title."""
    text = f"{title}\n\n{caption_scores_markdown(results)}\n"
    if not likeness:
        return text
    rows = [
        [
            version,
            f"{one['own']:.1f}",
            f"{one['others']:.1f}",
            f"{format_percent(one['retrieval'].value)} ({format_interval(one['retrieval'])})",
        ]
        for version, one in likeness.items()
    ]
    titles = ["100 x cosine", "own caption", "another's", "own nearest of 16"]
    return f"{text}\n{markdown_table(titles, rows)}\n"


def write_accuracy(
    folder: Path,
    text: str,
    title: str,
    world: str | dict[str, Any],
    records: Sequence[Record],
    captions: Mapping[str, list[str]],
    results: Mapping[str, CaptionScores],
) -> None:
    """Writes the tables, all captions with their measures, and a sheet into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    measures = {
        name: {key: {**row.rate._asdict(), "shuffled": row.shuffled} for key, row in one.rows.items()}
        for name, one in results.items()
    }
    kept = {"of": title, "measures": measures, "captions": captions, "keys": [record.key for record in records]}
    write_whole(folder / "captions.md", text.encode())
    write_whole(folder / "captions.json", (json.dumps(kept, indent=1) + "\n").encode())
    page = examples_sheet(records[:SHOWN], captions, world_of(world), title)
    write_whole(folder / "captions.png", encode_png(page))


def world_title(world: str | dict[str, Any]) -> str:
    """A world as the report calls it."""
    return f"the world {world!r}" if isinstance(world, str) else f"a part of the world {world.get('of', 'whole')!r}"
