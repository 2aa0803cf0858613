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
from dalle3_jax.evaluation.prompts import Prompt, RequestedObject
from dalle3_jax.evaluation.suites import load_suite, pick_evenly, sample_prompts
from dalle3_jax.evaluation.tables import format_percent, markdown_table
from dalle3_jax.prompting.lexicon import NUMBERS
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.upsampler import RevisedPrompt, template_backend, upsample


def main() -> None:
    """Print the table; with --outdir draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="prompts (default 200)")
    parser.add_argument("--outdir", type=Path, help="draw pictures before and after into this folder")
    arguments = parser.parse_args()
    if arguments.outdir is None:
        print(table_by_kind(pick_evenly(load_suite(), arguments.count), WHOLE))
    else:
        compare_images(arguments.outdir, arguments.count)


def revise_prompt(prompt: Prompt, world: World) -> RevisedPrompt:
    """A prompt by the template backend."""
    lexicon = world_lexicon(world)
    return upsample(prompt.text, template_backend(lexicon), lexicon=lexicon)


def table_by_kind(prompts: list[Prompt], world: World) -> str:
    """A row a kind of prompt: how many keep everything, how many are left as they were, words before and after."""
    rows = []
    groups = {"all": prompts} | {
        kind: [p for p in prompts if p.kind == kind] for kind in dict.fromkeys(p.kind for p in prompts)
    }
    for name, group in groups.items():
        made = [revise_prompt(prompt, world) for prompt in group]
        kept = sum(not one.notice for one in made)
        same = sum(one.revised == one.prompt for one in made)
        cells = [name, str(len(group)), f"{kept} ({format_percent(kept / len(group))})", str(same)]
        rows.append([*cells, word_counts([one.prompt for one in made]), word_counts([one.revised for one in made])])
    return markdown_table(
        ["prompts", "number", "revised and all kept", "drawn as they were", "words before", "after"], rows
    )


def word_counts(texts: list[str]) -> str:
    """Least, median and most words."""
    counts = sorted(len(text.split()) for text in texts)
    return f"{counts[0]} / {int(np.median(counts))} / {counts[-1]}"


def compare_images(folder: Path, count: int) -> None:
    """Pictures of short prompts and of their revisions by the demo, read by the scene reader."""
    from PIL import Image

    from dalle3_jax.evaluation.checks import passes_all_checks, run_checks
    from dalle3_jax.evaluation.score import read_images
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet
    from dalle3_jax.reading.scene_reader import Reader

    prompts = [shorten_prompt(prompt) for prompt in sample_prompts(FIRST, count)]
    pipeline, reader = Pipeline.load("demo"), Reader.load()
    texts = {"as asked": [p.text for p in prompts], "upsampled": [revise_prompt(p, FIRST).revised for p in prompts]}
    cells, rows = [], []
    for name, lines in texts.items():
        requests = [pipeline.request(text, seed=i) for i, text in enumerate(lines)]
        made = dict(pipeline.generate(requests))
        images = [np.asarray(made[i].image) for i in range(len(lines))]
        sights = read_images(reader, None, images, [False] * len(images))
        whole = [passes_all_checks(sight, p.labels) for sight, p in zip(sights, prompts, strict=True)]
        checks = [run_checks(sight, p.labels) for sight, p in zip(sights, prompts, strict=True)]
        named = {check: [one[check] for one in checks if check in one] for check in ("objects", "counts", "background")}
        rows.append(
            [name, format_percent(float(np.mean(whole))), *(format_percent(float(np.mean(v))) for v in named.values())]
        )
        cells.append(
            [
                SheetCell(Image.fromarray(i), (SheetLine(t, GREEN if w else RED),))
                for i, t, w in zip(images, lines, whole, strict=True)
            ]
        )
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [cell for pair in zip(*(row[:12] for row in cells), strict=True) for cell in pair]
    draw_sheet(pairs, columns=6, width=160, font_size=12, title="as asked, and upsampled").save(
        folder / "upsampled.png"
    )
    print(markdown_table(["prompts", "wholly right", "objects", "counts", "background"], rows))


def shorten_prompt(prompt: Prompt) -> Prompt:
    """The prompt in a user's few words: what is there and where it happens, no places."""
    things = [name_objects(wanted) for wanted in prompt.labels.objects]
    where = FIRST.background(prompt.labels.background).phrases[0]
    labels = replace(prompt.labels, objects=tuple(replace(w, place="") for w in prompt.labels.objects), relations=())
    return replace(prompt, text=f"{' and '.join(things)} {where}", labels=labels)


def name_objects(objects: RequestedObject) -> str:
    """Things with their number, as few words as it takes."""
    concept = FIRST.concept(objects.concept)
    return f"{concept.article} {concept.name}" if objects.count == 1 else f"{NUMBERS[objects.count]} {concept.plural}"


if __name__ == "__main__":
    main()
