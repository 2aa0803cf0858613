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


def clip_vision(fields: Fields) -> transformers.CLIPVisionModelWithProjection:
    """The image encoder with its projection."""
    options = {"intermediate_size": 28, "num_attention_heads": 2, "projection_dim": 10, **fields}
    return made(transformers.CLIPVisionModelWithProjection, transformers.CLIPVisionConfig(**options))


def ip_adapter(unet: diffusers.UNet2DConditionModel, kind: str, features: int) -> dict[str, torch.Tensor]:
    """The tensors of an IP-Adapter of this UNet, "plain" or "plus", by the names of its public files."""
    width, inner, heads = unet.config["cross_attention_dim"], 8, 2
    linear = {
        "plain": {"proj": (4 * width, features)},
        "plus": {"proj_in": (inner, features), "proj_out": (width, inner)},
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in linear[kind].items():
        shapes |= {f"image_proj.{name}.weight": shape, f"image_proj.{name}.bias": shape[:1]}
    norms = {"plain": {"norm": width}, "plus": {"norm_out": width}}[kind]
    if kind == "plus":
        shapes["image_proj.latents"] = (1, 3, inner)
        for layer in (f"image_proj.layers.{i}" for i in range(4)):
            norms |= {f"{layer}.{part}".removeprefix("image_proj."): inner for part in ("0.norm1", "0.norm2", "1.0")}
            shapes[f"{layer}.0.to_q.weight"] = (64 * heads, inner)
            shapes[f"{layer}.0.to_kv.weight"] = (2 * 64 * heads, inner)
            shapes[f"{layer}.0.to_out.weight"] = (inner, 64 * heads)
            shapes |= {f"{layer}.1.1.weight": (4 * inner, inner), f"{layer}.1.3.weight": (inner, 4 * inner)}
    shapes |= {f"image_proj.{name}.{leaf}": (size,) for name, size in norms.items() for leaf in ("weight", "bias")}
    crossed = [name.removesuffix(".processor") for name in unet.attn_processors if "attn2" in name]
    for number, name in enumerate(crossed):
        shape = tuple(unet.get_submodule(name).to_k.weight.shape)
        shapes |= {f"ip_adapter.{2 * number + 1}.{kind}.weight": shape for kind in ("to_k_ip", "to_v_ip")}
    generator = torch.Generator().manual_seed(0)
    return {name: 0.3 * torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def load_ip_adapter(unet: diffusers.UNet2DConditionModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """The UNet with an adapter, as diffusers reads its file."""
    parts: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = value
    unet._load_ip_adapter_weights([parts])


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
