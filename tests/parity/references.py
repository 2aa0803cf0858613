"""The networks of transformers and diffusers that ours are compared with: small ones of random weights, by options."""

from collections.abc import Mapping
from typing import Any

import diffusers
import torch
import transformers

from tests.parity import weights

CONTEXT, VECTOR = 14, 20
"""The widths of a token and of the pooled text that the UNets take."""

OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
"""Of a VAE's attention, as the first files have them."""

Fields = Mapping[str, Any]


def made(cls: type[torch.nn.Module], *args: Any, **options: Any) -> torch.nn.Module:
    """A network of always the same weights, none of which is a neutral element."""
    torch.manual_seed(0)
    return weights.perturb(cls(*args, **options))


def t5_config(fields: Fields, vocabulary: int = 50) -> transformers.T5Config:
    """The config of a T5 of our encoder's fields."""
    activations = {"relu": "relu", "gated_gelu": "gated-gelu", "gated_silu": "gated-silu"}
    return transformers.T5Config(
        vocab_size=vocabulary,
        d_model=fields["width"],
        d_kv=fields["head_size"],
        d_ff=fields["mlp_width"],
        num_layers=fields["layers"],
        num_heads=fields["heads"],
        relative_attention_num_buckets=fields.get("relative_buckets", 32),
        relative_attention_max_distance=fields.get("relative_max_distance", 128),
        feed_forward_proj=activations[fields.get("activation", "gated_gelu")],
        dropout_rate=0.0,
    )


def clip_text_config(fields: Fields) -> transformers.CLIPTextConfig:
    """The config of a CLIP text encoder of 60 tokens, which starts its texts with 58 and ends them with 59."""
    usual = {"vocab_size": 60, "intermediate_size": 20, "projection_dim": 10, "eos_token_id": 59, "bos_token_id": 58}
    return transformers.CLIPTextConfig(**{**usual, "max_position_embeddings": 12, **fields})


def clip_text(fields: Fields, projected: bool = False) -> torch.nn.Module:
    """A text encoder alone, or with its projection."""
    cls = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return made(cls, clip_text_config(fields))


def clip(text: Fields, vision: Fields) -> transformers.CLIPModel:
    """Both towers."""
    towers = {
        "text_config": clip_text_config(text).to_dict(),
        "vision_config": transformers.CLIPVisionConfig(**{"intermediate_size": 28, **vision}).to_dict(),
    }
    return made(transformers.CLIPModel, transformers.CLIPConfig(**towers, projection_dim=10))


def vae(fields: Fields, **more: Any) -> diffusers.AutoencoderKL:
    """The VAE of our VAE's fields; `more` are options of diffusers."""
    levels = len(fields["channels"])
    return made(
        diffusers.AutoencoderKL,
        block_out_channels=fields["channels"],
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=fields["blocks"],
        latent_channels=fields.get("latent_channels", 4),
        norm_num_groups=fields["groups"],
        mid_block_add_attention=fields.get("attention", True),
        use_quant_conv=fields.get("quant_convs", True),
        use_post_quant_conv=fields.get("decoder_quant_conv", fields.get("quant_convs", True)),
        **more,
    )


def unet(fields: Fields, **more: Any) -> diffusers.UNet2DConditionModel:
    """A UNet of these channels, depths of transformers and heads, one a level; `more` are options of diffusers."""
    depths, pooled = fields["depths"], {}
    if fields.get("size_ids"):
        pooled = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": VECTOR + 256 * fields["size_ids"],
        }
    options = {
        "in_channels": fields.get("in_channels", 4),
        "block_out_channels": fields["channels"],
        "down_block_types": tuple("CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        "layers_per_block": fields.get("blocks", 2),
        "transformer_layers_per_block": tuple(depth or 1 for depth in depths),
        "attention_head_dim": fields["heads"],
        "norm_num_groups": fields["groups"],
        "cross_attention_dim": CONTEXT,
        "use_linear_projection": fields.get("linear", False),
        "resnet_time_scale_shift": "scale_shift" if fields.get("scale_shift") else "default",
    }
    return made(diffusers.UNet2DConditionModel, **{**options, **pooled, **more})


def unet_inputs(unet: diffusers.UNet2DConditionModel, size: tuple[int, int]) -> tuple:
    """x, t and the keyword arguments of a UNet's call in torch, the second text mostly masked."""
    generator = torch.Generator().manual_seed(1)
    config = unet.config
    pooled = config.projection_class_embeddings_input_dim
    x = torch.randn(2, config.in_channels, *size, generator=generator)
    tokens = torch.randn(2, 11, config.cross_attention_dim, generator=generator)
    vector = torch.randn(2, max(pooled - 6 * 256, 1) if pooled else VECTOR, generator=generator)
    mask = torch.arange(11)[None] < torch.tensor([11, 4])[:, None]
    sizes = torch.randint(0, 1024, (2, 6), generator=generator).float()
    condition = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}
    return x, torch.tensor([17.0, 981.5]), condition, {"text_embeds": vector, "time_ids": sizes}


def consistency_decoder(
    channels: tuple[int, ...], encoder: tuple[int, ...] = (4, 4), blocks: int = 1, groups: int = 4
) -> diffusers.ConsistencyDecoderVAE:
    """The whole decoder; the levels of its encoder say how many pixels a latent has: 1, 2, 4, ..."""
    decoder = made(
        diffusers.ConsistencyDecoderVAE,
        encoder_block_out_channels=encoder,
        encoder_down_block_types=("DownEncoderBlock2D",) * len(encoder),
        encoder_norm_num_groups=2,
        decoder_block_out_channels=channels,
        decoder_down_block_types=("ResnetDownsampleBlock2D",) * len(channels),
        decoder_up_block_types=("ResnetUpsampleBlock2D",) * len(channels),
        decoder_layers_per_block=blocks,
        decoder_norm_num_groups=groups,
    )
    # Images well beyond [-1, 1], or a clamp would change nothing.
    decoder.decoder_unet.conv_out.weight.data *= 4
    return decoder
