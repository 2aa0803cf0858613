"""The demo model: scenes of the whole world at 128 px in three shapes, for one CPU core.

It is being trained; the shipped weights are those of the first demo (48 things, 13.1 M parameters), which this file
described before it was laid out anew: `git log -p configs/demo.py` has its stages, with their times and results.

    python train.py --config configs/demo.py:vae          --workdir W    # 1.7 hours of one core
    python train.py --config configs/demo.py:names        --workdir W    # 35 minutes
    python train.py --config configs/demo.py:places       --workdir W    # 15 minutes
    python train.py --config configs/demo.py:layout       --workdir W    # 20 minutes
    python train.py --config configs/demo.py:recall       --workdir W
    python train.py --config configs/demo.py:drawing      --workdir W
    python train.py --config configs/demo.py:base         --workdir W
    python train.py --config configs/demo.py:distill_base --workdir W

and in the same way the stages of demo_decoders.py, demo_captioner.py and demo_edits.py beside it; demo_world.py is what
they share. What is finished lies in training/demo, the autoencoder (`vae`) and the text side (`layout`): copied into a
workdir, they are what the stages after them begin with.

    cp -r training/demo W && python train.py --config configs/demo.py:drawing --workdir W

The autoencoder was begun with 14,000 steps, shortened to 11,000 at step 4,082, where its learning rate came to 0, and
lengthened from there to 30,000 and, at step 17,842, to no more than 26,500; two devices took the first 4,401 steps.
Of held-out pictures of this world it keeps 29.4 dB, of those without words 31.3, of those with a word at least 26.6;
an earlier one of 56,000 steps kept 31.0, 32.7 and 28.2. Of the text side `names` was begun for 2,600 steps and
shortened at step 1,390, and `layout`, begun for 1,250, stopped at 670; it then went on for 1,150 steps in a trial of
`recall` with another memory, which is left out. The likeliest thing is in the picture of 94 % of its captions, of the
cells that show one of several things 79 % have the right one likeliest, of letters 74 % are right (captions leave
places and fonts open).
`drawing` was tried for 1,130 steps, in the latents of the autoencoder at step 11,000.

`taskset -c 1` keeps a run on one core, with the same numbers.
"""

from ml_collections import ConfigDict

from configs import common
from configs.demo_captioner import captioner, captioner_descriptive, captioner_short, size_head
from configs.demo_decoders import decoder, distill, distill_refiner, distill_upscaler, refiner, upscaler
from configs.demo_edits import image_prompt, inpaint_from
from configs.demo_world import GRID_PART, SHAPES, base_stage_config, begin_with_base, caption_stage_config


def vae():
    """8x KL autoencoder with 16 channels on crops of the whole world, words and all styles, 3D most often."""
    c = common.get_config("vae")
    c.train.trainable = ("vae",)
    c.model.vae = {
        "latent_channels": 16,
        "patch": 4,
        "channels": (48, 96),
        "decoder_channels": (96, 192),
        "blocks": 1,
        "decoder_blocks": 2,
        "norm": "rms",
        "attention": False,
        "quant_convs": False,
    }
    c.data.world = "whole"
    c.data.part = {"styles": ("3d", "3d", "flat", "noto")}
    c.data.crop = 64
    c.train.objective.scale = "pixels"
    c.train.steps = 26_500
    c.train.batch_size = 8
    c.train.learning_rate = 2e-3
    c.train.weight_decay = 0.0
    c.train.release_dtype = "int8"
    c.sample.every = 4_000
    return c


def layout_config(stage):
    """What the stages of the text side share: it learns from labels what stands where in a picture of a caption."""
    c = caption_stage_config("layout")
    c.data.part = GRID_PART
    c.train.name = stage
    c.train.trainable = ("text_encoder", "glyph_encoder", "xfnet", "layout_head")
    c.data.dropout = 0.05
    c.train.batch_size = 64
    c.train.learning_rate = 1e-3
    c.train.warmup = 100
    return c


def layout_from(stage, teacher):
    """The same with the networks of the stage before."""
    c = layout_config(stage)
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = c.init.layout_head = teacher
    return c


def names():
    """Text encoder, glyph encoder and xfnet learn what is in a picture of a caption: most often one thing."""
    c = layout_config("names")
    c.model.text_encoder = {
        "vocab_size": 3072,
        "width": 192,
        "layers": 3,
        "heads": 6,
        "head_size": 32,
        "mlp_width": 512,
        "relative_std": 2.0,
    }
    c.model.glyph_encoder = {
        "vocab_size": 384,
        "width": 96,
        "layers": 2,
        "heads": 3,
        "head_size": 32,
        "mlp_width": 256,
        "relative_std": 2.0,
        "word_positions": 8,
    }
    c.model.xfnet = {
        "kind": "resampler",
        "width": 192,
        "vector_width": 192,
        "layers": 2,
        "heads": 6,
        "queries": 64,
        "glyphs": True,
    }
    c.model.layout_head = {"grid": (8, 8)}
    c.data.text_length = 64
    c.data.captions = {"descriptive": 0.3, "prompt": 0.6, "short": 0.1, "alt": 0.0}
    c.train.steps = 1_700
    c.sample.every = 400
    return c


def places():
    """The same networks learn which of several things stands where, from captions as people type them.

    With the long descriptions and the single things of the stage before they hardly do: in most cells of a picture the
    likeliest thing of it is said to stand.
    """
    c = layout_from("places", "names")
    c.data.part = {**GRID_PART, "kinds": {"two": 0.5, "row": 0.2, "between": 0.15, "corners": 0.15}}
    c.data.captions = {"descriptive": 0.0, "prompt": 1.0, "short": 0.0, "alt": 0.0}
    c.data.text_length = 40
    c.train.steps = 850
    return c


def layout():
    """The same networks learn all of the demo's scenes and captions."""
    c = layout_from("layout", "places")
    kinds = {"one": 0.12, "two": 0.28, "count": 0.14, "single": 0.04, "row": 0.16, "between": 0.1, "corners": 0.04}
    c.data.part = {**GRID_PART, "kinds": {**kinds, "sign": 0.08, "scenery": 0.04}}
    c.data.captions = {"descriptive": 0.4, "prompt": 0.55, "short": 0.05, "alt": 0.0}
    c.data.text_length = 96
    c.train.steps = 670
    c.sample.every = 500
    return c


def recall():
    """The same networks learn to go on with a layout of which they know some cells, so that layouts can be sampled."""
    c = layout()
    c.train.name = "recall"
    c.train.trainable = (*c.train.trainable, "layout_memory")
    c.model.layout_memory = {"width": 192, "grid": (8, 8)}
    c.train.steps = 1_150
    for part in ("text_encoder", "glyph_encoder", "xfnet", "layout_head"):
        c.init[part] = "layout"
    return c


def drawing():
    """The UNet learns from labels what every thing looks like, four in most of its pictures; no text is read yet."""
    c = base_stage_config("drawing")
    c.train.trainable = ("layout_encoder", "unet")
    c.init.vae = "vae"
    c.model.layout_encoder = {"width": 128, "vector_width": 128, "code_width": 192, "grid": (8, 8)}
    c.model.diffusion.schedule.time_scale = 20.0  # smooth enough for the tangents of distill_base
    c.model.unet = {
        "in_channels": 16,
        "out_channels": 16,
        "groups": 16,
        "embedding_ratio": 2,
        "size_ids": 6,
        "grid": (8, 8),
        "levels": (
            ConfigDict({"channels": 64, "blocks": 1, "depth": 0}),
            ConfigDict({"channels": 128, "blocks": 1, "depth": 0}),
            ConfigDict({"channels": 192, "blocks": 1, "depth": 1, "heads": 4}),
        ),
    }
    c.data.frames = c.data.buckets = SHAPES[:1]
    kinds = {"corners": 0.5, "two": 0.16, "one": 0.1, "count": 0.09, "row": 0.05, "between": 0.05, "sign": 0.05}
    c.data.part = {**GRID_PART, "kinds": kinds, "words": 0.3}
    c.train.constant = 1.0
    c.train.rates.layout_encoder = 2.0
    c.train.objective.time_shift = 2.0
    c.train.steps = 40_000
    c.sample.sampler = "ddpm"
    c.sample.every = 1_000
    return c


def base():
    """The same UNet reads captions, of the whole world in three shapes, through what `layout` makes of them."""
    c = base_stage_config("base")
    c.train.trainable = ("layout_encoder", "unet")
    c.init.vae = "vae"
    for part in ("text_encoder", "glyph_encoder", "xfnet", "layout_head", "layout_memory"):
        c.init[part] = "recall"
    c.init.layout_encoder = c.init.unet = "drawing"
    c.model.diffusion.schedule = drawing().model.diffusion.schedule
    c.train.steps = 20_000
    c.sample.sampler = "ddpm"
    c.sample.every = 2_000
    return c


def distill_base():
    """The base model in one, two or four steps, with the guidance scale as an input."""
    c = caption_stage_config("distill_base")
    c.data.part = GRID_PART
    c.train.trainable = ("unet",)
    begin_with_base(c)
    c.model.unet = ConfigDict({**drawing().model.unet, "guidance_width": 64})
    c.data.latents = 8_000
    c.train.objective.guidance_scales = (1.0, 5.0)
    c.train.objective.warmup = 500
    c.train.steps = 2_000
    c.train.learning_rate = 3e-4
    c.train.ema = 0.99
    c.sample.steps = 2
    return c


def inpaint():
    """The base's UNet, shown a mask and what is around it."""
    return inpaint_from(drawing().model.unet)


STAGES = {
    **{
        "vae": vae,
        "names": names,
        "places": places,
        "layout": layout,
        "recall": recall,
        "drawing": drawing,
        "base": base,
    },
    **{"decoder": decoder, "distill": distill, "refiner": refiner},
    **{"captioner": captioner, "captioner_short": captioner_short, "captioner_descriptive": captioner_descriptive},
    **{"size_head": size_head, "distill_refiner": distill_refiner, "distill_base": distill_base},
    **{"inpaint": inpaint, "image_prompt": image_prompt, "upscaler": upscaler, "distill_upscaler": distill_upscaler},
}


def get_config(stage: str = "base"):
    """The config of one stage."""
    if stage not in STAGES:
        raise ValueError(f"configs/demo.py has no stage {stage!r}: use {', '.join(STAGES)}")
    return STAGES[stage]()
