"""A base model of 2.66 B parameters for 1024 x 1024, 1792 x 1024 and 1024 x 1792 pixels and what lies between.

    python train.py --config configs/xl_1024.py:base_256 --workdir W --config.data.source=DATA    # 400,000 steps
    python train.py --config configs/xl_1024.py:base_512 --workdir W --config.data.source=DATA    # 200,000 steps
    python train.py --config configs/xl_1024.py:base     --workdir W --config.data.source=DATA    # 100,000 steps

Each stage begins with the networks of the one before. DATA, the text encoder, the VAE and encoding ahead are as in
configs/paper_256.py and configs/base_512.py. What pods make of it is in docs/plans. It was never trained on one.
"""

from configs import paper_256
from configs.base_512 import BUCKETS_256, BUCKETS_512

BUCKETS = ((1024, 1024), (1024, 1792), (1792, 1024), (768, 1280), (1280, 768), (896, 1152), (1152, 896))


def shared_config():
    """What all stages share: attention from a quarter of the latents' resolution on, most of it at an eighth."""
    c = paper_256.pod_config()
    level = paper_256.level
    c.model.unet.levels = (level(512, 2, 0), level(1024, 2, 2), level(1536, 2, 6))
    c.model.unet.middle_depth = 6
    return c


def base_256():
    """From nothing, at 256 px."""
    c = shared_config()
    c.train.name = "base_256"
    c.data.size = (256, 256)
    c.data.buckets = BUCKETS_256
    c.train.steps = 400_000
    return c


def grow_from(before, shift):
    """On from the stage `before`, the schedule moved towards noise by the resolution (arXiv 2301.11093)."""
    c = shared_config()
    c.init.xfnet = c.init.unet = before
    c.model.diffusion.schedule = {"name": "cosine", "shift": shift}
    return c


def base_512():
    """On at 512 px."""
    c = grow_from("base_256", 2.0)
    c.train.name = "base_512"
    c.data.size = (512, 512)
    c.data.buckets = BUCKETS_512
    c.train.steps = 200_000
    return c


def base():
    """On at 1024 px, on half as many images a step."""
    c = grow_from("base_512", 4.0)
    c.data.size = (1024, 1024)
    c.data.buckets = BUCKETS
    c.train.steps = 100_000
    c.train.batch_size = 1024
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"base_256": base_256, "base_512": base_512, "base": base}
    if stage not in stages:
        raise ValueError(f"configs/xl_1024.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
