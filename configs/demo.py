"""The demo model: scenes of the whole world at 128 px in three shapes, 28.1 M parameters, for one CPU core.

It is being trained; the shipped weights are those of the first demo (48 things, 13.1 M parameters), which this file
described before it was laid out anew: `git log -p configs/demo.py` has its stages, with their times and results.

    python train.py --config configs/demo.py:vae  --workdir W    # 110 minutes of one core
    python train.py --config configs/demo.py:text --workdir W
    python train.py --config configs/demo.py:base --workdir W

    python train.py --config configs/demo.py:decoder         --workdir W
    python train.py --config configs/demo.py:distill         --workdir W
    python train.py --config configs/demo.py:refiner         --workdir W
    python train.py --config configs/demo.py:distill_refiner --workdir W
    python train.py --config configs/demo.py:distill_base    --workdir W

    python train.py --config configs/demo.py:upscaler         --workdir W
    python train.py --config configs/demo.py:distill_upscaler --workdir W

The autoencoder was begun with 16,000 steps and lengthened to 28,000 at step 6,978, where its learning rate was 30 %
below what it should by then have been.

    python train.py --config configs/demo.py:captioner             --workdir W    # about 55 minutes of one core
    python train.py --config configs/demo.py:captioner_short       --workdir W    # about 8
    python train.py --config configs/demo.py:captioner_descriptive --workdir W    # about 25
    dalle3-jax captions measure --captioner descriptive=W/captioner_descriptive

The captioner, 2.5 M parameters and 2.9 MB in 8 bits, has not been trained in this world yet. Its times are reckoned
from those of the first demo's (44 pictures a second at 1.65 GFLOP each, now 1.0). That it learns places and relations
was seen in a smaller world alone (docs/captions.md: 98 and 100 % after 96,000 pictures, against 30 and 35 % with
neither fixed positions nor first captions that say where; after 28,800 either alone was no better than neither). These
stages show it 333,000. The size head is still of the first demo's world:

    python train.py --config configs/demo.py:size_head --workdir W    # a minute; 93 % of held-out captions

`taskset -c 1` keeps a run on one core, with the same numbers.
"""

from ml_collections import ConfigDict

from configs import common

PROMPTS = (
    "a panda on a beach",
    "a red car to the left of a blue house",
    "3 penguins in the snow",
    'a sign that says "HELLO"',
    "a cat on a skateboard at night",
    "a fox, an owl and a castle from left to right in the forest",
)


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
    c.train.steps = 28_000
    c.train.batch_size = 8
    c.train.learning_rate = 2e-3
    c.train.weight_decay = 0.0
    c.train.release_dtype = "int8"
    c.sample.every = 4_000
    return c


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


def caption_stage_config(stage):
    """What the stages that read captions share: the world, and half of the captions as people type."""
    c = common.get_config(stage)
    c.data.world = "whole"
    c.data.part = PART
    c.data.captions = {"descriptive": 0.45, "prompt": 0.50, "short": 0.05, "alt": 0.0}
    c.data.tokenizer = "typed"
    c.data.text_length = 120
    c.data.glyph_length = 24
    c.train.constant = 0.6
    c.train.ema = 0.998
    c.train.release_dtype = "int8"
    c.sample.prompts = PROMPTS
    return c


def text():
    """Text encoder, glyph encoder and xfnet learn what a picture of a caption looks like, small and on the average."""
    c = caption_stage_config("text")
    c.train.trainable = ("text_encoder", "glyph_encoder", "xfnet", "latent_head")
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
    c.model.latent_head = {"grid": (8, 8), "patch": 4, "channels": 3}
    c.data.dropout = 0.05
    c.data.text_length = 96  # the longest tenth of the captions loses its end: a fifth less work
    c.train.steps = 3_200
    c.train.batch_size = 64
    c.train.learning_rate = 1e-3
    c.train.warmup = 100
    c.sample.every = 800
    return c


def base():
    """The UNet learns to draw in the latents, and the text side goes on learning beside it."""
    c = caption_stage_config("base")
    c.train.trainable = ("text_encoder", "glyph_encoder", "xfnet", "unet")
    c.init.vae = "vae"
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = "text"
    c.model.unet = {
        "in_channels": 16,
        "out_channels": 16,
        "groups": 16,
        "embedding_ratio": 2,
        "size_ids": 6,
        "levels": (
            ConfigDict({"channels": 96, "blocks": 1, "depth": 0}),
            ConfigDict({"channels": 160, "blocks": 1, "depth": 1, "heads": 4}),
            ConfigDict({"channels": 192, "blocks": 1, "depth": 1, "heads": 4}),
        ),
    }
    c.model.diffusion.schedule.time_scale = 20.0  # smooth enough for the tangents of distill_base
    c.data.frames = c.data.buckets = SHAPES
    c.train.steps = 40_000
    c.train.batch_size = 16
    c.train.learning_rate = 1e-3
    c.train.rates.text_encoder = 0.2
    c.train.rates.glyph_encoder = 0.3
    c.train.rates.xfnet = 0.3
    c.train.objective.time_shift = 1.5
    c.sample.every = 4_000
    return c


def decoder_config(stage):
    """What the decoders share: pictures of the whole world, nine in ten with drawn words."""
    c = common.get_config(stage)
    c.init.vae = "vae"
    c.data.world = "whole"
    c.data.part = {"words": 0.9}
    c.model.diffusion.prediction = "x0_skip"
    c.train.batch_size = 16
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
        "channels": (80, 112),
        "blocks": 1,
        "latent_channels": 16,
        "out_channels": 3,
        "patch": 4,
        "time_entries": 0,
        "embedding_ratio": 2,
        "norm": "rms",
    }
    c.data.crop = 64
    c.train.objective.perturbation.noise = 0.1
    c.train.steps = 3_600
    c.sample.clamp = True
    return c


def distill_from(c, stage):
    """What distillation changes of the stage that taught: no new network, fewer and smaller steps."""
    [component] = c.train.trainable
    del c.model[component]
    c.init[component] = c.train.stage
    common.set_stage(c, stage)
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
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = c.init.unet = "base"
    c.model.refiner = {
        "channels": (40, 48),
        "blocks": 1,
        "image_channels": 16,
        "latent_channels": 16,
        "out_channels": 16,
        "factor": 1,
        "time_entries": 0,
        "embedding_ratio": 2,
        "norm": "rms",
    }
    c.data.part = PART
    c.data.captions = {"descriptive": 1.0}
    c.data.tokenizer = "typed"
    c.data.text_length = 120
    c.data.glyph_length = 24
    c.train.objective.perturbation = ConfigDict({"noise": 0.3, "resampled": 0.5, "strength": 0.3, "steps": 2})
    c.train.steps = 600
    return c


def distill_refiner():
    """The refiner as a consistency model, taught by the stage `refiner`."""
    c = distill_from(refiner(), "distill_refiner")
    c.train.steps = 250
    return c


def distill_base():
    """The base model in one, two or four steps, with the guidance scale as an input."""
    c = caption_stage_config("distill_base")
    c.train.trainable = ("unet",)
    c.init.vae = "vae"
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = c.init.unet = "base"
    c.model.unet = ConfigDict({**base().model.unet, "guidance_width": 64})
    c.data.latents = 8_000
    c.train.objective.guidance_scales = (1.0, 5.0)
    c.train.objective.warmup = 500
    c.train.steps = 2_000
    c.train.batch_size = 16
    c.train.learning_rate = 3e-4
    c.train.ema = 0.99
    c.sample.steps = 2
    return c


def upscaler():
    """From 128 to 256 pixels, in pixels folded 4 x 4: 3.2 M parameters, without statistics or attention over space."""
    c = caption_stage_config("upscaler")
    c.train.trainable = ("upscaler",)
    c.init.text_encoder = c.init.glyph_encoder = c.init.xfnet = "base"
    c.model.upscaler = {
        "in_channels": 6,
        "out_channels": 3,
        "patch": 4,
        "norm": "rms",
        "level_entries": 0,
        "embedding_ratio": 2,
        "middle_self_attend": False,
        "levels": (
            ConfigDict({"channels": 96, "blocks": 1, "heads": 4}),
            ConfigDict({"channels": 96, "blocks": 1, "heads": 4}),
        ),
    }
    c.model.diffusion.prediction = "x0_skip"
    c.data.part = {**PART, "words": 0.7}
    c.data.size = (256, 256)
    c.data.crop = 128
    c.data.degradation = {"factor": 2}
    c.train.steps = 3_000
    c.train.batch_size = 8
    c.train.learning_rate = 2e-3
    c.train.weight_decay = 0.0
    c.train.constant = 0.5
    c.sample.every = 1_000
    c.sample.count = 4
    c.sample.steps = 10
    c.sample.sampler = "ddim"
    c.sample.guidance_scale = 1.0
    c.sample.clamp = True
    return c


def distill_upscaler():
    """The upscaler in two to four steps, taught by the stage `upscaler`."""
    c = distill_from(upscaler(), "distill_upscaler")
    c.train.steps = 600
    c.sample.decoder_steps = 4
    return c


def captioner_config():
    """What the captioner's stages share: the demo's world in squares; a twentieth of the captions loses its end."""
    c = common.get_config("captioner")
    c.train.trainable = ("captioner",)
    c.data.world = "whole"
    c.data.part = PART
    c.data.tokenizer = "whole"
    c.data.dropout = 0.0
    c.data.text_length = 88
    c.train.batch_size = 64
    c.train.constant = 0.5
    c.train.ema = 0.998
    c.train.release_dtype = "int8"
    c.sample.count = 24
    return c


def captioner():
    """The captioner from nothing: half of the captions are alternative texts, the others say where things are.

    Of alternative texts alone, with learned positions alone, or with either it did not learn where things are
    (docs/captions.md).
    """
    c = captioner_config()
    c.model.captioner = {
        "vision": {"width": 144, "layers": 4, "heads": 6, "mlp_width": 576, "activation": "gelu"},
        "text": {"width": 112, "layers": 1, "heads": 4, "mlp_width": 448, "activation": "gelu"},
        "decoder": {"width": 112, "layers": 2, "heads": 4, "mlp_width": 448, "activation": "gelu"},
        "vocab_size": 2688,
        "positions": 88,
        "image_size": (128, 128),
        "patch": 16,
        "projection": 128,
        "queries": 0,
        "patch_positions": 1.0,
        "token_positions": 1.0,
    }
    c.data.captions = {"alt": 0.4, "short": 0.1, "descriptive": 0.5}
    c.train.steps = 3_600
    c.train.learning_rate = 1.5e-3
    return c


def fine_tune(version):
    """The captioner on captions of one kind."""
    c = captioner_config()
    c.train.name = f"captioner_{version}"
    c.init.captioner = "captioner"
    c.data.captions = {version: 1.0}
    c.data.seed = 1  # other pictures than the generators'
    c.train.warmup = 50
    return c


def captioner_short():
    """The captioner on 4,000 captions of the main subject."""
    c = fine_tune("short")
    c.data.records = 4_000
    c.train.steps = 500
    c.train.learning_rate = 3e-4
    return c


def captioner_descriptive():
    """The captioner on 40,000 captions that say everything: of 4,000 the first demo's knew some by heart."""
    c = fine_tune("descriptive")
    c.data.records = 40_000
    c.train.steps = 1_600
    c.train.learning_rate = 1e-3
    return c


def size_head():
    """The head that reads a prompt's size from its features: scenes in frames that suit them, one in ten in any."""
    c = common.get_config("size_head")
    c.train.trainable = ("size_head",)
    c.init.text_encoder = "dalle3_jax/releases/demo"
    sizes = ((128, 128), (96, 176), (176, 96))
    c.model.size_head = {"buckets": sizes, "width": 128}
    c.data.frames = sizes
    c.data.captions = {"descriptive": 0.6, "short": 0.3, "alt": 0.1}
    c.data.dropout = 0.0
    c.data.text_length = 40
    c.train.steps = 1_500
    c.train.batch_size = 64
    c.train.learning_rate = 3e-3
    c.train.weight_decay = 0.0
    c.train.ema = 0.99
    c.sample.every = 1_500
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"vae": vae, "text": text, "base": base, "decoder": decoder, "distill": distill, "refiner": refiner}
    stages |= {"captioner": captioner, "captioner_short": captioner_short}
    stages |= {"captioner_descriptive": captioner_descriptive, "size_head": size_head}
    stages |= {"distill_refiner": distill_refiner, "distill_base": distill_base}
    stages |= {"upscaler": upscaler, "distill_upscaler": distill_upscaler}
    if stage not in stages:
        raise ValueError(f"configs/demo.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
