"""Draws docs/images/demo_grid.png: 32 fixed prompts, the last 16 of them of held-out scenes, with random seeds.

    python scripts/demo_grid.py [--checkpoint demo] [--seed N]

Nothing is chosen: the prompts are the first of a fixed draw, the seeds are drawn anew each time and written under the
pictures, where `dalle3-jax sample --prompt ... --seed ...` makes each of them again.
"""

import argparse
import secrets
from pathlib import Path

from dalle3_jax.data.scenes import FIRST
from dalle3_jax.evaluation.suites import sample_prompts
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import FAINT, SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.pipeline.progress_bar import progress_bar

DRAW = 32  # the seed of the prompts, which the score does not use
TITLE = "The demo model: 16 prompts of the training distribution, then 16 of held-out combinations; random seeds"


def main() -> None:
    """Make the pictures and write the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="seed of the first picture")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "images" / "demo_grid.png")
    arguments = parser.parse_args()
    pipeline = Pipeline.load(arguments.checkpoint)
    chosen = [
        (split, prompt.text)
        for split in ("train", "held_out")
        for prompt in sample_prompts(FIRST, 16, seed=DRAW, split=split)
    ]
    with progress_bar() as (_, progress):
        pictures = pipeline([text for _, text in chosen], seed=arguments.seed, progress=progress)
    cells = []
    for (split, text), picture in zip(chosen, pictures, strict=True):
        note = f"{'held out, ' if split == 'held_out' else ''}seed {picture.seed}"
        cells.append(SheetCell(picture.image, (SheetLine(text), SheetLine(note, FAINT))))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out, encode_png(draw_sheet(cells, columns=8, title=TITLE)))
    print(arguments.out)


if __name__ == "__main__":
    main()
