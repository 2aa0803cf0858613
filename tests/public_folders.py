"""Tiny folders as diffusers and transformers write them, made without either: random weights, hand-written configs."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.convert.folders import class_name
from dalle3_jax.typing import Params
from tests.tiny import clip_files

POSITIONS = 20
WORDS = len(json.loads(clip_files()[0]))

CLIP = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": WORDS,
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_hidden_layers": 2,  # so that the last but one is another
    "num_attention_heads": 2,
    "max_position_embeddings": POSITIONS,
    "hidden_act": "quick_gelu",
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
CLIP_2 = CLIP | {
    "architectures": ["CLIPTextModelWithProjection"],
    "hidden_size": 16,
    "hidden_act": "gelu",
    "projection_dim": 10,
}
CLIP_VISION = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "model_type": "clip_vision_model",
    "hidden_size": 12,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
    "projection_dim": 12,
    "hidden_act": "gelu",
}
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.19.0",
    "sample_size": 2,
    "block_out_channels": [8, 16],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
    "cross_attention_dim": 12,
    "center_input_sample": False,
}
UNET_XL = UNET | {
    "cross_attention_dim": 12 + 16,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 10 + 6 * 256,
}
UNET_REFINER = UNET_XL | {"cross_attention_dim": 16, "projection_class_embeddings_input_dim": 16 + 5 * 256}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [4, 4, 4, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 2,
    "sample_size": 16,
}
UNET_X4 = UNET | {
    "in_channels": 7,
    "block_out_channels": [8, 8, 16],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "only_cross_attention": [True, True, False],
    "num_class_embeds": 1000,
    "use_linear_projection": True,
}
VAE_X4 = VAE | {
    "block_out_channels": [4, 4, 8],
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
}
T5 = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "vocab_size": 1024,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 16,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
}
DECODER = {
    "_class_name": "ConsistencyDecoderVAE",
    "encoder_block_out_channels": VAE["block_out_channels"],
    "encoder_down_block_types": VAE["down_block_types"],
    "encoder_layers_per_block": 1,
    "encoder_norm_num_groups": 2,
    "decoder_block_out_channels": [8],
    "decoder_down_block_types": ["ResnetDownsampleBlock2D"],
    "decoder_up_block_types": ["ResnetUpsampleBlock2D"],
    "decoder_layers_per_block": 1,
    "decoder_norm_num_groups": 4,
}
TABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
PNDM = {
    "_class_name": "PNDMScheduler",
    **TABLE,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
EULER = {"_class_name": "EulerDiscreteScheduler", **TABLE, "timestep_spacing": "leading", "steps_offset": 1}


def stable_diffusion(folder: Path, dtype: str = "float32") -> Path:
    """Stable Diffusion 1: one text encoder, and the older files of its tokenizer."""
    networks = {"text_encoder": CLIP, "unet": UNET, "vae": VAE}  # no scaling_factor: 0.18215
    pipeline(folder, "StableDiffusionPipeline", networks, PNDM, dtype, requires_safety_checker=False)
    tokenizer(folder / "tokenizer", "<|endoftext|>")
    return folder


def stable_diffusion_xl(folder: Path, dtype: str = "float32") -> Path:
    """SDXL: two text encoders, of which the second's tokenizer pads with another token."""
    networks = {"text_encoder": CLIP, "text_encoder_2": CLIP_2, "unet": UNET_XL}
    networks["vae"] = VAE | {"scaling_factor": 0.13025}
    pipeline(folder, "StableDiffusionXLPipeline", networks, EULER, dtype, force_zeros_for_empty_prompt=True)
    tokenizer(folder / "tokenizer", "<|endoftext|>")
    tokenizer(folder / "tokenizer_2", "!")
    return folder


def image_variations(folder: Path, dtype: str = "float32") -> Path:
    """SD image variations: an image encoder in place of all text."""
    networks = {"image_encoder": CLIP_VISION, "unet": UNET, "vae": VAE}
    pipeline(folder, "StableDiffusionImageVariationPipeline", networks, PNDM, dtype)
    return folder


def stable_diffusion_refiner(folder: Path, dtype: str = "float32") -> Path:
    """SDXL's refiner: the second text encoder alone, and a UNet that is told an aesthetic score."""
    networks = {"text_encoder_2": CLIP_2 | {"projection_dim": 16}, "unet": UNET_REFINER, "vae": VAE}
    index = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
    index |= {"text_encoder": [None, None], "tokenizer": [None, None]}
    pipeline(folder, "StableDiffusionXLImg2ImgPipeline", networks, EULER, dtype, **index)
    tokenizer(folder / "tokenizer_2", "!")
    return folder


def stable_diffusion_x4(folder: Path, dtype: str = "float32") -> Path:
    """Its x4 upscaler, whose UNet takes the image beside latents of four pixels a cell."""
    networks = {"text_encoder": CLIP, "unet": UNET_X4, "vae": VAE_X4}
    scheduler = {**PNDM, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
    pipeline(folder, "StableDiffusionUpscalePipeline", networks, scheduler, dtype, max_noise_level=350)
    grain = {**TABLE, "_class_name": "DDPMScheduler", "beta_start": 0.0001, "beta_end": 0.02, "clip_sample": True}
    write_json(folder / "low_res_scheduler" / "scheduler_config.json", grain)
    tokenizer(folder / "tokenizer", "<|endoftext|>")
    return folder


def pipeline(
    folder: Path,
    name: str,
    networks: Mapping[str, Mapping[str, Any]],
    scheduler: Mapping[str, Any],
    dtype: str,
    **index: Any,
) -> None:
    """A folder with a model_index.json, but for its tokenizers."""
    for seed, (part, config) in enumerate(networks.items()):
        network(folder / part, config, dtype, seed)
        library = "transformers" if "architectures" in config else "diffusers"
        index[part] = [library, class_name(config)]
    write_json(folder / "model_index.json", {"_class_name": name, **index})
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)


def network(folder: Path, config: Mapping[str, Any], dtype: str = "float32", seed: int = 0) -> Path:
    """One network of a config.json, with its file of weights."""
    module = convert.LAYOUTS[class_name(config)].module(config)
    convert.save(folder, module, randomised(module, seed), dtype=dtype, config=config)
    return folder


def consistency_decoder(folder: Path, seed: int = 5) -> Path:
    """The decoder with the encoder that diffusers keeps beside it."""
    unet, vae = (convert.LAYOUTS[class_name(config)].module(config) for config in (DECODER, VAE))
    convert.save(folder, unet, randomised(unet, seed), config=DECODER, encoder=(vae, randomised(vae, 2)))
    return folder


def tokenizer(folder: Path, pad: str) -> None:
    """CLIP's, as Stable Diffusion's folders have it."""
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        write(folder / name, text)
    write_json(folder / "special_tokens_map.json", {"pad_token": pad})


def randomised(module: nn.Module, seed: int, modules: Mapping[str, nn.Module] = MappingProxyType({})) -> Params:
    """Parameters without neutral elements, of a size that keeps activations about 1."""
    shapes = nn.unbox(abstract_params({**modules, "network": module}, ["network"])["network"])
    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        fan_in = np.prod(leaf.shape[-4:-1]) if path[-1].key == "kernel" else 4
        return np.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in) + (path[-1].key == "scale"), np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def edit(path: Path, **changes: Any) -> None:
    """Changes entries of a JSON file; None takes one out."""
    content = json.loads(path.read_text()) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, indent=2))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
