"""Captions of a scene, in three versions or four, by filling the blanks of sentence patterns.

`alt` is short, noisy and sometimes wrong, as alternative texts on the web are; `short` names the objects alone, with
their numbers and tints; `descriptive` says everything: also where they are, the words exactly, the background. The
whole world has `prompt` beside them: what people type (typed.py).
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from dalle3_jax.data.draws import choose
from dalle3_jax.data.scenes.grammar import OTHER_PICTURE, PICTURES, SIDES, SIGNS, SLOT, TOUCHING
from dalle3_jax.data.scenes.layouts import NUMBERS
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.data.scenes.scenery import DETAILS, background_repeats_object, visible_phrases
from dalle3_jax.data.scenes.typed import join_names, typed_blanks
from dalle3_jax.data.scenes.world import World

DIGITS = tuple("0123456789")
VOWELS = tuple("aeiou")
TYPED = "prompt"


def make_captions(world: World, scene: Scene, seed: int, index: int) -> dict[str, str]:
    """The captions of a scene by version; (seed, index) chooses among patterns and phrases."""
    options = blanks(world, scene)
    patterns = world.kind(scene.kind).patterns
    key = world.name, int(seed), int(index)
    captions = {
        version: make_caption(options, patterns[version], *key, version) for version in patterns if version != TYPED
    }
    if TYPED in patterns:
        typed = options | typed_blanks(world, scene, absent_concepts(world, scene.concepts), *key, TYPED)
        captions[TYPED] = make_caption(typed, patterns[TYPED], *key, TYPED)
    return captions


def make_caption(options: Mapping[str, tuple[str, ...]], patterns: tuple[str, ...], *key: Any) -> str:
    """One of the patterns with its blanks filled; with capital letters where it is made of sentences."""
    pattern = choose(patterns, *key)
    text = " ".join(pattern.format_map(RandomFormat(options, key)).split())
    return capitalise_sentences(text) if text.endswith(".") else text


def blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The ways to fill each blank of the scene's patterns."""
    kind, layout = world.kind(scene.kind), world.layout(scene.kind, scene.layout)
    background = world.background(scene.background)
    options = {
        **world.grammar,
        **kind.grammar,
        "where": background.phrases,
        "scenery": background.scenery,
        "background": (background.name,),
        "arrangement": layout.phrases,
        "relation": layout.phrases,
        "inverse": layout.inverse,
    }
    options |= sentence_blanks(world, scene) if world.grammar else {}
    return options | (object_blanks(world, scene) if scene.objects else empty_scene_blanks(scene))


def object_blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that name objects."""
    number, first = NUMBERS[len(scene.objects)], scene.objects[0]
    plural = object_name(world, first, number=2)
    options = {
        "plural": (plural,),
        "n": (number,),
        "many": (f"{number} {plural}",),
        "place": place_phrases(world, scene, first),
    }
    placed = {shown.concept: shown for shown in reversed(scene.objects)}  # the first of each concept
    for letter, name, concept in zip("abcde", "xyzvw", scene.concepts, strict=False):
        shown = placed[concept]
        options |= {letter: (object_with_article(world, shown),), name: (object_name(world, shown),)}
        options[f"place_{letter}"] = place_phrases(world, scene, shown)
    return options


def place_phrases(world: World, scene: Scene, placed: PlacedObject) -> tuple[str, ...]:
    """The ways to say where an object is; words keep it from edges and corners."""
    ways = world.phrases(placed.cell.place)
    return tuple(way for way in ways if not way.endswith(("edge", "corner"))) if scene.words else ways


def empty_scene_blanks(scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of a scene without objects: its background is all there is to speak of."""
    return {"x": (scene.background,), "plural": (scene.background,), "positions": ("",)}


def sentence_blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that only a grammar of sentences has."""
    number, shown = len(scene.objects), [object_name(world, placed) for placed in scene.objects]
    return {
        **exclusivity_blanks(world, scene),
        **background_blanks(world, scene),
        **word_blanks(scene),
        "picture": PICTURES.get(scene.style, (other_style_phrase(scene.style),)),
        "tag": (scene.style,),
        "things": (objects_phrase(world, scene),),
        "are": ("is" if number < 2 else "are",),
        "all": ("both" if number == 2 else f"all {NUMBERS[number]}",),
        "list": (join_names([object_with_article(world, placed) for placed in scene.objects]),),
        "the_list": (join_names([f"the {name}" for name in shown]),),
        "names": (join_names(shown),),
        "wrong": absent_concepts(world, scene.concepts) or (scene.background,),
    }


def background_blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of what is around the objects, as far as it can be seen, and of how they stand to each other."""
    background, layout = world.background(scene.background), world.layout(scene.kind, scene.layout)
    known = visible_phrases(scene, DETAILS[scene.background])
    twos = tuple(f"{one} {two}" for i, one in enumerate(known) for two in known[:i])
    return {
        "where": visible_phrases(scene, background.phrases),
        "scenery": visible_phrases(scene, background.scenery),
        "extra": known + twos,
        "more": (*twos, " ".join(known)),
        "relation": tuple(way for way in layout.phrases if way != TOUCHING),
        "inverse": tuple(way for way in layout.inverse if way != TOUCHING),
        **{f"side_{letter}": SIDES.get(one.cell.place, ()) for letter, one in zip("abc", scene.objects, strict=False)},
    }


def word_blanks(scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of the drawn words."""
    signs = [tuple(word_sentence(pattern, word) for pattern in SIGNS[word.on]) for word in scene.words]
    return {
        "signs": (" ".join(f"{{sign_{i}}}" for i in range(len(signs))),),
        **{f"sign_{i}": patterns for i, patterns in enumerate(signs)},
        **{f"slot_{slot}": phrases for slot, phrases in SLOT.items()},
    }


def exclusivity_blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that say that there is nothing else, empty where that would not be true."""
    kind, silent = world.kind(scene.kind), {"alone": ("",), "closing": ("",)}
    if background_repeats_object(scene):
        return silent
    exact = {"positions": kind.grammar.get("exact", kind.grammar.get("positions", ("",)))}
    return exact | (silent if scene.words else {"alone": world.layout(scene.kind, scene.layout).phrases})


def absent_concepts(world: World, concepts: Sequence[str]) -> tuple[str, ...]:
    """The concepts that a scene does not show, and that are not held out of training together with one that it does."""
    kept = held_out_partners(world.held_out.pairs)
    away = set(concepts).union(*(kept.get(name, ()) for name in concepts))
    return tuple([name for name in world.concept_names if name not in away])


@lru_cache(maxsize=16)
def held_out_partners(pairs: frozenset[frozenset[str]]) -> dict[str, set[str]]:
    """The concepts with which each concept never shares a training scene."""
    partners: dict[str, set[str]] = {}
    for pair in pairs:
        for name in pair:
            partners.setdefault(name, set()).update(pair)
    return partners


def other_style_phrase(style: str) -> str:
    """The phrase for a picture in a style of a pack."""
    return OTHER_PICTURE.format(article="an" if style.startswith(VOWELS) else "a", style=style)


def object_name(world: World, placed: PlacedObject, number: int = 1) -> str:
    """The object with its tint: "red car", "red cars"."""
    concept = world.concept(placed.concept)
    return f"{placed.tint} {concept.name if number == 1 else concept.plural}".strip()


def object_with_article(world: World, placed: PlacedObject) -> str:
    """The object with its tint and its article: "an orange car", "an owl"."""
    article = world.concept(placed.concept).article
    if placed.tint:
        article = "an" if placed.tint.startswith(VOWELS) else "a"
    return f"{article} {object_name(world, placed)}"


def objects_phrase(world: World, scene: Scene) -> str:
    """All objects, alike ones together with their number."""
    groups: dict[tuple[str, str], list[PlacedObject]] = {}
    for placed in scene.objects:
        groups.setdefault((placed.concept, placed.tint), []).append(placed)
    names = [
        object_with_article(world, group[0])
        if len(group) == 1
        else f"{NUMBERS[len(group)]} {object_name(world, group[0], number=2)}"
        for group in groups.values()
    ]
    return join_names(names) or "nothing"


def word_sentence(pattern: str, word: Word) -> str:
    """A sentence about a word, with only the way to name its place left open."""
    return pattern.replace("{slot}", f"{{slot_{word.slot}}}").format_map(
        PartialFormat(text=word.text, colour=word.colour)
    )


class PartialFormat(dict[str, str]):
    """Leaves the blanks that it does not know as they are."""

    def __missing__(self, blank: str) -> str:
        """The blank itself."""
        return f"{{{blank}}}"


class RandomFormat(dict[str, str]):
    """Fills a blank when a pattern first asks for it, and then always alike; what fills it may hold blanks again."""

    def __init__(self, options: Mapping[str, tuple[str, ...]], key: tuple[Any, ...]) -> None:
        """The options of every blank, and the key of the draws among them."""
        super().__init__()
        self.options, self.key = options, key

    def __missing__(self, blank: str) -> str:
        """Draws one of the blank's options."""
        if blank == "number":
            self[blank] = "".join(choose(DIGITS, *self.key, blank, i) for i in range(4))
        else:
            text = choose(self.options[blank], *self.key, blank)
            self[blank] = text.format_map(self) if "{" in text else text
        return self[blank]


def capitalise_sentences(text: str) -> str:
    """The text with a capital letter at the start of each sentence."""
    return re.sub(r"(^|\. )([a-z])", lambda start: start[1] + start[2].upper(), text)
