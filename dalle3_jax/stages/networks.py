"""The networks of a stage: new ones from config.model, trained or public ones that config.init names."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.release_record import is_release
from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.build import build_models, module_fields
from dalle3_jax.models.condition import Condition, encode_text
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.image_prompt import ImagePrompt, fit_image_prompt
from dalle3_jax.models.layout_memory import encode_labelled_text
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.unet_call import apply_unet
from dalle3_jax.stages.config import plain_config
from dalle3_jax.training import sharding
from dalle3_jax.training.state import init_params
from dalle3_jax.typing import Array, Key, Params

__all__ = ["StageNetworks", "load_stage_networks", "resolve_checkpoint"]


@dataclass(frozen=True)
class StageNetworks:
    """The networks of a stage, those that config.init loaded with their parameters on the mesh.

    `inpaints` is whether the UNet is shown, beside noisy latents, a mask and the latents of the image around it.
    """

    modules: dict[str, nn.Module]
    loaded: dict[str, Params]
    releases: dict[str, Release]
    trainable: tuple[str, ...]
    inpaints: bool = False

    @property
    def frozen_params(self) -> dict[str, Params]:
        """Parameters that do not learn."""
        return {name: params for name, params in self.loaded.items() if name not in self.trainable}

    def require(self, *names: str) -> None:
        """Raise ValueError unless all these components are there."""
        if missing := [name for name in names if name not in self.modules]:
            raise ValueError(f"the stage needs {', '.join(missing)}: add sections to config.model or config.init")

    def latent(self) -> Latent:
        """The latent space of the loaded VAE, checked against the UNet."""
        latent = self.releases["vae"].latent if "vae" in self.releases else None
        if latent is None:
            raise ValueError("the VAE must come from a release that knows its latents: set config.init.vae")
        unet, beside = self.modules.get("unet"), latent.channels + 1 if self.inpaints else 0
        if unet and (unet.in_channels, unet.out_channels) != (latent.channels + beside, latent.channels):
            shown = f", and {beside} of the mask and the image around it" if beside else ""
            raise ValueError(
                f"config.model.unet has {unet.in_channels} channels in and {unet.out_channels} out, the latents of its "
                f"VAE {latent.channels}{shown}: set them to {latent.channels + beside} and {latent.channels}"
            )
        return latent

    def encode_text(self, params: Params, batch: Mapping[str, Array]) -> Condition:
        """The condition of a batch's captions; where layouts are sampled, beside those that the batch has."""
        modules = {name: self.modules[name] for name in text_components(self.modules)}
        if "layout_memory" in modules and "cells" in batch:
            return encode_labelled_text(modules, params, batch)
        return encode_text(modules, params, batch)

    def encode_latents(self, params: Params, batch: Mapping[str, Array]) -> Array:
        """A batch's latents as the UNet sees them: its own, or its images under the VAE."""
        if "latents" in batch:
            return self.latent().normalise(batch["latents"])
        mean, _ = self.modules["vae"].apply({"params": params["vae"]}, batch["images"], method="encode")
        return self.latent().normalise(mean)

    def unet(
        self,
        params: Params,
        x_t: Array,
        t: Array,
        condition: Condition,
        sizes: Array | None,
        guidance: Array | None = None,
    ) -> Array:
        """The UNet's output at the network times t, conditioned on sizes and guidance scales where it takes any."""
        unet: Any = self.modules["unet"]
        return apply_unet(unet, params, x_t, t, condition, sizes, guidance, factor=self.latent().factor)

    def boxed_params(self) -> dict[str, Any]:
        """Abstract parameters that learn, with their logical axes."""
        return abstract_params(self.modules, self.trainable)

    def init(self, key: Key) -> dict[str, Any]:
        """Fresh parameters of what learns and is not loaded."""
        modules: dict[str, Any] = {name: self.modules[name] for name in self.trainable}
        inputs = {name: modules[name].example_inputs(self.modules) for name in modules if name not in self.loaded}
        return nn.unbox(init_params(modules, inputs, key))


def load_stage_networks(config: ConfigDict, workdir: Path, mesh: Mesh) -> StageNetworks:
    """Networks from config.model, and from the checkpoints of config.init; names everything that does not fit."""
    dtype = jnp.dtype(config.train.dtype)
    trainable = tuple(config.train.trainable)
    modules = build_models(plain_config(config.model), dtype)
    place = functools.partial(sharding.param_shardings, mesh=mesh)
    loaded, releases = {}, {}
    for name, where in config.init.items():
        kept = jnp.float32 if name in trainable else dtype
        checkpoint = resolve_checkpoint(workdir, where)
        try:
            release = open_release(checkpoint, [name], kept, place)
        except ValueError as error:
            raise ValueError(f"config.init.{name}: {error}") from None
        module = modules.setdefault(name, release.modules[name].clone(dtype=dtype))
        if differ := differing_fields(module, release.modules[name]):
            raise ValueError(
                f"config.model.{name} differs from the network in {checkpoint} in {differ}: leave the section out"
            )
        loaded[name], releases[name] = add_unet_inputs(module, release.params[name], dtype=kept), release
    if isinstance(prompt := modules.get("image_prompt"), ImagePrompt) and "image_prompt" not in loaded:
        modules["image_prompt"] = fit_image_prompt(prompt, modules)
    if unknown := sorted(set(trainable) - set(modules)):
        raise ValueError(
            f"train.trainable names {', '.join(unknown)}: give config.model or config.init sections for them"
        )
    if idle := sorted(set(modules) - set(trainable) - set(loaded)):
        raise ValueError(f"{', '.join(idle)} would stay at random: name them in train.trainable or in config.init")
    return StageNetworks(modules, loaded, releases, trainable, config.train.stage == "inpaint")


def differing_fields(module: nn.Module, other: nn.Module) -> str:
    """The fields in which two networks differ and could not share parameters or results.

    `remat` is none, nor are inputs that a UNet has and the other lacks, which begin at zero (see `add_unet_inputs`).
    """
    if type(module) is not type(other):
        return "kind"
    fields, others = module_fields(module), module_fields(other)
    alike = {"remat", *(() if others.get("guidance_width") else ("guidance_width",))}
    if fields.get("in_channels") == inpainting_channels(fields.get("out_channels", 0)):
        alike |= {"in_channels"} if others.get("in_channels") == others.get("out_channels") else set()
    return ", ".join(name for name in fields | others if fields.get(name) != others.get(name) and name not in alike)


def inpainting_channels(latent_channels: int) -> int:
    """The channels of an inpainting UNet's input: noisy latents, the mask, and latents of the image around it."""
    return 2 * latent_channels + 1


def add_unet_inputs(module: nn.Module, params: Params, dtype: Any) -> Params:
    """Parameters of a UNet with fewer inputs as this one's: what it makes of the guidance scale, and of further
    channels, is 0 at first."""
    if not isinstance(module, UNet):
        return params
    if module.guidance_width and "guidance_projection" not in params:
        kernel = np.zeros((module.guidance_width, module.levels[0].channels), dtype)
        params = {**params, "guidance_projection": {"kernel": kernel}}
    kernel, pixels = params["conv_in"]["kernel"], module.patch**2
    further = module.in_channels - kernel.shape[2] // pixels
    if not further:
        return params
    # Channels of a cell that pixels are folded into stand pixel by pixel.
    by_pixel = kernel.reshape(*kernel.shape[:2], pixels, -1, kernel.shape[3])
    wider = jnp.pad(by_pixel, ((0, 0), (0, 0), (0, 0), (0, further), (0, 0)))
    return {**params, "conv_in": {**params["conv_in"], "kernel": wider.reshape(*kernel.shape[:2], -1, kernel.shape[3])}}


def resolve_checkpoint(workdir: Path, where: str) -> str | Path:
    """The checkpoint that an entry of config.init names: a stage of this workdir, else what `open_release` takes.

    Raises ValueError for a single word that is neither.
    """
    places = (workdir / where / "release", workdir / where)
    for place in places:
        if is_release(place):
            return place
    if where != "demo" and Path(where).name == where and not Path(where).exists():
        raise ValueError(
            f"config.init names {where!r}, but there is no release in {places[0]} or {where}: train that first"
        )
    return where
