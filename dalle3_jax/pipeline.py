"""Prompts to pictures: the one module that joins networks to samplers.

from dalle3_jax.pipeline import Pipeline

pipeline = Pipeline.load("demo")
pipeline("a panda on a beach")[0].save("panda.png")
"""

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from dalle3_jax import programs
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.diffusion import prediction, samplers, schedules
from dalle3_jax.models.glyph import check_glyphs
from dalle3_jax.models.xfnet import Condition
from dalle3_jax.pictures import Picture, Request, groups, make_request, problems, shortened
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.typing import Array, Float

PARTS = ("text_encoder", "xfnet", "unet", "vae")
DEMO = Path(__file__).with_name("releases") / "demo"
MAX_BATCH, CACHED_TEXTS = 8, 512

Progress = Callable[[int, int, Float[Array, "b h w c"]], None]
"""(steps done, steps in all, the present estimate of the clean latents: `Pipeline.decode` makes a preview of it)."""


class Pipeline:
    """A release, ready to make pictures.

    The same request gives the same picture whatever stands beside it in its batch: bit for bit at the same size, batch
    size and device, within 1/255 on nearly all pixels otherwise. There is one compilation per size, batch size, number
    of steps and sampler; prompts, seeds and guidance are arguments of the program.
    """

    def __init__(self, release: Release, mesh: Mesh | None = None):
        """Takes a release in memory; ValueError when it lacks what a picture needs."""
        if missing := [part for part in PARTS if part not in release.modules]:
            raise ValueError(f"this release makes no pictures: it lacks {', '.join(missing)}")
        if not (release.latent and release.diffusion and release.tokenizer and release.text.get("length")):
            raise ValueError("this release makes no pictures: it lacks latent, diffusion, text length or tokenizer")
        schedule = schedules.build(**release.diffusion["schedule"])
        prediction.check(schedule, release.diffusion["prediction"])
        modules = {part: release.modules[part] for part in (*PARTS, "glyph_encoder") if part in release.modules}
        check_glyphs(modules, release.text.get("glyph_length", 0))
        self.release, self.mesh = release, mesh
        self.system = programs.System(
            **modules, schedule=schedule, prediction=release.diffusion["prediction"], latent=release.latent
        )
        self.params = release.params
        self.tokenizer = Tokenizer.from_json(release.tokenizer, "tokenizer.json of the release")
        known = {key: value for key, value in release.sampling.items() if key in ("steps", "sampler", "guidance_scale")}
        size = release.sizes[0] if release.sizes else (256, 256)
        self.defaults = {"size": size, "steps": 20, "sampler": "ddim", "guidance_scale": 3.0, **known}

    @classmethod
    def load(cls, name: str | Path, mesh: Mesh | None = None, dtype: Any = None, shardings: Any = None) -> "Pipeline":
        """Loads "demo", the folder of a release, or a training workdir (its base stage's release).

        With a mesh, parameters are replicated, or lie as `shardings` (a function of the boxed shapes) says, and batches
        are split over all of its devices.
        """
        if mesh is not None and shardings is None:
            shardings = NamedSharding(mesh, PartitionSpec())
        return cls(load_release(find_release(name), dtype=dtype, shardings=shardings), mesh)

    def __call__(
        self,
        prompts: str | Sequence[str],
        *,
        n: int = 1,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress | None = None,
        **settings: Any,
    ) -> list[Picture]:
        """Makes `n` pictures a prompt, in order: those of the first prompt, those of the second, and so on.

        Picture i of the call has seed + i. `settings` are those of `Request`: negative_prompt, size (height, width),
        steps, sampler, guidance_scale, guidance_interval, guidance_rescale; what is left out is the release's default.
        A prompt longer than the text length is cut, with a warning. Raises ValueError before anything is computed.
        """
        prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not prompts or n < 1:
            raise ValueError("there is nothing to make: give at least one prompt and n of at least 1")
        repeated = [prompt for prompt in prompts for _ in range(n)]
        requests = [self.request(prompt, seed=seed + i, **settings) for i, prompt in enumerate(repeated)]
        batches = self.generate(requests, batch_size=batch_size, progress=progress)
        for notice in self.notices(requests):
            warnings.warn(notice, stacklevel=2)
        pictures = dict(batches)
        return [pictures[index] for index in range(len(requests))]

    def request(self, prompt: str, **settings: Any) -> Request:
        """The request for a prompt with the release's defaults for all that is not given (or None)."""
        return make_request(
            prompt, self.defaults | {key: value for key, value in settings.items() if value is not None}
        )

    def notices(self, requests: Sequence[Request]) -> list[str]:
        """What a user should know before these are made: the prompts that will be cut, with their numbers of tokens."""
        texts = dict.fromkeys(text for request in requests for text in (request.prompt, request.negative_prompt))
        readers = [("the prompt", "tokens", self.tokenizer.count, self.release.text["length"])]
        if length := self.release.text.get("glyph_length"):
            readers.append(("the quoted text of the prompt", "bytes", glyphs.count, length))
        return [
            f"{what} {shortened(text)!r} has {n} {units}; this model reads the first {length}, the rest is cut"
            for what, units, count, length in readers
            for text in texts
            if (n := count(text)) > length
        ]

    def problems(self, request: Request) -> list[str]:
        """Everything that keeps the request from being made."""
        return problems(request, samplers.SAMPLERS, self.system.latent.factor)

    def check(self, requests: Sequence[Request]) -> None:
        """Raises one ValueError with everything that is wrong with the requests."""
        if found := [problem for request in requests for problem in self.problems(request)]:
            raise ValueError("; ".join(dict.fromkeys(found)))

    def generate(
        self, requests: Sequence[Request], *, batch_size: int | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[int, Picture]]:
        """Yields (index of the request, picture) as batches are done.

        A batch holds one size, number of steps and sampler. Raises ValueError at once when a request cannot be made.
        """
        self.check(requests)
        size = self.default_batch(requests) if batch_size is None else batch_size
        if size < 1:
            raise ValueError(f"a batch size of {size}; it must be at least 1")
        parts = [group[i : i + size] for group in groups(requests) for i in range(0, len(group), size)]
        return self._generate(requests, parts, size, progress)

    def _generate(
        self, requests: Sequence[Request], parts: list[list[int]], size: int, progress: Progress | None
    ) -> Iterator[tuple[int, Picture]]:
        texts: dict[str, Condition] = {}
        done, total = 0, sum(requests[part[0]].steps for part in parts)
        for part in parts:
            # A short last batch repeats its last row: every batch of a size runs the same program.
            rows = [requests[index] for index in part + part[-1:] * (size - len(part))]
            condition = self._conditions([row.prompt for row in rows], texts)
            null = self._conditions([row.negative_prompt for row in rows], texts)
            step = progress and functools.partial(_shifted, progress, done, total)
            images = self.decode(self.sample_latents(condition, null, rows, progress=step))
            done += rows[0].steps
            for index, image in zip(part, to_pixels(self._fetch(images)), strict=False):
                yield index, Picture(Image.fromarray(image), requests[index], self.release.digest, size)

    def encode(self, prompts: Sequence[str]) -> Condition:
        """What the UNet is told of each prompt; "" is the null condition."""
        texts = self.tokenizer(prompts, self.release.text["length"])
        quoted = (glyphs.encode(prompts, length),) if (length := self.release.text.get("glyph_length")) else ()
        return programs.encode(self.params, *self._split((*texts, *quoted)), system=self.system)

    def sample_latents(
        self,
        condition: Condition,
        null: Condition,
        requests: Sequence[Request],
        progress: Callable[[int, Float[Array, "b h w c"]], None] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Runs the sampling loop: one row a request, all of the same size, steps and sampler, guided away from `null`.

        With `progress` (called with the steps done and the present estimate) the loop runs in about ten chunks of the
        same length, otherwise in one.
        """
        height, width = (side // self.system.latent.factor for side in requests[0].size)
        seeds = np.asarray([request.seed for request in requests], np.uint32)
        state, keys = programs.start(self._split(seeds), shape=(height, width, self.system.latent.channels))
        guide = programs.Guidance(
            *np.asarray([(r.guidance_scale, *r.guidance_interval, r.guidance_rescale) for r in requests], np.float32).T
        )
        inputs = self._split((condition, null, guide))
        steps, sampler = requests[0].steps, requests[0].sampler
        count = programs.chunk(steps) if progress else steps
        for first in range(0, steps, count):
            state = programs.advance(
                self.params,
                *inputs,
                state,
                keys,
                np.int32(first),
                system=self.system,
                sampler=sampler,
                steps=steps,
                count=count,
            )
            if progress:
                progress(first + count, jax.block_until_ready(state.x0))
        return state.x

    def decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W 3"]:
        """Images in about [-1, 1] from the latents that the UNet works in."""
        return programs.decode(self.params, latents, system=self.system)

    def _conditions(self, texts: Sequence[str], known: dict[str, Condition]) -> Condition:
        """The condition for each text; a text is encoded once, in batches of the one size that is compiled."""
        if len(known) > CACHED_TEXTS:
            known.clear()
        missing = list(dict.fromkeys(text for text in texts if text not in known))
        for i in range(0, len(missing), len(texts)):
            part = missing[i : i + len(texts)]
            rows = self._fetch(self.encode(part + part[-1:] * (len(texts) - len(part))))
            known.update((text, Condition(*(leaf[row] for leaf in rows))) for row, text in enumerate(part))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(known[text] for text in texts))

    def default_batch(self, requests: Sequence[Request]) -> int:
        """A power of two, up to MAX_BATCH, that the largest group needs; a multiple of the devices."""
        largest = max(map(len, groups(requests)), default=1)
        size = min(1 << (largest - 1).bit_length(), MAX_BATCH)
        devices = self.mesh.size if self.mesh else 1
        return -(-size // devices) * devices

    def _split(self, rows: Any) -> Any:
        """Host arrays on the device, or split over all devices of the mesh where their number divides the rows."""
        if self.mesh is None:
            return rows
        divides = len(jax.tree.leaves(rows)[0]) % self.mesh.size == 0
        spec = PartitionSpec(self.mesh.axis_names) if divides else PartitionSpec()
        return jax.device_put(rows, NamedSharding(self.mesh, spec))

    def _fetch(self, rows: Any) -> Any:
        """Device arrays as numpy, whole on every host."""
        if self.mesh is not None:
            rows = jax.device_put(rows, NamedSharding(self.mesh, PartitionSpec()))
        return jax.device_get(rows)


def find_release(name: str | Path) -> Path:
    """The folder that "demo", a release's folder or a training workdir stands for; ValueError when there is none."""
    if str(name) == "demo":
        return DEMO
    given = Path(name)
    for folder in (given, given / "release", given / "base" / "release"):
        if (folder / "model.json").is_file():
            return folder
    what = "holds no release" if given.is_dir() else "is not a folder"
    raise ValueError(
        f'the checkpoint {str(name)!r} {what}: give "demo", the folder of a release (with its model.json) or a '
        "training workdir; `dalle3-jax export WORKDIR FOLDER` makes a release of a run's newest checkpoint"
    )


def to_pixels(images: Any) -> np.ndarray:
    """uint8 from images in [-1, 1], rounded to nearest; what lies outside is clipped, what is no number is refused."""
    levels = np.asarray(images, np.float32) * 127.5 + 127.5
    if np.isnan(levels).any():
        raise FloatingPointError("the model gave pixels that are no numbers: lower the guidance scale")
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _shifted(progress: Progress, done: int, total: int, steps: int, x0: Array) -> None:
    progress(done + steps, total, x0)
