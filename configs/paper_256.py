"""The ablation model's setting of the DALL-E 3 paper: 256 px, T5-XXL, three levels, 500,000 steps of 2,048 images.

    python train.py --config configs/paper_256.py:base --workdir W --config.data.source=DATA

DATA is a folder of TFDS, of WebDataset tars or with a metadata.jsonl (docs/data.md). The text encoder and the VAE are
public weights: a hub id or a folder each, `--config.init.text_encoder=... --config.init.vae=...`. Widths are ours: the
paper says none. UNet of 585 M parameters, xfnet of 76 M.

`python -m dalle3_jax plan --config configs/paper_256.py:base --topology v5e:16x16` says what a pod makes of it; what it
said for v5e-256 and v5p-128 is in docs/plans. It was compiled for pods and never trained on one.
"""

from ml_collections import ConfigDict

from configs import common

T5_XXL = {
    "vocab_size": 32128,
    "width": 4096,
    "layers": 24,
    "heads": 64,
    "head_size": 64,
    "mlp_width": 10240,
}
"""T5 v1.1 XXL's encoder: 4,762,310,656 parameters."""


def level(channels, blocks, depth):
    """One resolution of a UNet, its heads as wide as a TPU's lanes."""
    return ConfigDict({"channels": channels, "blocks": blocks, "depth": depth, "heads": channels // 128})


def pod_config():
    """What the configs for pods share: T5-XXL and Stable Diffusion's VAE, both frozen, and an xfnet of 64 tokens."""
    c = common.get_config("base")
    c.train.trainable = ("xfnet", "unet")
    c.init.text_encoder = "google/t5-v1_1-xxl"
    c.init.vae = "stabilityai/sd-vae-ft-mse"
    c.model.text_encoder = T5_XXL
    c.model.vae = {}
    c.model.xfnet = {
        "kind": "resampler",
        "width": 1024,
        "vector_width": 1024,
        "layers": 4,
        "heads": 8,
        "queries": 64,
        "remat": True,
    }
    c.model.unet = {"size_ids": 6, "qk_norm": True, "remat": True}
    c.data.source = ""
    c.data.tokenizer = ""  # the text encoder's
    c.data.captions = ConfigDict({"descriptive": 0.95, "alt": 0.05})
    c.data.text_length = 128
    c.data.threads = 64
    c.train.batch_size = 2048
    c.train.dtype = "bfloat16"
    c.train.learning_rate = 1e-4
    c.train.warmup = 10_000
    c.train.constant = 0.9
    c.train.ema = 0.9999
    c.train.log_every = 100
    c.train.save_every = 2_500
    c.train.keep = 3
    c.train.compile_first = True
    c.mesh.data = 1
    c.mesh.fsdp = -1
    c.sample.every = 5_000
    c.sample.prompts = ("a panda on a beach", "two red apples on a wooden table", 'a sign that says "hello"')
    c.sample.guidance_scale = 5.0
    return c


def base():
    """The UNet and the xfnet, on square crops."""
    c = pod_config()
    c.model.unet.levels = (level(256, 3, 0), level(512, 3, 1), level(1024, 3, 1))
    c.data.size = (256, 256)
    c.train.steps = 500_000
    return c


def get_config(stage: str = "base"):
    """The config of one stage."""
    stages = {"base": base}
    if stage not in stages:
        raise ValueError(f"configs/paper_256.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
