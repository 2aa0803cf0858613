"""Prompts to pictures: the one module that joins networks to samplers.

from dalle3_jax.pipeline import Pipeline

pipeline = Pipeline.load("demo")
pipeline("a panda on a beach")[0].save("panda.png")
"""

import dataclasses
import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle3_jax.checkpoints.placing import automatic_mesh, on_automatic_axes
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.loading.ip_adapter import add_adapter
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.condition import TEXT_COMPONENTS, Condition
from dalle3_jax.pipeline import programs, revision
from dalle3_jax.pipeline.auto_size import candidate_sizes
from dalle3_jax.pipeline.batching import MAX_BATCH, Progress, generate_images
from dalle3_jax.pipeline.decoders import fitting_decoders
from dalle3_jax.pipeline.editing import Describe, carried_seed, describe_image, instructed_settings
from dalle3_jax.pipeline.edits import edit_defaults
from dalle3_jax.pipeline.image_codec import ImageCodec
from dalle3_jax.pipeline.image_prompts import ImageRows
from dalle3_jax.pipeline.input_images import open_input_image, open_input_mask
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.prompt_cache import PromptCache, PromptKey, SeededPrompt
from dalle3_jax.pipeline.request import SETTINGS, Request, document_settings, make_request, request_errors
from dalle3_jax.pipeline.sampling_loop import EditInputs, StepProgress, run_sampling_loop
from dalle3_jax.pipeline.setting_notices import setting_notices
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.pipeline.upscaler import Upscaler
from dalle3_jax.prompting.upsampler import Backend
from dalle3_jax.runtime.distributed import enable_compilation_cache
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.typing import Array, Float

__all__ = ["Pipeline"]

FIRST_SIZE = (256, 256)
"""The size of images of a release that names none."""
BLANK = " "
VARIED_BY = ("description", "image")
"""How variations know what an image shows."""
OPENED = {"image": open_input_image, "mask": open_input_mask, "image_prompt": open_input_image}
"""The settings that are images, which are opened once."""


class Pipeline:
    """A release, ready to make pictures.

    The same request gives the same picture whatever stands beside it in its batch: bit for bit at the same size, batch
    size and device, within 1/255 on nearly all pixels otherwise. There is one compilation per size, batch size and
    sampler, and one more for steps without guidance; prompts, seeds, guidance and the times of the steps are arguments
    of the program.
    """

    def __init__(
        self,
        release: Release,
        mesh: Mesh | None = None,
        decoders: Sequence[Release] = (),
        upscaler: Release | None = None,
    ):
        """Takes a release in memory, and decoders and an upscaler of further ones.

        Raises ValueError when it lacks what a picture needs.
        """
        self.system = PipelineSpec.from_release(release)
        mesh = mesh and automatic_mesh(mesh)

        def place(part: Release) -> Release:
            return dataclasses.replace(part, params=on_automatic_axes(part.params))

        release, decoders, upscaler = place(release), [*map(place, decoders)], place(upscaler) if upscaler else None
        self.upscaler_shares_text = upscaler is None and release.upscaler is not None
        enlarging = release if self.upscaler_shares_text else upscaler
        self.upscaler = Upscaler(enlarging, mesh) if enlarging else None
        others = [*decoders, *([upscaler] if upscaler else [])]
        if others:  # what pictures say of their checkpoint must tell other decoders from its own
            together = "".join(part.digest for part in (release, *others))
            release = dataclasses.replace(release, digest=hashlib.sha256(together.encode()).hexdigest())
        self.release, self.mesh = release, mesh
        self.params = {part: release.params[part] for part in self.system.components}
        self.prompts = PromptCache(self._encode_keys, mesh, bool(release.text.get("zero_null")))
        fitting = {name: decoder for part in (release, *decoders) for name, decoder in fitting_decoders(part, release)}
        self.codec = ImageCodec(self.system, self.params["vae"], fitting, mesh)
        self.capabilities = self.system.capabilities(release.sizes, self.codec.decoders, self.upscaler)
        where = "tokenizer.json of the release"
        self._tokenizer = Tokenizer.from_json(release.tokenizer, where) if self.system.reads_text else None
        self.upsample = str(release.sampling.get("upsample", "none"))
        if self.upsample not in revision.UPSAMPLING:
            known = ", ".join(revision.UPSAMPLING)
            raise ValueError(f"the release asks for upsampling by {self.upsample!r}: known are {known}")
        own = {name: value for name, value in release.sampling.items() if name in SETTINGS and SETTINGS[name].part}
        self.defaults = {"size": release.sizes[0] if release.sizes else FIRST_SIZE, **own}

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
        upscaler: str | Path | None = None,
        adapter: str | Path | None = None,
        adapter_encoder: str | Path | None = None,
    ) -> "Pipeline":
        """Loads "demo", the folder of a release, a training workdir (its base stage's release), or public weights.

        Those are the folder of a Stable Diffusion 1.x, 2.x or SDXL pipeline as diffusers writes it, or its id on the
        hub, "organisation/name", of which only the files that are read are downloaded; `variant="fp16"` takes its files
        of that name. `decoders` are further checkpoints whose decoders join its own: releases, stages of workdirs, or
        diffusers' ConsistencyDecoderVAE; a later one of the same name counts. `upscaler` is a
        checkpoint whose upscaler enlarges pictures instead of its own. `adapter` is the .safetensors file of an
        IP-Adapter made for the model, which then takes image prompts, `adapter_encoder` the folder of its CLIP image
        encoder where that is not beside it. `progress` shows a bar for each network.
        With a mesh, parameters are replicated, or lie as `shardings` (a function of the boxed shapes) says, and batches
        are split over all of its devices. Compiled programs are kept in the user's cache, as commands keep them, unless
        JAX was told of another folder.
        """
        if adapter is None and adapter_encoder is not None:
            raise ValueError(f"the image encoder {adapter_encoder} without an adapter that reads it: give its file too")
        if not jax.config.values["jax_compilation_cache_dir"]:
            enable_compilation_cache()
        if mesh is not None and shardings is None:
            shardings = NamedSharding(mesh, PartitionSpec())
        how = {"dtype": dtype, "shardings": shardings, "progress": progress}
        release = open_release(name, variant=variant, **how)
        if adapter is not None:
            release = add_adapter(release, adapter, adapter_encoder, **{**how, "dtype": dtype or jnp.float32})
        larger = None if upscaler is None else open_release(upscaler, **how)
        return cls(release, mesh, [open_release(checkpoint, **how) for checkpoint in decoders], larger)

    @document_settings
    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        n: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
        upsample: str | None = None,
        **settings: Any,
    ) -> list[GeneratedImage]:
        """Makes `n` pictures a prompt, in order: those of the first prompt, those of the second, and so on.

        Picture i of the call has seed + i. `settings` are those of `pipeline.request.SETTINGS`; what is left out is the
        release's default. `progress=True` shows a bar.
        A prompt longer than the text length is cut, with a warning, and words that the model has never seen are named
        in one. With `upsample="template"`, or where the release asks for that, prompts are first written as the
        captions that it was trained on, and warnings show what became of them; "none" turns that off.
        Raises ValueError before anything is computed.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts or n < 1:
            raise ValueError("there is nothing to make: give at least one prompt and n of at least 1")
        by, training = upsample or self.upsample, self.release.training
        texts = dict.fromkeys(prompts)
        revised = {prompt: revision.revise_prompt(prompt, by, training, self.can_read) for prompt in texts}
        requests = []
        for i, prompt in enumerate(prompt for prompt in prompts for _ in range(n)):
            own = {"original_prompt": None if revised[prompt] == prompt else prompt, **settings}
            requests.append(self.request(revised[prompt], seed=seed + i, **own))
        notices = revision.unknown_notes(revised, training) + revision.revision_notices(revised)
        for notice in notices + self.request_notices(requests):
            warnings.warn(notice, stacklevel=2)
        with progress_bar() if progress is True else nullcontext((None, progress or None)) as (_, report):
            pictures = dict(generate_images(self, requests, batch_size, report))
        return [pictures[index] for index in range(len(requests))]

    @document_settings
    def edit(
        self,
        image: Any,
        prompt: str | None = None,
        *,
        instruction: str | None = None,
        n: int = 1,
        seed: int | None = None,
        describe: Describe | None = None,
        chat: Backend | None = None,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
        upsample: str | None = None,
        **settings: Any,
    ) -> list[GeneratedImage]:
        """Edits an image `n` times: image to image, or with a `mask` inpainting, with `outpaint` outpainting.

        `image` and `mask` are paths, images of Pillow, uint8 (h, w, 3) or generated images. `prompt` describes all of
        the edited image. In its place an `instruction`, such as "make it night", is done to the prompt that the image
        carries, or to what `describe` says of its pixels; a language model (`chat`) understands more of them than the
        words of the model's own training. It keeps the image's seed unless there is another `seed`; the noise of
        an image that carries no prompt is found by inversion. Outside a mask not
        one pixel changes, and the image keeps its size. Raises ValueError as `__call__` does, before anything is
        computed.
        """
        opened = open_input_image(image)
        if (prompt is None) == (instruction is None):
            raise ValueError("give either a prompt for the whole edited image, or an instruction, as 'make it night'")
        if instruction is not None:
            given, training = {"seed": seed, **settings}, self.release.training
            settings = instructed_settings(instruction, opened, given, training, self.can_read, describe, chat)
            prompt, seed, upsample = settings.pop("prompt"), settings.pop("seed"), "none"
        how = {"n": n, "seed": seed or 0, "batch_size": batch_size, "progress": progress, "upsample": upsample}
        return self(prompt or "", image=opened, **how, **settings)

    @document_settings
    def variations(
        self,
        image: Any,
        prompt: str | None = None,
        *,
        n: int = 1,
        seed: int | None = None,
        strength: float | int | None = None,
        describe: Describe | None = None,
        by: str | None = None,
        batch_size: int | None = None,
        progress: Progress | bool | None = None,
        **settings: Any,
    ) -> list[GeneratedImage]:
        """Makes `n` other pictures of what an image shows, by new seeds.

        That is the prompt that it carries, what `describe` says of its pixels, or the `prompt` given here. `strength`
        is how far they go from it (default 0.8): at 1 they share its description alone. Their seeds follow the image's
        own unless `seed` is another first one. With `by="image"`, the only way of a model that reads no text, it is an
        image prompt instead, beside the `prompt` where there is one ("the same, but at night"); "description" is the
        other. Raises ValueError as `__call__` does, before anything is computed.
        """
        opened = open_input_image(image)
        ways = VARIED_BY if self.system.reads_text else VARIED_BY[1:]
        by = ways[0] if by is None else by
        if by not in ways:
            alone = "" if self.system.reads_text else " of a model that reads images alone"
            raise ValueError(f"variations by {by!r}{alone}: use {' or '.join(map(repr, ways))}")
        if by == "image":
            settings, prompt = {"image_prompt": opened, **settings}, prompt or ""
            strength = 1 if strength is None else strength
        described = describe_image(opened, describe) if prompt is None else prompt
        how = {
            "n": n,
            "seed": carried_seed(opened) + 1 if seed is None else seed,
            "upsample": None if prompt else "none",
        }
        began = {} if strength == 1 else {"image": opened, "strength": strength}
        return self(described, batch_size=batch_size, progress=progress, **how, **began, **settings)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of prompts; ValueError of a model that reads images alone."""
        if self._tokenizer is None:
            raise ValueError("this model reads images alone, no text: give an image prompt")
        return self._tokenizer

    def can_read(self, prompt: str) -> bool:
        """Whether the model reads the prompt to its end."""
        return not self.system.reads_text or self.tokenizer.count(prompt) <= self.release.text["length"]

    def request(self, prompt: str, **settings: Any) -> Request:
        """The request for a prompt, with the release's defaults for all that is not given (or None).

        Where a model was trained on zeros in place of no text (SDXL), a negative prompt of "" is encoded, as diffusers
        does it, and zeros are for none at all: the request then holds a blank, whose tokens are those of "".

        Raises one ValueError with everything that keeps it from being made, settings that are none included.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        if given.get("negative_prompt") == "" and self.release.text.get("zero_null"):
            given["negative_prompt"] = BLANK
        given |= {name: read(given[name]) for name, read in OPENED.items() if name in given}
        edit = edit_defaults(given, candidate_sizes(self), self.capabilities.factor) if "image" in given else {}
        request = make_request(prompt, self.defaults | edit | given)
        self.check_requests([request])
        return request

    def request_notices(self, requests: Sequence[Request]) -> list[str]:
        """Notes on requests that can be made: texts that are cut, settings without effect."""
        notices = []
        if self.system.reads_text:
            notices = revision.truncation_notices(requests, self.release.text, self.tokenizer)
        return notices + setting_notices(requests, self.capabilities, self.defaults)

    def check_requests(self, requests: Iterable[Request]) -> None:
        """Raises one ValueError with everything that keeps requests from elsewhere, as of a PNG, from being made."""
        errors = [error for request in requests for error in request_errors(request, self.capabilities)]
        if errors:
            raise ValueError("; ".join(dict.fromkeys(errors)))

    def generate(
        self, requests: Sequence[Request], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[int, GeneratedImage]]:
        """Yields (index of the request, picture) as batches are done; the requests may be of any mixture.

        Raises ValueError at once when one cannot be made.
        """
        self.check_requests(requests)
        return generate_images(self, requests, batch_size, progress)

    def encode(self, prompts: Sequence[str], seeds: Sequence[int] | None = None) -> Condition:
        """The UNet's condition of each prompt; "" is the null condition. ValueError once the encoder was dropped.

        With `seeds` a model that samples layouts (`samples_layouts`) conditions each on one of its own.
        """
        tokenizer = self.tokenizer
        if "text_encoder" not in self.params:
            raise ValueError("the text encoder was dropped: load the pipeline again to encode further texts")
        texts = tokenizer(prompts, self.release.text["length"])
        quoted = (glyphs.encode_glyphs(prompts, length),) if (length := self.release.text.get("glyph_length")) else ()
        if seeds is not None:
            quoted = (*(quoted or (None,)), np.asarray(seeds, np.uint32))
        with programs.batch_over_mesh(self.mesh, len(prompts)):
            rows = shard_rows((*texts, *quoted), self.mesh)
            params = {part: self.params[part] for part in self.system.text_modules}
            return programs.encode_prompts(params, *rows, system=self.system)

    def _encode_keys(self, keys: Sequence[PromptKey]) -> Condition:
        seeds = [key.seed for key in keys if isinstance(key, SeededPrompt)]
        return self.encode([key.text if isinstance(key, SeededPrompt) else key for key in keys], seeds or None)

    @property
    def samples_layouts(self) -> bool:
        """Whether every image has a layout of its own, by its seed, and the text is read anew for it."""
        return self.system.layout_memory is not None

    def drop_text_encoder(self, texts: Iterable[str], batch_size: int = MAX_BATCH) -> None:
        """Encodes these prompts and negative prompts, then lets go of the parameters that only encoding takes.

        From then on pictures of these texts can be made, and of no others; the memory is free as soon as nobody else
        holds the parameters (a release that the pipeline was made of does). A model that reads images alone has none,
        and one that samples layouts goes on reading the text.
        """
        if not self.system.reads_text or self.samples_layouts:
            return
        self.prompts.keep(texts, batch_size)
        self.capabilities = dataclasses.replace(self.capabilities, texts=self.prompts.kept_texts)
        self.params = {part: params for part, params in self.params.items() if part not in TEXT_COMPONENTS}
        if self.upscaler and self.upscaler_shares_text:
            self.upscaler.drop_text_encoder()
        kept = {part: params for part, params in self.release.params.items() if part not in TEXT_COMPONENTS}
        self.release = dataclasses.replace(self.release, params=kept)

    def sample_latents(
        self,
        condition: Condition,
        null: Condition,
        requests: Sequence[Request],
        progress: StepProgress | None = None,
        edit: EditInputs | None = None,
        image: ImageRows | None = None,
    ) -> Float[Array, "b h w c"]:
        """Runs the sampling loop: one row a request, guided away from `null`.

        `edit` is that of `encode_edits`, `image` that of `encode_image_prompts`.

        All requests are of the same size, steps, sampler and spacing. In steps in which every guidance scale is 1 or
        out of its interval the null condition is not computed, which halves their work.

        With `progress` (called with the steps done and the present estimate) the loop runs in about ten chunks of the
        same length, otherwise in one.
        """
        return run_sampling_loop(
            self.params,
            condition,
            null,
            requests,
            system=self.system,
            mesh=self.mesh,
            progress=progress,
            edit=edit,
            image=image,
        )
