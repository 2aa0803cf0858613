"""What a stage reads: batches, the tokenizer, the pictures of its previews and statistics."""

import importlib.resources
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dalle3_jax.data import batches as pipeline
from dalle3_jax.data import files
from dalle3_jax.data.caches.latent_cache import LatentCache
from dalle3_jax.data.caches.sidecars import CaptionedSource, add_sidecars
from dalle3_jax.data.sources import Source
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.pipeline.request import Request, request_errors
from dalle3_jax.stages.config import plain_config
from dalle3_jax.text import glyphs
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer

__all__ = [
    "captioned_source",
    "check_preview_prompts",
    "config_tokenizer",
    "image_batches",
    "tokenize_captions",
    "training_batches",
    "with_progress",
]

STATISTICS_BATCH = 16
EMBEDDED = {"scenes": "tokenizer.json", "whole": "tokenizer_whole.json", "typed": "tokenizer_typed.json"}


def training_batches(config: ConfigDict, tokenize: Tokenizer | None = None, cache: LatentCache | None = None) -> Any:
    """The endless training batches of this process; of a cache, where there is one."""
    return pipeline.make_batches(
        data_section(config),
        tokenize=tokenize,
        glyphs=glyph_tokenizer(config),
        batch_size=config.train.batch_size // jax.process_count(),
        seed=config.train.seed,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        latents=cache,
        source=None if cache is None else cache.source,
    )


def captioned_source(config: ConfigDict) -> Source | CaptionedSource:
    """Where the records come from, with the captions of config.data.sidecars."""
    return add_sidecars(pipeline.open_source(data_section(config)), config.data.sidecars)


def data_section(config: ConfigDict, **changes: Any) -> dict[str, Any]:
    """config.data as the pipeline takes it."""
    section = {key: value for key, value in plain_config(config.data).items() if key != "tokenizer"}
    return {**section, "size": tuple(config.data.size), "crop": config.data.crop or None, **changes}


def tokenize_captions(config: ConfigDict, tokenize: Tokenizer, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts as the arrays that a batch has of its captions."""
    return pipeline.tokenize_batch(list(texts), data_section(config), tokenize, glyph_tokenizer(config))


def glyph_tokenizer(config: ConfigDict) -> pipeline.Tokenize | None:
    """What turns quoted text into bytes, where the config asks for it."""
    return glyphs.encode_glyphs if config.data.glyph_length else None


def image_batches(config: ConfigDict, count: int, split: str) -> Iterator[np.ndarray]:
    """The first `count` whole pictures of a split, in batches: the same at every call."""
    data = data_section(config, split=split, crop=None)
    size = min(count, STATISTICS_BATCH)
    rows = pipeline.make_batches(data, tokenize=None, batch_size=size, seed=0)
    for batch in itertools.islice(rows, -(-count // size)):
        yield batch["images"]


def config_tokenizer(config: ConfigDict) -> Tokenizer:
    """The tokenizer that config.data.tokenizer names: an embedded one, a file, or a folder of transformers."""
    name = config.data.tokenizer
    if name not in EMBEDDED:
        name = files.local_path(name)
        return (
            Tokenizer.from_json(read_folder_tokenizer(name), name)
            if Path(name).is_dir()
            else Tokenizer.load(Path(name))
        )
    file = importlib.resources.files("dalle3_jax.data.scenes") / EMBEDDED[name]
    return Tokenizer.from_json(file.read_text(encoding="utf-8"), str(file))


def check_preview_prompts(config: ConfigDict, factor: int) -> None:
    """Raise ValueError where the previews' settings cannot make a picture, hours before the first is due."""
    c = config.sample
    requests = [Request(p, tuple(config.data.size), c.steps, c.sampler, c.guidance_scale) for p in ("", *c.prompts)]
    found = dict.fromkeys(error for request in requests for error in request_errors(request, SAMPLERS, factor))
    if found:
        raise ValueError(f"config.sample and config.data.size: {'; '.join(found)}")


def with_progress(items: Iterator[Any], total: int, what: str) -> Iterator[Any]:
    """The same items under a bar."""
    return iter(tqdm(items, total=total, desc=what, dynamic_ncols=True, disable=jax.process_index() != 0))
