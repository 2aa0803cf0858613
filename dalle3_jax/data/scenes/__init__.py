"""The embedded dataset: composed pictures with captions and exact labels, a pure function of (seed, index).

world (tables) -> scene (what and where) -> render (pixels), captions, labels -> record
"""

from dalle3_jax.data.scenes.captions import make_captions
from dalle3_jax.data.scenes.parts import world_of
from dalle3_jax.data.scenes.record import make_record, record_labels
from dalle3_jax.data.scenes.render import render_scene
from dalle3_jax.data.scenes.scene import SPLITS, Scene, sample_scene
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
    "check_words",
    "make_captions",
    "make_record",
    "record_labels",
    "render_scene",
    "sample_scene",
    "world_of",
]
