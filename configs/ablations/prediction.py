"""What should the network predict: the noise, v, or the picture itself?

    dalle3-jax ablate configs/ablations/prediction.py --workdir W

One CPU core: 9 runs of 14,400 pictures, six to eight minutes each with what is measured of them. Errors are those of x0
for all three, with the same noise on the same held-out records.
v and x0 did about as well as each other, eps failed where there is most noise (docs/ablations.md).
"""

from ml_collections import ConfigDict


def get_config():
    """Three predictions with uniform weights, each with three seeds."""
    c = ConfigDict(convert_dict=False)  # dicts stay plain: variants keep their order, keys their dots
    c.title = "What the network predicts"
    c.base = ("configs/ablations/small.py:base",)
    c.variants = {
        "eps": {"model.diffusion.prediction": "eps"},
        "v": {"model.diffusion.prediction": "v"},
        "x0": {"model.diffusion.prediction": "x0"},
    }
    c.seeds = (0, 1, 2)
    c.measure = {
        "error": {"times": (0.2, 0.4, 0.6, 0.8, 0.95), "records": 128, "points": 6},
        "prompts": {"count": 60},
    }
    return c
