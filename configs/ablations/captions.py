"""The experiment of DALL-E 3's paper: which captions should a generator be trained on, and how many of them?

    dalle3-jax ablate configs/ablations/captions.py --workdir W

A captioner learns from noisy alternative texts and is tuned on short and on descriptive captions (configs/demo.py); it
captions the training pictures; identical generators learn from alternative texts alone, from 95 % short, from 65 to
100 % descriptive captions, and from the exact descriptive captions that the scenes come with, as the upper bound. Each
is asked for held-out scenes by their alternative texts and by their descriptive captions.

Two CPU cores, with two processes of the command: an hour for the captioner, two minutes for its captions, four to five
minutes of one core for each run with what is measured of it. Descriptive captions did best on prompts of both kinds,
and more of them better; with exact ones nearly every description was drawn rightly, with the captioner's a third,
because it does not know where things are (docs/ablations.md).
"""

from ml_collections import ConfigDict

SHORT, DESCRIPTIVE = "captioner_short", "captioner_descriptive"


def blend(version, share):
    """A share of captions of one version, the rest alternative texts."""
    return {"data.captions": {version: share, "alt": round(1 - share, 2)} if share < 1 else {version: 1.0}}


def get_config():
    """Eight blends, each with two seeds."""
    c = ConfigDict(convert_dict=False)  # dicts stay plain: variants keep their order, keys their dots
    c.title = "Captions that a generator is trained on"
    c.base = (
        "configs/demo.py:captioner",
        "configs/demo.py:captioner_short",
        "configs/demo.py:captioner_descriptive",
        "configs/ablations/small.py:captioned",
    )
    c.captions = {SHORT: "captioner_short", DESCRIPTIVE: "captioner_descriptive"}
    c.variants = {
        "alt only": blend("alt", 1.0),
        "95 % short": blend(SHORT, 0.95),
        "95 % descriptive": blend(DESCRIPTIVE, 0.95),
        "95 % exact": blend("descriptive", 0.95),
        "65 % descriptive": blend(DESCRIPTIVE, 0.65),
        "80 % descriptive": blend(DESCRIPTIVE, 0.8),
        "90 % descriptive": blend(DESCRIPTIVE, 0.9),
        "100 % descriptive": blend(DESCRIPTIVE, 1.0),
    }
    c.groups = {
        "kinds of captions": ("alt only", "95 % short", "95 % descriptive", "95 % exact"),
        "share of descriptive captions": (
            "65 % descriptive",
            "80 % descriptive",
            "90 % descriptive",
            "95 % descriptive",
            "100 % descriptive",
        ),
    }
    c.seeds = (0, 1)
    c.measure = {
        "captions": {
            "prompts": {"alt": "captioner", "descriptive": "captioner_descriptive"},
            "count": 100,
            "points": 3,
        },
    }
    return c
