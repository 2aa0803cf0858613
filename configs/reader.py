"""The scene reader: which objects a picture of the embedded dataset shows, where, in which style, on which background.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python train.py --config configs/reader.py --workdir W

Sized for about 50 minutes on two CPU cores. Pictures are spoiled as generators spoil theirs, one in eight by the VAE of
the shipped demo; no generator's picture is ever shown. W/reader/samples/ holds, every thousand steps, held-out pictures
with what was read, and the shares that were read right.
"""

from configs import common


def get_config():
    """The one stage."""
    c = common.get_config()
    c.train.stage = "reader"
    c.train.trainable = ("reader",)
    c.model.reader = {"channels": (48, 96, 160), "blocks": (1, 2, 2), "hidden": 256}
    c.init.vae = "dalle3_jax/releases/demo"
    c.data.world = "scattered"
    c.train.steps = 9_000
    c.train.batch_size = 16
    c.train.learning_rate = 2e-3
    c.train.constant = 0.3
    c.train.ema = 0.998
    c.sample.count = 24
    return c
