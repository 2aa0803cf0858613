"""Networks of a few thousand parameters on 32-px scenes: the same stages as the demo in seconds, for tests and tryouts.

python train.py --config configs/tiny.py:vae  --workdir W
python train.py --config configs/tiny.py:text --workdir W    (or layout, from labels)
python train.py --config configs/tiny.py:base --workdir W
python train.py --config configs/tiny.py:glyphs --workdir W    (base that also reads quoted text byte by byte)

and in the same way, after these, decoder, distill, refiner, distill_refiner, distill_base and inpaint, upscaler,
upscaler_latents and distill_upscaler; captioner and then captioner_short want none of them; image_prompt
wants captioner and base.
"""

from ml_collections import ConfigDict

from configs import common


def tiny_config(stage):
    """What all stages share."""
    c = common.get_config(stage)
    c.data.size = (32, 32)
    c.data.threads = 1
    c.data.prefetch = 2
    c.train.steps = 12
    c.train.batch_size = 8
    c.train.warmup = 2
    c.train.log_every = 2
    c.train.save_every = 4
    c.train.save_minutes = 60.0
    c.sample.every = 0
    c.sample.count = 2
    return c


def vae():
    """An autoencoder of one level."""
    c = tiny_config("vae")
    c.train.trainable = ("vae",)
    c.model.vae = {
        "latent_channels": 4,
        "patch": 8,
        "channels": (8,),
        "blocks": 1,
        "decoder_blocks": 1,
        "norm": "rms",
        "attention": False,
        "quant_convs": False,
    }
    return c


def caption_stage_config(stage):
    """What the stages that read captions share."""
    c = tiny_config(stage)
    c.init.vae = "vae"
    c.data.text_length = 16
    c.sample.prompts = ("a panda",)
    c.sample.steps = 2
    c.model.text_encoder = {
        "vocab_size": 1024,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "head_size": 8,
        "mlp_width": 16,
    }
    return c


def further_stage_config(stage):
    """What the stages share that begin with the base model."""
    c = caption_stage_config(stage)
    del c.model.text_encoder
    c.init.text_encoder = c.init.xfnet = c.init.unet = "base"
    return c


def text():
    """A resampler of four tokens, one for each quarter of the picture."""
    c = caption_stage_config("text")
    c.train.trainable = ("text_encoder", "xfnet", "latent_head")
    c.model.xfnet = {"kind": "resampler", "width": 16, "vector_width": 16, "layers": 1, "heads": 2, "queries": 4}
    c.model.latent_head = {"grid": (2, 2), "patch": 2, "channels": 4}
    return c


def layout():
    """The same resampler, taught by labels: no VAE has to come first."""
    c = text()
    common.set_stage(c, "layout")
    c.train.trainable = ("text_encoder", "xfnet", "layout_head")
    del c.init["vae"], c.model["latent_head"]
    c.model.layout_head = {"grid": (2, 2)}
    return c


def recall():
    """The same networks learn to go on with a layout of which they know some cells."""
    c = layout()
    c.train.name = "recall"
    c.train.trainable = (*c.train.trainable, "layout_memory")
    del c.model["text_encoder"], c.model["xfnet"], c.model["layout_head"]
    c.init.text_encoder = c.init.xfnet = c.init.layout_head = "layout"
    c.model.layout_memory = {"width": 16, "grid": (2, 2), "channels": 8}
    return c


def drawing():
    """The base's UNet with a grid, and a layout encoder, taught by labels instead of captions."""
    c = tiny_config("drawing")
    c.train.trainable = ("layout_encoder", "unet")
    c.init.vae = "vae"
    c.model.layout_encoder = {"width": 16, "vector_width": 16, "code_width": 8, "grid": (2, 2)}
    c.model.unet = {**base().model.unet, "grid": (2, 2)}
    c.sample.steps = 2
    return c


def captioned():
    """The base stage that goes on with that UNet, and reads captions through what the stage `layout` learnt."""
    c = caption_stage_config("base")
    del c.model.text_encoder
    c.train.trainable = ("layout_encoder", "unet")
    c.init.text_encoder = c.init.xfnet = c.init.layout_head = "layout"
    c.init.layout_encoder = c.init.unet = "drawing"
    return c


def base():
    """One block of everything, learnt together from nothing."""
    c = caption_stage_config("base")
    c.train.trainable = ("text_encoder", "xfnet", "unet")
    c.model.xfnet = {"kind": "transformer", "width": 16, "vector_width": 16, "layers": 1, "heads": 2}
    c.model.unet = {
        "groups": 4,
        "levels": (ConfigDict({"channels": 8, "blocks": 1, "depth": 0, "heads": 2}),),
    }
    return c


def glyphs():
    """The base stage with a glyph encoder, whose tokens join T5's in xfnet."""
    c = base()
    c.data.world, c.data.size = "whole", (128, 128)  # some of its captions quote, and their words need room
    c.data.glyph_length = 12
    c.model.glyph_encoder = {**c.model.text_encoder, "vocab_size": 384}
    c.model.xfnet.glyphs = True
    c.train.trainable = (*c.train.trainable, "glyph_encoder")
    return c


def decoder():
    """A pixel decoder of one level."""
    c = tiny_config("decoder")
    c.train.trainable = ("decoder",)
    c.init.vae = "vae"
    c.model.decoder = {
        **common.PLAIN_DECODER,
        "channels": (8,),
        "latent_channels": 4,
        "out_channels": 3,
        "patch": 8,
    }
    c.model.diffusion.prediction = "x0_skip"
    c.train.objective.crop = 16
    c.sample.steps = 2
    c.sample.clamp = True
    return c


def distill_from(c, stage):
    """What distillation changes of the stage that taught."""
    c = common.distill_from(c, stage)
    c.train.objective.parts = (2, 4)
    return c


def distill():
    """The pixel decoder as a consistency model."""
    return distill_from(decoder(), "distill")


def refiner():
    """A refiner of one level, given what the base model makes of latents."""
    c = further_stage_config("refiner")
    c.train.trainable = ("refiner",)
    c.model.refiner = {
        **common.PLAIN_DECODER,
        "channels": (8,),
        "image_channels": 4,
        "out_channels": 4,
        "factor": 1,
    }
    c.train.objective.perturbation = ConfigDict({"noise": 0.3, "resampled": 0.5, "strength": 0.3, "steps": 2})
    return c


def distill_refiner():
    """The refiner as a consistency model."""
    return distill_from(refiner(), "distill_refiner")


def distill_base():
    """The base model in two steps."""
    c = further_stage_config("distill_base")
    c.train.trainable = ("unet",)
    c.model.unet = ConfigDict({**base().model.unet, "guidance_width": 8})
    c.train.objective.guidance_scales = (1.0, 3.0)
    c.train.objective.warmup = 2
    return c


def inpaint():
    """The base's UNet, shown a mask and what is around it."""
    c = further_stage_config("inpaint")
    c.train.trainable = ("unet",)
    c.model.unet = ConfigDict({**base().model.unet, "in_channels": 9})
    return c


def image_prompt():
    """Two tokens of what the captioner sees."""
    c = further_stage_config("image_prompt")
    c.train.trainable = ("image_prompt",)
    c.init.captioner = "captioner"
    c.model.image_prompt = {"tokens": 2}
    return c


def upscaler():
    """An upscaler of one level, in pixels, from 16 to 32 on a side."""
    c = further_stage_config("upscaler")
    del c.init.vae, c.init.unet
    common.set_pixel_upscaler(c, ConfigDict({"channels": 8, "blocks": 1, "heads": 2}))
    c.data.crop = 16
    c.sample.decoder_steps = 2
    return c


def upscaler_latents():
    """The same in the VAE's latents, of 8 pixels a cell, with size ids and attention."""
    c = upscaler()
    c.train.name = "upscaler_latents"
    c.init.vae = "vae"
    c.model.diffusion.prediction = "v"
    c.model.upscaler = {
        "in_channels": 4 + 48,
        "groups": 4,
        "size_ids": 6,
        "level_entries": 0,
        "levels": (ConfigDict({"channels": 8, "blocks": 1, "depth": 1, "heads": 2}),),
    }
    c.data.crop = 0
    return c


def distill_upscaler():
    """The upscaler as a consistency model."""
    return distill_from(upscaler(), "distill_upscaler")


def captioner():
    """A captioner of one layer in each part."""
    c = tiny_config("captioner")
    c.train.trainable = ("captioner",)
    tower = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 32, "activation": "gelu"}
    c.model.captioner = {
        **{part: tower for part in ("vision", "text", "decoder")},
        "vocab_size": 1024,
        "positions": 16,
        "image_size": (32, 32),
        "patch": 8,
        "projection": 16,
        "queries": 4,
        "pooling_heads": 2,
    }
    c.data.captions = {"alt": 1.0}
    c.data.dropout = 0.0
    c.data.text_length = 16
    return c


def captioner_short():
    """The same, tuned on 16 captions of the main subject."""
    c = captioner()
    del c.model.captioner
    c.init.captioner = "captioner"
    c.train.name = "captioner_short"
    c.data.captions = {"short": 1.0}
    c.data.records = 16
    return c


STAGES = {
    **{"vae": vae, "text": text, "layout": layout, "recall": recall, "base": base, "glyphs": glyphs},
    **{"drawing": drawing, "captioned": captioned},
    **{"decoder": decoder, "distill": distill},
    **{"refiner": refiner, "distill_refiner": distill_refiner, "distill_base": distill_base},
    **{"inpaint": inpaint, "image_prompt": image_prompt},
    **{"captioner": captioner, "captioner_short": captioner_short},
    **{"upscaler": upscaler, "upscaler_latents": upscaler_latents, "distill_upscaler": distill_upscaler},
}


def get_config(stage: str = "base"):
    """The config of one stage."""
    if stage not in STAGES:
        raise ValueError(f"configs/tiny.py has no stage {stage!r}: use {', '.join(STAGES)}")
    return STAGES[stage]()
