"""What the reference networks make of fixed inputs: (inputs, outputs), by name, images and latents channels last."""

from unittest import mock

import diffusers
import numpy as np
import torch
import transformers
from diffusers.models.autoencoders import consistency_decoder_vae
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_upscale
from diffusers.schedulers import scheduling_consistency_decoder

from tests.parity import references

Tensors = dict[str, torch.Tensor]
Expected = tuple[Tensors, Tensors]

LENGTHS = (40, 7)
"""Of T5's texts: beyond the distance up to which every distance has a bucket of its own."""

TIME = 700


def drawn(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal noise."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids_below(vocabulary: int, *shape: int) -> torch.Tensor:
    """Tokens."""
    return torch.randint(3, vocabulary, shape, generator=torch.Generator().manual_seed(1), dtype=torch.int32)


def captioner(model: torch.nn.Module, fields: references.Fields) -> Expected:
    """Vectors, scale and logits of two texts, of which the second has padding, and of two images."""
    length = fields["positions"]
    ids, images = ids_below(fields["vocab_size"], 2, length), drawn(2, 3, *fields["image_size"])
    mask = torch.arange(length) < torch.tensor([length, 3])[:, None]
    named = zip(("images", "texts", "scale", "logits"), model(ids, mask, images), strict=True)
    return {"ids": ids, "mask": mask, "images": channels_last(images)}, dict(named)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """b c h w -> b h w c."""
    return x.permute(0, 2, 3, 1)


def t5(model: torch.nn.Module) -> Expected:
    """The features of two texts; zeros where the second has ended."""
    ids = ids_below(model.config.vocab_size, len(LENGTHS), max(LENGTHS))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    features = model.get_encoder()(ids, attention_mask=mask).last_hidden_state
    return {"ids": ids, "mask": mask}, {"features": features * mask[..., None]}


def texts(config: transformers.CLIPTextConfig) -> torch.Tensor:
    """Two texts: one as long as they may be, with an end token (30) that is not the largest id, and a shorter one."""
    end = config.vocab_size - 1
    ids = ids_below(config.vocab_size - 2, 2, config.max_position_embeddings)
    ids[0, 6], ids[0, -1], ids[1, 4], ids[1, 5:] = 30, end, 30, end
    return ids


def clip_text(model: torch.nn.Module) -> Expected:
    """Tokens and the vector, projected where the model does."""
    ids = texts(model.config)
    out = model(ids)
    vector = out.text_embeds if hasattr(out, "text_embeds") else out.pooler_output
    return {"ids": ids}, {"tokens": out.last_hidden_state, "vector": vector}


def clip(model: transformers.CLIPModel) -> Expected:
    """Both towers' unit vectors, and the scores of every text with every image."""
    config = model.config
    ids, images = texts(config.text_config), drawn(2, 3, *[config.vision_config.image_size] * 2)
    out = model(ids, images)
    outputs = {"scores": out.logits_per_text, "text": out.text_embeds, "image": out.image_embeds}
    return {"ids": ids, "images": channels_last(images)}, outputs


def clip_image(model: transformers.CLIPVisionModelWithProjection) -> Expected:
    """The projected vectors, and the tokens before the last layer."""
    images = drawn(2, 3, *[model.config.image_size] * 2)
    out = model(images, output_hidden_states=True)
    return {"images": channels_last(images)}, {"vector": out.image_embeds, "tokens": out.hidden_states[-2]}


def adapter(unet: diffusers.UNet2DConditionModel, tensors: Tensors) -> Expected:
    """Keys and values of every cross-attention, by its number in the file, of an image's features."""
    references.load_ip_adapter(unet, tensors)
    plus = "image_proj.latents" in tensors
    [project] = unet.encoder_hid_proj.image_projection_layers
    width = tensors["image_proj.proj_in.weight" if plus else "image_proj.proj.weight"].shape[1]
    features = drawn(2, 5, width) if plus else drawn(2, width)
    tokens, outputs = project(features), {}
    crossed = [processor for name, processor in unet.attn_processors.items() if "attn2" in name]
    for number, processor in enumerate(crossed):
        outputs[f"key.{2 * number + 1}"] = processor.to_k_ip[0](tokens)
        outputs[f"value.{2 * number + 1}"] = processor.to_v_ip[0](tokens)
    return {"features": features}, outputs


def vae(model: diffusers.AutoencoderKL) -> Expected:
    """Mean and log variance, the mean as a UNet works on it, and the image that it is decoded to."""
    factor = 2 ** (len(model.config.block_out_channels) - 1)
    images = torch.tanh(drawn(1, 3, 4 * factor, 2 * factor))
    posterior = model.encode(images).latent_dist
    latents = (posterior.mean - (model.config.shift_factor or 0)) * model.config.scaling_factor
    outputs = {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "latents": latents,
        "reconstruction": model.decode(posterior.mean).sample,
    }
    return {"images": channels_last(images)}, {name: channels_last(value) for name, value in outputs.items()}


def unet(model: diffusers.UNet2DConditionModel, scheduler: diffusers.DDIMScheduler | None = None) -> Expected:
    """The output, or with a scheduler the image that the output means to it at time TIME."""
    x, t, condition, added = references.unet_inputs(model, (6, 4))
    t = t if scheduler is None else torch.full((2,), float(TIME))
    output = model(x, t, **condition, added_cond_kwargs=added).sample
    if scheduler is not None:
        scheduler.set_timesteps(scheduler.config.num_train_timesteps)
        output = scheduler.step(output, TIME, x).pred_original_sample
    names = ("tokens", "mask", "vector", "sizes")
    inputs = {"x": channels_last(x), "t": t, **dict(zip(names, (*condition.values(), *added.values()), strict=True))}
    return inputs, {"output" if scheduler is None else "x0": channels_last(output)}


def consistency(model: diffusers.ConsistencyDecoderVAE) -> Expected:
    """Two steps from a VAE's latents; `start` and `fresh` are the noise of the first and of the second."""
    latents, noises = 4 * drawn(1, 4, 3, 4), [drawn(1, 3, 6, 8, seed=seed) for seed in (2, 3)]
    with (
        mock.patch.object(consistency_decoder_vae, "randn_tensor", side_effect=noises[:1]),
        mock.patch.object(scheduling_consistency_decoder, "randn_tensor", side_effect=noises[1:]),
    ):
        image = model.decode(latents).sample
    inputs = {"latents": latents, "start": noises[0], "fresh": noises[1]}
    return {name: channels_last(value) for name, value in inputs.items()}, {"image": channels_last(image)}


def pictures(
    pipeline: diffusers.DiffusionPipeline, prompts: list[str], steps: int, guidance_scale: float, size: tuple[int, int]
) -> Expected:
    """What the UNet is told of the prompts, the latents from given noise, and the pictures as bytes."""
    noise = drawn(len(prompts), 4, *(side // pipeline.vae_scale_factor for side in size))
    given = {"height": size[0], "width": size[1], "num_inference_steps": steps, "guidance_scale": guidance_scale}
    latents = pipeline(prompts, latents=noise, output_type="latent", **given).images
    encoded = pipeline.encode_prompt(prompts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    outputs = {"tokens": encoded[0]} | ({"vector": encoded[2]} if len(encoded) == 4 else {})
    images = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample.clamp(-1, 1)
    levels = (channels_last(images).numpy() * 127.5 + 127.5).round().astype(np.uint8)
    outputs |= {"latents": channels_last(latents), "images": torch.from_numpy(levels)}
    return {"noise": channels_last(noise)}, outputs


def upscaled(
    pipeline: diffusers.StableDiffusionUpscalePipeline,
    prompt: str,
    steps: int,
    guidance_scale: float,
    noise_level: int,
    size: tuple[int, int],
) -> Expected:
    """The latents and the image of a low-resolution one, from `noise` and with the `grain` that it is noised by."""
    noise, grain, low = drawn(1, 4, *size), drawn(1, 3, *size, seed=2), torch.tanh(drawn(1, 3, *size, seed=3))
    given = {"num_inference_steps": steps, "guidance_scale": guidance_scale, "noise_level": noise_level}
    with mock.patch.object(pipeline_stable_diffusion_upscale, "randn_tensor", return_value=grain):
        latents = pipeline(prompt, image=low, latents=noise, output_type="latent", **given).images
    image = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    inputs = {"noise": noise, "grain": grain, "low": low}
    outputs = {"latents": latents, "image": image}
    return tuple({name: channels_last(value) for name, value in part.items()} for part in (inputs, outputs))
