"""diffusers' UNet2DConditionModel: the UNets of Stable Diffusion 1, 2 and XL, and others of their form."""

from collections.abc import Mapping
from typing import Any

from dalle3_jax.convert.blocks import mlp, residual, spatial_transformer
from dalle3_jax.convert.layout import Layout
from dalle3_jax.convert.rules import Rule, conv, norm
from dalle3_jax.convert.unet_config import config, module
from dalle3_jax.models.unet import UNet

__all__ = ["LAYOUT"]


def rules(config: Mapping[str, Any]) -> list[Rule]:
    """The table of its tensors."""
    unet = module(config)
    time, dense = unet.time_conditioning, config.get("use_linear_projection", False)
    table = [
        *conv("conv_in", "conv_in"),
        *mlp("time_embedding", "time_embedding"),
        *mlp("add_embedding", "condition_embedding"),
        *residual("mid_block.resnets.0", "middle_block_0", time),
        *spatial_transformer("mid_block.attentions.0", "middle_transformer", dense),
        *residual("mid_block.resnets.1", "middle_block_1", time),
        *norm("conv_norm_out", "norm_out"),
        *conv("conv_out", "conv_out"),
    ]
    for stage, number, target, depth in _stages(unet):
        table += residual(f"{stage}.resnets.{number}", f"{target}_block", time)
        if depth:
            table += spatial_transformer(f"{stage}.attentions.{number}", f"{target}_transformer", dense)
    for i in range(len(unet.levels)):
        table += conv(f"down_blocks.{i}.downsamplers.0.conv", f"down_{i}_downsample.conv")
        table += conv(f"{_up(unet, i)}.upsamplers.0.conv", f"up_{i}_upsample.conv")
    return table


def _stages(unet: UNet) -> list[tuple[str, int, str, int]]:
    """(their block, number of a residual block in it, our name of both, layers of the transformer behind it)."""
    stages = []
    for i, level in enumerate(unet.levels):
        stages += [(f"down_blocks.{i}", j, f"down_{i}_{j}", level.depth) for j in range(level.blocks)]
        stages += [(_up(unet, i), j, f"up_{i}_{j}", level.depth) for j in range(level.blocks + 1)]
    return stages


def _up(unet: UNet, level: int) -> str:
    """diffusers counts blocks on the way up from the lowest resolution."""
    return f"up_blocks.{len(unet.levels) - 1 - level}"


LAYOUT = Layout(module, rules, config)
