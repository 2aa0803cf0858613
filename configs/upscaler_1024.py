"""From 256 to 1024 pixels in latents of 8 pixels a cell, on crops of 512: an upscaler of 308 M parameters.

    python train.py --config configs/upscaler_1024.py:upscaler --workdir W --config.data.source=DATA

DATA, the text encoder and the VAE are as in configs/paper_256.py; the xfnet is that of a base model in the same
workdir. `python -m dalle3_jax plan --config configs/upscaler_1024.py:upscaler --topology v5e:16x16` says what a pod
makes of it. It was never trained on one.
"""

from configs import common, paper_256


def upscaler():
    """The low-resolution image is folded 2 x 2 beside the latents; pixels attend to each other at the lowest level."""
    c = paper_256.pod_config()
    common.set_stage(c, "upscaler")
    c.train.trainable = ("upscaler",)
    c.init.xfnet = "base"
    del c.model.unet
    level = paper_256.level
    first, middle, last = level(256, 2, 0), level(512, 2, 1), level(768, 2, 1)
    middle.self_attend = False
    c.model.upscaler = {
        "in_channels": 4 + 12,
        "size_ids": 6,
        "level_entries": 0,
        "qk_norm": True,
        "remat": True,
        "levels": (first, middle, last),
    }
    c.data.size = (1024, 1024)
    c.data.crop = 512
    c.data.degradation = {"factor": 4}
    c.train.steps = 200_000
    c.train.batch_size = 1024
    c.sample.prompts = ()
    c.sample.count = 4
    c.sample.sampler = "ddim"
    c.sample.guidance_scale = 1.0
    return c


def get_config(stage: str = "upscaler"):
    """The config of one stage."""
    if stage != "upscaler":
        raise ValueError(f"configs/upscaler_1024.py has no stage {stage!r}: use upscaler")
    return upscaler()
