"""Stages of the demo that make images from images: stages of configs/demo.py, each beginning with the base model.

python train.py --config configs/demo.py:inpaint --workdir W
python train.py --config configs/demo.py:image_prompt --workdir W    # after the captioner too
dalle3-jax sample --checkpoint W/inpaint --image picture.png --mask mask.png --prompt "..."
dalle3-jax sample --checkpoint W/image_prompt --image-prompt picture.png --prompt "..."

They have not been trained in this world yet.
"""

from configs.demo_world import base_stage_config, begin_with_base


def edit_stage_config(stage):
    """What they share: the text side and the UNet of the base model."""
    c = base_stage_config(stage)
    begin_with_base(c)
    c.train.steps = 4_000
    return c


def inpaint_from(unet):
    """The base's UNet with 16 + 1 + 16 channels of input: a fifth of the masks cover the image."""
    c = edit_stage_config("inpaint")
    c.train.trainable = ("unet",)
    c.model.unet = {**unet, "in_channels": 33}
    c.train.learning_rate = 3e-4
    return c


def image_prompt():
    """Four tokens of what the captioner sees, beside the text's 64; half of the captions are dropped."""
    c = edit_stage_config("image_prompt")
    c.train.trainable = ("image_prompt",)
    c.init.captioner = "captioner"
    c.model.image_prompt = {"tokens": 4}
    c.data.dropout = 0.5
    return c
