"""OpenAI's consistency decoder: diffusers' ConsistencyDecoderVAE, whose encoder is left out, and the flat layout."""

import math
from collections.abc import Mapping
from typing import Any

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.convert import flat_decoder
from dalle3_jax.convert.blocks import mlp_rules, residual_rules
from dalle3_jax.convert.configs import are_sizes, is_size, raise_unsupported, size_errors, unsupported_options
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, conv, embedding, norm
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.vae import VAE

__all__ = ["FLAT", "LAYOUT", "decoder_settings", "encoder_options"]

CLASS = "ConsistencyDecoderVAE"
LATENT_MEAN = (0.38862467, 0.02253063, 0.07381133, -0.0171294)
LATENT_STD = (0.9654121, 1.0440036, 0.76147926, 0.77022034)
"""Of Stable Diffusion's scaled latents; constants of the public code, in none of its files."""

DOWN, UP = "ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"
ENCODER_CHANNELS = [128, 256, 512, 512]

DEFAULTS = {
    "scaling_factor": 0.18215,
    "encoder_block_out_channels": ENCODER_CHANNELS,
    "decoder_block_out_channels": [320, 640, 1024, 1024],
    "decoder_down_block_types": [DOWN] * 4,
    "decoder_up_block_types": [UP] * 4,
    "decoder_layers_per_block": 3,
    "decoder_norm_num_groups": 32,
    "decoder_num_train_timesteps": 1024,
    "decoder_out_channels": 6,
    "decoder_time_embedding_type": "learned",
}
"""What diffusers takes for options that a config lacks."""

SUPPORTED = {
    "latent_channels": len(LATENT_MEAN),
    "decoder_in_channels": 3 + len(LATENT_MEAN),
    "decoder_add_attention": False,
    "decoder_norm_eps": 1e-5,
    "decoder_resnet_time_scale_shift": "scale_shift",
    "decoder_time_embedding_type": ["learned", "positional"],
}
IGNORED = (
    *("sample_size", "force_upcast", "block_out_channels", "decoder_downsample_padding", "encoder_act_fn"),
    *("encoder_double_z", "encoder_down_block_types", "encoder_in_channels", "encoder_layers_per_block"),
    *("encoder_norm_num_groups", "encoder_out_channels"),
)


def module(config: Mapping[str, Any]) -> DecoderUNet:
    """The UNet of a config.json; raises ValueError naming every option that is not supported."""
    options = DEFAULTS | dict(config)
    raise_unsupported(CLASS, _decoder_option_errors(options))
    learned = options["decoder_time_embedding_type"] == "learned"
    return DecoderUNet(
        channels=tuple(options["decoder_block_out_channels"]),
        blocks=options["decoder_layers_per_block"],
        latent_channels=len(LATENT_MEAN),
        out_channels=options["decoder_out_channels"],
        factor=2 ** (len(options["encoder_block_out_channels"]) - 1),
        time_entries=options["decoder_num_train_timesteps"] if learned else 0,
        groups=options["decoder_norm_num_groups"],
    )


def rules(config: Mapping[str, Any], unet: DecoderUNet) -> list[Rule]:
    """The table of its tensors."""
    last = len(unet.channels) - 1
    blocks = {f"mid_block.resnets.{j}": f"middle_{j}" for j in range(2)}
    for i in range(last + 1):
        down, up = f"down_blocks.{i}", f"up_blocks.{last - i}"
        blocks |= {f"{down}.resnets.{j}": f"down_{i}_{j}" for j in range(unet.blocks)}
        blocks |= {f"{up}.resnets.{j}": f"up_{i}_{j}" for j in range(unet.blocks + 1)}
        blocks |= {f"{down}.downsamplers.0": f"down_{i}_downsample", f"{up}.upsamplers.0": f"up_{i}_upsample"}
    return [
        *conv("decoder_unet.conv_in", "conv_in"),
        *embedding("decoder_unet.time_proj", "time_table"),
        *mlp_rules("decoder_unet.time_embedding", "time_embedding"),
        *norm("decoder_unet.conv_norm_out", "norm_out"),
        *conv("decoder_unet.conv_out", "conv_out"),
        *(
            rule
            for theirs, ours in blocks.items()
            for rule in residual_rules(f"decoder_unet.{theirs}", ours, "scale_shift")
        ),
    ]


def config(unet: DecoderUNet) -> dict[str, Any]:
    """The config.json of a decoder; raises ValueError naming every field that diffusers has no option for.

    The encoder's options are Stable Diffusion's (of another: `encoder_options`); its tensors, which a decoder does not
    have, stay unwritten, so that what diffusers loads can decode only.
    """
    supported: dict[str, Any] = {
        "image_channels": 3,
        "latent_channels": len(LATENT_MEAN),
        "patch": 1,
        "norm": "group",
        "embedding_ratio": 4,
        "factor": [2**i for i in range(len(ENCODER_CHANNELS))],
    }
    raise_unsupported(
        f"DecoderUNet, as {CLASS},", unsupported_options({name: getattr(unet, name) for name in supported}, supported)
    )
    levels = len(unet.channels)
    encoder = ENCODER_CHANNELS[: unet.factor.bit_length()]
    return {
        "_class_name": CLASS,
        "encoder_block_out_channels": encoder,
        "encoder_down_block_types": ["DownEncoderBlock2D"] * len(encoder),
        "decoder_block_out_channels": list(unet.channels),
        "decoder_down_block_types": [DOWN] * levels,
        "decoder_up_block_types": [UP] * levels,
        "decoder_in_channels": unet.image_channels + unet.latent_channels,
        "decoder_layers_per_block": unet.blocks,
        "decoder_norm_num_groups": unet.groups,
        "decoder_num_train_timesteps": unet.time_entries or None,
        "decoder_out_channels": unet.out_channels,
        "decoder_time_embedding_type": "learned" if unet.time_entries else "positional",
    }


def encoder_options(vae: VAE) -> dict[str, Any]:
    """The options of the encoder that goes with a decoder; ValueError where diffusers' encoder there is another."""
    supported = {"latent_channels": len(LATENT_MEAN), "patch": 1, "norm": "group"}
    supported |= {"attention": True, "quant_convs": True}
    raise_unsupported(
        f"VAE, beside {CLASS},", unsupported_options({name: getattr(vae, name) for name in supported}, supported)
    )
    return {
        "encoder_block_out_channels": list(vae.channels),
        "encoder_down_block_types": ["DownEncoderBlock2D"] * len(vae.channels),
        "encoder_layers_per_block": vae.blocks,
        "encoder_norm_num_groups": vae.groups,
    }


def decoder_settings(config: Mapping[str, Any]) -> DecoderSettings:
    """The settings of a config.json's decoder (of the flat layout: {}), decoding its VAE's latents in two steps."""
    factor, scaling = module(config).factor, config.get("scaling_factor", DEFAULTS["scaling_factor"])
    if not isinstance(scaling, int | float) or not 0 < scaling < math.inf:
        raise ValueError(f"scaling_factor={scaling!r}: a positive number multiplies latents")
    return DecoderSettings(
        kind="consistency",
        latent=Latent(
            channels=len(LATENT_MEAN),
            factor=factor,
            shift=(0.0,) * len(LATENT_MEAN),
            scale=(scaling,) * len(LATENT_MEAN),
        ),
        mean=LATENT_MEAN,
        std=LATENT_STD,
        schedule={"name": "cosine", "steps": 1024},
        prediction="edm",
        top=1009 / 1024,
        times=(1009 / 1024, 513 / 1024),
    )


def _decoder_option_errors(options: Mapping[str, Any]) -> list[str]:
    sizes = ("decoder_layers_per_block", "decoder_norm_num_groups", "decoder_out_channels")
    if options["decoder_time_embedding_type"] == "learned":
        sizes += ("decoder_num_train_timesteps",)
    errors = size_errors(options, sizes)
    lists = ("decoder_block_out_channels", "encoder_block_out_channels")
    wrong = [name for name in lists if not are_sizes(options[name])]
    errors += [f"{name}={options[name]!r} (a list of positive whole numbers)" for name in wrong]
    supported = dict(SUPPORTED)
    if not wrong:
        levels = len(options["decoder_block_out_channels"])
        supported |= {"decoder_down_block_types": [[DOWN] * levels], "decoder_up_block_types": [[UP] * levels]}
    if is_size(options["decoder_out_channels"]) and options["decoder_out_channels"] < 3:
        errors.append(f"decoder_out_channels={options['decoder_out_channels']} (the first 3 are the image)")
    return errors + unsupported_options(options, supported, DEFAULTS, IGNORED)


LAYOUT = NetworkLayout(module, rules, config, ignored=("encoder.*", "quant_conv.*"))

FLAT = NetworkLayout(flat_decoder.module, flat_decoder.rules, config)
"""Its `module` and `rules` take {name of a tensor: shape} for a config; it is written as diffusers' class."""
