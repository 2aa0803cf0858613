"""Images to larger ones: a release's upscaler, or Stable Diffusion x4, at any size.

from dalle3_jax.pipeline.upscaler import Upscaler, Upscaling

upscaler = Upscaler.load("stabilityai/stable-diffusion-x4-upscaler")
upscaler(images, Upscaling(4), prompts=["a white cat"], seeds=[0])
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.condition import TEXT_COMPONENTS, Condition, encode_text
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import programs, upscaling
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaling import UpscalerSpec
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.typing import Array, Float

__all__ = ["TILE", "TILED_FROM", "Upscaler"]

TILE, TILED_FROM = 512, 1024
"""The windows, in pixels of the output, of images with a longer side than that."""

MAX_STEPS, LEAST_TILE = 1000, 8
"""The most steps of a loop; the least side of a window, in pixels that the network shrinks to one."""


class Upscaler:
    """A release's upscaler, ready to enlarge images.

    An image depends on its own pixels, prompt and seed alone, whatever stands beside it in its batch: bit for bit at
    the same size, batch size and device, within 1/255 on nearly all pixels otherwise.
    """

    def __init__(self, release: Release, mesh: Mesh | None = None):
        """Takes a release in memory; ValueError where it has no upscaler, or not what that needs."""
        if release.upscaler is None:
            raise ValueError(
                "this release enlarges no images: train the stage upscaler, or take the folder of Stable Diffusion x4"
            )
        self.settings, self.release, self.mesh = release.upscaler, release, mesh
        names = text_components(release.modules)
        vae = ("vae",) if self.settings.latent else ()
        if missing := [name for name in (*names, *vae) if name not in release.modules]:
            raise ValueError(f"this release enlarges no images: it lacks {', '.join(missing)}")
        if not (release.tokenizer and release.text.get("length")):
            raise ValueError("this release enlarges no images: it lacks its tokenizer or its text length")
        self.params = {name: release.params[name] for name in ("upscaler", *names, *vae)}
        self.tokenizer = Tokenizer.from_json(release.tokenizer, "tokenizer.json of the release")
        modules = {name: release.modules[name] for name in names}
        self._encode = jax.jit(functools.partial(encode_text, modules))
        self.spec()

    @classmethod
    def load(
        cls, name: str | Path, mesh: Mesh | None = None, dtype: Any = None, variant: str | None = None
    ) -> "Upscaler":
        """Loads what `Pipeline.load` does: a release with an upscaler, or Stable Diffusion x4's folder or id."""
        shardings = None if mesh is None else NamedSharding(mesh, PartitionSpec())
        return cls(open_release(name, dtype=dtype, shardings=shardings, variant=variant), mesh)

    @property
    def factors(self) -> tuple[int, ...]:
        """By how much it enlarges: once, and where that is twice, in two passes 4 times."""
        return (2, 4) if self.settings.factor == 2 else (self.settings.factor,)

    def spec(self, steps: int = 0) -> UpscalerSpec:
        """The upscaler at its own number of steps (0) or at another; ValueError for steps that cannot be spaced."""
        modules: dict[str, Any] = self.release.modules
        return UpscalerSpec.from_settings(modules["upscaler"], self.settings, modules.get("vae"), steps or None)

    def errors(self, how: Upscaling) -> list[str]:
        """Everything that keeps images from being enlarged so, each with its remedy."""
        errors, most, level = [], self.settings.most_noise, how.noise_level
        if how.factor not in self.factors:
            errors.append(f"upscale {how.factor!r} must be {' or '.join(map(str, self.factors))} for this upscaler")
        if not isinstance(how.steps, int) or not 0 <= how.steps <= MAX_STEPS:
            errors.append(f"upscale steps {how.steps!r} must be a whole number from 0 (its own) to {MAX_STEPS}")
        else:
            errors += self._step_errors(how.steps)
        if level is not None and (not isinstance(level, int) or not 0 <= level <= most):
            errors.append(f"noise level {level!r} must be a whole number from 0 to {most}")
        scale = how.guidance_scale
        if scale is not None and not (isinstance(scale, int | float) and 0 <= scale < float("inf")):
            errors.append(f"upscale guidance scale {scale!r} must be a finite number of at least 0")
        unit = self.spec().alignment
        if how.tile and (not isinstance(how.tile, int) or how.tile < LEAST_TILE * unit or how.tile % unit):
            least = LEAST_TILE * unit
            errors.append(f"upscale tile {how.tile!r} must be a multiple of {unit} pixels from {least} on; 0 chooses")
        return errors

    def _step_errors(self, steps: int) -> list[str]:
        try:
            self.spec(steps)
        except ValueError as error:
            return [f"upscale steps {steps}: {error}"]
        return []

    def encode(self, prompts: Sequence[str]) -> Condition:
        """The condition of each prompt for the network."""
        ids, mask = self.tokenizer(prompts, self.release.text["length"])
        batch = {"ids": ids, "mask": mask}
        if length := self.release.text.get("glyph_length"):
            batch |= dict(zip(("glyph_ids", "glyph_mask"), glyphs.encode_glyphs(prompts, length), strict=True))
        with programs.batch_over_mesh(self.mesh, len(prompts)):
            return self._encode(self.params, shard_rows(batch, self.mesh))

    def drop_text_encoder(self) -> None:
        """Lets go of what only `encode` takes: from then on `enlarge` alone works."""
        kept = {name: params for name, params in self.params.items() if name not in TEXT_COMPONENTS}
        rest = {name: params for name, params in self.release.params.items() if name not in TEXT_COMPONENTS}
        self.params, self.release = kept, dataclasses.replace(self.release, params=rest)

    def __call__(
        self,
        images: Float[Any, "b h w 3"],
        how: Upscaling,
        *,
        prompts: Sequence[str],
        seeds: Sequence[int],
        negative_prompts: Sequence[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[Array, "b H W 3"]:
        """Images in about [-1, 1], `how.factor` times as large as those in [-1, 1]; of any size, all of one.

        `progress` is called with the steps done and in all, about ten times a pass. Raises ValueError for what `errors`
        names.
        """
        if errors := self.errors(how):
            raise ValueError("; ".join(errors))
        null = self.encode(list(negative_prompts or [""] * len(prompts))) if self.guidance_scale(how) != 1 else None
        return self.enlarge(images, how, self.encode(prompts), null, seeds, progress)

    def guidance_scale(self, how: Upscaling) -> float:
        """The scale of guidance: at 1 the null condition plays no part."""
        return self.settings.guidance_scale if how.guidance_scale is None else how.guidance_scale

    def enlarge(
        self,
        images: Float[Any, "b h w 3"],
        how: Upscaling,
        condition: Condition,
        null: Condition | None,
        seeds: Sequence[int],
        progress: Callable[[int, int], None] | None = None,
    ) -> Float[Array, "b H W 3"]:
        """The same on conditions of its text side, guided away from `null` where that is given."""
        spec = self.spec(how.steps)
        passes = 1 if how.factor == spec.factor else 2
        count, total = programs.steps_per_chunk(spec.steps), passes * spec.steps
        scale = np.full(len(seeds), self.guidance_scale(how), np.float32)
        condition, null, scale = shard_rows((condition, null, scale), self.mesh)
        for number in range(passes):
            height, width = (spec.factor * side for side in images.shape[1:3])
            tile = how.tile or (TILE if max(height, width) > TILED_FROM else 0)
            split = not tile and self._splits_rows(len(seeds), height, spec)
            state = self._start(images, how, seeds, number, spec, spec.alignment if tile else spec.multiple, split)
            for first in range(0, spec.steps, count):
                with self._over_mesh(len(seeds), split):
                    state = upscaling.advance_upscaling(
                        self.params["upscaler"],
                        condition,
                        null,
                        scale,
                        state,
                        np.int32(first),
                        spec=spec,
                        count=count,
                        tile=tile // spec.cell,
                        split=split,
                    )
                if progress:
                    jax.block_until_ready(state.loop.x0)
                    progress(number * spec.steps + first + count, total)
            images = self._finish(state, spec, tile, split)[:, :height, :width]
        return images

    def _splits_rows(self, count: int, height: int, spec: UpscalerSpec) -> bool:
        """Whether rows of images are spread over the mesh: where images cannot be, and rows divide at every level."""
        devices = self.mesh.size if self.mesh else 1
        return devices > 1 and count % devices > 0 and height % (devices * spec.alignment) == 0

    def _over_mesh(self, count: int, split: bool) -> contextlib.AbstractContextManager[None]:
        """Within, programs run on the mesh, with images spread over it or (`split`) their rows."""
        if split and self.mesh is not None:
            return jax.set_mesh(self.mesh)
        return programs.batch_over_mesh(self.mesh, count)

    def _start(
        self,
        images: Any,
        how: Upscaling,
        seeds: Sequence[int],
        number: int,
        spec: UpscalerSpec,
        multiple: int,
        split: bool,
    ) -> upscaling.UpscalingState:
        """The first state of a pass; margins up to multiples of so many pixels of the output repeat the last ones."""
        margins = [(0, -side % (multiple // spec.factor)) for side in images.shape[1:3]]
        images = jnp.pad(jnp.clip(images, -1, 1), ((0, 0), *margins, (0, 0)), mode="edge")
        level = self.settings.noise_level if how.noise_level is None else how.noise_level
        rows = images, np.full(len(seeds), level, np.float32), np.asarray(seeds, np.uint32)
        with self._over_mesh(len(seeds), split):
            return upscaling.start_upscaling(*shard_rows(rows, self.mesh), number=number, spec=spec, split=split)

    def _finish(self, state: upscaling.UpscalingState, spec: UpscalerSpec, tile: int, split: bool) -> Array:
        """The images that a loop ends with."""
        cells = tile // spec.latent.factor if spec.latent else 0
        with self._over_mesh(len(state.low), split):
            return upscaling.decode_upscaled(self.params.get("vae"), state.loop.x, spec=spec, tile=cells, split=split)
