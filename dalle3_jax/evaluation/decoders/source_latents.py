"""The latents that `evaluate decoders` gives to every decoder: of true pictures, and of the base model."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dalle3_jax.data.scenes import FIRST, render_scene
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image, normalise_pixels
from dalle3_jax.evaluation.row_bars import show_progress
from dalle3_jax.typing import Array, Float

if TYPE_CHECKING:
    from dalle3_jax.evaluation.decoders.quality import SourceLatents
    from dalle3_jax.evaluation.prompts import Prompt
    from dalle3_jax.pipeline import Pipeline

WORDED = {"of": "whole", "words": 1.0}
STUDIED = 80  # pictures of each size after the first
SLOW = 50  # pictures of sources after the first that a decoder in many steps makes; none of larger ones
STRENGTH, STEPS = 0.3, 8  # of the base model's own latents
SOURCES = (
    "Encoded latents are of held-out scenes with drawn words. Re-sampled ones are of scenes held out of the demo's "
    f"world, noised to t = {STRENGTH} and brought back by the base model in {STEPS} steps: they are its own, and the "
    "truth is still known. Generated ones are the base model's for the captions of those scenes. Regression is the "
    "teacher, a decoder that was not distilled, in one step: the mean of all pictures that the latents may stand for."
)


def latent_sources(
    pipeline: "Pipeline", *, count: int, sizes: Sequence[int], seed: int, batch_size: int
) -> list[tuple[int, Callable[[], "SourceLatents"]]]:
    """(Side of the pictures, what makes the latents) of each source; ValueError for one that cannot be made."""
    from dalle3_jax.evaluation.suites import sample_prompts

    factor = pipeline.system.latent.factor
    if wrong := [str(side) for side in sizes if side < factor or side % factor]:
        raise ValueError(f"--sizes {' '.join(wrong)}: sides must be multiples of {factor}")
    given = {"seed": seed, "batch_size": batch_size}
    sources: list[tuple[int, Callable[[], SourceLatents]]] = []
    for side in sizes:
        scenes = ScenesSource(WORDED, seed, side, side, split="held_out")
        most = min(count, STUDIED) if sources else count
        sources.append((side, functools.partial(encode_scenes, pipeline, scenes, count=most, **given)))
    prompts = sample_prompts(FIRST, count, seed=seed)
    for end in (seed, seed + len(prompts) - 1):
        pipeline.request("", seed=end)  # raises for what the release cannot make
    side = max(pipeline.defaults["size"])
    return [
        *sources,
        *(
            (side, functools.partial(make, pipeline, prompts, **given))
            for make in (resample_scenes, sample_prompt_latents)
        ),
    ]


def batch_size_at(batch_size: int, side: int) -> int:
    """The number of pictures of this side that have as many pixels as a batch of 128x128."""
    return max(1, batch_size * 128**2 // side**2)


def encode_scenes(
    pipeline: "Pipeline", source: ScenesSource, *, count: int, seed: int, batch_size: int
) -> "SourceLatents":
    """The latents of the first `count` pictures with words."""
    from dalle3_jax.evaluation.decoders.quality import SourceLatents
    from dalle3_jax.reading.word_reader import record_words

    name, records = f"encoded, {source.width} px", []
    for index in range(len(source)):
        if len(records) == count:
            break
        if (record := source[index]).labels["words"]:
            records.append(record)
    truths = np.stack([decode_image(record.image) for record in records])
    latents = encode_in_batches(pipeline, truths, batch_size, name)
    return SourceLatents(
        name, latents, consecutive_seeds(seed, count), truths, [record_words(record) for record in records]
    )


def resample_scenes(pipeline: "Pipeline", prompts: Sequence["Prompt"], seed: int, batch_size: int) -> "SourceLatents":
    """Latents of true pictures as the base model would have made them, noised and brought back."""
    import jax.numpy as jnp

    from dalle3_jax.evaluation.decoders.quality import SourceLatents, index_batches

    name, seeds = "re-sampled", consecutive_seeds(seed, len(prompts))
    truths = np.stack(
        [render_scene(FIRST, prompt.scene, *pipeline.defaults["size"]) for prompt in prompts if prompt.scene]
    )
    latents = encode_in_batches(pipeline, truths, batch_size, name)
    made = []
    for part in show_progress(list(index_batches(len(prompts), batch_size)), f"{name}: base model"):
        texts, own = [prompts[i].text for i in part], seeds[part].tolist()
        made.append(resample_latents(pipeline, jnp.asarray(latents[part]), texts, own))
    return SourceLatents(name, np.concatenate(made)[: len(prompts)], seeds, truths, prompts=prompts)


def resample_latents(
    pipeline: "Pipeline",
    latents: Float[Array, "b h w c"],
    prompts: Sequence[str],
    seeds: Sequence[int],
    strength: float = STRENGTH,
    steps: int = STEPS,
) -> Float[Array, "b h w c"]:
    """The base model's own version of latents: noised to t = strength, and back in steps of DDIM, not guided."""
    from dalle3_jax.pipeline import programs
    from dalle3_jax.pipeline.mesh_rows import gather_rows, shard_rows

    mesh = pipeline.mesh
    condition = shard_rows(gather_rows(pipeline.encode(prompts), mesh), mesh)
    rows = shard_rows(np.asarray(seeds, np.uint32), mesh)
    with programs.batch_over_mesh(mesh, len(latents)):
        scale = np.float32(strength)
        return programs.resample(pipeline.params, condition, latents, rows, scale, system=pipeline.system, steps=steps)


def sample_prompt_latents(
    pipeline: "Pipeline", prompts: Sequence["Prompt"], seed: int, batch_size: int
) -> "SourceLatents":
    """The base model's latents for prompts, as the release samples them."""
    from dalle3_jax.evaluation.decoders.quality import SourceLatents, index_batches

    made, name = [], "generated"
    for part in show_progress(list(index_batches(len(prompts), batch_size)), f"{name}: base model"):
        requests = [pipeline.request(prompts[i].text, seed=seed + int(i)) for i in part]
        seeds = [request.seed for request in requests] if pipeline.samples_layouts else None
        condition, null = pipeline.encode([r.prompt for r in requests], seeds), pipeline.encode([""] * len(requests))
        made.append(pipeline.sample_latents(condition, null, requests))
    return SourceLatents(
        name, np.concatenate(made)[: len(prompts)], consecutive_seeds(seed, len(prompts)), prompts=prompts
    )


def encode_in_batches(pipeline: "Pipeline", truths: np.ndarray, batch_size: int, name: str) -> np.ndarray:
    """The means of the VAE's latents of true pictures, as the UNet sees them."""
    from dalle3_jax.evaluation.decoders.quality import index_batches

    parts = list(index_batches(len(truths), batch_size_at(batch_size, truths.shape[1])))
    made = [pipeline.codec.encode(normalise_pixels(truths[part])) for part in show_progress(parts, f"{name}: VAE")]
    return np.concatenate(made)[: len(truths)]


def consecutive_seeds(seed: int, count: int) -> np.ndarray:
    """A seed for each picture."""
    return np.arange(seed, seed + count, dtype=np.uint32)
