"""Captioner and size head of the demo: stages of configs/demo.py.

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
"""

from configs import common
from configs.demo_world import PART, SHAPES


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
    return c


def size_head():
    """The head that reads a prompt's size from its features: scenes in frames that suit them, one in ten in any."""
    c = common.get_config("size_head")
    c.train.trainable = ("size_head",)
    c.init.text_encoder = "dalle3_jax/releases/demo"
    c.model.size_head = {"buckets": SHAPES, "width": 128}
    c.data.frames = SHAPES
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
