"""How surely the meter notices what is wrong: python scripts/reader_alarm.py [--count 600] [--no-words]

The true scenes of the suite are spoilt one thing at a time (places swapped, one thing more or less, another style,
tint or background, a misspelt word), drawn, read by the scene reader and the OCR, and judged by their prompts. Printed
is the share that is scored as wrong (95 % or more is wanted), and how many untouched scenes are too.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace

from tqdm import tqdm

from dalle3_jax.data.draws import choose, uniform
from dalle3_jax.data.scenes import WHOLE, Scene, render
from dalle3_jax.evaluation.checks import right
from dalle3_jax.evaluation.detector import Reader
from dalle3_jax.evaluation.ocr import find_ocr
from dalle3_jax.evaluation.prompts import Labels, Prompt
from dalle3_jax.evaluation.report import percent, table
from dalle3_jax.evaluation.suite import look
from dalle3_jax.evaluation.suites import some, suite

SIZES = {True: (128, 128), False: (96, 176)}
Doctor = Callable[[Scene, Labels, str], Scene | None]
"""(scene, labels, key) -> the scene with one thing wrong, None where that would be nothing wrong."""


def untouched(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """As it is."""
    return scene


def swapped(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The first two concepts have changed places, where the prompt relates them."""
    if not labels.relations:
        return None
    a, *_, b = scene.objects
    moved = {id(a): replace(a, cell=b.cell), id(b): replace(b, cell=a.cell)}
    return replace(scene, objects=tuple(moved.get(id(placed), placed) for placed in scene.objects))


def fewer(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The last object is gone."""
    return replace(scene, objects=scene.objects[:-1]) if len(scene.objects) > 1 else None


def more(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """One object more, of the first one's concept, where nothing else stands."""
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


def restyled(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """Another style, where the prompt names one."""
    others = [style for style in WHOLE.styles if style != scene.style]
    return replace(scene, style=choose(others, key, "style")) if labels.style else None


def retinted(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """The first tinted object in another tint."""
    for i, placed in enumerate(scene.objects):
        others = [tint for tint in WHOLE.concept(placed.concept).tints if tint != placed.tint]
        if placed.tint and others and any(wanted.tint for wanted in labels.objects):
            new = replace(placed, tint=choose(others, key, "tint"))
            return replace(scene, objects=(*scene.objects[:i], new, *scene.objects[i + 1 :]))
    return None


def elsewhere(scene: Scene, labels: Labels, key: str) -> Scene | None:
    """Another background, where the prompt names one."""
    others = [row.name for row in WHOLE.backgrounds if row.name != scene.background]
    return replace(scene, background=choose(others, key, "background")) if labels.background else None


def misspelt(scene: Scene, labels: Labels, key: str) -> Scene | None:
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


DOCTORS: dict[str, Doctor] = {
    "untouched": untouched,
    "places swapped": swapped,
    "one fewer": fewer,
    "one more": more,
    "another style": restyled,
    "another tint": retinted,
    "another background": elsewhere,
    "a misspelt word": misspelt,
}


def spoilt(prompts: list[Prompt], doctor: Doctor) -> Iterator[tuple[Prompt, Scene]]:
    """The prompts whose scene can be spoilt so, with the spoilt scene."""
    for prompt in prompts:
        scene = doctor(prompt.scene, prompt.labels, prompt.id) if prompt.scene else None
        if scene is not None:
            yield prompt, scene


def main() -> None:
    """Draws, reads and judges."""
    parser = argparse.ArgumentParser(description="How surely the meter notices what is wrong.")
    parser.add_argument("--count", type=int, default=600, help="prompts of the suite (default all 600)")
    parser.add_argument("--no-words", action="store_true", help="leave out what needs the OCR")
    parser.add_argument("--reader", default="reader", help="release of a scene reader (default: the shipped)")
    arguments = parser.parse_args()
    reader, ocr = Reader.load(arguments.reader), None if arguments.no_words else find_ocr()
    prompts, lines = some(suite(), arguments.count), []
    for name, doctor in tqdm(DOCTORS.items(), unit="fault"):
        rows = list(spoilt(prompts, doctor))
        if not rows or (name == "a misspelt word" and ocr is None):
            continue
        sizes = [SIZES[p.aspect == (1, 1)] if p.aspect[0] >= p.aspect[1] else SIZES[False][::-1] for p, _ in rows]
        images = [render(WHOLE, scene, *size) for (_, scene), size in zip(rows, sizes, strict=True)]
        sights = look(reader, ocr, images, [bool(prompt.labels.words) for prompt, _ in rows])
        wrong = sum(not right(sight, prompt.labels) for sight, (prompt, _) in zip(sights, rows, strict=True))
        lines.append([name, str(len(rows)), percent(wrong / len(rows))])
    print(table(["true scenes with", "scenes", "scored as wrong"], lines))


if __name__ == "__main__":
    main()
