"""How surely the meter notices what is wrong: python scripts/reader_alarm.py [--count 800] [--no-words]

The true scenes of the suite are spoilt one thing at a time (places swapped, one thing more or less, another style,
tint or background, a misspelt word), drawn, read by the scene reader and the OCR, and judged by their prompts. Printed
are the share that is scored as wrong (95 % or more is wanted) and, since some untouched scenes are too, the share in
which the very check that the fault is about holds no longer, of the scenes in which it held. The last line judges
untouched scenes by every other prompt.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from dalle3_jax.data.draws import choose, uniform
from dalle3_jax.data.scenes import WHOLE, Scene, render_scene
from dalle3_jax.evaluation.checks import ImageReading, passes_all_checks, run_checks
from dalle3_jax.evaluation.prompts import Labels, Prompt
from dalle3_jax.evaluation.score import read_images
from dalle3_jax.evaluation.statistics import Rate, bootstrap, shuffled_rate
from dalle3_jax.evaluation.suites import load_suite, pick_evenly
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table
from dalle3_jax.reading.ocr import Ocr, find_ocr
from dalle3_jax.reading.scene_reader import Reader

SIZES = {True: (128, 128), False: (96, 176)}
Perturb = Callable[[Scene, Labels, str], Scene | None]
"""(scene, labels, key) -> the scene with one thing wrong, None where that would be nothing wrong."""


def swap_places(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The first and the last object have changed places, where the prompt relates them."""
    if not labels.relations:
        return None
    a, *_, b = scene.objects
    moved = {id(a): replace(a, cell=b.cell), id(b): replace(b, cell=a.cell)}
    return replace(scene, objects=tuple(moved.get(id(placed), placed) for placed in scene.objects))


def remove_object(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The last object is gone."""
    return replace(scene, objects=scene.objects[:-1]) if len(scene.objects) > 1 else None


def add_object(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """One object more, of the first one's concept, where nothing else stands."""
    if not scene.objects:
        return None
    first = scene.objects[0]
    side = min(first.cell.size, 0.3)
    corners = [(x, y) for x in (0.15, 0.5, 0.85) for y in (0.2, 0.5, 0.8)]
    free = [
        (x, y)
        for x, y in corners
        if all(max(abs(o.cell.x - x), abs(o.cell.y - y)) > (o.cell.size + side) / 2 for o in scene.objects)
        and not any((word.slot == "top") == (y < 0.5) and y != 0.5 for word in scene.words)
    ]
    if not free:
        return None
    x, y = choose(free, key, "corner")
    cell = replace(first.cell, x=x, y=y, size=side)
    return replace(scene, objects=(*scene.objects, replace(first, cell=cell)))


def change_style(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """Another style, where the prompt names one."""
    others = [style for style in WHOLE.styles if style != scene.style]
    return replace(scene, style=choose(others, key, "style")) if labels.style else None


def change_tint(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The first tinted object in another tint."""
    for i, placed in enumerate(scene.objects):
        others = [tint for tint in WHOLE.concept(placed.concept).tints if tint != placed.tint]
        if placed.tint and others and any(wanted.tint for wanted in labels.objects):
            new = replace(placed, tint=choose(others, key, "tint"))
            return replace(scene, objects=(*scene.objects[:i], new, *scene.objects[i + 1 :]))
    return None


def change_background(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """Another background, where the prompt names one."""
    others = [row.name for row in WHOLE.backgrounds if row.name != scene.background]
    return replace(scene, background=choose(others, key, "background")) if labels.background else None


def misspell_word(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """One letter of the first word is another."""
    if not labels.words:
        return None
    word, *others = scene.words
    at = int(uniform(key, "letter") * len(word.text))
    letters = "abcdefghijklmnopqrstuvwxyz"
    new = choose([letter for letter in letters if letter != word.text[at].lower()], key, "other")
    new = new.upper() if word.text[at].isupper() else new
    spelt = replace(word, text=word.text[:at] + new + word.text[at + 1 :])
    return replace(scene, words=(spelt, *others))


FAULTS: dict[str, tuple[Perturb, str]] = {
    "places swapped": (swap_places, "relations"),
    "one fewer": (remove_object, "counts"),
    "one more": (add_object, "counts"),
    "another style": (change_style, "style"),
    "another tint": (change_tint, "tints"),
    "another background": (change_background, "background"),
    "a misspelt word": (misspell_word, "words"),
}
"""Fault -> what makes it, and the check that it is about."""


def read_scenes(reader: Reader, ocr: Ocr | None, prompts: list[Prompt], scenes: list[Scene]) -> list[ImageReading]:
    """What is read in the drawn scenes, each of the aspect of its prompt."""
    sizes = [SIZES[p.aspect == (1, 1)] if p.aspect[0] >= p.aspect[1] else SIZES[False][::-1] for p in prompts]
    images = [render_scene(WHOLE, scene, *size) for scene, size in zip(scenes, sizes, strict=True)]
    return read_images(reader, ocr, images, [bool(prompt.labels.words) for prompt in prompts])


def failure_rate(results: Iterable[dict[str, bool]]) -> Rate:
    """The share of pictures in which not all checks hold."""
    return bootstrap(np.array([not all(checks.values()) for checks in results]))


def table_line(name: str, rate: Rate, noticed: Rate | None = None) -> list[str]:
    """A line of the table."""
    return [
        name,
        str(rate.prompts),
        f"{format_percent(rate.value)} ({format_interval(rate)})",
        f"{format_percent(noticed.value)} ({format_interval(noticed)}) of {noticed.prompts}" if noticed else "-",
    ]


def main() -> None:
    """Draws, reads and judges."""
    parser = argparse.ArgumentParser(description="How surely the meter notices what is wrong.")
    parser.add_argument("--count", type=int, default=800, help="prompts of the suite (default all 800)")
    parser.add_argument("--no-words", action="store_true", help="leave out what needs the OCR")
    parser.add_argument("--reader", default="reader", help="release of a scene reader (default: the shipped)")
    arguments = parser.parse_args()
    reader, ocr = Reader.load(arguments.reader), None if arguments.no_words else find_ocr()
    prompts = [prompt for prompt in pick_evenly(load_suite(), arguments.count) if prompt.scene]
    sights = read_scenes(reader, ocr, prompts, [prompt.scene for prompt in prompts if prompt.scene])
    before = {prompt.id: run_checks(sight, prompt.labels) for prompt, sight in zip(prompts, sights, strict=True)}
    lines = [table_line("nothing wrong", failure_rate(before.values()))]
    for name, (doctor, check) in tqdm(FAULTS.items(), unit="fault"):
        rows = [(prompt, doctor(prompt.scene, prompt.labels, prompt.id)) for prompt in prompts if prompt.scene]
        spoilt = [(prompt, scene) for prompt, scene in rows if scene and check in before[prompt.id]]
        if not spoilt:
            continue
        kept, scenes = map(list, zip(*spoilt, strict=True))
        after = [
            run_checks(sight, p.labels) for p, sight in zip(kept, read_scenes(reader, ocr, kept, scenes), strict=True)
        ]
        noticed = [not checks[check] for p, checks in zip(kept, after, strict=True) if before[p.id][check]]
        lines.append(table_line(name, failure_rate(after), bootstrap(np.array(noticed))))
    others = shuffled_rate(passes_all_checks, sights, [prompt.labels for prompt in prompts])
    lines.append(
        table_line("another prompt", Rate(1.0 - others.value, 1.0 - others.high, 1.0 - others.low, others.prompts))
    )
    print(markdown_table(["true scenes with", "scenes", "scored as wrong", "by the check it is about"], lines))


if __name__ == "__main__":
    main()
