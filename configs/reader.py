"""The scene reader: which objects a picture of the embedded dataset shows, where, in which style, on which background.

    XLA_FLAGS=--xla_force_host_platform_device_count=2 python train.py --config configs/reader.py:reader --workdir W
    XLA_FLAGS=--xla_force_host_platform_device_count=2 python train.py --config configs/reader.py:further --workdir V

About 45 minutes each on two CPU cores. `reader` begins from nothing, `further` goes on from the shipped release.
Pictures are spoiled as generators spoil theirs, one in eight by the VAE of the shipped demo; no generator's picture is
ever shown. Every thousand steps samples/ gets held-out pictures with what was read, and the metrics the shares that
were right.

The shipped reader saw 272,000 scenes, 144,000 in `reader` and 128,000 in `further`. While the first of these ran the
world was still being drawn: until its step 3,954 objects stood anywhere in all scenes, and until its end half as many
were tinted. Of unspoilt held-out scenes at 128 px it then read 72 % wholly right, and 82 % after `further`.
"""

from configs import common


def shared_config():
    """What both stages share."""
    c = common.get_config("reader")
    c.train.trainable = ("reader",)
    c.data.world = "scattered"
    c.init.vae = "dalle3_jax/releases/demo"
    c.train.batch_size = 16
    c.train.constant = 0.3
    c.train.ema = 0.998
    c.sample.count = 24
    return c


def reader():
    """From nothing."""
    c = shared_config()
    c.model.reader = {"channels": (48, 96, 160), "blocks": (1, 2, 2), "hidden": 256}
    c.train.steps = 9_000
    c.train.learning_rate = 2e-3
    return c


def further():
    """On from the shipped release."""
    c = shared_config()
    c.init.reader = "dalle3_jax/releases/reader"
    c.train.steps = 8_000
    c.train.learning_rate = 1.5e-3
    return c


def get_config(stage: str = "reader"):
    """The config of one stage."""
    stages = {"reader": reader, "further": further}
    if stage not in stages:
        raise ValueError(f"configs/reader.py has no stage {stage!r}: use {', '.join(stages)}")
    return stages[stage]()
