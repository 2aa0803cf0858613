"""The demo model on one GPU: `make demo DEMO=gpu`, or commands of configs/demo.py with this file's name.

It has the stages of the base model, of the decoders and of the upscaler. What differs from the CPU's:
bfloat16, large batches, and more of them. Not yet run on one.
"""

import functools

from configs import demo


def vae():
    """The autoencoder of the CPU demo on sixteen times as many crops a step."""
    c = demo.vae()
    c.train.steps = 8_000
    c.train.batch_size = 128
    c.train.learning_rate = 1e-3
    return c


def read_more(stage):
    """A stage of the CPU demo's text side on four times as many captions a step."""
    c = stage()
    c.train.batch_size = 256
    return c


names, places = functools.partial(read_more, demo.names), functools.partial(read_more, demo.places)
layout, recall = functools.partial(read_more, demo.layout), functools.partial(read_more, demo.recall)


def draw_more(stage):
    """The UNet of the CPU demo on more pictures: with the decoders there is no room for a wider one in 30 MB."""
    c = stage()
    c.data.latents = 200_000
    c.train.steps = 25_000
    c.train.batch_size = 512
    c.train.learning_rate = 6e-4
    c.train.ema = 0.999
    return c


drawing, base = functools.partial(draw_more, demo.drawing), functools.partial(draw_more, demo.base)


def enlarge_stage(stage):
    """A decoder's stage of the CPU demo on larger batches, for longer."""
    c = stage()
    c.train.steps *= 4
    c.train.batch_size = 256
    c.train.learning_rate /= 2
    return c


decoder, distill = functools.partial(enlarge_stage, demo.decoder), functools.partial(enlarge_stage, demo.distill)
refiner, distill_refiner = (
    functools.partial(enlarge_stage, demo.refiner),
    functools.partial(enlarge_stage, demo.distill_refiner),
)
distill_base = functools.partial(enlarge_stage, demo.distill_base)
upscaler = functools.partial(enlarge_stage, demo.upscaler)
distill_upscaler = functools.partial(enlarge_stage, demo.distill_upscaler)


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"vae": vae, "names": names, "places": places, "layout": layout, "recall": recall, "drawing": drawing}
    stages |= {"base": base, "decoder": decoder, "distill": distill, "distill_base": distill_base}
    stages |= {"refiner": refiner, "distill_refiner": distill_refiner}
    stages |= {"upscaler": upscaler, "distill_upscaler": distill_upscaler}
    if stage not in stages:
        raise ValueError(f"configs/demo_gpu.py has no stage {stage!r}: use {', '.join(stages)}")
    c = stages[stage]()
    c.data.threads = 16
    c.train.dtype = "bfloat16"
    return c
