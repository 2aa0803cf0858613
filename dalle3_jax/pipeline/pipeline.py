"""Prompts to pictures: the one module that joins networks to samplers.

from dalle3_jax.pipeline import Pipeline

pipeline = Pipeline.load("demo")
pipeline("a panda on a beach")[0].save("panda.png")
"""

import dataclasses
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.diffusion import prediction, samplers, schedules
from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.glyph import check_glyphs, text_components
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.batching import group_by_program
from dalle3_jax.pipeline.decoders import apply_decoder, fitting_decoders
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.pipeline.prompt_cache import TEXT_COMPONENTS, encode_missing, stack_conditions, zero_empty_texts
from dalle3_jax.pipeline.request import Request, make_request, request_errors, shorten
from dalle3_jax.pipeline.revision import unknown_notes
from dalle3_jax.prompting.scene_lexicon import training_lexicon
from dalle3_jax.prompting.upsampler import template_backend
from dalle3_jax.prompting.upsampler import upsample as upsample_prompt
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.typing import Array, Float

__all__ = ["Pipeline", "Progress", "to_pixels"]

MAX_BATCH, CACHED_TEXTS = 8, 512
RELEASE_DEFAULTS = ("steps", "sampler", "guidance_scale", "decoder", "decoder_steps")
"""The settings of a request that a release may have defaults for."""
UPSAMPLING = ("none", "template")
"""How prompts are revised before they are drawn, where a release or the caller asks for it."""

Progress = Callable[[int, int, Float[Array, "b h w c"]], None]
"""(steps done, steps in all, the present estimate of the clean latents: `Pipeline.decode` makes a preview of it)."""


class Pipeline:
    """A release, ready to make pictures.

    The same request gives the same picture whatever stands beside it in its batch: bit for bit at the same size, batch
    size and device, within 1/255 on nearly all pixels otherwise. There is one compilation per size, batch size, number
    of steps and sampler; prompts, seeds and guidance are arguments of the program.
    """

    def __init__(self, release: Release, mesh: Mesh | None = None, decoders: Sequence[Release] = ()):
        """Takes a release in memory, and decoders of further ones; ValueError when it lacks what a picture needs."""
        parts = (*text_components(release.modules), "unet", "vae")
        if missing := [part for part in parts if part not in release.modules]:
            raise ValueError(f"this release makes no pictures: it lacks {', '.join(missing)}")
        latent = release.latent
        if latent is None or not (release.diffusion and release.tokenizer and release.text.get("length")):
            raise ValueError("this release makes no pictures: it lacks latent, diffusion, text length or tokenizer")
        schedule = schedules.build_schedule(**release.diffusion["schedule"])
        prediction.check_prediction(schedule, release.diffusion["prediction"])
        modules = {part: release.modules[part] for part in parts}
        check_glyphs(modules, release.text.get("glyph_length", 0))
        if decoders:  # what pictures say of their checkpoint must tell other decoders from its own
            together = "".join(part.digest for part in (release, *decoders))
            release = dataclasses.replace(release, digest=hashlib.sha256(together.encode()).hexdigest())
        self.release, self.mesh = release, mesh
        self.system = programs.PipelineSpec(
            **modules,
            schedule=schedule,
            prediction=release.diffusion["prediction"],
            latent=latent,
            spacing=spacings.build_spacing(**release.diffusion.get("spacing", {})),
        )
        self.params = {part: release.params[part] for part in modules}
        self._kept_conditions: dict[str, Condition] = {}
        self._decoders = {
            name: found for part in (release, *decoders) for name, found in fitting_decoders(part, release)
        }
        self.decoders = ("vae", *self._decoders)
        self.tokenizer = Tokenizer.from_json(release.tokenizer, "tokenizer.json of the release")
        self.upsample = str(release.sampling.get("upsample", "none"))
        if self.upsample not in UPSAMPLING:
            raise ValueError(
                f"this release asks for upsampling by {self.upsample!r}: known are {', '.join(UPSAMPLING)}"
            )
        known = {key: value for key, value in release.sampling.items() if key in RELEASE_DEFAULTS}
        size = release.sizes[0] if release.sizes else (256, 256)
        self.defaults = {"size": size, "steps": 20, "sampler": "ddim", "guidance_scale": 3.0, **known}

    @classmethod
    def load(
        cls,
        name: str | Path,
        mesh: Mesh | None = None,
        dtype: Any = None,
        shardings: Any = None,
        decoders: Sequence[str | Path] = (),
        variant: str | None = None,
        progress: bool = False,
    ) -> "Pipeline":
        """Loads "demo", the folder of a release, a training workdir (its base stage's release), or public weights.

        Those are the folder of a Stable Diffusion 1.x, 2.x or SDXL pipeline as diffusers writes it, or its id on the
        hub, "organisation/name", of which only the files that are read are downloaded; `variant="fp16"` takes its files
        of that name. `decoders` are further checkpoints whose decoders join its own: releases, stages of workdirs, or
        diffusers' ConsistencyDecoderVAE; a later one of the same name counts. `progress` shows a bar for each network.
        With a mesh, parameters are replicated, or lie as `shardings` (a function of the boxed shapes) says, and batches
        are split over all of its devices.
        """
        if mesh is not None and shardings is None:
            shardings = NamedSharding(mesh, PartitionSpec())
        how = {"dtype": dtype, "shardings": shardings, "progress": progress}
        release = open_release(name, variant=variant, **how)
        return cls(release, mesh, [open_release(checkpoint, **how) for checkpoint in decoders])

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        n: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress | None = None,
        upsample: str | None = None,
        **settings: Any,
    ) -> list[GeneratedImage]:
        """Makes `n` pictures a prompt, in order: those of the first prompt, those of the second, and so on.

        Picture i of the call has seed + i. `settings` are those of `Request`: negative_prompt, size (height, width),
        steps, sampler, spacing, guidance_scale, guidance_interval, guidance_rescale, decoder, decoder_steps, tile; what
        is left out is the release's default.
        A prompt longer than the text length is cut, with a warning, and words that the model has never seen are named
        in one. With `upsample="template"`, or where the release asks for that, prompts are first written as the
        captions that it was trained on, and warnings show what became of them; "none" turns that off.
        Raises ValueError before anything is computed.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts or n < 1:
            raise ValueError("there is nothing to make: give at least one prompt and n of at least 1")
        revised = {prompt: self._revise(prompt, upsample or self.upsample) for prompt in dict.fromkeys(prompts)}
        repeated = [prompt for prompt in prompts for _ in range(n)]
        requests = []
        for i, prompt in enumerate(repeated):
            original = {} if revised[prompt] == prompt else {"original_prompt": prompt}
            requests.append(self.request(revised[prompt], seed=seed + i, **original, **settings))
        batches = self.generate(requests, batch_size=batch_size, progress=progress)
        notices = [f"{shorten(old)!r} is drawn as {new!r}" for old, new in revised.items() if new != old]
        for notice in [*unknown_notes(revised, self.release.training), *notices, *self.truncation_notices(requests)]:
            warnings.warn(notice, stacklevel=2)
        pictures = dict(batches)
        return [pictures[index] for index in range(len(requests))]

    def _revise(self, prompt: str, by: str) -> str:
        """The prompt as it is drawn."""
        if by not in UPSAMPLING:
            raise ValueError(f"upsample is {by!r}: use {' or '.join(map(repr, UPSAMPLING))}")
        if by == "none" or not isinstance(prompt, str):
            return prompt
        lexicon = training_lexicon(self.release.training)
        return upsample_prompt(prompt, template_backend(lexicon), lexicon=lexicon, fits=self.can_read).revised

    def can_read(self, prompt: str) -> bool:
        """Whether the model reads the prompt to its end."""
        return self.tokenizer.count(prompt) <= self.release.text["length"]

    def request(self, prompt: str, **settings: Any) -> Request:
        """The request for a prompt with the release's defaults for all that is not given (or None)."""
        return make_request(
            prompt, self.defaults | {key: value for key, value in settings.items() if value is not None}
        )

    def truncation_notices(self, requests: Sequence[Request]) -> list[str]:
        """What a user should know before these are made: the prompts that will be cut, with their numbers of tokens."""
        texts = dict.fromkeys(text for request in requests for text in (request.prompt, request.negative_prompt))
        readers = [("the prompt", "tokens", self.tokenizer.count, self.release.text["length"])]
        if length := self.release.text.get("glyph_length"):
            readers.append(("the quoted text of the prompt", "bytes", glyphs.count_glyphs, length))
        return [
            f"{what} {shorten(text)!r} has {n} {units}; this model reads the first {length}, the rest is cut"
            for what, units, count, length in readers
            for text in texts
            if (n := count(text)) > length
        ]

    def request_errors(self, request: Request) -> list[str]:
        """Everything that keeps the request from being made."""
        found = request_errors(request, samplers.SAMPLERS, self.system.latent.factor, self.decoders, spacings.SPACINGS)
        if not found:
            spacing = self._spec_with_spacing(request.spacing).spacing
            found = spacings.spacing_errors(self.system.schedule, request.steps, spacing, request.sampler)
        if "text_encoder" not in self.params:
            lost = [text for text in (request.prompt, request.negative_prompt) if text not in self._kept_conditions]
            found += [f"{shorten(text)!r} was not encoded before the text encoder was dropped" for text in lost]
        return found

    def check_requests(self, requests: Sequence[Request]) -> None:
        """Raises one ValueError with everything that is wrong with the requests."""
        if found := [error for request in requests for error in self.request_errors(request)]:
            raise ValueError("; ".join(dict.fromkeys(found)))

    def generate(
        self, requests: Sequence[Request], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[int, GeneratedImage]]:
        """Yields (index of the request, picture) as batches are done.

        A batch holds one size, number of steps, sampler, spacing and decoder. Raises ValueError at once when a request
        cannot be made.
        """
        self.check_requests(requests)
        size = self.default_batch_size(requests) if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"a batch size of {size}; it must be at least 1")
        parts = [group[i : i + size] for group in group_by_program(requests) for i in range(0, len(group), size)]
        return self._generate_batches(requests, parts, size, progress)

    def _generate_batches(
        self, requests: Sequence[Request], batches: list[list[int]], size: int, progress: Progress | None
    ) -> Iterator[tuple[int, GeneratedImage]]:
        texts = dict(self._kept_conditions)
        done, total = 0, sum(requests[part[0]].steps for part in batches)
        for part in batches:
            # A short last batch repeats its last row: every batch of a size runs the same program.
            rows = [requests[index] for index in part + part[-1:] * (size - len(part))]
            condition = self._cached_conditions([row.prompt for row in rows], texts)
            null = self._null_conditions([row.negative_prompt for row in rows], texts)
            step = progress and functools.partial(_report_overall_progress, progress, done, total)
            latents, seeds = self.sample_latents(condition, null, rows, progress=step), [row.seed for row in rows]
            how = rows[0]
            images = self.decode(latents, seeds, decoder=how.decoder, steps=how.decoder_steps or None, tile=how.tile)
            done += rows[0].steps
            for index, image in zip(part, to_pixels(self._gather_to_host(images)), strict=False):
                yield index, GeneratedImage(Image.fromarray(image), requests[index], self.release.digest, size)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """What the UNet is told of each prompt; "" is the null condition. ValueError once the encoder was dropped."""
        if "text_encoder" not in self.params:
            raise ValueError("the text encoder was dropped: load the pipeline again to encode further texts")
        texts = self.tokenizer(prompts, self.release.text["length"])
        quoted = (glyphs.encode_glyphs(prompts, length),) if (length := self.release.text.get("glyph_length")) else ()
        with programs.batch_over_mesh(self.mesh, len(prompts)):
            return programs.encode_prompts(self.params, *self._shard_rows((*texts, *quoted)), system=self.system)

    def drop_text_encoder(self, texts: Iterable[str], batch_size: int = MAX_BATCH) -> None:
        """Encodes these prompts and negative prompts, then lets go of the parameters that only encoding takes.

        From then on pictures of these texts can be made, and of no others; the memory is free as soon as nobody else
        holds the parameters (a release that the pipeline was made of does).
        """
        self._kept_conditions |= encode_missing(texts, batch_size, self._encode_to_host, self._kept_conditions)
        self.params = {part: params for part, params in self.params.items() if part not in TEXT_COMPONENTS}
        kept = {part: params for part, params in self.release.params.items() if part not in TEXT_COMPONENTS}
        self.release = dataclasses.replace(self.release, params=kept)

    def sample_latents(
        self,
        condition: Condition,
        null: Condition,
        requests: Sequence[Request],
        progress: Callable[[int, Float[Array, "b h w c"]], None] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Runs the sampling loop: one row a request, guided away from `null`.

        All requests are of the same size, steps, sampler and spacing. Where every guidance scale is 1 the null
        condition is not computed, which halves the work.

        With `progress` (called with the steps done and the present estimate) the loop runs in about ten chunks of the
        same length, otherwise in one.
        """
        height, width = (side // self.system.latent.factor for side in requests[0].size)
        seeds = np.asarray([request.seed for request in requests], np.uint32)
        steps, sampler, system = requests[0].steps, requests[0].sampler, self._spec_with_spacing(requests[0].spacing)
        deviation = np.float32(spacings.initial_noise_std(system.schedule, steps, system.spacing, sampler))
        state, keys = programs.start(self._shard_rows(seeds), deviation, shape=(height, width, system.latent.channels))
        guided = any(request.guidance_scale != 1 for request in requests)
        guide = programs.Guidance(
            *np.asarray([(r.guidance_scale, *r.guidance_interval, r.guidance_rescale) for r in requests], np.float32).T
        )
        inputs = self._shard_rows((condition, null, guide) if guided else (condition, None, None))
        count = programs.steps_per_chunk(steps) if progress else steps
        for first in range(0, steps, count):
            with programs.batch_over_mesh(self.mesh, len(requests)):
                state = programs.advance(
                    self.params,
                    *inputs,
                    state,
                    keys,
                    np.int32(first),
                    system=system,
                    sampler=sampler,
                    steps=steps,
                    count=count,
                )
            if progress:
                progress(first + count, jax.block_until_ready(state.x0))
        return state.x

    def decode(
        self,
        latents: Float[Array, "b h w c"],
        seeds: Sequence[int] | None = None,
        *,
        decoder: str = "vae",
        steps: int | None = None,
        tile: int = 0,
        temperature: float | None = None,
        split: bool = False,
    ) -> Float[Array, "b H W 3"]:
        """Images in about [-1, 1] from the latents that the UNet works in.

        `decoder` is one of `self.decoders`, at its own number of steps or at `steps`, and its own temperature or this
        one; its noise comes from the seeds, one an image (0, 1, 2, ... by default). `tile` is the side in pixels of
        overlapping windows that bound the memory; 0 decodes the whole. `split` spreads the rows of every image over the
        mesh's devices instead of whole images, for few large ones; the VAE's decoder only. Raises ValueError for an
        unknown decoder, wrong latents, rows that do not divide over the mesh, and what `tiling.apply_in_tiles` refuses.
        """
        latent = self.system.latent
        if latents.shape[-1] != latent.channels:
            raise ValueError(f"latents of {latents.shape[-1]} channels: those of this release have {latent.channels}")
        if decoder not in self.decoders:
            raise ValueError(f"unknown decoder {decoder!r}: this release decodes with {', '.join(self.decoders)}")
        cells = tile // latent.factor
        if split:
            return self._decode_sharded(latents, decoder, tile)
        if decoder != "vae":
            how = {"steps": steps, "temperature": temperature, "cells": cells}
            rows = self._shard_rows(np.asarray(range(len(latents)) if seeds is None else seeds, np.uint32))
            with programs.batch_over_mesh(self.mesh, len(latents)):
                latents = apply_decoder(self._decoders[decoder], latents, rows, latent, **how)
            if self._decoders[decoder].module.factor > 1:
                return latents
        with programs.batch_over_mesh(self.mesh, len(latents)):
            return programs.decode_latents(self.params, latents, system=self.system, tile=cells)

    def _decode_sharded(self, latents: Array, decoder: str, tile: int) -> Float[Array, "b H W 3"]:
        devices = self.mesh.size if self.mesh else 1
        if self.mesh is None or decoder != "vae" or tile or latents.shape[1] % devices:
            raise ValueError(
                f"split=True with decoder {decoder!r}, tile={tile} and {latents.shape[1]} rows of latents on {devices} "
                "devices: it wants a mesh, the decoder 'vae', no tiles, and rows that the devices divide"
            )
        rows = NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))
        with jax.set_mesh(self.mesh):
            return programs.decode_sharded(self.params, jax.device_put(latents, rows), system=self.system)

    def encode_images(self, images: Any) -> Float[Array, "b h w c"]:
        """The latents that the UNet works in, of images (b H W 3) in [-1, 1]: `decode` turns them back."""
        with programs.batch_over_mesh(self.mesh, len(images)):
            latents = programs.encode_images(self.params["vae"], images, vae=self.system.vae)
        return self.system.latent.normalise(latents)

    def resample(
        self,
        latents: Float[Array, "b h w c"],
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        strength: float = 0.3,
        steps: int = 8,
    ) -> Float[Array, "b h w c"]:
        """The base model's own version of latents: noised to t = strength, and back in steps of DDIM, not guided."""
        if not 0 < strength <= 1 or steps < 1:
            raise ValueError(f"strength {strength} must lie in (0, 1], steps {steps} be at least 1")
        condition = self._shard_rows(self._gather_to_host(self.encode(list(prompts))))
        rows = self._shard_rows(np.asarray(seeds, np.uint32))
        with programs.batch_over_mesh(self.mesh, len(latents)):
            return programs.resample(
                self.params, condition, latents, rows, np.float32(strength), system=self.system, steps=steps
            )

    def _spec_with_spacing(self, kind: str) -> programs.PipelineSpec:
        """The system, its times laid by this kind of spacing; "" is the release's own."""
        spacing = dataclasses.replace(self.system.spacing, kind=kind or self.system.spacing.kind)
        return dataclasses.replace(self.system, spacing=spacing)

    def _cached_conditions(self, texts: Sequence[str], known: dict[str, Condition]) -> Condition:
        """The condition for each text; a text is encoded once, in batches of the one size that is compiled."""
        if len(known) > CACHED_TEXTS + len(self._kept_conditions):
            known.clear()
            known |= self._kept_conditions
        known |= encode_missing(texts, len(texts), self._encode_to_host, known)
        return stack_conditions(texts, known)

    def _null_conditions(self, texts: Sequence[str], known: dict[str, Condition]) -> Condition:
        """The conditions of negative prompts; that of "" is zeros for models that were trained so (SDXL)."""
        rows = self._cached_conditions(texts, known)
        return zero_empty_texts(rows, texts) if self.release.text.get("zero_null") else rows

    def _encode_to_host(self, texts: Sequence[str]) -> Condition:
        return self._gather_to_host(self.encode(texts))

    def default_batch_size(self, requests: Sequence[Request]) -> int:
        """A power of two, up to MAX_BATCH, that the largest group needs; a multiple of the devices."""
        largest = max(map(len, group_by_program(requests)), default=1)
        size = min(1 << (largest - 1).bit_length(), MAX_BATCH)
        devices = self.mesh.size if self.mesh else 1
        return -(-size // devices) * devices

    def _shard_rows(self, rows: Any) -> Any:
        """Host arrays on the device, or split over all devices of the mesh where their number divides the rows."""
        if self.mesh is None:
            return rows
        divides = len(jax.tree.leaves(rows)[0]) % self.mesh.size == 0
        spec = PartitionSpec(self.mesh.axis_names) if divides else PartitionSpec()
        return jax.device_put(rows, NamedSharding(self.mesh, spec))

    def _gather_to_host(self, rows: Any) -> Any:
        """Device arrays as numpy, whole on every host."""
        if self.mesh is not None:
            rows = jax.device_put(rows, NamedSharding(self.mesh, PartitionSpec()))
        return jax.device_get(rows)


def to_pixels(images: Any) -> np.ndarray:
    """uint8 from images in [-1, 1], rounded to nearest; what lies outside is clipped, what is no number is refused."""
    levels = np.asarray(images, np.float32) * 127.5 + 127.5
    if np.isnan(levels).any():
        raise FloatingPointError("the model gave pixels that are no numbers: lower the guidance scale")
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _report_overall_progress(progress: Progress, done: int, total: int, steps: int, x0: Array) -> None:
    progress(done + steps, total, x0)
