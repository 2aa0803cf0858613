"""How much guidance and how many steps does the shipped demo want?

    dalle3-jax ablate configs/ablations/sampling.py --workdir W

One CPU core: 45 runs of 60 prompts, half a minute each. Nothing is trained: a seed draws prompts and noise.

From five steps on and up to guidance 2.5 the demo follows nineteen prompts in twenty, whatever the setting; guidance 4
costs a little and 7 much, above all with few steps (docs/ablations.md).
"""

from ml_collections import ConfigDict


def get_config():
    """Guidance scales by numbers of steps on one list of prompts."""
    c = ConfigDict(convert_dict=False)  # dicts stay plain: variants keep their order, keys their dots
    c.title = "Guidance and steps of the shipped demo"
    c.release = "demo"
    c.variants = {
        f"{steps} steps, guidance {scale:g}": {"guidance_scale": scale, "steps": steps}
        for steps in (5, 10, 20)
        for scale in (1.0, 1.5, 2.5, 4.0, 7.0)
    }
    c.axes = ("guidance_scale", "steps")
    c.seeds = (0, 1, 2)
    c.measure = {"prompts": {"count": 60}}
    return c
