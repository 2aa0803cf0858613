"""Which adapter between text encoder and UNet: linear, MLP, transformer or resampler, and what do long captions cost?

    dalle3-jax ablate configs/ablations/xfnet.py --workdir W

One CPU core: 4 runs of 14,400 pictures, seven to eight minutes each with what is measured of them; one seed only,
because there are four kinds. Quality is that of training at 32 tokens: the longest caption of this world has 28, and
padding is masked, so that 128 or 256 would give the same numbers. The UNet's time is measured at full captions of 32,
128 and 256 tokens. With so little training the simplest did best (docs/ablations.md).
"""

from ml_collections import ConfigDict


def get_config():
    """Four kinds from nothing on the demo's frozen text encoder, each with one seed."""
    c = ConfigDict(convert_dict=False)  # dicts stay plain: variants keep their order, keys their dots
    c.title = "Kinds of xfnet"
    c.base = ("configs/ablations/small.py:xfnet",)
    c.variants = {
        "linear": {"model.xfnet.kind": "linear"},
        "mlp": {"model.xfnet.kind": "mlp"},
        "transformer": {"model.xfnet.kind": "transformer"},
        "resampler": {"model.xfnet.kind": "resampler"},
    }
    c.seeds = (0,)
    c.measure = {
        "error": {"times": (0.2, 0.4, 0.6, 0.8, 0.95), "records": 128, "points": 6},
        "prompts": {"count": 60},
        "unet_time": {"lengths": (32, 128, 256), "batch": 8, "rounds": 15},
    }
    return c
