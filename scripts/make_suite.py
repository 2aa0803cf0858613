"""Writes the suite of 800 prompts: python scripts/make_suite.py [--force]

50 of each of twelve kinds, half of them held out, then 200 of `visitors`. A prompt is a scene said as people write
prompts, not in the sentences of the training captions; its labels ask for what its text names and for nothing more. A
suite written anew is another measure: the script overwrites one only by --force.
"""

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

from suite_recipes import DRAWING, MANNER, ON, RECIPES, SAID, SHAPES, TALL, WIDE, Recipe
from visitor_prompts import visitor_prompts

from dalle3_jax.data.draws import choose
from dalle3_jax.data.scenes.captions import RandomFormat, blanks, capitalise_sentences, make_captions
from dalle3_jax.data.scenes.held_out import HeldOut
from dalle3_jax.data.scenes.parts import world_of
from dalle3_jax.data.scenes.scene import Scene, sample_scene
from dalle3_jax.data.scenes.scenery import ALSO_THERE, DETAILS
from dalle3_jax.data.scenes.world import Cell, World
from dalle3_jax.evaluation.prompts import Labels, Prompt, prompt_to_json
from dalle3_jax.evaluation.suites import CAPTION, COMMITTED, is_held_out, scene_labels
from dalle3_jax.files import write_whole

SEED, EACH = 20261125, 50


def scene_aspect(shown: Scene) -> tuple[int, int]:
    """Width : height for which an arrangement is made."""
    return TALL if shown.layout in ("above", "below") or shown.layout.startswith("column") else WIDE


def words_template(shown: Scene) -> str:
    """What is said of the words of a scene; how they look is left open, and drawn with the blanks."""
    return " and ".join(f"{{on_{word.slot}}}" for word in shown.words)


def absent_concept(world: World, shown: Scene, *key: object) -> str:
    """A concept that is not there, and by no word of whose name anything there or in the background is called."""
    there = {word for name in shown.concepts for word in name.split()}
    there |= set(re.findall(r"\w{3,}", " ".join(DETAILS[shown.background])))
    return choose([row.name for row in world.concepts if not there & {*row.name.split(), *row.plural.split()}], *key)


def options(world: World, shown: Scene, absent: str) -> dict[str, tuple[str, ...]]:
    """The ways to fill each blank: those of captions, and those of people."""
    letters = words_template(shown)
    return blanks(world, shown) | {
        "said": SAID.get(shown.kind, ()),
        "between": ("between", "in between"),
        "drawing": DRAWING[shown.style],
        "manner": MANNER[shown.style],
        "letters": (letters,),
        "sign": (f"there should also be {letters}, spelt exactly like that." if letters else "",),
        "absent": (world.concept(absent).plural,),
        "shape": SHAPES[scene_aspect(shown)],
        "line": ("column" if scene_aspect(shown) == TALL else "row",),
        **{
            f"on_{word.slot}": tuple(
                way.format(text=word.text, colour=word.colour, slot=word.slot) for way in ON[word.on]
            )
            for word in shown.words
        },
    }


def named_labels(labels: Labels, used: set[str], absent: str) -> Labels:
    """What is left of a scene's labels when only what the used blanks say is asked for."""
    return replace(
        labels,
        objects=tuple(wanted if "place" in used else replace(wanted, place="") for wanted in labels.objects),
        relations=labels.relations if used & {"relation", "inverse", "between", "arrangement"} else (),
        background=labels.background if used & {"where", "scenery"} else "",
        style=labels.style if used & {"drawing", "manner"} else "",
        absent=(absent,) if "absent" in used else (),
    )


def round_cell(cell: Cell) -> Cell:
    """The cell to a thousandth of the frame: a tenth of a pixel."""
    return replace(cell, x=round(cell.x, 3), y=round(cell.y, 3), size=round(cell.size, 3))


def round_scene(shown: Scene) -> Scene:
    """The scene with its cells rounded."""
    return replace(shown, objects=tuple(replace(one, cell=round_cell(one.cell)) for one in shown.objects))


def make_candidate(kind: str, world: World, shown: Scene, split: str, index: int) -> Prompt:
    """The prompt of a kind that says a scene, the one at an index."""
    key = (world.name, split, index)
    absent = absent_concept(world, shown, *key, "absent")
    filled = RandomFormat(options(world, shown, absent), key)
    text = " ".join(choose(RECIPES[kind].patterns, *key, "pattern").format_map(filled).split())
    labels = named_labels(scene_labels(world, shown), set(filled), absent)
    return Prompt(
        id="",
        kind=kind,
        text=capitalise_sentences(text) if text.endswith(".") else text,
        labels=labels,
        held_out=is_held_out(world, labels),
        upsampled=make_captions(world, shown, SEED, index)[CAPTION],
        aspect=scene_aspect(shown) if "shape" in filled else (1, 1),
        scene=round_scene(shown),
    )


def fits_recipe(recipe: Recipe, prompt: Prompt) -> bool:
    """Whether a prompt is large enough for its recipe, and names no background that shows its objects too."""
    shown, names = prompt.labels, {wanted.concept for wanted in prompt.labels.objects}
    return (
        sum(wanted.count for wanted in shown.objects) >= recipe.objects
        and len(shown.words) >= recipe.words
        and len(prompt.text.split()) >= recipe.length
        and not names & ALSO_THERE.get(shown.background, set())
    )


def make_candidates(kind: str, split: str) -> Iterator[Prompt]:
    """Prompts of a kind that fit its recipe, its kinds of scene in turn, no text twice."""
    recipe = RECIPES[kind]
    world = world_of({"name": f"suite, {kind}", "kinds": list(recipe.kinds), **recipe.part})
    texts: set[str] = set()
    for index in count():
        turn = recipe.kinds[len(texts) % len(recipe.kinds)]
        shown = sample_scene(world, SEED, index, split)
        if shown.kind == turn:
            prompt = make_candidate(kind, world, shown, split, index)
            if fits_recipe(recipe, prompt) and prompt.held_out == (split == "held_out") and prompt.text not in texts:
                texts.add(prompt.text)
                yield prompt


def suite_prompts() -> Iterator[Prompt]:
    """The suite, kind by kind: first what training shows, then what it never shows; visitors' prompts come last."""
    for kind in RECIPES:
        half = EACH // 2
        both = [*islice(make_candidates(kind, "train"), half), *islice(make_candidates(kind, "held_out"), half)]
        yield from (replace(prompt, id=f"{kind.replace(' ', '-')}-{i:02}") for i, prompt in enumerate(both, 1))
    yield from (replace(prompt, scene=round_scene(prompt.scene)) for prompt in visitor_prompts(SEED) if prompt.scene)


def main() -> None:
    """Writes the suite beside the code that reads it."""
    parser = argparse.ArgumentParser(description="Writes the suite of 800 prompts.")
    parser.add_argument("--force", action="store_true", help="overwrite the suite that is there")
    parser.add_argument("--file", type=Path, default=COMMITTED)
    args = parser.parse_args()
    if args.file.exists() and not args.force:
        parser.error(f"{args.file} exists: --force writes it anew, and what was measured with it no longer compares")
    if world_of("whole").held_out == HeldOut():
        parser.error("nothing is held out of the whole world: run scripts/make_held_out.py whole first")
    lines = [prompt_to_json(prompt) for prompt in suite_prompts()]
    write_whole(args.file, ("\n".join(lines) + "\n").encode())
    print(f"{len(lines)} prompts in {args.file}")


if __name__ == "__main__":
    main()
