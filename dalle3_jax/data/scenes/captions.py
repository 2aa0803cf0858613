"""What is said of a scene, in three versions or four, by filling the blanks of sentence patterns.

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
from dalle3_jax.data.scenes.scene import Placed, Scene
from dalle3_jax.data.scenes.scenery import DETAILS, in_sight, repeated
from dalle3_jax.data.scenes.typed import typed_blanks
from dalle3_jax.data.scenes.world import World

DIGITS = tuple("0123456789")
VOWELS = tuple("aeiou")
TYPED = "prompt"


def captions(world: World, scene: Scene, seed: int, index: int) -> dict[str, str]:
    """The captions of a scene by version; (seed, index) chooses among patterns and phrases."""
    options = blanks(world, scene)
    patterns = world.kind(scene.kind).patterns
    key = world.name, int(seed), int(index)
    found = {version: caption(options, patterns[version], *key, version) for version in patterns if version != TYPED}
    if TYPED in patterns:
        typed = options | typed_blanks(world, scene, absent(world, scene.concepts), *key, TYPED)
        found[TYPED] = caption(typed, patterns[TYPED], *key, TYPED)
    return found


def caption(options: Mapping[str, tuple[str, ...]], patterns: tuple[str, ...], *key: Any) -> str:
    """One of the patterns with its blanks filled; with capital letters where it is made of sentences."""
    pattern = choose(patterns, *key)
    text = " ".join(pattern.format_map(Filled(options, key)).split())
    return sentences(text) if text.endswith(".") else text


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
    options |= details(world, scene) if world.grammar else {}
    return options | (subjects(world, scene) if scene.objects else empty(scene))


def subjects(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that name objects."""
    number, first = NUMBERS[len(scene.objects)], scene.objects[0]
    plural = named(world, first, number=2)
    options = {
        "plural": (plural,),
        "n": (number,),
        "many": (f"{number} {plural}",),
        "place": place(world, scene, first),
    }
    placed = {shown.concept: shown for shown in reversed(scene.objects)}  # the first of each concept
    for letter, name, concept in zip("abcde", "xyzvw", scene.concepts, strict=False):
        shown = placed[concept]
        options |= {letter: (with_article(world, shown),), name: (named(world, shown),)}
        options[f"place_{letter}"] = place(world, scene, shown)
    return options


def place(world: World, scene: Scene, placed: Placed) -> tuple[str, ...]:
    """The ways to say where an object is; words keep it from edges and corners."""
    ways = world.phrases(placed.cell.place)
    return tuple(way for way in ways if not way.endswith(("edge", "corner"))) if scene.words else ways


def empty(scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of a scene without objects: its background is all there is to speak of."""
    return {"x": (scene.background,), "plural": (scene.background,), "positions": ("",)}


def details(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that only a grammar of sentences has."""
    number, shown = len(scene.objects), [named(world, placed) for placed in scene.objects]
    return {
        **claims(world, scene),
        **surroundings(world, scene),
        **letters(scene),
        "picture": PICTURES.get(scene.style, (other_picture(scene.style),)),
        "tag": (scene.style,),
        "things": (things(world, scene),),
        "are": ("is" if number < 2 else "are",),
        "all": ("both" if number == 2 else f"all {NUMBERS[number]}",),
        "list": (listed([with_article(world, placed) for placed in scene.objects]),),
        "the_list": (listed([f"the {name}" for name in shown]),),
        "names": (listed(shown),),
        "wrong": absent(world, scene.concepts) or (scene.background,),
    }


def surroundings(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of what is around the objects, as far as it can be seen, and of how they stand to each other."""
    background, layout = world.background(scene.background), world.layout(scene.kind, scene.layout)
    known = in_sight(scene, DETAILS[scene.background])
    twos = tuple(f"{one} {two}" for i, one in enumerate(known) for two in known[:i])
    return {
        "where": in_sight(scene, background.phrases),
        "scenery": in_sight(scene, background.scenery),
        "extra": known + twos,
        "more": (*twos, " ".join(known)),
        "relation": tuple(way for way in layout.phrases if way != TOUCHING),
        "inverse": tuple(way for way in layout.inverse if way != TOUCHING),
        **{f"side_{letter}": SIDES.get(one.cell.place, ()) for letter, one in zip("abc", scene.objects, strict=False)},
    }


def letters(scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks of the drawn words."""
    signs = [tuple(written(pattern, word) for pattern in SIGNS[word.on]) for word in scene.words]
    return {
        "signs": (" ".join(f"{{sign_{i}}}" for i in range(len(signs))),),
        **{f"sign_{i}": patterns for i, patterns in enumerate(signs)},
        **{f"slot_{slot}": phrases for slot, phrases in SLOT.items()},
    }


def claims(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The blanks that say that there is nothing else, empty where that would not be true."""
    kind, silent = world.kind(scene.kind), {"alone": ("",), "closing": ("",)}
    if repeated(scene):
        return silent
    exact = {"positions": kind.grammar.get("exact", kind.grammar.get("positions", ("",)))}
    return exact | (silent if scene.words else {"alone": world.layout(scene.kind, scene.layout).phrases})


def absent(world: World, concepts: Sequence[str]) -> tuple[str, ...]:
    """The concepts that a scene does not show, and that are not held out of training together with one that it does."""
    kept = partners(world.held_out.pairs)
    away = set(concepts).union(*(kept.get(name, ()) for name in concepts))
    return tuple([name for name in world.names if name not in away])


@lru_cache(maxsize=16)
def partners(pairs: frozenset[frozenset[str]]) -> dict[str, set[str]]:
    """The concepts with which each concept never shares a training scene."""
    found: dict[str, set[str]] = {}
    for pair in pairs:
        for name in pair:
            found.setdefault(name, set()).update(pair)
    return found


def other_picture(style: str) -> str:
    """What a picture in a style of a pack is called."""
    return OTHER_PICTURE.format(article="an" if style.startswith(VOWELS) else "a", style=style)


def named(world: World, placed: Placed, number: int = 1) -> str:
    """The object with its tint: "red car", "red cars"."""
    concept = world.concept(placed.concept)
    return f"{placed.tint} {concept.name if number == 1 else concept.plural}".strip()


def with_article(world: World, placed: Placed) -> str:
    """The object with its tint and its article: "an orange car", "an owl"."""
    article = world.concept(placed.concept).article
    if placed.tint:
        article = "an" if placed.tint.startswith(VOWELS) else "a"
    return f"{article} {named(world, placed)}"


def things(world: World, scene: Scene) -> str:
    """All objects, alike ones together with their number."""
    groups: dict[tuple[str, str], list[Placed]] = {}
    for placed in scene.objects:
        groups.setdefault((placed.concept, placed.tint), []).append(placed)
    names = [
        with_article(world, group[0])
        if len(group) == 1
        else f"{NUMBERS[len(group)]} {named(world, group[0], number=2)}"
        for group in groups.values()
    ]
    return listed(names) or "nothing"


def listed(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def written(pattern: str, word: Word) -> str:
    """A sentence about a word, with only the way to name its place left open."""
    return pattern.replace("{slot}", f"{{slot_{word.slot}}}").format_map(Kept(text=word.text, colour=word.colour))


class Kept(dict[str, str]):
    """Leaves the blanks that it does not know as they are."""

    def __missing__(self, blank: str) -> str:
        """The blank itself."""
        return f"{{{blank}}}"


class Filled(dict[str, str]):
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


def sentences(text: str) -> str:
    """The text with a capital letter at the start of each sentence."""
    return re.sub(r"(^|\. )([a-z])", lambda start: start[1] + start[2].upper(), text)
