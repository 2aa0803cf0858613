"""Your own pictures with their captions, at 128 px in three shapes, from nothing: docs/own_pictures.md has every step.

    python train.py --config configs/own_pictures.py:vae  --workdir W --config.data.source=PICTURES
    python train.py --config configs/own_pictures.py:text --workdir W --config.data.source=PICTURES
    python train.py --config configs/own_pictures.py:base --workdir W --config.data.source=PICTURES

The demo's networks and steps (configs/demo.py), for some ten thousand pictures and one CPU core; a GPU takes
--config.train.dtype=bfloat16 and larger batches. One caption a picture, in KEY.txt beside it or in a metadata.jsonl.
"""

from configs import demo
from configs.demo_world import SHAPES


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"vae": demo.vae, "text": demo.text, "base": demo.base}
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
