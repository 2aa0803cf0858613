"""What a caption says of a scene, read with the words of its world."""

from functools import lru_cache

from dalle3_jax.data.scenes import World
from dalle3_jax.data.scenes.grammar import SIDES
from dalle3_jax.data.scenes.layouts import OVER, PHRASES, TO_THE_LEFT, TO_THE_RIGHT, UNDER
from dalle3_jax.data.scenes.scenery import DETAILS
from dalle3_jax.data.scenes.tints import TINTS
from dalle3_jax.prompting import claims as reading
from dalle3_jax.prompting.claims import Claims
from dalle3_jax.prompting.lexicon import Lexicon

__all__ = ["Claims", "claims", "lexicon_of"]

RELATIONS = {"left of": TO_THE_LEFT, "right of": TO_THE_RIGHT, "above": OVER, "below": UNDER}


def claims(caption: str, world: World) -> Claims:
    """What a caption says, as far as it uses the world's words."""
    return reading.claims(caption, lexicon_of(world))


@lru_cache(maxsize=16)
def lexicon_of(world: World) -> Lexicon:
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
    )
