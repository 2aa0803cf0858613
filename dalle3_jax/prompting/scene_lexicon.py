"""The claims of a caption about a scene, read with the words of its world."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dalle3_jax.data.scenes import World, world_of
from dalle3_jax.data.scenes.concepts import CONCEPTS, Concept
from dalle3_jax.data.scenes.grammar import SIDES
from dalle3_jax.data.scenes.layouts import OVER, PHRASES, TO_THE_LEFT, TO_THE_RIGHT, UNDER
from dalle3_jax.data.scenes.loose_words import BACKGROUND_WORDS, CHINESE_WORDS, COLOUR_WORDS, EMOJI, GENERAL, RELATED
from dalle3_jax.data.scenes.naming import SYNONYMS
from dalle3_jax.data.scenes.scenery import DETAILS
from dalle3_jax.data.scenes.tints import TINTS
from dalle3_jax.prompting import claims as reading
from dalle3_jax.prompting.claims import Claims
from dalle3_jax.prompting.lexicon import Lexicon, Paraphrases

__all__ = ["Claims", "caption_claims", "training_lexicon", "world_lexicon"]

RELATIONS = {"left of": TO_THE_LEFT, "right of": TO_THE_RIGHT, "above": OVER, "below": UNDER}


def caption_claims(caption: str, world: World) -> Claims:
    """The claims of a caption, as far as it uses the world's words."""
    return reading.parse_claims(caption, world_lexicon(world))


@lru_cache(maxsize=16)
def world_lexicon(world: World) -> Lexicon:
    """The words of a world; the details of its backgrounds are read as their names."""
    backgrounds = {}
    for background in world.backgrounds:
        details = tuple(detail.rstrip(".") for detail in DETAILS.get(background.name, ()) if world.grammar)
        backgrounds[background.name] = (*background.phrases, *background.scenery, *details)
    return Lexicon(
        things={concept.name: concept.plural for concept in world.concepts},
        articles={concept.name: concept.article for concept in world.concepts},
        colours=tuple(TINTS),
        backgrounds=backgrounds,
        places={name: (*phrases, *SIDES.get(name, ())) for name, phrases in PHRASES.items()},
        relations=RELATIONS,
        paraphrases=paraphrases_of(world),
    )


def paraphrases_of(world: World) -> Paraphrases:
    """Other words for a world's things, backgrounds and colours; no synonym that is a name in that world."""
    plurals = {concept.name: concept.plural for concept in world.concepts}
    names, taken = {*plurals}, {*plurals, *plurals.values()}
    backgrounds = {background.name for background in world.backgrounds}
    synonyms = {
        name: tuple(
            (one.text, one.plural) for one in SYNONYMS.get(name, ()) if not {one.text, one.plural} & (taken - {plural})
        )
        for name, plural in plurals.items()
    }
    emoji = {code_of_concept(concept): concept.name for concept in world.concepts if concept.code}
    known = names | backgrounds | {f"{tint} {name}" for tint in TINTS for name in names}
    return Paraphrases(
        synonyms=synonyms,
        general=GENERAL,
        backgrounds={name: words for name, words in BACKGROUND_WORDS.items() if name in backgrounds},
        colours=COLOUR_WORDS,
        emoji={code: name for code, name in {**EMOJI, **emoji}.items() if name in known},
        chinese=chinese_of(names, backgrounds),
        related={word: [name for name in related if name in names] for word, related in RELATED.items()},
        others=frozenset(other for concept in CONCEPTS if concept.name not in names for other in all_names(concept)),
    )


def all_names(concept: Concept) -> set[str]:
    """Everything that a concept of the package is called, in both numbers."""
    others = SYNONYMS[concept.name]
    return {concept.name, concept.plural, *(other.text for other in others), *(other.plural for other in others)}


def code_of_concept(concept: Concept) -> str:
    """The code points of a concept's emoji as prompts are compared with them."""
    return concept.code.replace("-fe0f", "")


def chinese_of(names: set[str], backgrounds: set[str]) -> dict[str, tuple[str, str]]:
    """(kind, meaning) by Chinese word; things and backgrounds that a world does not have are any other noun."""
    known = {"thing": names, "background": backgrounds}
    return {
        word: (kind, meaning) if meaning in known.get(kind, (meaning,)) else ("noun", meaning)
        for word, (kind, meaning) in CHINESE_WORDS.items()
    }


def training_lexicon(training: Mapping[str, Any]) -> Lexicon | None:
    """The words of the scenes that a release was trained on, by what it says of its training; None for other data."""
    world = training_world(training)
    return None if world is None else world_lexicon(world_of(world))


def training_world(training: Mapping[str, Any]) -> str | dict[str, Any] | None:
    """The world of the scenes that a release was trained on, as `world_of` takes it; None for other data."""
    data = training.get("config", {}).get("data", {})
    if not data or data.get("source", "scenes") != "scenes":
        return None
    name, part = data.get("world", "first"), data.get("part", {})
    return {"of": name, **part} if part else name
