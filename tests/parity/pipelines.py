"""Whole pipelines of diffusers, small and with random weights, as folders on disk."""

import json
from pathlib import Path

import diffusers
import torch
import transformers

from tests.parity import weights
from tests.tiny import clip_files

CHANNELS = (4, 8)
FACTOR = 8


def tokenizer(folder: Path, pad: str = "<|endoftext|>") -> transformers.CLIPTokenizer:
    """CLIP's with a few words, from the files that public folders have."""
    folder.mkdir(parents=True)
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}))
    return transformers.CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=20)


def text_encoder(tokens: int, width: int, projection: int = 0, activation: str = "quick_gelu") -> torch.nn.Module:
    """A CLIP text encoder; two layers, so that the last but one is another."""
    config = transformers.CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=20,
        hidden_act=activation,
        projection_dim=projection or width,
        bos_token_id=tokens - 2,
        eos_token_id=2,
    )
    cls = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return weights.perturb(cls(config))


def vae(scaling: float, channels: tuple[int, ...] = (2, 4, 4, 4)) -> torch.nn.Module:
    """Eight pixels a cell, or with fewer levels fewer."""
    return weights.perturb(
        diffusers.AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            scaling_factor=scaling,
            sample_size=64,
        )
    )


def unet(
    context: int, vector: int = 0, channels: int = 4, guidance: int | None = None, ids: int = 6
) -> torch.nn.Module:
    """Two levels; with `vector` SDXL's pooled text and size ids; told the scale of guidance by so many sinusoids."""
    added = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": vector + ids * 256,
        "use_linear_projection": True,
    }
    return weights.perturb(
        diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            block_out_channels=CHANNELS,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            layers_per_block=1,
            attention_head_dim=(2, 4),
            norm_num_groups=2,
            cross_attention_dim=context,
            time_cond_proj_dim=guidance,
            **(added if vector else {}),
        )
    )


SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000}
X4_BETAS = {"beta_start": 0.0001, "beta_end": 0.02}


def stable_diffusion(folder: Path, scheduler: diffusers.SchedulerMixin, **saved: object) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 1's shape, written to `folder/pipeline`."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae(0.18215),
        text_encoder=text_encoder(len(words), 8),
        tokenizer=words,
        unet=unet(8),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline", **saved)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def latent_consistency(folder: Path, scheduler: diffusers.SchedulerMixin) -> diffusers.DiffusionPipeline:
    """A latent consistency model, Stable Diffusion 1 but for its UNet, which is told the guidance scale."""
    torch.manual_seed(0)
    words = tokenizer(folder / "words")
    pipeline = diffusers.LatentConsistencyModelPipeline(
        vae=vae(0.18215),
        text_encoder=text_encoder(len(words), 8),
        tokenizer=words,
        unet=unet(8, guidance=16),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_inpainting(folder: Path, scheduler: diffusers.SchedulerMixin) -> diffusers.DiffusionPipeline:
    """Stable Diffusion 1's shape with a UNet that is shown a mask and the latents of the image around it."""
    parts = dict(stable_diffusion(folder / "plain", scheduler).components) | {"unet": unet(8, channels=9)}
    pipeline = diffusers.StableDiffusionInpaintPipeline(**parts, requires_safety_checker=False)
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_xl(folder: Path, scheduler: diffusers.SchedulerMixin) -> diffusers.DiffusionPipeline:
    """SDXL's shape: two text encoders, of which the second's tokenizer pads with another token."""
    torch.manual_seed(1)
    first, second = tokenizer(folder / "words"), tokenizer(folder / "words_2", pad="!")
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=vae(0.13025),
        text_encoder=text_encoder(len(first), 8),
        text_encoder_2=text_encoder(len(second), 10, projection=6, activation="gelu"),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet(8 + 10, vector=6),
        scheduler=scheduler,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_refiner(folder: Path, scheduler: diffusers.SchedulerMixin) -> diffusers.DiffusionPipeline:
    """The shape of SDXL's refiner: the second text encoder alone, and an aesthetic score among five size ids."""
    torch.manual_seed(3)
    words = tokenizer(folder / "words", pad="!")
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=vae(0.13025),
        text_encoder=None,
        text_encoder_2=text_encoder(len(words), 10, projection=10, activation="gelu"),
        tokenizer=None,
        tokenizer_2=words,
        unet=unet(10, vector=10, ids=5),
        scheduler=scheduler,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def x4_unet(context: int) -> torch.nn.Module:
    """The upscaler's, of three levels: the first without transformers, the second attends to the text alone."""
    torch.manual_seed(2)
    return weights.perturb(
        diffusers.UNet2DConditionModel(
            sample_size=8,
            in_channels=7,
            block_out_channels=(4, 8, 12),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            attention_head_dim=2,
            norm_num_groups=2,
            cross_attention_dim=context,
            only_cross_attention=(True, True, False),
            num_class_embeds=1000,
            use_linear_projection=True,
        )
    )


def stable_diffusion_x4(folder: Path, scheduler: diffusers.SchedulerMixin) -> diffusers.DiffusionPipeline:
    """The shape of Stable Diffusion's x4 upscaler: latents of four pixels a cell beside the image."""
    words = tokenizer(folder / "words")
    pipeline = diffusers.StableDiffusionUpscalePipeline(
        vae=vae(0.08333, (2, 4, 4)),
        text_encoder=text_encoder(len(words), 8),
        tokenizer=words,
        unet=x4_unet(8),
        low_res_scheduler=diffusers.DDPMScheduler(**{**SCHEDULE, **X4_BETAS}),
        scheduler=scheduler,
        max_noise_level=350,
    )
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
