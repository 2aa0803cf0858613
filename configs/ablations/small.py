"""The ablation-sized model: a UNet of 2.1 M parameters for minutes on one CPU core, in the shipped demo's latents.

    dalle3-jax ablate configs/ablations/prediction.py --workdir W    # or another file beside this one

One CPU core: 900 steps of 16 pictures, some six minutes. `base` takes VAE, text encoder and xfnet from the shipped demo
("demo") and trains the UNet alone on the world `first`; `xfnet` trains an xfnet beside it. `vae` and `words` learn from
nothing on pictures with words in them, for a GPU.
"""

from ml_collections import ConfigDict

from configs import demo, demo_world


def base():
    """A UNet learns to draw what the demo's frozen text side says."""
    c = demo_world.caption_stage_config("base")
    c.train.trainable = ("unet",)
    c.init.vae = c.init.text_encoder = c.init.xfnet = "demo"
    c.model.unet = {
        "in_channels": 8,
        "out_channels": 8,
        "groups": 16,
        "embedding_ratio": 2,
        "levels": (
            ConfigDict({"channels": 32, "blocks": 1, "depth": 0}),
            ConfigDict({"channels": 64, "blocks": 1, "depth": 1, "heads": 2}),
            ConfigDict({"channels": 96, "blocks": 1, "depth": 1, "heads": 3}),
        ),
    }
    c.data.text_length = 32
    c.data.latents = 6_144
    c.data.threads = 1
    c.train.steps = 900
    c.train.learning_rate = 2e-3
    c.train.warmup = 50
    c.train.ema = 0.99
    c.train.objective.time_shift = 1.5
    c.sample.prompts = ()
    c.sample.steps = 10
    return c


def captioned_base():
    """A UNet learns a dozen things on four backgrounds, well enough in five minutes to show what captions do."""
    c = base()
    c.train.steps = 1_440
    names = ("panda", "frog", "penguin", "flamingo", "butterfly", "apple", "pineapple", "rocket", "umbrella")
    c.data.part = {
        "concepts": (*names, "castle", "sunflower", "snowman"),
        "backgrounds": ("beach", "night sky", "snow", "pink wall"),
    }
    c.data.text_length = 40
    return c


def xfnet():
    """UNet and a new xfnet learn together; the text encoder is the demo's."""
    c = base()
    del c.init["xfnet"]
    c.model.xfnet = {
        "kind": "resampler",
        "width": 128,
        "vector_width": 128,
        "layers": 2,
        "heads": 4,
        "queries": 16,
    }
    c.train.trainable = ("xfnet", "unet")
    return c


def vae():
    """The demo's autoencoder on pictures with words."""
    c = demo.vae()
    c.data.world = "whole"
    c.train.dtype = "bfloat16"
    c.train.batch_size = 128
    return c


def words():
    """The demo's networks learn together on pictures with words; batches for a GPU."""
    c = demo.base()
    c.init = ConfigDict({"vae": "vae"})
    c.data.world = "whole"
    c.data.tokenizer = "whole"
    c.data.text_length = 128  # 99.9 % of the descriptive captions have at most 123 tokens
    c.data.latents = 100_000
    c.data.threads = 8
    c.model.text_encoder = {**demo.names().model.text_encoder, "vocab_size": 3072}
    c.model.xfnet = {**demo.names().model.xfnet, "queries": 32}
    c.model.unet = {name: field for name, field in demo.drawing().model.unet.items() if name != "grid"}
    c.train.trainable = ("text_encoder", "xfnet", "unet")
    c.train.dtype = "bfloat16"
    c.train.steps = 20_000
    c.train.batch_size = 256
    c.train.learning_rate = 6e-4
    c.train.rates = {"xfnet": 1.0}
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"base": base, "captioned": captioned_base, "xfnet": xfnet, "vae": vae, "words": words}
    if stage not in stages:
        raise ValueError(f"configs/ablations/small.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
