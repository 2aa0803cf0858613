"""Image files to be enlarged: each with its prompt and seed, known by its content, made once and written whole."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.album import slug
from dalle3_jax.pipeline.input_images import read_input_image
from dalle3_jax.pipeline.mesh_rows import gather_rows
from dalle3_jax.pipeline.png import METADATA_CHUNK, encode_png, read_metadata, software_version, to_pixels
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler

__all__ = ["UpscaleJob", "finished_job", "plan_upscale_jobs", "run_upscale_jobs"]

SHOWN = 8
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicallyEnhanced"


@dataclass(frozen=True)
class UpscaleJob:
    """One file to be enlarged; `sha256` is that of its bytes, `size` (height, width) that of its pixels."""

    source: Path
    sha256: str
    size: tuple[int, int]
    prompt: str
    seed: int
    negative_prompt: str
    how: Upscaling

    def metadata(self, checkpoint: str) -> dict[str, Any]:
        """The metadata of the PNG on how it was made, in plain values."""
        settings = asdict(self.how)
        factor = settings.pop("factor")
        return {
            "upscale": factor,
            "source": self.source.name,
            "source_sha256": self.sha256,
            **{"prompt": self.prompt, "negative_prompt": self.negative_prompt, "seed": self.seed},
            **{f"upscale_{name}": value for name, value in settings.items()},
            "checkpoint": checkpoint,
        }

    def identity(self, checkpoint: str) -> str:
        """SHA-256 of all that decides the image: two jobs with the same one are the same job."""
        decisive = {name: value for name, value in self.metadata(checkpoint).items() if name != "source"}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def path(self, folder: Path, checkpoint: str) -> Path:
        """The file it makes: the source's name for people, and enough of the identity to be alone."""
        return folder / f"{slug(self.source.stem)}-x{self.how.factor}-{self.identity(checkpoint)[:10]}.png"


def plan_upscale_jobs(
    files: Sequence[str | Path],
    how: Upscaling,
    *,
    prompts: Sequence[str] = (),
    seed: int = 0,
    negative_prompt: str = "",
) -> list[UpscaleJob]:
    """A job for each file, file i with seed + i; every file is read, so that none fails later.

    There is one prompt for all, one for each file, or none. Raises one ValueError that names every file that cannot be
    enlarged.
    """
    if not files:
        raise ValueError("there is nothing to enlarge: give at least one image file")
    if len(prompts) not in (0, 1, len(files)):
        raise ValueError(f"{len(prompts)} prompts for {len(files)} files: give none, one, or one for each file")
    if not 0 <= seed <= 2**32 - len(files):
        raise ValueError(f"seed {seed} must be a whole number from 0 on, and it and those after it below 2^32")
    texts = [*prompts] * len(files) if len(prompts) == 1 else [*prompts] or [""] * len(files)
    jobs, errors = [], []
    for i, (file, prompt) in enumerate(zip(files, texts, strict=True)):
        try:
            height, width, _ = read_input_image(file).shape
            digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
            jobs.append(UpscaleJob(Path(file), digest, (height, width), prompt, seed + i, negative_prompt, how))
        except ValueError as error:
            errors.append(str(error))
    if errors:
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise ValueError("; ".join(errors[:SHOWN]) + more)
    return jobs


def finished_job(job: UpscaleJob, folder: Path, checkpoint: str) -> bool:
    """Whether the folder holds what the job makes; files have their names only when all of them is there."""
    try:
        made = read_metadata(job.path(folder, checkpoint))
    except ValueError:
        return False
    return all(made.get(name) == value for name, value in job.metadata(checkpoint).items() if name != "source")


def run_upscale_jobs(
    upscaler: Upscaler,
    jobs: Sequence[UpscaleJob],
    folder: Path,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Path]:
    """Enlarges the files in batches of one size each, and yields each image's path when it is on the disk.

    A short batch repeats its last row: every batch of a size runs the same program. `progress` is called with the
    steps of a batch, done and in all.
    """
    sizes = dict.fromkeys(job.size for job in jobs)
    groups = [[job for job in jobs if job.size == size] for size in sizes]
    for batch in (group[i : i + batch_size] for group in groups for i in range(0, len(group), batch_size)):
        rows = [*batch, *batch[-1:] * (batch_size - len(batch))]
        pixels = np.stack([read_input_image(job.source) for job in rows])
        made = upscaler(
            pixels.astype(np.float32) / np.float32(127.5) - np.float32(1),
            batch[0].how,
            prompts=[job.prompt for job in rows],
            seeds=[job.seed for job in rows],
            negative_prompts=[job.negative_prompt for job in rows],
            progress=progress,
        )
        for job, image in zip(batch, to_pixels(gather_rows(made, upscaler.mesh)), strict=False):
            yield _save(job, Image.fromarray(image), folder, upscaler.release.digest)


def _save(job: UpscaleJob, image: Image.Image, folder: Path, checkpoint: str) -> Path:
    path = job.path(folder, checkpoint)
    made = {**job.metadata(checkpoint), "width": image.width, "height": image.height}
    made |= {"software": software_version(), "digitalSourceType": SOURCE_TYPE}
    write_whole(path, encode_png(image, {METADATA_CHUNK: json.dumps(made)}, SOURCE_TYPE))
    return path
