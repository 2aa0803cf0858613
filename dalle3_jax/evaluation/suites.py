"""Suites of prompts: the committed one, and those drawn from a world of scenes."""

from collections import Counter
from collections.abc import Sequence
from itertools import count as numbers
from pathlib import Path

from dalle3_jax.data.scenes.captions import make_captions
from dalle3_jax.data.scenes.held_out import HeldOut
from dalle3_jax.data.scenes.scene import Scene, sample_scene
from dalle3_jax.data.scenes.world import World
from dalle3_jax.data.scenes.worlds import SCATTERED, WHOLE, WORLDS
from dalle3_jax.evaluation.checks import requested_counts
from dalle3_jax.evaluation.prompts import KINDS, RELATIONS, Labels, Prompt, RequestedObject, read_prompts

COMMITTED = Path(__file__).with_name("scenes.jsonl")
COUNT = 300  # prompts of a world, when nothing else is said
CAPTION = "descriptive"  # the only version that says where everything is

SORTS = {
    "one": "one object",
    "two": "two objects",
    "count": "counting",
    "single": "counting",
    "row": "rows of several",
    "between": "rows of several",
}
"""Kind of scene -> kind of prompt."""


def load_suite() -> list[Prompt]:
    """The committed prompts, which `scripts/make_suite.py` wrote: 50 of each kind, half of them held out.

    Of the last kind, `visitors`, there are 200, in groups that are mixed throughout.
    """
    return read_prompts(COMMITTED)[0]


def load_named_prompts(
    name: str, count: int | None = None, *, seed: int = 0, split: str = "held_out"
) -> tuple[list[Prompt], World, list[str]]:
    """The prompts that `name` stands for, the world that draws their faultless pictures, and what was left out and why.

    "scenes" is the committed suite, the name of a kind its prompts of that kind ("visitors"), the name of a world a
    list drawn from it (300 prompts where `count` is left out), anything else a .jsonl; of lists that are longer
    `pick_evenly`. Raises ValueError for what cannot be read or drawn.
    """
    if name in WORLDS and name != SCATTERED.name:
        return sample_prompts(WORLDS[name], count or COUNT, seed=seed, split=split), WORLDS[name], []
    prompts, errors = read_prompts(COMMITTED if name == "scenes" or name in KINDS else name)
    if name in KINDS:
        prompts = [prompt for prompt in prompts if prompt.kind == name]
    return pick_evenly(prompts, count or len(prompts)), WHOLE, errors


def pick_evenly(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """`count` of the prompts, evenly of all kinds and of seen and held-out ones, in the order of the suite."""
    turns: Counter[tuple[str, bool]] = Counter()
    ranked = []
    for place, prompt in enumerate(prompts):
        turns[prompt.kind, prompt.held_out] += 1
        ranked.append((turns[prompt.kind, prompt.held_out], place))
    return [prompts[place] for place in sorted(place for _, place in sorted(ranked)[:count])]


def sample_prompts(
    world: World, count: int, *, seed: int = 0, split: str = "held_out", version: str = CAPTION
) -> list[Prompt]:
    """Captions of `count` scenes, as many of each kind of scene, labelled with all they show; a fixed list for a seed.

    Captions of another `version` than the descriptive one do not ask for all that.
    """
    kinds = [kind.name for kind in world.kinds if kind.weight]
    if unknown := sorted(set(kinds) - set(SORTS)):
        raise ValueError(f"no prompts are drawn from scenes of the kind {', '.join(unknown)}: use {', '.join(SORTS)}")
    if count < 2 * len(kinds):
        raise ValueError(f"a count of {count}: at least {2 * len(kinds)} prompts are needed, two of each kind of scene")
    if split == "held_out" and world.held_out == HeldOut():
        raise ValueError(f'the world {world.name!r} holds nothing out of training: use the split "train"')
    left = {kind: count // len(kinds) + (place < count % len(kinds)) for place, kind in enumerate(kinds)}
    prompts: list[Prompt] = []
    for index in numbers():
        if len(prompts) == count:
            return prompts
        shown = sample_scene(world, seed, index, split)
        if left[shown.kind]:
            left[shown.kind] -= 1
            labels = scene_labels(world, shown)
            text = make_captions(world, shown, seed, index)[version]
            name = f"{world.name}-{split}-{seed}-{index}"
            prompts.append(Prompt(name, SORTS[shown.kind], text, labels, is_held_out(world, labels), scene=shown))
    raise AssertionError("the numbers came to an end")


def scene_labels(world: World, scene: Scene) -> Labels:
    """All that a scene shows; its style only where the world has several."""
    groups = Counter((placed.concept, placed.tint) for placed in scene.objects)
    place = scene.objects[0].cell.place if scene.kind == "one" else ""
    return Labels(
        objects=tuple(RequestedObject(concept, number, tint, place) for (concept, tint), number in groups.items()),
        relations=scene_relations(scene),
        background=scene.background,
        style=scene.style if len(world.styles) > 1 else "",
        words=tuple(word.text for word in scene.words),
    )


def scene_relations(scene: Scene) -> tuple[tuple[int | str, ...], ...]:
    """Relations of a scene's concepts to each other, where its kind is about that."""
    if scene.kind == "between":
        return ((0, "between", 1, 2),)
    if scene.kind == "row":
        name = "above" if scene.layout.startswith("column") else "left of"
        return tuple((i - 1, name, i) for i in range(1, len(scene.concepts)))
    return ((0, scene.layout, 1),) if scene.layout in RELATIONS else ()


def is_held_out(world: World, labels: Labels) -> bool:
    """Whether the labels ask for anything that training on the world never shows."""
    wanted = requested_counts(labels)
    return world.held_out.matches(list(wanted), labels.background, labels.style, list(wanted.values()), labels.words)
