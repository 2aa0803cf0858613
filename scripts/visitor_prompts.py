"""The suite's kind `visitors`: scenes of the whole world, asked for as people type (`visitor_recipes.py`)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count

from visitor_recipes import GROUPS, LETTERS, ON, PLACE, RELATION, SAID, WHERE, Group

from dalle3_jax.data.draws import choose, uniform
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.scenes.captions import RandomFormat, make_captions
from dalle3_jax.data.scenes.layouts import NUMBERS
from dalle3_jax.data.scenes.naming import SYNONYMS, Synonym
from dalle3_jax.data.scenes.parts import world_of
from dalle3_jax.data.scenes.scene import Scene, sample_scene
from dalle3_jax.data.scenes.scenery import ALSO_THERE
from dalle3_jax.data.scenes.world import World
from dalle3_jax.evaluation.prompts import Labels, Prompt
from dalle3_jax.evaluation.suites import CAPTION, is_held_out, scene_labels

KIND, STYLE = "visitors", "3d"
SYNONYM, BARE, DIGITS = 0.3, 0.3, 0.6
"""How often a thing is called by another of its names, articles are left out, and numbers are digits."""


def visitor_prompts(seed: int) -> list[Prompt]:
    """The prompts of all groups, mixed so that any first part of the list has about the same share of each."""
    taken: set[str] = set()
    ranked = []
    for number, group in enumerate(GROUPS):
        found = list(group_prompts(group, seed, taken))
        for i, prompt in enumerate(found):
            name = f"{KIND}-{group.name.replace(' ', '-')}-{i + 1:02}"
            ranked.append(((i + 0.5) / len(found), number, replace(prompt, id=name)))
    return [prompt for *_, prompt in sorted(ranked, key=lambda row: row[:2])]


def group_prompts(group: Group, seed: int, taken: set[str]) -> Iterator[Prompt]:
    """The prompts of a group; `taken` are the things, and the words, that stand in some prompt before them."""
    backgrounds: Counter[str] = Counter()
    numbers: Counter[int] = Counter()
    places: set[str] = set()
    for kind, split, wanted in group.wanted:
        name = f"{KIND}, {group.name}, {kind}"
        world = world_of({"name": name, "kinds": {kind: 1}, "styles": [STYLE], **group.part})
        left = wanted
        for index in count():
            if not left:
                break
            shown = sample_scene(world, seed, index, split)
            if not is_fit(shown) or len(shown.words) < group.part["words"]:
                continue
            prompt = make_prompt(group, kind, world, shown, (seed, name, index))
            things = {*shown.concepts, *(word.text.lower() for word in shown.words)}
            there, number = prompt.labels.background, len(shown.objects) if kind == "count" else 0
            place = prompt.labels.objects[0].place if prompt.labels.objects else ""
            if (
                things & taken
                or prompt.held_out != (split == "held_out")
                or backgrounds[there] > min(backgrounds[name] for name in WHERE) + 1
                or numbers[number] > min(numbers[n] for n in range(2, 6)) + 1
                or place in places
            ):
                continue
            taken |= things
            backgrounds[there] += bool(there)
            numbers[number] += bool(number)
            places |= {place} - {""}
            left -= 1
            upsampled = make_captions(world, shown, seed, index)[CAPTION]
            yield replace(prompt, upsampled=upsampled, scene=shown)


def is_fit(shown: Scene) -> bool:
    """Whether a scene shows nothing that its background shows too, one word at most, and no unseen look of a thing."""
    return (
        not {*shown.concepts} & ALSO_THERE.get(shown.background, set())
        and not any((concept, STYLE) in WHOLE.held_out.styles for concept in shown.concepts)
        and len(shown.words) <= 1
        and all(len(word.text) in LETTERS for word in shown.words)
    )


def make_prompt(group: Group, kind: str, world: World, shown: Scene, key: tuple[object, ...]) -> Prompt:
    """The prompt of a group that says a scene."""
    filled = RandomFormat(blanks(world, shown, key), key)
    text = " ".join(choose(group.patterns[kind], *key, "pattern").format_map(filled).split())
    labels = said_labels(scene_labels(world, shown), set(filled))
    return Prompt("", KIND, text, labels, is_held_out(WHOLE, labels), group=group.name)


def said_labels(labels: Labels, used: set[str]) -> Labels:
    """What is left of a scene's labels when only what the used blanks say is asked for; never a style."""
    return replace(
        labels,
        objects=tuple(wanted if "place" in used else replace(wanted, place="") for wanted in labels.objects),
        relations=labels.relations if "relation" in used or "c" in used else (),
        background=labels.background if "where" in used else "",
        style="",
    )


def blanks(world: World, shown: Scene, key: Sequence[object]) -> dict[str, tuple[str, ...]]:
    """The ways to fill each blank."""
    bare = uniform(*key, "bare") < BARE
    tints = {placed.concept: placed.tint for placed in shown.objects}
    called = {concept: name_of(concept, key) for concept in shown.concepts}
    plain = [f"{tints[concept]} {called[concept].text}".strip() for concept in shown.concepts]
    things = [
        plain[i] if bare else with_article(called[concept], tints[concept]) for i, concept in enumerate(shown.concepts)
    ]
    found = {name: (text,) for name, text in zip("abc", things, strict=False)}
    found |= {name: (text,) for name, text in zip("xyz", plain, strict=False)}
    found["where"] = WHERE[shown.background]
    found["relation"] = RELATION.get(shown.layout, ())
    found["said"] = (SAID.get(shown.kind, ""),)
    if shown.objects:
        first, number = shown.concepts[0], len(shown.objects)
        digits = str(number) if uniform(*key, "digits") < DIGITS else NUMBERS[number]
        found["many"] = (f"{digits} {tints[first]} {called[first].plural}",)
        found["place"] = PLACE.get(shown.objects[0].cell.place, ())
    for word in shown.words:
        found["letters"] = tuple(way.format(text=word.text) for way in ON[word.on])
    return found


def name_of(concept: str, key: Sequence[object]) -> Synonym:
    """What a thing is called: by its own name, or by another one that takes an article."""
    row = WHOLE.concept(concept)
    others = [name for name in SYNONYMS[concept] if not name.bare]
    if others and uniform(*key, "synonym", concept) < SYNONYM:
        return choose(others, *key, "which", concept)
    return Synonym(row.name, row.plural)


def with_article(called: Synonym, tint: str) -> str:
    """One of a thing, with its article: "an orange car", "a bike"."""
    own = {row.name: row.article for row in WHOLE.concepts}
    if tint:
        return f"{'an' if tint.startswith('o') else 'a'} {tint} {called.text}"
    return f"{own[called.text]} {called.text}" if called.text in own else called.single
