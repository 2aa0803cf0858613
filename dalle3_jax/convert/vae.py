"""diffusers' AutoencoderKL: the VAEs of Stable Diffusion 1, 2, XL and 3, and others of their form."""

import math
from collections.abc import Mapping
from typing import Any

from dalle3_jax.convert.blocks import attention_rules, residual_rules
from dalle3_jax.convert.configs import are_sizes, is_size, raise_unsupported, size_errors, unsupported_options
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, conv, linear, norm
from dalle3_jax.models.vae import VAE

__all__ = ["LAYOUT", "latent_options", "latent_statistics"]

CLASS = "AutoencoderKL"

DEFAULTS = {
    "block_out_channels": [64],
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
    "scaling_factor": 0.18215,
}
"""What diffusers takes for options that old configs lack."""

STATISTICS = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
OLD_PROJECTIONS = {"query": "query", "key": "key", "value": "value", "proj_attn": "out"}


def module(config: Mapping[str, Any]) -> VAE:
    """The VAE of a config.json; raises ValueError naming every option that is not supported."""
    options = DEFAULTS | dict(config)
    raise_unsupported(CLASS, _vae_option_errors(options))
    quant, post_quant = options["use_quant_conv"], options["use_post_quant_conv"]
    return VAE(
        latent_channels=options["latent_channels"],
        channels=tuple(options["block_out_channels"]),
        blocks=options["layers_per_block"],
        decoder_blocks=options["layers_per_block"] + 1,
        groups=options["norm_num_groups"],
        attention=options["mid_block_add_attention"],
        quant_convs=quant,
        decoder_quant_conv=None if post_quant == quant else post_quant,
    )


def rules(config: Mapping[str, Any], vae: VAE) -> list[Rule]:
    """The table of its tensors; diffusers' decoder counts levels from the latents' side, ours from the image's."""
    levels = range(len(vae.channels))
    return [
        *_half_rules("encoder", "down", dict(zip(levels, levels, strict=True)), vae.blocks),
        *_half_rules("decoder", "up", dict(zip(levels, reversed(levels), strict=True)), vae.decoder_blocks),
        *conv("quant_conv", "quant_conv"),
        *conv("post_quant_conv", "post_quant_conv"),
    ]


def config(vae: VAE) -> dict[str, Any]:
    """The config.json of a VAE, without its latents' statistics (`latent_options`).

    Raises ValueError naming every field that diffusers has no option for.
    """
    fields = ("patch", "norm", "decoder_channels", "decoder_blocks")
    supported = {
        "patch": 1,
        "norm": "group",
        "decoder_channels": [None, vae.channels],
        "decoder_blocks": vae.blocks + 1,
    }
    raise_unsupported(
        f"VAE, as {CLASS},", unsupported_options({name: getattr(vae, name) for name in fields}, supported)
    )
    levels = len(vae.channels)
    return {
        "_class_name": CLASS,
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": DEFAULTS["down_block_types"] * levels,
        "up_block_types": DEFAULTS["up_block_types"] * levels,
        "block_out_channels": list(vae.channels),
        "layers_per_block": vae.blocks,
        "latent_channels": vae.latent_channels,
        "norm_num_groups": vae.groups,
        "mid_block_add_attention": vae.attention,
        "use_quant_conv": vae.quant_convs,
        "use_post_quant_conv": vae.has_post_quant_conv,
        "act_fn": "silu",
    }


def latent_statistics(config: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Shift and scale of each latent channel: its UNet works in (z - shift) * scale.

    Raises ValueError where a config gives anything else than finite numbers, one a channel, with positive scales.
    """
    options = DEFAULTS | dict(config)
    channels, factor, shift = options["latent_channels"], options["scaling_factor"], options.get("shift_factor") or 0.0
    if not is_size(channels):
        raise ValueError(f"latent_channels={channels!r}: a positive whole number is needed")
    mean = options.get("latents_mean") or [shift] * channels
    std = options.get("latents_std") or [1.0] * channels
    columns = [values for values in (mean, std, [factor] * channels) if _are_finite(values, channels)]
    if len(columns) < 3 or min(*std, factor) <= 0:
        given = ", ".join(f"{name}={options.get(name)!r}" for name in STATISTICS)
        raise ValueError(f"{given}: {channels} latent channels need finite numbers, and positive scales")
    return tuple(map(float, mean)), tuple(factor / value for value in std)


def latent_options(shift: tuple[float, ...], scale: tuple[float, ...]) -> dict[str, Any]:
    """The options of a config.json that say a shift and a scale per channel; the inverse of `latent_statistics`."""
    if len({*shift}) == len({*scale}) == 1:
        return {"scaling_factor": scale[0], "shift_factor": shift[0] or None}
    return {"scaling_factor": 1.0, "latents_mean": list(shift), "latents_std": [1 / value for value in scale]}


def _half_rules(name: str, part: str, levels: Mapping[int, int], blocks: int) -> list[Rule]:
    """The encoder or the decoder; `levels` are our numbers of levels with theirs."""
    table = [
        *conv(f"{name}.conv_in", f"{name}.conv_in"),
        *residual_rules(f"{name}.mid_block.resnets.0", f"{name}.middle_block_0"),
        *_pixel_attention_rules(f"{name}.mid_block.attentions.0", f"{name}.middle_attention"),
        *residual_rules(f"{name}.mid_block.resnets.1", f"{name}.middle_block_1"),
        *norm(f"{name}.conv_norm_out", f"{name}.norm_out"),
        *conv(f"{name}.conv_out", f"{name}.conv_out"),
    ]
    for ours, theirs in levels.items():
        source, target = f"{name}.{part}_blocks.{theirs}", f"{name}.level_{ours}"
        table += conv(f"{source}.{part}samplers.0.conv", f"{target}_{part}sample.conv")
        for i in range(blocks):
            table += residual_rules(f"{source}.resnets.{i}", f"{target}_block_{i}")
    return table


def _pixel_attention_rules(source: str, target: str) -> list[Rule]:
    """Under the names of today and of the first files."""
    table = norm(f"{source}.group_norm", f"{target}.norm") + attention_rules(source, f"{target}.attention", bias=True)
    for theirs, ours in OLD_PROJECTIONS.items():
        table += linear(f"{source}.{theirs}", f"{target}.attention.{ours}")
    return table


def _vae_option_errors(options: Mapping[str, Any]) -> list[str]:
    channels = options["block_out_channels"]
    sizes = ("layers_per_block", "latent_channels", "norm_num_groups")
    switches = ("mid_block_add_attention", "use_quant_conv", "use_post_quant_conv")
    supported = {
        "in_channels": 3,
        "out_channels": 3,
        "act_fn": ["silu", "swish"],
        **{name: [True, False] for name in switches},
    }
    errors = size_errors(options, sizes)
    if are_sizes(channels):
        types = ("down_block_types", "up_block_types")
        supported |= {name: [DEFAULTS[name] * len(channels)] for name in types}
    else:
        errors.append(f"block_out_channels={channels!r} (a list of positive whole numbers)")
    known, ignored = {*DEFAULTS, *STATISTICS}, ("sample_size", "force_upcast")
    return errors + unsupported_options(options, supported, known, ignored)


def _are_finite(values: Any, count: int) -> bool:
    """Whether these are so many numbers that can be calculated with."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return False
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


LAYOUT = NetworkLayout(module, rules, config)
