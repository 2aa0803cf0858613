"""The embedded dataset: composed pictures with captions and exact labels, a pure function of (seed, index).

world (tables) -> scene (what and where) -> render (pixels), captions, labels -> record
"""

from dalle3_jax.data.scenes.captions import captions
from dalle3_jax.data.scenes.parts import world_of
from dalle3_jax.data.scenes.record import labels, record
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import SPLITS, Scene, scene
from dalle3_jax.data.scenes.signs import check_words
from dalle3_jax.data.scenes.world import World
from dalle3_jax.data.scenes.worlds import FIRST, SCATTERED, WHOLE, WORLDS

__all__ = [
    "FIRST",
    "SCATTERED",
    "SPLITS",
    "WHOLE",
    "WORLDS",
    "Scene",
    "World",
    "captions",
    "check_words",
    "labels",
    "record",
    "render",
    "scene",
    "world_of",
]
