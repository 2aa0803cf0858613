"""Stable Diffusion's x4 upscaler against diffusers': its UNet block by block, and all of it from one noise."""

import re

import diffusers
import jax
import jax.numpy as jnp
import pytest
import torch

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.upscaler import join_low_resolution
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.parity import expected, folders, pipelines
from tests.upscaled import x4_images

STEPS, GUIDANCE, LEVEL, SIDES = 5, 9.0, 20, (12, 8)
pytestmark = [
    pytest.mark.network("upscaler", "diffusers StableDiffusionUpscalePipeline"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def our_name(theirs: str, levels: int) -> str:
    """The name of our block of what diffusers calls so."""
    stage, number, kind, index = re.fullmatch(
        r"(down|up|mid)_blocks?\.?(\d*)\.(resnets|attentions)\.(\d+)", theirs
    ).groups()
    level = levels - 1 - int(number) if stage == "up" else number
    what = {"resnets": "block", "attentions": "transformer"}[kind]
    if stage == "mid":
        return f"middle_block_{index}" if what == "block" else "middle_transformer"
    return f"{stage}_{level}_{index}_{what}"


def test_every_block_of_the_unet(agree, tmp_path):
    theirs = pipelines.x4_unet(8)
    ours, params = folders.imported(theirs, tmp_path)
    assert (ours.level_entries, [level.self_attend for level in ours.levels]) == (1000, [False, False, True])
    x, tokens = drawn(2, 7, 6, 10, seed=1), drawn(2, 5, 8, seed=2)
    t, labels = torch.tensor([17.0, 981.0]), torch.tensor([20, 349])
    seen = {}
    for name, block in theirs.named_modules():
        if re.fullmatch(r".*\.(resnets|attentions)\.\d+", name):
            block.register_forward_hook(lambda _, __, out, name=name: seen.update({name: getattr(out, "sample", out)}))
    with torch.no_grad():
        output = theirs(x, t, encoder_hidden_states=tokens, class_labels=labels).sample
    condition = Condition(jnp.asarray(tokens.numpy()), jnp.ones((2, 5), bool), jnp.zeros((2, 1)))
    rows = x.permute(0, 2, 3, 1).numpy()
    given = join_low_resolution(jnp.asarray(rows[..., :4]), jnp.asarray(rows[..., 4:]))  # latents first, then the image

    @jax.jit
    def run(params):
        level = jnp.asarray(labels.numpy(), jnp.float32)
        inputs = given, jnp.asarray(t.numpy()), condition, None, level
        return ours.apply({"params": params}, *inputs, capture_intermediates=True, mutable=["intermediates"])

    out, kept = run(params)
    assert len(seen) == 3 * 3 + 2 * 3 + 3  # residual blocks, transformers, the middle
    for name, value in seen.items():
        value = value[0] if isinstance(value, tuple) else value
        [found] = kept["intermediates"][our_name(name, len(ours.levels))]["__call__"]
        agree(found, value.permute(0, 2, 3, 1))
    agree(out, output.permute(0, 2, 3, 1))


def test_what_we_write_is_the_same_network_to_diffusers(tmp_path):
    theirs = pipelines.x4_unet(8)
    ours, params = folders.imported(theirs, tmp_path / "theirs")
    written = folders.exported(ours, params, diffusers.UNet2DConditionModel, tmp_path / "ours")
    folders.assert_same_weights(written, theirs)


def test_the_same_noise_gives_the_same_image(agree, tmp_path):
    scheduler = diffusers.DDIMScheduler(
        **{**pipelines.SCHEDULE, **pipelines.X4_BETAS},
        prediction_type="v_prediction",
        set_alpha_to_one=False,
        steps_offset=1,
        clip_sample=False,
    )
    theirs = pipelines.stable_diffusion_x4(tmp_path, scheduler)
    inputs, outputs = expected.upscaled(theirs, "a cat", STEPS, GUIDANCE, LEVEL, SIDES)
    upscaler = Upscaler.load(tmp_path / "pipeline")
    settings = upscaler.settings
    assert (settings.factor, settings.noise_level, settings.most_noise, settings.steps) == (4, 20, 350, 75)
    how = Upscaling(4, STEPS, LEVEL, GUIDANCE)
    given = {name: jnp.asarray(value.numpy()) for name, value in inputs.items()}
    latents, image = x4_images(upscaler, how, given, "a cat")
    agree(latents, outputs["latents"], limit=1e-3)
    agree(image, outputs["image"], limit=1e-3)
