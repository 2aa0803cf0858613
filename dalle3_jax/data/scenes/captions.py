"""What is said of a scene, in three versions, by filling the blanks of sentence patterns.

`alt` is short and noisy as alternative texts on the web are, `short` names the main subject only, `descriptive` says
everything: the objects, how many, where they are, and the background.
"""

import re
from collections.abc import Mapping
from typing import Any

from dalle3_jax.data.draws import choose
from dalle3_jax.data.scenes.scene import Scene
from dalle3_jax.data.scenes.world import World

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
DIGITS = tuple("0123456789")


def captions(world: World, scene: Scene, seed: int, index: int) -> dict[str, str]:
    """The captions of a scene by version; (seed, index) chooses among patterns and phrases."""
    options = blanks(world, scene)
    result = {}
    for version, patterns in world.kind(scene.kind).patterns.items():
        key = (world.name, int(seed), int(index), version)
        pattern = choose(patterns, *key)
        text = pattern.format_map(Filled(options, key))
        result[version] = sentences(text) if pattern.endswith(".") else text
    return result


def blanks(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """The ways to fill each blank of the scene's patterns."""
    layout, background = world.layout(scene.kind, scene.layout), world.background(scene.background)
    number, first = NUMBERS[len(scene.objects)], world.concept(scene.objects[0].concept)
    options = {
        "where": background.phrases,
        "scenery": background.scenery,
        "background": (background.name,),
        "plural": (first.plural,),
        "n": (number,),
        "many": (f"{number} {first.plural}",),
        "place": world.phrases(scene.objects[0].cell.place),
        "relation": layout.phrases,
        "inverse": layout.inverse,
        "arrangement": layout.phrases,
    }
    for letter, name, placed in zip("ab", "xy", scene.objects, strict=False):
        concept = world.concept(placed.concept)
        options |= {letter: (f"{concept.article} {concept.name}",), name: (concept.name,)}
        options[f"place_{letter}"] = world.phrases(placed.cell.place)
    return options


class Filled(dict[str, str]):
    """Fills a blank when a pattern first asks for it, and then always alike."""

    def __init__(self, options: Mapping[str, tuple[str, ...]], key: tuple[Any, ...]) -> None:
        """The options of every blank, and the key of the draws among them."""
        super().__init__()
        self.options, self.key = options, key

    def __missing__(self, blank: str) -> str:
        """Draws one of the blank's options."""
        if blank == "number":
            self[blank] = "".join(choose(DIGITS, *self.key, blank, i) for i in range(4))
        else:
            self[blank] = choose(self.options[blank], *self.key, blank)
        return self[blank]


def sentences(text: str) -> str:
    """The text with a capital letter at the start of each sentence."""
    return re.sub(r"(^|\. )([a-z])", lambda start: start[1] + start[2].upper(), text)
