"""A base model of 945 M parameters for images of about 512 x 512 pixels at seven aspect ratios.

    python train.py --config configs/base_512.py:base_256 --workdir W --config.data.source=DATA    # 300,000 steps
    python train.py --config configs/base_512.py:base     --workdir W --config.data.source=DATA    # 200,000 steps

Each stage begins with the networks of the one before. DATA, the text encoder and the VAE are as in
configs/paper_256.py. Encoding ahead saves most of what the frozen networks cost (docs/data.md):

    python -m dalle3_jax encode --config configs/base_512.py:base --outdir CACHE
    python train.py --config configs/base_512.py:base --workdir W --config.data.source=DATA --config.data.cache=CACHE

What pods make of it is in docs/plans. It was compiled for pods and never trained on one.
"""

from configs import paper_256

BUCKETS_256 = ((256, 256), (256, 448), (448, 256), (192, 320), (320, 192))
BUCKETS_512 = ((512, 512), (512, 896), (896, 512), (384, 640), (640, 384), (448, 576), (576, 448))


def shared_config():
    """What both stages share."""
    c = paper_256.pod_config()
    level = paper_256.level
    c.model.unet.levels = (level(256, 2, 0), level(512, 2, 1), level(1024, 3, 1), level(1024, 3, 1))
    return c


def base_256():
    """From nothing, at 256 px."""
    c = shared_config()
    c.train.name = "base_256"
    c.data.size = (256, 256)
    c.data.buckets = BUCKETS_256
    c.train.steps = 300_000
    return c


def base():
    """On at 512 px, the schedule moved towards noise by the resolution (arXiv 2301.11093 section 3.1)."""
    c = shared_config()
    c.init.xfnet = c.init.unet = "base_256"
    c.model.diffusion.schedule = {"name": "cosine", "shift": 2.0}
    c.data.size = (512, 512)
    c.data.buckets = BUCKETS_512
    c.train.steps = 200_000
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"base_256": base_256, "base": base}
    if stage not in stages:
        raise ValueError(f"configs/base_512.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
