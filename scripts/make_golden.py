"""Writes the golden files: python scripts/make_golden.py [FOLDER]

Each folder (in tests/golden without an argument) is a network, or a whole pipeline, exactly as transformers or
diffusers writes it, small and of random weights in float16, beside what these compute of it in float32:
expected.safetensors holds inputs as in.NAME and outputs as out.NAME. tests/convert/test_golden.py needs no torch to
compare with it. Run again, the script writes the same bytes. It needs what `make parity` installs.
"""

import argparse
import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from flax.traverse_util import flatten_dict
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests are not installed

from tests.parity import coca, expected, pipelines, references

GOLDEN = Path(__file__).parents[1] / "tests/golden"

T5 = {"width": 12, "heads": 2, "head_size": 8, "mlp_width": 16, "layers": 2}
TEXT = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": 2}
VISION = {**TEXT, "image_size": 16, "patch_size": 8}
VAE = {"channels": (4, 4), "blocks": 1, "groups": 2}
UNET = {"channels": (4, 8), "depths": (1, 0), "heads": (2, 2), "groups": 2, "blocks": 1}
CAPTIONER = {
    **{"vision": (12, 1, 2, 16), "text": (12, 1, 2, 16), "decoder": (12, 1, 3, 16), "vocab_size": 24, "positions": 6},
    **{"image_size": (8, 12), "patch": 4, "projection": 8, "queries": 3, "pooling_heads": 2},
}
UPSCALED = {"prompt": "a cat, the hat", "steps": 5, "guidance_scale": 9.0, "noise_level": 20, "size": (8, 4)}
REQUEST = {"prompts": ["a cat, the hat", "12 dogs"], "steps": 8, "guidance_scale": 4.0, "size": (16, 32)}


def main() -> None:
    """Writes every folder anew and says how large it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=GOLDEN)
    folder = parser.parse_args().folder
    with torch.no_grad():
        write_networks(folder)
        write_captioner(folder / "captioner")
        write_pipeline(folder, pipelines.stable_diffusion, ("text_encoder", "vae"))
        write_pipeline(folder, pipelines.stable_diffusion_xl, ("text_encoder_2", "unet"))
        write_upscaler(folder)
        write_adapters(folder)
    for path in sorted(folder.iterdir()):
        print(f"{folder_bytes(path) / 1000:8.1f} kB  {path.name}")
    print(f"{folder_bytes(folder) / 1000:8.1f} kB")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def write_networks(folder: Path) -> None:
    """Those that come alone."""
    few = {**T5, "width": 8, "relative_buckets": 16, "relative_max_distance": 30}
    whole = references.made(transformers.T5ForConditionalGeneration, references.t5_config(few, vocabulary=384))
    write_network(folder / "t5_v1_1", t5_encoder(T5), expected.t5)
    write_network(folder / "t5_v1_0", t5_encoder({**T5, "activation": "relu"}), expected.t5)
    write_network(folder / "ul2", t5_encoder({**T5, "activation": "gated_silu"}), expected.t5, max_shard_size="4KB")
    write_network(folder / "byt5", whole, expected.t5)

    projected = {**TEXT, "hidden_act": "gelu", "eos_token_id": 30}
    write_network(folder / "clip_text", references.clip_text(projected, projected=True), expected.clip_text)
    write_network(folder / "clip", references.clip(TEXT, VISION), expected.clip)
    write_network(folder / "clip_image", references.clip_vision(VISION), expected.clip_image)

    shifted = {"scaling_factor": 0.3611, "shift_factor": 0.1159}
    sixteen = references.vae({**VAE, "latent_channels": 16, "quant_convs": False}, **shifted)
    write_network(folder / "vae_16_channels", sixteen, expected.vae)
    write_network(folder / "vae_old_names", references.vae(VAE), expected.vae)
    rename_projections(folder / "vae_old_names" / "diffusion_pytorch_model.safetensors")

    v = diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **pipelines.SCHEDULE)
    unet = functools.partial(expected.unet, scheduler=v)
    write_network(folder / "unet_sd2", references.unet({**UNET, "linear": True}), unet)
    v.save_pretrained(folder / "unet_sd2")
    write_network(
        folder / "unet_scale_shift", references.unet({**UNET, "depths": (0, 1), "scale_shift": True}), expected.unet
    )
    write_network(
        folder / "consistency_decoder", references.consistency_decoder((4, 8), groups=2), expected.consistency
    )


def write_captioner(folder: Path) -> None:
    """CoCa, which no library here writes: our own tree of parameters, dotted, beside what PyTorch's layers compute."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = references.made(coca.CoCa, CAPTIONER)
    to_half(model)
    inputs, outputs = expected.captioner(to_single(model), CAPTIONER)
    write_expected(folder, inputs, outputs)
    params = flatten_dict(coca.params_of(model.state_dict(), CAPTIONER), sep=".")
    values = {name: torch.from_numpy(np.array(value, order="C")).half() for name, value in params.items()}
    save_file(values, folder / "captioner.safetensors")
    (folder / "fields.json").write_text(json.dumps(CAPTIONER) + "\n")


def t5_encoder(fields: references.Fields) -> torch.nn.Module:
    """An encoder alone."""
    return references.made(transformers.T5EncoderModel, references.t5_config(fields))


def write_network(folder: Path, model: torch.nn.Module, run: Callable[..., expected.Expected], **saved: Any) -> None:
    """The folder of a network, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    to_half(model)
    model.save_pretrained(folder, **saved)
    write_expected(folder, *run(to_single(model)))


def write_pipeline(folder: Path, make: Callable[..., diffusers.DiffusionPipeline], alone: Sequence[str]) -> None:
    """The folder of a pipeline with DDIM, and what some of its networks make of other inputs."""
    ddim = diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **pipelines.SCHEDULE)
    with tempfile.TemporaryDirectory() as temporary:
        pipeline = make(Path(temporary), ddim)
    place = folder / make.__name__
    save_pipeline(pipeline, place)
    for name in alone:
        run = {"unet": expected.unet, "vae": expected.vae}.get(name, expected.clip_text)
        write_expected(place / name, *run(getattr(pipeline, name)))
    write_expected(place, *expected.pictures(pipeline, **REQUEST))
    (place / "request.json").write_text(json.dumps(REQUEST) + "\n")


def save_pipeline(pipeline: diffusers.DiffusionPipeline, place: Path) -> None:
    """The folder of a pipeline, anew, in float16; the pipeline goes on with the same values in float32."""
    shutil.rmtree(place, ignore_errors=True)
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        to_half(part)
    pipeline.save_pretrained(place)
    for part in parts:
        to_single(part)


def write_upscaler(folder: Path) -> None:
    """The folder of an x4 upscaler, whose scheduler is the public one's, and what it makes of an image."""
    table = {**pipelines.SCHEDULE, **pipelines.X4_BETAS}
    options = {"prediction_type": "v_prediction", "set_alpha_to_one": False, "steps_offset": 1, "clip_sample": False}
    ddim = diffusers.DDIMScheduler(**table, **options)
    with tempfile.TemporaryDirectory() as temporary:
        pipeline = pipelines.stable_diffusion_x4(Path(temporary), ddim)
    save_pipeline(pipeline, folder / "stable_diffusion_x4")
    write_expected(folder / "stable_diffusion_x4", *expected.upscaled(pipeline, **UPSCALED))
    (folder / "stable_diffusion_x4" / "request.json").write_text(json.dumps(UPSCALED) + "\n")


def write_adapters(folder: Path) -> None:
    """IP-Adapters of the UNet of stable_diffusion, and the keys and values that they have of features."""
    shutil.rmtree(folder / "ip_adapter", ignore_errors=True)
    for kind in ("plain", "plus"):
        place = folder / "ip_adapter" / kind
        place.mkdir(parents=True)
        unet = diffusers.UNet2DConditionModel.from_pretrained(folder / "stable_diffusion" / "unet")
        tensors = {name: value.half() for name, value in references.ip_adapter(unet, kind, features=10).items()}
        save_file(tensors, place / "adapter.safetensors")
        write_expected(place, *expected.adapter(unet, {name: value.float() for name, value in tensors.items()}))


def write_expected(folder: Path, inputs: expected.Tensors, outputs: expected.Tensors) -> None:
    """The inputs and outputs."""
    named = {f"in.{name}": value for name, value in inputs.items()} | {f"out.{name}": v for name, v in outputs.items()}
    save_file({name: value.detach().contiguous() for name, value in named.items()}, folder / "expected.safetensors")


def rename_projections(path: Path) -> None:
    """The names that attention had in the first files."""
    tensors = load_file(path)
    for new, old in references.OLD_NAMES.items():
        tensors = {name.replace(f".{new}.", f".{old}."): value for name, value in tensors.items()}
    save_file(tensors, path)


def to_half(model: torch.nn.Module) -> None:
    """Parameters as float16, to be written; buffers are none of them."""
    for weight in model.parameters():
        weight.data = weight.data.half()


def to_single(model: torch.nn.Module) -> torch.nn.Module:
    """The same values as float32, to compute with."""
    for weight in model.parameters():
        weight.data = weight.data.float()
    return model


if __name__ == "__main__":
    main()
