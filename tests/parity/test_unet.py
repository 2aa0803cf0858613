"""The UNet against diffusers' UNet2DConditionModel: Stable Diffusion's, SDXL's and the scale-shift layouts."""

import diffusers
import jax.numpy as jnp
import pytest
import torch

from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.xfnet import Condition
from tests.parity import weights

CASES = {
    "sd1_like": {"size": (8, 12), "channels": (16, 24, 32), "depths": (1, 1, 0), "heads": (2, 4, 8), "groups": 8},
    "sd2_like": {"channels": (16, 32), "depths": (1, 0), "heads": (1, 2), "groups": 4, "linear": True},
    "sdxl_like": {
        "channels": (12, 24, 36),
        "depths": (0, 2, 3),
        "heads": (1, 2, 3),
        "groups": 6,
        "linear": True,
        "size_ids": 6,
        "blocks": 1,
    },
    "scale_shift": {
        "size": (8, 12),
        "channels": (16, 32),
        "depths": (1, 2),
        "heads": (2, 2),
        "groups": 8,
        "scale_shift": True,
    },
    "scale_shift_pooled": {
        "channels": (10, 20),
        "depths": (0, 1),
        "heads": (1, 4),
        "groups": 5,
        "scale_shift": True,
        "size_ids": 4,
        "linear": True,
        "blocks": 3,
    },
    "one_level": {"channels": (8,), "depths": (2,), "heads": (2,), "groups": 2, "in_channels": 9},
}
CONTEXT, VECTOR = 14, 20


def reference(case: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    pooled = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": VECTOR + 256 * case.get("size_ids", 0),
    }
    depths = case["depths"]
    unet = diffusers.UNet2DConditionModel(
        in_channels=case.get("in_channels", 4),
        block_out_channels=case["channels"],
        down_block_types=tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        up_block_types=tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        layers_per_block=case.get("blocks", 2),
        transformer_layers_per_block=tuple(depth or 1 for depth in depths),
        attention_head_dim=case["heads"],
        norm_num_groups=case["groups"],
        cross_attention_dim=CONTEXT,
        use_linear_projection=case.get("linear", False),
        resnet_time_scale_shift="scale_shift" if case.get("scale_shift") else "default",
        **(pooled if case.get("size_ids") else {}),
    )
    return weights.perturb(unet)


def module(case: dict) -> UNet:
    levels = zip(case["channels"], case["depths"], case["heads"], strict=True)
    return UNet(
        levels=tuple(Level(channels, case.get("blocks", 2), depth, heads) for channels, depth, heads in levels),
        in_channels=case.get("in_channels", 4),
        time_conditioning="scale_shift" if case.get("scale_shift") else "add",
        modulate_first=False,
        affine=True,
        pooled=bool(case.get("size_ids")),
        size_ids=case.get("size_ids", 0),
        middle_depth=case["depths"][-1] or 1,
        groups=case["groups"],
    )


@pytest.mark.parametrize("name", CASES)
def test_unet(name, agree, run):
    case = CASES[name]
    theirs, size_ids = reference(case), case.get("size_ids", 0)
    with weights.read_once(theirs) as w:
        params = weights.unet(
            w, case["depths"], case.get("blocks", 2), case["depths"][-1] or 1, case.get("scale_shift", False)
        )

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, case.get("in_channels", 4), *case.get("size", (7, 9)), generator=generator)
    t = torch.tensor([17.0, 981.5])
    tokens, vector = torch.randn(2, 11, CONTEXT, generator=generator), torch.randn(2, VECTOR, generator=generator)
    mask = torch.arange(11)[None] < torch.tensor([11, 4])[:, None]
    sizes = torch.randint(0, 1024, (2, size_ids), generator=generator).float() if size_ids else None
    added = {"text_embeds": vector, "time_ids": sizes} if size_ids else None
    expected = theirs(x, t, tokens, encoder_attention_mask=mask, added_cond_kwargs=added).sample

    ours = [jnp.asarray(value.numpy()) for value in (x.permute(0, 2, 3, 1), t, tokens, mask, vector)]
    condition = Condition(*ours[2:])
    out = run(module(case), params, ours[0], ours[1], condition, None if sizes is None else jnp.asarray(sizes.numpy()))
    agree(out, expected.permute(0, 2, 3, 1))
