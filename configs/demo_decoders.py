"""Decoders and upscaler of the demo: stages of configs/demo.py, each trained as a diffusion model and then distilled.

python train.py --config configs/demo.py:decoder          --workdir W
python train.py --config configs/demo.py:distill          --workdir W
python train.py --config configs/demo.py:refiner          --workdir W
python train.py --config configs/demo.py:distill_refiner  --workdir W
python train.py --config configs/demo.py:upscaler         --workdir W
python train.py --config configs/demo.py:distill_upscaler --workdir W
"""

from ml_collections import ConfigDict

from configs import common
from configs.demo_world import GRID_PART, begin_with_base, caption_stage_config, set_caption_data


def decoder_config(stage):
    """What the decoders share: pictures of the whole world, nine in ten with drawn words."""
    c = common.get_config(stage)
    c.init.vae = "vae"
    c.data.world = "whole"
    c.data.part = {"words": 0.9}
    c.model.diffusion.prediction = "x0_skip"
    c.train.learning_rate = 2e-3
    c.train.weight_decay = 0.0
    c.train.constant = 0.5
    c.train.objective.time_shift = 1.5
    c.train.release_dtype = "int8"
    c.sample.steps = 50
    return c


def decoder():
    """The pixel decoder as a diffusion model."""
    c = decoder_config("decoder")
    c.train.trainable = ("decoder",)
    c.model.decoder = {
        **common.PLAIN_DECODER,
        "channels": (80, 112),
        "latent_channels": 16,
        "out_channels": 3,
        "patch": 4,
    }
    c.data.crop = 64
    c.train.objective.perturbation.noise = 0.1
    c.train.steps = 3_600
    c.sample.clamp = True
    return c


def distill_from(c, stage):
    """What distillation changes of the stage that taught: fewer and smaller steps."""
    c = common.distill_from(c, stage)
    c.train.learning_rate = 5e-4
    c.train.ema = 0.99
    c.sample.temperature = 0.0
    return c


def distill():
    """The pixel decoder as a consistency model, taught by the stage `decoder`."""
    c = distill_from(decoder(), "distill")
    c.train.steps = 800
    return c


def refiner():
    """The latents' own diffusion model, which is given latents as the base model leaves them."""
    c = decoder_config("refiner")
    c.train.trainable = ("refiner",)
    begin_with_base(c)
    set_caption_data(c)
    c.data.part = GRID_PART
    c.model.refiner = {
        **common.PLAIN_DECODER,
        "channels": (40, 48),
        "image_channels": 16,
        "latent_channels": 16,
        "out_channels": 16,
        "factor": 1,
    }
    c.data.captions = {"descriptive": 1.0}
    c.train.objective.perturbation = ConfigDict({"noise": 0.3, "resampled": 0.5, "strength": 0.3, "steps": 2})
    c.train.steps = 600
    return c


def distill_refiner():
    """The refiner as a consistency model, taught by the stage `refiner`."""
    c = distill_from(refiner(), "distill_refiner")
    c.train.steps = 250
    return c


def upscaler():
    """From 128 to 256 pixels: 3.2 M parameters."""
    c = caption_stage_config("upscaler")
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = "base"
    level = ConfigDict({"channels": 96, "blocks": 1, "heads": 4})
    common.set_pixel_upscaler(c, level, level)
    c.data.part = {**GRID_PART, "words": 0.7}
    c.data.size = (256, 256)
    c.data.crop = 128
    c.train.steps = 3_000
    c.train.batch_size = 8
    c.train.learning_rate = 2e-3
    c.train.weight_decay = 0.0
    c.train.constant = 0.5
    c.sample.every = 1_000
    c.sample.count = 4
    c.sample.steps = 10
    return c


def distill_upscaler():
    """The upscaler in two to four steps, taught by the stage `upscaler`."""
    c = distill_from(upscaler(), "distill_upscaler")
    c.train.steps = 600
    c.sample.decoder_steps = 4
    return c
