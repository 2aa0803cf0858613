"""Writes a page on which people vote between the pictures of two systems, without knowing which is whose.

The folder is all there is: `index.html` opens from the disk and loads nothing but the pictures beside it. Votes stay in
the reader's browser until they are downloaded, as the file that `votes.read_votes` reads.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.png import encode_png

TEMPLATE = Path(__file__).with_suffix(".html")
QUESTION = "Which picture shows better what the text says?"


def write_vote_page(
    folder: str | Path,
    systems: Mapping[str, Sequence[Image.Image]],
    prompts: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
    question: str = QUESTION,
) -> Path:
    """Writes `index.html` and the pictures, and returns its path; `prompts` are (id, text), a picture each per system.

    Every prompt is asked once for each two systems; the order of the questions and the sides are drawn from `seed`.
    Names of files say nothing, and the pictures keep no record of how they were made. The systems' names are in the
    page, since its votes name them, but in base64: no glance gives them away.
    Raises ValueError for what cannot be shown, and for a folder that holds something already.
    """
    folder = Path(folder)
    if errors := _page_errors(folder, systems, prompts):
        raise ValueError("; ".join(errors))
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names = [str(name) for name in random.permutation(list(systems))]
    files = _file_names(names, len(prompts), random)
    hidden = base64.b64encode(json.dumps(names).encode()).decode()
    data = {"question": question, "systems": hidden, "pairs": _vote_pairs(prompts, files, random)}
    digest = hashlib.sha256(json.dumps(data).encode())  # of the pixels too: votes kept for other pictures are not these
    for name, row in zip(names, files, strict=True):
        for image, file in zip(systems[name], row, strict=True):
            pixels = encode_png(Image.fromarray(np.asarray(image.convert("RGB"))))
            digest.update(pixels)
            write_whole(folder / file, pixels)
    data["id"] = digest.hexdigest()[:16]
    # A "<" could end the script that holds the data.
    page = TEMPLATE.read_text(encoding="utf-8").replace("@DATA@", json.dumps(data).replace("<", "\\u003c"))
    write_whole(folder / "index.html", page.encode())
    return folder / "index.html"


def _file_names(names: Sequence[str], count: int, random: np.random.Generator) -> list[list[str]]:
    """A name for each system and prompt, in an order that follows neither."""
    numbers = random.permutation(len(names) * count).reshape(len(names), count)
    return [[f"{number:05d}.png" for number in row] for row in numbers.tolist()]


def _vote_pairs(
    prompts: Sequence[tuple[str, str]], files: Sequence[Sequence[str]], random: np.random.Generator
) -> list[dict[str, Any]]:
    """The questions in the order they are asked: a prompt, and [file, number of its system] for either side."""
    pairs = []
    for index, (name, text) in enumerate(prompts):
        for two in combinations(range(len(files)), 2):
            left, right = ([files[system][index], system] for system in random.permutation(two).tolist())
            pairs.append({"prompt": name, "text": text, "left": left, "right": right})
    return [pairs[i] for i in random.permutation(len(pairs))]


def _page_errors(
    folder: Path, systems: Mapping[str, Sequence[Image.Image]], prompts: Sequence[tuple[str, str]]
) -> list[str]:
    """Everything that keeps a page from being written."""
    errors = []
    if len(systems) < 2:
        errors.append(f"systems {', '.join(systems) or 'none'}: two at least are needed to choose between")
    if not prompts:
        errors.append("no prompts: at least one is needed")
    if "" in systems or any(not name for name, _ in prompts):
        errors.append("an empty name of a system or prompt: votes would not say whose they are")
    if len(set(prompts)) != len({name for name, _ in prompts}):
        errors.append("one id stands for several texts: give every prompt its own")
    for name, images in systems.items():
        if len(images) != len(prompts):
            errors.append(f"{len(images)} pictures of {name} for {len(prompts)} prompts: one each is needed")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        errors.append(f"{folder} is not an empty folder: name a new one")
    return errors
