"""The inputs of a stage: batches, captions, the pictures of its previews and statistics."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dalle3_jax.data.batches import Batches, Targets, Tokenize, make_batches, open_source, tokenize_batch
from dalle3_jax.data.caches.latent_cache import LatentCache
from dalle3_jax.data.caches.sidecars import CaptionedSource, add_sidecars
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.pipeline.request import make_request, request_errors
from dalle3_jax.pipeline.setting_values import Capabilities
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.layout_labels import layout_targets
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer

__all__ = [
    "batches",
    "captioned_source",
    "check_preview_prompts",
    "held_out_images",
    "image_batches",
    "tokenize_captions",
    "with_progress",
]

STATISTICS_BATCH = 16


def batches(
    context: Context,
    targets: Targets | None = None,
    *,
    captions: bool = True,
    images: bool = True,
    cache: LatentCache | None = None,
) -> Batches:
    """The endless training batches of this process: of images or, where a cache is given, of its latents.

    With tokenized captions unless `captions` is False, and with what `targets` makes of each record; for captions that
    are read beside layouts, by a system with a layout memory, the labels of these. Without `images` scenes are not
    rendered.
    """
    config, modules = context.config, context.networks.modules
    source = None if cache is None else cache.source
    if targets is None and captions and {"layout_memory", "layout_encoder"} <= modules.keys():
        if not isinstance(open_source(data_section(config)), ScenesSource):
            raise ValueError("a layout_memory is read beside layouts, and this data has none: leave it out")
        head: Any = modules["layout_head"]
        targets = layout_targets(head)
    if not images and isinstance(scenes := open_source(data_section(config)), ScenesSource):
        source = replace(scenes, render=False)
    return make_batches(
        data_section(config),
        tokenize=context.tokenizer if captions else None,
        glyphs=glyph_tokenizer(config),
        batch_size=config.train.batch_size // jax.process_count(),
        seed=config.train.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        latents=cache,
        source=source,
        images=images,
        targets=targets,
    )


def captioned_source(config: ConfigDict) -> Source | CaptionedSource:
    """The source of records, with the captions of config.data.sidecars."""
    return add_sidecars(open_source(data_section(config)), config.data.sidecars)


def data_section(config: ConfigDict, **changes: Any) -> dict[str, Any]:
    """config.data as the pipeline takes it."""
    section = {key: value for key, value in plain_config(config.data).items() if key != "tokenizer"}
    return {**section, "size": tuple(config.data.size), "crop": config.data.crop or None, **changes}


def tokenize_captions(config: ConfigDict, tokenize: Tokenizer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts as the arrays that a batch has of its captions."""
    return tokenize_batch(list(texts), data_section(config), tokenize, glyph_tokenizer(config))


def glyph_tokenizer(config: ConfigDict) -> Tokenize | None:
    """The tokenizer of quoted text, into bytes, where the config asks for it."""
    return glyphs.encode_glyphs if config.data.glyph_length else None


def image_batches(config: ConfigDict, count: int, split: str) -> Iterator[np.ndarray]:
    """The first `count` whole pictures of a split, in batches: the same at every call."""
    data = data_section(config, split=split, crop=None)
    size = min(count, STATISTICS_BATCH)
    rows = make_batches(data, tokenize=None, batch_size=size, seed=0)
    for batch in itertools.islice(rows, -(-count // size)):
        yield batch["images"]


def held_out_images(config: ConfigDict, count: int) -> list[np.ndarray]:
    """The first `count` held-out images (h w 3) in [-1, 1], each of its bucket's size: the same at every call."""
    return [image for batch in image_batches(config, count, "held_out") for image in batch][:count]


def check_preview_prompts(config: ConfigDict, factor: int) -> None:
    """Raise ValueError where the previews' settings cannot make a picture, hours before the first is due."""
    c = config.sample
    settings = {"steps": c.steps, "sampler": c.sampler, "guidance_scale": c.guidance_scale}
    settings["size"] = tuple(config.data.size)
    capabilities = Capabilities(tuple(SAMPLERS), factor=factor)
    requests = [make_request(prompt, settings) for prompt in ("", *c.prompts)]
    errors = dict.fromkeys(error for request in requests for error in request_errors(request, capabilities))
    if errors:
        raise ValueError(f"config.sample and config.data.size: {'; '.join(errors)}")


def with_progress(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """The same items under a bar."""
    return iter(tqdm(items, total=total, desc=what, dynamic_ncols=True, disable=jax.process_index() != 0))
