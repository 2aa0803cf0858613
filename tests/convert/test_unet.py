"""UNet2DConditionModel's config and table: Stable Diffusion 1, 2 and XL at full size, and all that is refused."""

import math

import pytest

from dalle3_jax.convert import unet
from dalle3_jax.models.unet import Level, UNet
from tests.convert import public

# Their config.json, as far as it says anything that is not diffusers' default.
SD1 = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.2.2",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
}
SD2 = SD1 | {
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "upcast_attention": True,
    "use_linear_projection": True,
}
SDXL = SD2 | {
    "addition_embed_type": "text_time",
    "addition_embed_type_num_heads": 64,
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 2,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "projection_class_embeddings_input_dim": 2816,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D"] * 2 + ["UpBlock2D"],
    "upcast_attention": None,
}
X4 = SD1 | {
    "block_out_channels": [256, 512, 512, 1024],
    "cross_attention_dim": 1024,
    "down_block_types": ["DownBlock2D"] + ["CrossAttnDownBlock2D"] * 3,
    "in_channels": 7,
    "num_class_embeds": 1000,
    "only_cross_attention": [True, True, True, False],
    "sample_size": 128,
    "up_block_types": ["CrossAttnUpBlock2D"] * 3 + ["UpBlock2D"],
    "use_linear_projection": True,
}
PUBLIC = {  # config, levels and further fields of ours, parameters
    "sd1_unet": (
        SD1,
        (Level(320, 2, 1, 8), Level(640, 2, 1, 8), Level(1280, 2, 1, 8), Level(1280, 2, 0, 8)),
        {"context_width": 768, "pooled": False},
        859_520_964,
    ),
    "sd2_unet": (
        SD2,
        (Level(320, 2, 1, 5), Level(640, 2, 1, 10), Level(1280, 2, 1, 20), Level(1280, 2, 0, 20)),
        {"context_width": 1024, "pooled": False},
        865_910_724,
    ),
    "sdxl_unet": (
        SDXL,
        (Level(320, 2, 0, 5), Level(640, 2, 2, 10), Level(1280, 2, 10, 20)),
        {"context_width": 2048, "size_ids": 6, "vector_width": 1280, "middle_depth": 10},
        2_567_463_684,
    ),
    "sd_x4_unet": (
        X4,
        (Level(256, 2, 0, 8, False), Level(512, 2, 1, 8, False), Level(512, 2, 1, 8, False), Level(1024, 2, 1, 8)),
        {"context_width": 1024, "pooled": False, "in_channels": 7, "level_entries": 1000},
        473_398_020,
    ),
}
DIFFUSERS = {"time_conditioning": "add", "modulate_first": False, "affine": True}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_tensor_of_a_public_unet_has_its_place(name):
    config, levels, fields, parameters = PUBLIC[name]
    found = public.tensors(name)
    assert sum(map(math.prod, found.values())) == parameters
    assert public.fits(unet.LAYOUT, config, found) == UNet(levels=levels, **DIFFUSERS, **fields)


def test_a_config_may_leave_out_what_diffusers_has_a_default_for():
    kept = {name: SD1[name] for name in ("cross_attention_dim",)}
    assert unet.LAYOUT.module(kept) == unet.LAYOUT.module(SD1)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_config_that_was_written_reads_as_the_same_network(name):
    module = unet.LAYOUT.module(PUBLIC[name][0])
    assert unet.LAYOUT.module(unet.LAYOUT.config(module)) == module


@pytest.mark.parametrize(
    ("options", "levels", "middle"),
    [
        ({"only_cross_attention": True}, (False,) * 4, False),
        ({"only_cross_attention": [True] * 4}, (False,) * 4, True),
        ({"only_cross_attention": True, "mid_block_only_cross_attention": False}, (False,) * 4, True),
        ({"mid_block_only_cross_attention": True}, (True,) * 4, False),
    ],
)
def test_the_middle_follows_the_levels_unless_they_are_listed_or_it_is_told_apart(options, levels, middle):
    """As UNet2DConditionModel's own code resolves the two options."""
    module = unet.LAYOUT.module(SD1 | options)
    assert (tuple(level.self_attend for level in module.levels), module.middle_self_attend) == (levels, middle)
    assert unet.LAYOUT.module(unet.LAYOUT.config(module)) == module


def test_unusual_options_are_read_and_written():
    options = {
        "layers_per_block": [1, 2, 3, 1],
        "resnet_time_scale_shift": "scale_shift",
        "time_embedding_dim": 640,
        "transformer_layers_per_block": [[3, 3], [2, 2], 1, [4]],
        "reverse_transformer_layers_per_block": [[4, 4], 1, [2, 2, 2], [3, 3, 3]],
        "cross_attention_dim": [64, 64, 64, 64],
        "in_channels": 9,
    }
    module = unet.LAYOUT.module(SD1 | options)
    assert module == UNet(
        levels=(Level(320, 1, 3, 8), Level(640, 2, 2, 8), Level(1280, 3, 1, 8), Level(1280, 1, 0, 8)),
        in_channels=9,
        time_conditioning="scale_shift",
        modulate_first=False,
        affine=True,
        pooled=False,
        context_width=64,
        middle_depth=4,
        embedding_ratio=2,
    )
    assert unet.LAYOUT.module(unet.LAYOUT.config(module)) == module


UNSUPPORTED = {
    "act_fn": "gelu",
    "addition_embed_type": "text",
    "attention_type": "gated",
    "center_input_sample": True,
    "class_embed_type": "simple_projection",
    "addition_time_embed_dim": 7,
    "conv_in_kernel": 5,
    "conv_out_kernel": 2,
    "cross_attention_dim": [768, 768, 768, 512],
    "dual_cross_attention": True,
    "encoder_hid_dim": 32,
    "encoder_hid_dim_type": "text_proj",
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "layers_per_block": [2, 2],
    "mid_block_type": None,
    "norm_eps": 2,
    "norm_num_groups": None,
    "num_attention_heads": 4,
    "num_class_embeds": 0,
    "only_cross_attention": [True, False],
    "mid_block_only_cross_attention": "deep",
    "resnet_out_scale_factor": 1.41,
    "resnet_time_scale_shift": "ada_group",
    "reverse_transformer_layers_per_block": [1, 1, 1, 2],
    "time_cond_proj_dim": 7,
    "time_embedding_dim": 100,
    "time_embedding_type": "fourier",
    "transformer_layers_per_block": [[1, 2], 1, 1, 1],
    "an_option_of_tomorrow": 1,
}


def test_every_unsupported_option_is_named_at_once():
    with pytest.raises(ValueError, match="UNet2DConditionModel") as error:
        unet.LAYOUT.module(SD1 | UNSUPPORTED)
    assert [name for name in UNSUPPORTED if f"{name}=" not in str(error.value)] == []
    assert [name for name in SD1 if name not in UNSUPPORTED and f" {name}=" in str(error.value)] == []


def test_options_that_say_nothing_else_are_fine():
    same = {"num_attention_heads": SD1.get("attention_head_dim", 8), "only_cross_attention": [False] * 4}
    same |= {"mid_block_only_cross_attention": False, "decay": 0.999, "optimization_step": 12000, "power": 0.75}
    assert unet.LAYOUT.module(SD1 | same) == unet.LAYOUT.module(SD1)


def test_heads_need_to_divide_only_levels_that_attend():
    blocks = {"down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"]}
    blocks |= {"up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "block_out_channels": [32, 64]}
    found = unet.LAYOUT.module(SD1 | blocks | {"attention_head_dim": [6, 4]})
    assert [(level.depth, level.heads) for level in found.levels] == [(0, 6), (1, 4)]
    with pytest.raises(ValueError, match="attention_head_dim"):  # the middle attends with the last level's heads
        unet.LAYOUT.module(SD1 | {"block_out_channels": [320, 640, 1280, 1281]})


def test_options_of_small_public_models_are_read_and_written():
    options = {"norm_eps": 1e-6, "conv_in_kernel": 1, "conv_out_kernel": 1}
    xl = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8}
    xl |= {"projection_class_embeddings_input_dim": 80}
    found = unet.LAYOUT.module(SD1 | options | xl)
    assert (found.eps, found.conv_in_kernel, found.conv_out_kernel) == (1e-6, 1, 1)
    assert (found.size_id_width, found.vector_width) == (8, 80 - 6 * 8)
    shapes = public.parameters(found)
    assert shapes["conv_in.kernel"][:2] == shapes["conv_out.kernel"][:2] == (1, 1)
    assert shapes["condition_embedding.linear_1.kernel"][0] == 80
    assert unet.LAYOUT.module(unet.LAYOUT.config(found)) == found


def test_unknown_options_that_are_off_are_fine():
    off = {"an_option_of_tomorrow": None, "another": False, "dropout": 0.1, "sample_size": [96, 64]}
    assert unet.LAYOUT.module(SD1 | off) == unet.LAYOUT.module(SD1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"down_block_types": ["DownBlock2D"] * 3}, "down_block_types="),
        ({"down_block_types": ["AttnDownBlock2D"] * 4}, "down_block_types="),
        ({"down_block_types": [[]] * 4}, "down_block_types="),
        ({"up_block_types": ["CrossAttnUpBlock2D"] * 4}, "up_block_types="),
        ({"up_block_types": None}, "up_block_types="),
        ({"block_out_channels": []}, "block_out_channels="),
        ({"resnet_time_scale_shift": ["default"]}, "resnet_time_scale_shift="),
        ({"attention_head_dim": 7}, "attention_head_dim=7 (numbers of heads that divide (320, 640, 1280, 1280))"),
        ({"attention_head_dim": [8, 8, 8, None]}, "attention_head_dim="),
        ({"addition_embed_type": "text_time"}, "addition_time_embed_dim=None"),
        (
            {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 1536,
            },
            "projection_class_embeddings_input_dim=1536 (supported: above the 1536 of 6 size ids)",
        ),
    ],
)
def test_options_that_do_not_go_together_are_named(options, named):
    with pytest.raises(ValueError, match="UNet2DConditionModel") as error:
        unet.LAYOUT.module(SD1 | options)
    assert named in str(error.value)


def test_what_diffusers_cannot_express_is_named_at_once():
    module = UNet((Level(32, depth=2),), qk_norm=True, size_ids=4, middle_depth=1, patch=2, norm="rms", grid=(2, 2))
    with pytest.raises(ValueError, match="as UNet2DConditionModel") as error:
        unet.LAYOUT.config(module)
    names = ("qk_norm=True", "size_ids=4", "modulate_first=True", "affine=False", "middle_depth=1 (supported: 2)")
    for named in (*names, "context_width=0", "vector_width=0", "patch=2", "norm='rms'", "grid=(2, 2)"):
        assert named in str(error.value)
