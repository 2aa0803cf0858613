"""Prompts as people type them: the caption version `prompt` of the whole world.

Few words, often without articles, digits for numbers, other names for things (`naming.py`), any part left out but what
nobody leaves out: which things, how many, in which tint, and the words that are to be read. What a prompt leaves open,
place and background above all, differs from picture to picture of the same words.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dalle3_jax.data.draws import choose, uniform
from dalle3_jax.data.scenes.layouts import NUMBERS
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.naming import SYNONYMS, Synonym
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.data.scenes.world import Patterns, World

VOWELS = tuple("aeiou")
SYNONYM, BARE, DIGITS, ADORNED = 0.3, 0.25, 0.35, 0.06
"""How often a thing is called by another of its names, articles are left out, numbers are digits, a thing is "cute"."""

ADJECTIVES = ("cute", "little", "happy", "beautiful", "funny", "nice", "lovely", "cool", "pretty", "realistic")

PROMPT = (
    *("{said}",) * 5,
    *("{said} {where}",) * 8,
    "{where}, {said}",
    "{said}, {where}",
    "{said}, {scenery}",
    "{said}, {background} background",
    "{said} and {scenery} behind",
    "{said} with {scenery} in the background",
    "{scenery} with {said}",
    "{style} of {said} {where}",
    "{style} of {said}",
    "{said} {where}, {style}",
    "{wish} {said} {where}",
    "{wish} {said}",
    "{said} {where}, {negation}",
    "{said}, {negation}",
    "{filler} {said} {where}. {ending}",
    "{filler} {said}, {where}. {ending} {closing}",
    "{wish} {said}. {where_sentence} {ending}",
)
SHARED: Patterns = {
    "style": ("3d render", "3d icon", "3d illustration", "3d", "picture", "image", "illustration", "emoji", "icon"),
    "wish": (
        *("draw", "please draw", "show me", "i want", "i would like", "generate", "make", "create", "give me", "paint"),
        *("a picture of", "an image of", "picture of", "a photo of", "photo of", "can you draw", "could you draw"),
        *("create an image of", "make a picture of", "generate an image with", "a drawing of", "a wide picture of"),
        *("a tall picture of", "a square image of", "there should be", "imagine"),
    ),
    "negation": (
        "no {absent}",
        "without any {absent}",
        "but no {absent}",
        "and nothing else",
        "nothing else",
        "no {absent} please",
        "no other objects",
    ),
    "filler": (
        "my son asked me for a picture, and this is what he wants:",
        "for a birthday card i need",
        "here is my idea for a poster:",
        "i have been thinking about a cheerful picture for the kitchen, with",
        "this will be printed in a small book, so keep it simple:",
        "please make something for our club's website. i imagine",
        "my teacher said that we should describe a scene, so here it is:",
        "once upon a time there was",
        "what i see in my mind is",
        "for the cover of my notebook, draw",
        "it is for a children's room, and it should show",
        "think of a friendly little scene:",
    ),
    "ending": (
        "make it bright and friendly.",
        "keep the shapes simple and clear.",
        "everybody should understand it at once.",
        "i like strong colours and soft light.",
        "it should look tidy, with enough space around everything.",
        "please do not add anything that i did not mention.",
        "it does not need to be perfect.",
        "my daughter will love it.",
        "the mood is calm and a bit dreamy.",
        "thank you!",
    ),
    "where_sentence": ("it all happens {where}.", "the scene is set {where}.", "behind it you can see {scenery}."),
    "doing": ("sitting", "standing", "alone", "by itself", "on its own", "resting"),
}
CORES = {
    "one": ("{a}",) * 4 + ("{a} {place}",) * 4 + ("{a} {doing}", "one {x}", "a single {x}", "just {a}"),
    "single": ("{a}", "{a}", "one {x}", "a single {x}", "just one {x}", "only {a}", "{a} in the middle", "{a} {doing}"),
    "two": ("{a} and {b}",) * 4
    + ("{a} {relation} {b}",) * 5
    + ("{b} {inverse} {a}",) * 2
    + ("{a} {place_a} and {b} {place_b}", "{a} with {b}", "{b} and {a}", "{a} {place_a}, {b} {place_b}"),
    "count": ("{many}",) * 5 + ("{many} {arrangement}", "{many} {arrangement}", "exactly {many}", "a group of {many}"),
    "row": (
        *("{list}", "{list} {arrangement}", "{list}, {arrangement}", "{arrangement} {list}", "{list} {in_line}"),
        *("{names}", "{in_line}, {arrangement}: {list}", "{list} {in_line}, {arrangement}"),
    ),
    "between": (
        *("{a} between {b} and {c}", "{a} between {b} and {c}", "{a} in between {b} and {c}"),
        *("{b} and {c} with {a} between them", "{b}, {c} and {a} in the middle", "between {b} and {c}, {a}"),
    ),
    "corners": ("{list}", "{list}", "{names}", "{list} in the corners", "{list}, one in each corner"),
    "anywhere": ("{list}", "{names}"),
    "sign": (
        *('a sign that says "{text}"', 'a sign saying "{text}"', 'the word "{text}"', '"{text}"', 'sign with "{text}"'),
        *(
            'a sign with the text "{text}"',
            'the word "{text}" in {colour}',
            'text that says "{text}"',
            'write "{text}"',
        ),
    ),
    "scenery": ("{scenery}", "{background}", "the view {where}", "an empty scene {where}", "nothing, just {scenery}"),
}
"""What is said of each kind of scene, its background and its words left aside."""

ON = {
    "sign": ('a sign that says "{text}"', 'a white sign saying "{text}"', 'a sign reading "{text}" {slot}'),
    "banner": ('a {colour} banner that says "{text}"', 'a banner saying "{text}"', 'a banner with "{text}" {slot}'),
    "free": ('"{text}" written {slot}', 'the text "{text}" in {colour}', 'the letters "{text}" {slot}'),
}
ANY_SIGN = (
    'the word "{text}"',
    'the word "{text}"',
    'the word "{text}" {slot}',
    'the text "{text}"',
    '"{text}" {slot}',
)
SLOT = {
    "top": ("at the top", "above", "on top", "at the top of the picture"),
    "bottom": ("at the bottom", "below", "underneath", "at the bottom of the picture"),
    "middle": ("in the middle", "in the centre", "in large letters"),
}
JOINED = ("{core} with {letters}", "{core} with {letters}", "{core} and {letters}", "{letters} and {core}")

ON_TOP, UNDER = ("on", "on top of", "sitting on", "standing on"), ("beneath", "under")
BESIDE = ("next to", "beside", "by")
TYPED: Patterns = {
    "beach": ("on the beach", "at the seaside", "on the sand", "at the beach"),
    "meadow": ("on the grass", "in a field", "in a park", "on a lawn", "in the meadow"),
    "desert": ("in the desert", "in the dunes", "on sand dunes"),
    "night sky": ("at night", "under the stars", "in the night", "under a starry sky", "in space"),
    "snow": ("in winter", "in the snow", "on a snowy field", "in a snowy landscape"),
    "sea": ("underwater", "in the ocean", "under water", "in the sea"),
    "pink wall": ("on a pink background", "on pink", "in a pink room"),
    "wooden floor": ("on the floor", "on wood", "on wooden boards"),
    "sunset": ("at sunset", "at dusk", "in the evening", "at sundown"),
    "city": ("in the city", "in a city", "in town", "downtown"),
    "forest": ("in the forest", "in a forest", "in the woods", "among trees"),
    "mountains": ("in the mountains", "in the alps", "on a mountain meadow"),
    "road": ("on a road", "on the road", "on a highway"),
    "checkered floor": ("in a kitchen", "on a tiled floor", "on tiles"),
    "red curtain": ("on a stage", "on stage", "in a theatre"),
}
"""Further ways to say where a scene is, by the name of its background."""


def typed_blanks(world: World, scene: Scene, absent: tuple[str, ...], *key: Any) -> dict[str, tuple[str, ...]]:
    """The blanks of the version `prompt`; `key` decides what things are called, `absent` are things not shown."""
    bare = uniform(*key, "bare") < BARE
    names = {concept: _choose_name(world, concept, *key) for concept in scene.concepts}
    placed = {shown.concept: shown for shown in reversed(scene.objects)}
    things = [_with_article(world, placed[concept], names[concept], bare, *key) for concept in scene.concepts]
    plain = [_tinted_name(placed[concept], names[concept].text) for concept in scene.concepts]
    background = world.background(scene.background)
    options = {
        **SHARED,
        **{letter: (thing,) for letter, thing in zip("abcde", things, strict=False)},
        **{letter: (thing,) for letter, thing in zip("xyzvw", plain, strict=False)},
        "core": CORES[scene.kind if scene.objects or scene.kind == "sign" else "scenery"],
        "said": JOINED if scene.words and scene.objects else ("{core}",),
        "where": (*background.phrases, *TYPED.get(scene.background, ())),
        "list": (join_names(things),),
        "names": (join_names(plain),),
        "absent": tuple(world.concept(name).plural for name in absent) or ("people",),
        "in_line": ("in a column", "stacked")
        if "column" in scene.layout
        else ("in a row", "side by side", "in a line"),
        **_relations(world, scene),
        **_letters(scene.words),
    }
    if scene.objects:
        options["many"] = (_many(world, scene, names, *key),)
    return options


def _choose_name(world: World, name: str, *key: Any) -> Synonym:
    """The name of a concept in a prompt: its own, or another one."""
    concept = world.concept(name)
    synonyms = SYNONYMS.get(name, ())
    if synonyms and uniform(*key, "synonym", name) < SYNONYM:
        return choose(synonyms, *key, "which", name)
    return Synonym(concept.name, concept.plural)


def _tinted_name(placed: PlacedObject, name: str) -> str:
    return f"{placed.tint} {name}".strip()


def _with_article(world: World, placed: PlacedObject, called: Synonym, bare: bool, *key: Any) -> str:
    """A thing as somebody types it: "a red apple", "red apple", "fries"."""
    text = _tinted_name(placed, called.text)
    if uniform(*key, "adorned", placed.concept) < ADORNED:
        text = f"{choose(ADJECTIVES, *key, 'adjective', placed.concept)} {text}"
    if bare or called.bare:
        return text
    concept = world.concept(placed.concept)
    if text == concept.name:
        return f"{concept.article} {text}"
    if text == called.text:
        return called.single
    return f"{'an' if text.startswith(VOWELS) else 'a'} {text}"


def _many(world: World, scene: Scene, names: dict[str, Synonym], *key: Any) -> str:
    """The first concept with its number: "3 red balloons"."""
    first = scene.objects[0]
    number = Counter(placed.concept for placed in scene.objects)[first.concept]
    called = names[first.concept]
    plural = _tinted_name(first, world.concept(first.concept).plural if called.bare else called.plural)
    if number == 2 and uniform(*key, "couple") < 0.1:
        return f"a couple of {plural}"
    return f"{number if uniform(*key, 'digits') < DIGITS else NUMBERS[number]} {plural}"


def _relations(world: World, scene: Scene) -> dict[str, tuple[str, ...]]:
    """Phrases in which people say what is beside or above what."""
    layout = world.layout(scene.kind, scene.layout)
    further = {"left of": BESIDE, "right of": BESIDE, "above": ON_TOP, "below": UNDER}.get(layout.name, ())
    inverse = {"left of": BESIDE, "right of": BESIDE, "above": UNDER, "below": ON_TOP}.get(layout.name, ())
    return {"relation": (*layout.phrases, *further), "inverse": (*layout.inverse, *inverse)}


def _letters(words: tuple[Word, ...]) -> dict[str, tuple[str, ...]]:
    """The blanks of the drawn words."""
    if not words:
        return {}
    each = [
        tuple(
            pattern.replace("{slot}", f"{{slot_{word.slot}}}")
            .replace("{text}", word.text)
            .replace("{colour}", word.colour)
            for pattern in (*ON[word.on], *ANY_SIGN)
        )
        for word in words
    ]
    return {
        "letters": (" and ".join(f"{{letters_{i}}}" for i in range(len(words))),),
        **{f"letters_{i}": patterns for i, patterns in enumerate(each)},
        **{f"slot_{slot}": phrases for slot, phrases in SLOT.items()},
        "text": (words[0].text,),
        "colour": (words[0].colour,),
    }


def join_names(names: Sequence[str]) -> str:
    """ "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
