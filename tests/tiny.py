"""A whole system small enough to build in a second: random weights, a byte-level tokenizer, 16 to 32 px pictures."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers
from flax import linen as nn
from tokenizers import models, normalizers, pre_tokenizers, processors

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.scenes.tints import TINTS
from dalle3_jax.models.build import build_models
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.typing import Params

SECTIONS = {
    "text_encoder": {
        "vocab_size": 300,
        "width": 16,
        "layers": 1,
        "heads": 2,
        "head_size": 8,
        "mlp_width": 16,
    },
    "xfnet": {"kind": "transformer", "width": 16, "vector_width": 8, "layers": 1, "heads": 2},
    "unet": {
        "in_channels": 2,
        "out_channels": 2,
        "levels": ({"channels": 8, "blocks": 1, "heads": 2},),
        "groups": 4,
        "size_ids": 6,
    },
    "vae": {
        "latent_channels": 2,
        "channels": (4, 8),
        "patch": 4,
        "blocks": 1,
        "decoder_blocks": 1,
        "groups": 2,
        "attention": False,
    },
}


def tokenizer_json() -> str:
    """Bytes as tokens, `<pad>` 0, `</s>` 1, `<unk>` 2, lower case, `</s>` at the end: the layout of T5's ids."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *letters])}
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.TemplateProcessing("$A </s>", "$A $B </s>", [("</s>", 1)])
    return backend.to_str()


def clip_files() -> tuple[str, str]:
    """vocab.json and merges.txt of a tiny CLIP tokenizer: bytes, bytes that end a word, a few pieces more."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = ["c a", "ca t</w>", "t h", "th e</w>", "' s</w>", "! !</w>"]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), *(merge.replace(" ", "") for merge in merges)]
    vocabulary = {piece: index for index, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    return json.dumps(vocabulary), "\n".join(["#version: 0.2", *merges, ""])


@functools.cache
def tiny_release() -> Release:
    """The system with weights that are random in every leaf, so that nothing starts at zero."""
    modules = build_models(SECTIONS)
    params = {name: randomised(module, modules, seed) for seed, (name, module) in enumerate(modules.items())}
    return Release(
        modules=modules,
        params=params,
        latent=Latent(channels=2, factor=8, shift=(0.5, -0.25), scale=(0.8, 1.6)),
        diffusion={"schedule": {"name": "cosine"}, "prediction": "v"},
        text={"length": 24},
        sizes=((16, 16), (16, 32)),
        sampling={"steps": 4, "sampler": "ddim", "guidance_scale": 2.0},
        training={"steps": 0, "data": "none"},
        tokenizer=tokenizer_json(),
    )


@functools.cache
def tiny_decoders() -> Release:
    """The same system with a consistency decoder and a refiner."""
    release = tiny_release()
    shared = {"blocks": 1, "latent_channels": 2, "time_entries": 0, "embedding_ratio": 1, "norm": "rms"}
    modules = build_models(
        {
            "decoder": {**shared, "channels": (8,), "out_channels": 3, "patch": 8},
            "refiner": {**shared, "channels": (8, 8), "image_channels": 2, "out_channels": 2, "factor": 1},
        }
    )
    latent = release.latent
    assert latent is not None
    return dataclasses.replace(
        release,
        modules=release.modules | modules,
        params=release.params | {name: randomised(module, modules, 9) for name, module in modules.items()},
        decoders={
            "decoder": DecoderSettings("consistency", latent, prediction="x0_skip", top=0.985, clamp=True),
            "refiner": DecoderSettings("consistency", latent, prediction="x0_skip", top=0.985, steps=1),
        },
    )


@functools.cache
def tiny_upscaler() -> Release:
    """An upscaler in pixels, 2 times in 3 steps, beside the text side of the same system."""
    text = ("text_encoder", "xfnet")
    release = tiny_release()
    fields = {"in_channels": 6, "out_channels": 3, "patch": 4, "norm": "rms", "level_entries": 0}
    levels = ({"channels": 8, "blocks": 1, "heads": 2},)
    modules = build_models({"upscaler": {**fields, "levels": levels, "middle_self_attend": False}})
    modules = {name: release.modules[name] for name in text} | modules
    params = {name: release.params[name] for name in text}
    params["upscaler"] = randomised(modules["upscaler"], modules, 11)
    return Release(
        modules=modules,
        params=params,
        upscaler=UpscalerSettings(2, prediction="x0_skip", steps=3, clamp=True, guidance_scale=2.0),
        text=release.text,
        tokenizer=release.tokenizer,
    )


def randomised(module: Any, modules: dict[str, nn.Module], seed: int) -> Params:
    """Parameters of the right shapes, drawn with numpy: nothing is compiled."""
    shapes = nn.unbox(abstract_params({**modules, "network": module}, ["network"])["network"])
    rng = np.random.default_rng(seed)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        # Scales about 1, or the text would hardly reach the pixels. Float16 numbers: storing them so changes nothing.
        centre = float(path[-1].key == "scale")
        return rng.normal(centre, 0.3, leaf.shape).astype(np.float16).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def plain(value: object) -> object:
    """The value as JSON would give it back."""
    return json.loads(json.dumps(value))


def tiny_reader() -> Release:
    """A reader that knows the names of the whole world and nothing else."""
    module = SceneReader(
        concepts=tuple(concept.name for concept in WHOLE.concepts),
        tints=("natural", *TINTS),
        styles=WHOLE.styles,
        backgrounds=tuple(background.name for background in WHOLE.backgrounds),
        channels=(8, 8, 8),
        blocks=(1, 1, 1),
        hidden=8,
    )
    params = nn.unbox(jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"])
    return Release({"reader": module}, {"reader": params})
