"""The demo model on one GPU: `make demo DEMO=gpu`, or

python train.py --config configs/demo_gpu.py:vae  --workdir W
python train.py --config configs/demo_gpu.py:base --workdir W

The networks are wider than those of configs/demo.py and compute in bfloat16 on batches of 512; the release stays under
30 MB in float16. Sized for about half an hour on an H200-class GPU by estimate; not yet run on one.
"""

from ml_collections import ConfigDict

from configs import common

PROMPTS = (
    "a panda on the left and a red apple on the right",
    "three frogs on a beach",
    "a penguin above a guitar",
    "one rocket in the top right corner",
)


def vae():
    """8x KL autoencoder with 8 channels on crops."""
    c = common.get_config()
    c.train.stage = "vae"
    c.train.trainable = ("vae",)
    c.model.vae = {
        "latent_channels": 8,
        "patch": 2,
        "channels": (32, 64, 96),
        "decoder_channels": (48, 96, 128),
        "blocks": 1,
        "decoder_blocks": 2,
        "norm": "rms",
        "attention": False,
        "quant_convs": False,
    }
    c.data.crop = 64
    c.data.threads = 16
    c.train.dtype = "bfloat16"
    c.train.steps = 8_000
    c.train.batch_size = 128
    c.train.learning_rate = 1e-3
    c.train.weight_decay = 0.0
    return c


def base():
    """Text encoder, xfnet and UNet, learnt together in the latents of the `vae` stage."""
    c = common.get_config()
    c.train.stage = "base"
    c.train.trainable = ("text_encoder", "xfnet", "unet")
    c.init.vae = "vae"
    c.model.text_encoder = {
        "vocab_size": 1024,
        "width": 128,
        "layers": 3,
        "heads": 4,
        "head_size": 32,
        "mlp_width": 384,
    }
    c.model.xfnet = {"kind": "transformer", "width": 128, "vector_width": 128, "layers": 1, "heads": 4}
    c.model.unet = {
        "in_channels": 8,
        "out_channels": 8,
        "embedding_ratio": 2,
        "levels": (
            ConfigDict({"channels": 96, "blocks": 1, "depth": 1, "heads": 3}),
            ConfigDict({"channels": 128, "blocks": 1, "depth": 1, "heads": 4}),
            ConfigDict({"channels": 160, "blocks": 1, "depth": 1, "heads": 5}),
        ),
    }
    c.data.captions = {"descriptive": 0.80, "short": 0.15, "alt": 0.05}
    c.data.text_length = 40
    c.data.latents = 200_000
    c.data.threads = 16
    c.train.dtype = "bfloat16"
    c.train.steps = 25_000
    c.train.batch_size = 512
    c.train.learning_rate = 6e-4
    c.train.constant = 0.6
    c.train.ema = 0.999
    c.sample.prompts = PROMPTS
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"vae": vae, "base": base}
    if stage not in stages:
        raise ValueError(f"configs/demo_gpu.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
