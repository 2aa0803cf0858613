"""How people ask for pictures of scenes when nobody tells them how: what the suite's kind `visitors` is made of.

Blanks: {a}, {b} and {c} are things as somebody types them ("a red car", "bike"), {x} and {y} the same without an
article, {many} several of one ("3 red balloons"), {said} whichever of these the scene is about, {where} the background,
{place} where a thing is, {letters} the drawn word. The patterns are not those of the training captions
(`dalle3_jax/data/scenes/typed.py`), but for forms so short that everybody has them. Labels ask for what the blanks of
a pattern name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dalle3_jax.data.scenes.concepts import CONCEPTS

LETTERS = range(3, 9)
"""How long drawn words may be."""

SAID = {"one": "{a}", "single": "{a}", "two": "{a} and {b}", "count": "{many}"}


@dataclass(frozen=True)
class Group:
    """Prompts of one sort: `wanted` are (kind of scene, split, how many), `patterns` are by kind of scene.

    `part` says the rest of the part of the whole world that they are drawn from.
    """

    name: str
    wanted: tuple[tuple[str, str, int], ...]
    patterns: Mapping[str, tuple[str, ...]]
    part: Mapping[str, Any] = field(default_factory=lambda: {"tinted": 0, "words": 0})


SCENE = (
    *("{a} {where}",) * 12,
    "can i have {a} {where}",
    "could you do {a} {where}?",
    "how about {a} {where}",
    "{a} {where} pls",
    "{a} {where}, high quality",
    "there is {a} {where}",
    "my {x} {where}",
    "the {x} {where}",
    "one big {x} {where}",
    "i'd love {a} {where}",
    "lonely {x} {where}",
    "{a} that is {where}",
)
THING = (
    *("{a}",) * 6,
    *("{x}",) * 3,
    "can i have {a}",
    "could you do {a}?",
    "how about {a}",
    "{a} pls",
    "{a}, high quality",
    "my {x}",
    "the {x}",
    "one big {x}",
    "i'd love {a}",
    "{a} and that's it",
)
TWO = (
    *("{a} and {b}",) * 3,
    *("{a} and {b} {where}",) * 4,
    "{x} and {y}",
    "{x} + {y}",
    "{a} plus {b}",
    "can i have {a} and {b}",
    "how about {a} and {b} {where}",
    "the {x} and the {y} {where}",
    "my {x} and my {y}",
    "both {a} and {b} {where}",
    "{a} along with {b}",
    "{a} hanging out with {b} {where}",
)
SEVERAL = (
    *("{many}",) * 4,
    *("{many} {where}",) * 5,
    "can i have {many}",
    "{many} pls",
    "{many} hanging out {where}",
    "how about {many} {where}",
    "there are {many} {where}",
    "{many}, high quality",
    "could you do {many}?",
)
TINTED = (
    *("{said}",) * 4,
    *("{said} {where}",) * 4,
    "can i have {said}",
    "how about {said} {where}",
    "{said} pls",
    "{said}, high quality",
    "i'd love {said}",
)
GROUPS = (
    Group(
        "one thing on a background", (("one", "train", 40), ("single", "train", 40)), {"one": SCENE, "single": SCENE}
    ),
    Group("one thing", (("single", "train", 25),), {"single": THING}),
    Group("two things", (("two", "held_out", 25),), {"two": TWO}),
    Group("counts", (("count", "held_out", 20),), {"count": SEVERAL}),
    Group(
        "tints",
        (("single", "train", 8), ("two", "held_out", 6), ("count", "held_out", 6)),
        dict.fromkeys(("single", "two", "count"), TINTED),
        {"tinted": 1, "words": 0, "concepts": [row.name for row in CONCEPTS if row.tints]},
    ),
    Group(
        "words",
        (("sign", "held_out", 8), ("one", "held_out", 7)),
        {
            "sign": ("{letters}", "{letters}", "{letters} {where}", "can i have {letters}", "{letters} pls"),
            "one": (
                "{a} and {letters}",
                "{a} {where} with {letters}",
                "{letters} and {a}",
                "{a} {where} plus {letters}",
                "can i have {a} and {letters}",
            ),
        },
        {"tinted": 0, "words": 1},
    ),
    Group(
        "places and relations",
        (("one", "train", 5), ("two", "held_out", 7), ("between", "held_out", 3)),
        {
            "one": ("{a} {place}, {where}", "put {a} {place}", "{a} should be {place}", "{place} there is {a}"),
            "two": (
                "put {a} {relation} {b}",
                "{a} that is {relation} {b}",
                "{x} {relation} {y}",
                "can i have {a} {relation} {b}",
                "how about {a} {relation} {b}, {where}",
            ),
            "between": (
                "put {a} between {b} and {c}",
                "{a} stuck between {b} and {c}",
                "how about {a} between {b} and {c} {where}",
            ),
        },
    ),
)
ON = {
    "sign": (
        *('a sign that says "{text}"', 'a sign that says "{text}"', 'a big sign with "{text}" on it'),
        *('"{text}" on a sign', 'a sign where you can read "{text}"'),
    ),
    "banner": ('a banner that says "{text}"', '"{text}" on a banner', 'a banner where you can read "{text}"'),
    "free": ('the word "{text}" in big letters', 'just the word "{text}"', '"{text}" in nice letters'),
}
WHERE = {
    "beach": ("on a beach", "on a beach", "on a beach", "on the shore", "by the ocean"),
    "meadow": ("in a meadow", "on green grass", "in a grassy field", "in the countryside"),
    "desert": ("in the desert", "in the desert", "in a desert", "in the sahara"),
    "night sky": ("at night", "at night", "by night", "in outer space", "in the dark"),
    "snow": ("in the snow", "in the snow", "on a snowy day", "in a winter landscape"),
    "sea": ("under the sea", "underwater", "on the ocean floor", "at the bottom of the ocean"),
    "pink wall": ("in front of a pink wall", "with a pink background", "against a pink background"),
    "wooden floor": ("on a wooden floor", "on a wooden floor", "on a wooden table", "on wooden planks"),
    "sunset": ("at sunset", "at sunset", "during sunset", "in the evening sun"),
    "city": ("in the city", "in a big city", "in the streets", "in new york"),
    "forest": ("in a forest", "in the forest", "in the jungle", "among the trees"),
    "mountains": ("in the mountains", "in the mountains", "on a mountain", "in the hills"),
    "road": ("on a road", "in the street", "down the road", "by the roadside"),
    "checkered floor": ("on a checkered floor", "on black and white tiles", "on the kitchen floor", "on a chessboard"),
    "red curtain": ("in front of a red curtain", "in front of a red curtain", "in the theatre", "on stage"),
}
"""How people say where a scene is, by the name of its background."""

PLACE = {
    "centre": ("in the middle of the picture", "right in the centre"),
    "left": ("on the left of the picture", "on the left side"),
    "right": ("on the right of the picture", "on the right side"),
    "top": ("at the top of the picture",),
    "bottom": ("at the bottom of the picture",),
    "top left": ("in the top left corner",),
    "top right": ("in the top right corner", "in the upper right corner"),
    "bottom left": ("in the bottom left corner",),
    "bottom right": ("in the bottom right corner", "in the lower right corner"),
}
RELATION = {
    "left of": ("to the left of", "on the left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over", "on top of"),
    "below": ("below", "under", "underneath"),
}
