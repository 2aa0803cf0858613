"""IP-Adapter, plain and Plus, against diffusers' `load_ip_adapter`: encoder, keys and values, whole pipelines."""

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from dalle3_jax import convert
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.batching import encode_image_prompts
from dalle3_jax.pipeline.image_prompts import encode_image_features, prepare_images
from tests.parity import pipelines, references

pytestmark = [
    pytest.mark.network("IP-Adapter", "diffusers load_ip_adapter"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
KINDS = [(model, kind) for model in ("sd", "sdxl") for kind in ("plain", "plus")]
SIDE, STEPS, SIZE = 16, 6, (32, 24)
PROMPTS = ["a cat, the hat", "12 dogs"]


def encoder() -> transformers.CLIPVisionModelWithProjection:
    return references.clip_vision({"hidden_size": 12, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": 8})


def images() -> list[Image.Image]:
    rng = np.random.default_rng(3)
    return [Image.fromarray(rng.integers(0, 256, shape, np.uint8)) for shape in ((20, 33, 3), (41, 18, 3))]


def made(folder, model: str):
    """A pipeline with an image encoder, written without it, and that encoder's folder."""
    scheduler = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **pipelines.SCHEDULE)
    theirs = {"sd": pipelines.stable_diffusion, "sdxl": pipelines.stable_diffusion_xl}[model](folder, scheduler)
    theirs.image_encoder = encoder()
    theirs.image_encoder.save_pretrained(folder / "image_encoder")
    theirs.feature_extractor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    return theirs


def adapt(folder, model: str, kind: str):
    """The same with an adapter of random weights, and the adapter's file."""
    theirs = made(folder, model)
    tensors = references.ip_adapter(theirs.unet, kind, features={"plain": 10, "plus": 12}[kind])
    save_file(tensors, folder / "adapter.safetensors")
    references.load_ip_adapter(theirs.unet, tensors)
    return theirs, folder / "adapter.safetensors"


@pytest.mark.network("CLIP image", "transformers CLIPVisionModelWithProjection")
def test_the_image_encoder(agree, run, tmp_path):
    theirs = encoder()
    theirs.save_pretrained(tmp_path)
    ours, params = convert.load(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(pixels.transpose(0, 3, 1, 2)), output_hidden_states=True)
    seen = run(ours, params, jnp.asarray(pixels))
    agree(seen.vector, expected.image_embeds)
    agree(seen.tokens, expected.hidden_states[-2])
    convert.save(tmp_path / "ours", ours, params)
    again = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "ours")
    for name, value in again.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize(("model", "kind"), KINDS)
def test_keys_and_values_and_whole_pipelines(model, kind, agree, tmp_path):
    theirs, file = adapt(tmp_path, model, kind)
    pipeline = Pipeline.load(tmp_path / "pipeline", adapter=file)
    pixels = [np.asarray(image) for image in images()]
    prepared = prepare_images(pixels, pipeline.system.image_encoder)
    expected = theirs.feature_extractor(images(), return_tensors="pt").pixel_values
    np.testing.assert_allclose(prepared.transpose(0, 3, 1, 2), expected, atol=1e-5)

    features, null = encode_image_features(
        pipeline.params["image_encoder"], prepared, encoder=pipeline.system.image_encoder, sequence=kind == "plus"
    )
    features_there = theirs.encode_image(images(), "cpu", 1, output_hidden_states=kind == "plus")
    agree(features, features_there[0])
    if kind == "plus":
        agree(null, features_there[1])
    else:
        assert not np.asarray(null).any()
    [project] = theirs.unet.encoder_hid_proj.image_projection_layers
    tokens = project(features_there[0])
    ours = pipeline.system.image_prompt.apply({"params": pipeline.params["image_prompt"]}, features)
    for name, processor in theirs.unet.attn_processors.items():
        if "attn2" in name:
            place, layer = our_name(name, len(theirs.unet.config.block_out_channels))
            [key], [value] = processor.to_k_ip, processor.to_v_ip
            agree(ours[place].keys[layer].reshape(*tokens.shape[:2], -1), key(tokens))
            agree(ours[place].values[layer].reshape(*tokens.shape[:2], -1), value(tokens))

    theirs.set_ip_adapter_scale(0.6)
    how = {"steps": STEPS, "guidance_scale": 4.0, "size": SIZE, "image_prompt_scale": 0.6}
    requests = [
        pipeline.request(prompt, seed=seed, image_prompt=pixels[0], **how) for seed, prompt in enumerate(PROMPTS)
    ]
    keys = programs.fold_in_purpose(programs.image_keys(jnp.asarray([0, 1], jnp.uint32)), programs.INITIAL)
    noise = np.array(programs.samplers.noise(keys, (SIZE[0] // 8, SIZE[1] // 8, 4))).transpose(0, 3, 1, 2)
    latents = sampled(pipeline, requests)
    given = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "height": SIZE[0], "width": SIZE[1]}
    # A call of diffusers' has one image for all of its prompts.
    negative, positive = features_there[1][:1, None], features_there[0][:1, None]
    expected = theirs(
        PROMPTS,
        ip_adapter_image_embeds=[torch.cat([negative, positive])],
        latents=torch.from_numpy(noise.copy()),
        output_type="latent",
        **given,
    ).images
    agree(latents, expected.permute(0, 2, 3, 1), limit=1e-4)
    bare = {name: value for name, value in how.items() if name != "image_prompt_scale"}
    plain = sampled(pipeline, [pipeline.request(prompt, seed=seed, **bare) for seed, prompt in enumerate(PROMPTS)])
    assert np.abs(np.asarray(plain) - np.asarray(latents)).max() > 1e-2


def sampled(pipeline: Pipeline, requests):
    """The latents of requests."""
    image = encode_image_prompts(pipeline, requests) if requests[0].edit.prompt_image is not None else None
    null = pipeline.prompts.get_null([request.negative_prompt for request in requests])
    return pipeline.sample_latents(pipeline.prompts.get(PROMPTS), null, requests, image=image)


def our_name(name: str, levels: int) -> tuple[str, int]:
    """Our transformer and its layer of an attention processor of diffusers."""
    way, *rest = name.split(".")
    if way == "mid_block":
        return "middle_transformer", int(rest[3])
    block, _, number, _, layer, *_ = rest
    level = int(block) if way == "down_blocks" else levels - 1 - int(block)
    return f"{way.removesuffix('_blocks')}_{level}_{number}_transformer", int(layer)
