"""The upsampler on 200 prompts of the committed suite: what is kept, how long prompts get, pictures before and after.

    python -m scripts.upsampling                             # the table
    python -m scripts.upsampling --outdir OUT --count 24     # also pictures of the demo's world, with their measures

Pictures are of held-out scenes that the demo knows, asked for shortly ("a panda and an apple on a beach") and at
length.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from dalle3_jax.data.scenes import FIRST, WHOLE, World
from dalle3_jax.evaluation.prompts import Prompt, Wanted
from dalle3_jax.evaluation.suites import drawn, some, suite
from dalle3_jax.evaluation.tables import percent, table
from dalle3_jax.prompting.lexicon import NUMBERS
from dalle3_jax.prompting.scene_lexicon import lexicon_of
from dalle3_jax.prompting.upsampler import Revised, template, upsample


def main() -> None:
    """Print the table; with --outdir draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="prompts (default 200)")
    parser.add_argument("--outdir", type=Path, help="draw pictures before and after into this folder")
    arguments = parser.parse_args()
    if arguments.outdir is None:
        print(kinds(some(suite(), arguments.count), WHOLE))
    else:
        compare(arguments.outdir, arguments.count)


def revise(prompt: Prompt, world: World) -> Revised:
    """A prompt by the template backend."""
    lexicon = lexicon_of(world)
    return upsample(prompt.text, template(lexicon), lexicon=lexicon)


def kinds(prompts: list[Prompt], world: World) -> str:
    """A row a kind of prompt: how many keep everything, how many are left as they were, words before and after."""
    rows = []
    groups = {"all": prompts} | {
        kind: [p for p in prompts if p.kind == kind] for kind in dict.fromkeys(p.kind for p in prompts)
    }
    for name, group in groups.items():
        made = [revise(prompt, world) for prompt in group]
        kept = sum(not one.notice for one in made)
        same = sum(one.revised == one.prompt for one in made)
        cells = [name, str(len(group)), f"{kept} ({percent(kept / len(group))})", str(same)]
        rows.append([*cells, lengths([one.prompt for one in made]), lengths([one.revised for one in made])])
    return table(["prompts", "number", "revised and all kept", "drawn as they were", "words before", "after"], rows)


def lengths(texts: list[str]) -> str:
    """Least, median and most words."""
    counts = sorted(len(text.split()) for text in texts)
    return f"{counts[0]} / {int(np.median(counts))} / {counts[-1]}"


def compare(folder: Path, count: int) -> None:
    """Pictures of short prompts and of their revisions by the demo, read by the scene reader."""
    from PIL import Image

    from dalle3_jax.evaluation.checks import judge, right
    from dalle3_jax.evaluation.score import look
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.contact_sheet import GREEN, RED, Cell, Line, sheet
    from dalle3_jax.reading.scene_reader import Reader

    prompts = [shortly(prompt) for prompt in drawn(FIRST, count)]
    pipeline, reader = Pipeline.load("demo"), Reader.load()
    texts = {"as asked": [p.text for p in prompts], "upsampled": [revise(p, FIRST).revised for p in prompts]}
    cells, rows = [], []
    for name, lines in texts.items():
        requests = [pipeline.request(text, seed=i) for i, text in enumerate(lines)]
        made = dict(pipeline.generate(requests))
        images = [np.asarray(made[i].image) for i in range(len(lines))]
        sights = look(reader, None, images, [False] * len(images))
        whole = [right(sight, p.labels) for sight, p in zip(sights, prompts, strict=True)]
        checks = [judge(sight, p.labels) for sight, p in zip(sights, prompts, strict=True)]
        named = {check: [one[check] for one in checks if check in one] for check in ("objects", "counts", "background")}
        rows.append([name, percent(float(np.mean(whole))), *(percent(float(np.mean(v))) for v in named.values())])
        cells.append(
            [
                Cell(Image.fromarray(i), (Line(t, GREEN if w else RED),))
                for i, t, w in zip(images, lines, whole, strict=True)
            ]
        )
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [cell for pair in zip(*(row[:12] for row in cells), strict=True) for cell in pair]
    sheet(pairs, columns=6, width=160, font_size=12, title="as asked, and upsampled").save(folder / "upsampled.png")
    print(table(["prompts", "wholly right", "objects", "counts", "background"], rows))


def shortly(prompt: Prompt) -> Prompt:
    """The prompt in a user's few words: what is there and where it happens, no places."""
    things = [spoken(wanted) for wanted in prompt.labels.objects]
    where = FIRST.background(prompt.labels.background).phrases[0]
    labels = replace(prompt.labels, objects=tuple(replace(w, place="") for w in prompt.labels.objects), relations=())
    return replace(prompt, text=f"{' and '.join(things)} {where}", labels=labels)


def spoken(wanted: Wanted) -> str:
    """Things with their number, as few words as it takes."""
    concept = FIRST.concept(wanted.concept)
    return f"{concept.article} {concept.name}" if wanted.count == 1 else f"{NUMBERS[wanted.count]} {concept.plural}"


if __name__ == "__main__":
    main()
