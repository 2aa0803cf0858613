"""The embedded dataset: composed pictures with captions and exact labels, a pure function of (seed, index).

world (tables) -> scene (what and where) -> render (pixels), captions, labels -> record
"""

from dalle3_jax.data.scenes.captions import captions
from dalle3_jax.data.scenes.record import labels, record
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import SPLITS, Scene, scene
from dalle3_jax.data.scenes.world import FIRST, WORLDS, World

__all__ = ["FIRST", "SPLITS", "WORLDS", "Scene", "World", "captions", "labels", "record", "render", "scene"]
