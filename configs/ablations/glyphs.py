"""Does reading a prompt's quoted text byte by byte make the words in pictures right?

    dalle3-jax ablate configs/ablations/glyphs.py --workdir W

Sized for one H100-class GPU: 4 runs of 5,120,000 pictures, two hours by estimate; not yet run. Two seeds, because each
costs a quarter of that.
"""

from ml_collections import ConfigDict

ENCODER = {
    "vocab_size": 384,
    "width": 128,
    "layers": 2,
    "heads": 4,
    "head_size": 32,
    "mlp_width": 384,
    "relative_std": 2.0,
}


def get_config():
    """The same model without and with a glyph encoder, each with two seeds."""
    c = ConfigDict(convert_dict=False)  # dicts stay plain: variants keep their order, keys their dots
    c.title = "Glyph encoder"
    c.base = ("configs/ablations/small.py:vae", "configs/ablations/small.py:words")
    c.variants = {
        "without": {},
        "with": {
            "model.glyph_encoder": ENCODER,
            "model.xfnet.glyphs": True,
            "data.glyph_length": 24,
            "train.trainable": ("text_encoder", "glyph_encoder", "xfnet", "unet"),
        },
    }
    c.seeds = (0, 1)
    c.measure = {
        "error": {"times": (0.2, 0.4, 0.6, 0.8, 0.95), "records": 512, "points": 5},
        "prompts": {"count": 300},
    }
    return c
