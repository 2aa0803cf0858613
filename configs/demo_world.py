"""The demo's world, and what those of its stages share that read captions."""

from configs import common

PROMPTS = (
    "a panda on a beach",
    "a red car to the left of a blue house",
    "3 penguins in the snow",
    'a sign that says "HELLO"',
    "a cat on a skateboard at night",
    "a fox, an owl and a castle from left to right in the forest",
)

SHAPES = ((128, 128), (96, 176), (176, 96))
PART = {
    "styles": ("3d",),
    "kinds": {
        **{"one": 0.28, "two": 0.22, "count": 0.18, "single": 0.06},
        **{"row": 0.10, "between": 0.06, "sign": 0.06, "scenery": 0.04},
    },
    "words": 0.4,
    "longest_word": 8,
    "invented": 0.4,
}
"""The demo's world: all 429 things of the whole one in 3D, tinted or not, words of up to 8 letters, 15 backgrounds."""

GRID_PART = {**PART, "snap": 8, "step": 16, "excess": 0.05, "sizes": (1.0, 1.0)}
"""The same as the UNet learns to draw it: things stand on the grid of the latents, and each layout has one size.

A name then means nearly the same latents wherever it stands, and most things that are alone or two are of 64 pixels.
Those in rows of three and five, and in clusters of five, are of a multiple of 8 that keeps them apart, but for jitter.
"""


def set_caption_data(c):
    """The demo's world, and its captions as the text side reads them."""
    c.data.part = PART
    c.data.tokenizer = "typed"
    c.data.text_length = 120
    c.data.glyph_length = 24


def base_stage_config(stage):
    """What the base model shares with stages that go on with it in its three shapes."""
    c = caption_stage_config(stage)
    c.data.part = GRID_PART
    c.data.frames = c.data.buckets = SHAPES
    c.train.objective.time_shift = 1.5
    return c


def begin_with_base(c):
    """The autoencoder, and text side and UNet of the base model."""
    c.init.vae = "vae"
    for part in ("text_encoder", "glyph_encoder", "xfnet", "layout_head", "layout_encoder", "layout_memory", "unet"):
        c.init[part] = "base"


def caption_stage_config(stage):
    """What the stages that read captions share: the world, and half of the captions as people type."""
    c = common.get_config(stage)
    c.data.world = "whole"
    c.data.captions = {"descriptive": 0.45, "prompt": 0.50, "short": 0.05, "alt": 0.0}
    set_caption_data(c)
    c.train.constant = 0.6
    c.train.ema = 0.998
    c.train.release_dtype = "int8"
    c.sample.prompts = PROMPTS
    return c
