"""Draws prompts as people type them into one sheet, judged by the reader of scenes where it can:

    python -m scripts.visitors_sheet [--checkpoint demo] [--upsample template] [--seed 0] [--out runs/visitors.png]

Below each picture stand its prompt, the revised one where there is one, and what the reader says: green where all that
it can check is there, red with what is wrong; "by eye" where the prompt asks for what no label can say. Nothing is
chosen: every prompt of the file (docs/visitors.txt) has one picture, with the seed of the first plus its place.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.evaluation.checks import ImageReading, run_checks
from dalle3_jax.evaluation.prompt_labels import label_prompt
from dalle3_jax.evaluation.prompts import Labels
from dalle3_jax.evaluation.score import read_images
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.batching import Progress
from dalle3_jax.pipeline.contact_sheet import FAINT, GREEN, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.jobs import read_prompt_lines
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.prompting.scene_lexicon import training_lexicon, world_lexicon
from dalle3_jax.prompting.upsampler import template_backend, upsample
from dalle3_jax.reading.ocr import Ocr, find_ocr
from dalle3_jax.reading.scene_reader import Reader

ROOT = Path(__file__).parents[1]


class Drawn(NamedTuple):
    """A prompt, what was drawn in its place, what it asks for (None: only the eye can say), and its picture."""

    prompt: str
    revised: str
    labels: Labels | None
    image: np.ndarray
    sight: ImageReading

    @property
    def right(self) -> bool | None:
        """Whether all is there that can be checked; None where nothing can."""
        checks = run_checks(self.sight, self.labels) if self.labels else {}
        return all(checks.values()) if checks else None


def main() -> None:
    """Make the pictures, write the sheet and print how many the reader finds right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--prompts", type=Path, default=ROOT / "docs" / "visitors.txt", help="one prompt a line")
    parser.add_argument("--upsample", choices=("none", "template"), default="none", help="rewrite the prompts before")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first picture (default 0)")
    parser.add_argument("--reader", default="reader", help="release of a scene reader (default: the shipped)")
    parser.add_argument("--columns", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "visitors.png")
    arguments = parser.parse_args()
    prompts = [line.settings["prompt"] for line in read_prompt_lines([], str(arguments.prompts))]
    pipeline, reader = Pipeline.load(arguments.checkpoint), Reader.load(arguments.reader)
    with progress_bar() as (_, progress):
        found = draw_prompts(pipeline, reader, find_ocr(), prompts, arguments.upsample, arguments.seed, progress)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, encode_png(visitors_sheet(found, arguments.columns)))
    print(f"{arguments.out}: {summary(found)}")


def draw_prompts(
    pipeline: Pipeline,
    reader: Reader,
    ocr: Ocr | None,
    prompts: Sequence[str],
    upsampling: str = "none",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Drawn]:
    """A picture of every prompt, read."""
    lexicon = training_lexicon(pipeline.release.training)
    revised = [
        upsample(prompt, template_backend(lexicon), lexicon=lexicon).revised if upsampling == "template" else prompt
        for prompt in prompts
    ]
    requests = [pipeline.request(text, seed=seed + i) for i, text in enumerate(revised)]
    made = dict(pipeline.generate(requests, progress=progress))
    images = [np.asarray(made[i].image) for i in range(len(requests))]
    labels = [label_prompt(prompt, world_lexicon(WHOLE)) for prompt in prompts]
    sights = read_images(reader, ocr, images, [bool(wanted and wanted.words) for wanted in labels])
    return [Drawn(*row) for row in zip(prompts, revised, labels, images, sights, strict=True)]


def visitors_sheet(found: Sequence[Drawn], columns: int) -> Image.Image:
    """The pictures with their prompts and what the reader says of them."""
    return draw_sheet(
        [SheetCell(Image.fromarray(one.image), sheet_lines(one)) for one in found],
        columns=columns,
        width=176,
        font_size=13,
        title=summary(found),
    )


def sheet_lines(one: Drawn) -> tuple[SheetLine, ...]:
    """What stands below a picture."""
    lines = [SheetLine(one.prompt)]
    if one.revised != one.prompt:
        lines.append(SheetLine(f"-> {one.revised}", FAINT))
    if one.right is None or one.labels is None:
        return (*lines, SheetLine("by eye", FAINT))
    wrong = [name for name, passed in run_checks(one.sight, one.labels).items() if not passed]
    seen = ", ".join([str(one.sight.reading), *(f'"{word}"' for word in one.sight.words or ())])
    lines.append(SheetLine(f"read: {seen}", RED if wrong else GREEN))
    return (*lines, SheetLine(f"wrong: {', '.join(wrong)}", RED)) if wrong else tuple(lines)


def summary(found: Sequence[Drawn]) -> str:
    """How many are right, of those that the reader can judge."""
    judged = [one.right for one in found if one.right is not None]
    return (
        f"{len(found)} prompts; right by the reader: {sum(judged)} of {len(judged)}; by eye: {len(found) - len(judged)}"
    )


if __name__ == "__main__":
    main()
