"""Your own pictures with their captions, at 128 px in three shapes, from nothing: docs/own_pictures.md has every step.

    python train.py --config configs/own_pictures.py:vae  --workdir W --config.data.source=PICTURES
    python train.py --config configs/own_pictures.py:text --workdir W --config.data.source=PICTURES
    python train.py --config configs/own_pictures.py:base --workdir W --config.data.source=PICTURES

The demo's networks and steps (configs/demo.py), for some ten thousand pictures and one CPU core; a GPU takes
--config.train.dtype=bfloat16 and larger batches. One caption a picture, in KEY.txt beside it or in a metadata.jsonl.
"""

from configs import common, demo
from configs.demo_world import SHAPES


def text():
    """The demo's text side, which learns without labels what a picture of a caption looks like on the average."""
    c = demo.names()
    common.set_stage(c, "text")
    c.train.name = ""
    c.train.trainable = ("text_encoder", "glyph_encoder", "xfnet", "latent_head")
    del c.model["layout_head"]
    c.model.latent_head = {"grid": (8, 8), "patch": 4, "channels": 3}
    c.data.text_length = 96
    c.train.steps = 2_400
    c.sample.every = 800
    return c


def base():
    """The demo's UNet, beside a text side that has more to learn than the demo's."""
    c = demo.base()
    for part in ("unet", "layout_encoder", "layout_head", "layout_memory"):
        del c.init[part]
    c.model.unet = demo.drawing().model.unet
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = "text"
    c.train.trainable = ("text_encoder", "glyph_encoder", "xfnet", "unet")
    c.train.steps = 40_000
    c.train.rates = {"text_encoder": 0.5, "glyph_encoder": 0.5, "xfnet": 0.5}
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"vae": demo.vae, "text": text, "base": base}
    if stage not in stages:
        raise ValueError(f"configs/own_pictures.py has no stage {stage!r}: use {', '.join(stages)}")
    c = stages[stage]()
    c.data.source = ""  # a folder: --config.data.source=PICTURES
    c.data.part = {}
    c.data.frames = ()
    c.data.buckets = SHAPES if stage == "base" else ()
    c.data.captions = {"alt": 1.0}
    c.data.tokenizer = "typed"
    return c
