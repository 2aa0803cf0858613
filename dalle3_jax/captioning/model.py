"""A captioner from a release: pictures to captions, and how well a text suits a picture.

from dalle3_jax.captioning import CaptionModel

captioner = CaptionModel.load("runs/demo-cpu/captioner_descriptive")
print(captioner.captions([picture]))
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax.captioning.loop import (
    CaptionDecoding,
    DecodingState,
    best_texts,
    decode_tokens,
    pack_unfinished,
    start_decoding,
)
from dalle3_jax.checkpoints.release_record import is_release
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.typing import Array, Float, Params

__all__ = ["CaptionModel"]

ImageArray = UInt8[np.ndarray, "_ _ 3"]
SEGMENT = 12
"""Tokens after which texts that are done make room for others."""


class CaptionModel:
    """A captioner with its parameters and tokenizer."""

    def __init__(self, release: Release):
        """Takes a release in memory; ValueError where it holds no captioner or no tokenizer."""
        module = release.modules.get("captioner")
        if not isinstance(module, Captioner) or not release.tokenizer:
            raise ValueError(f"this release holds {', '.join(release.modules)}: no captioner with its tokenizer")
        self.module: Captioner = module
        self.params, self.digest, self.training = release.params["captioner"], release.digest, release.training
        self.tokenizer = Tokenizer.from_json(release.tokenizer, "tokenizer.json of the release")

    @classmethod
    def load(cls, name: str | Path, dtype: Any = None) -> "CaptionModel":
        """That of a release, or of a stage's folder in a training workdir."""
        folder = Path(name)
        inner = folder / "release"
        return cls(load_release(inner if is_release(inner) else folder, ["captioner"], dtype))

    def captions(
        self,
        images: Sequence[ImageArray],
        decoding: CaptionDecoding | None = None,
        *,
        seeds: Sequence[int] | None = None,
        batch_size: int = 64,
    ) -> list[str]:
        """A caption for each picture of uint8 [h w 3], of any size; with `top_p` drawn by its seed (0, 1, ...).

        Texts of one batch are written together; those that end early make room for those of later pictures, so that no
        batch waits long for its longest.
        """
        decoding = decoding or CaptionDecoding()
        if batch_size < 1 or (seeds is not None and len(seeds) != len(images)):
            raise ValueError(
                f"batch size {batch_size}, {len(images)} pictures: at least 1, and a seed for every picture"
            )
        captions: dict[int, str] = {}
        for state in self._decode_batches(
            self._start_batches(images, range(len(images)) if seeds is None else seeds, batch_size, decoding), decoding
        ):
            tokens, lengths = best_texts(state, decoding=decoding)
            self._collect(captions, *map(np.asarray, (state.image_ids, state.done.all(-1), tokens, lengths)))
        return [captions[i] for i in range(len(images))]

    def similarity(
        self, images: Sequence[ImageArray], texts: Sequence[str], batch_size: int = 64
    ) -> Float[np.ndarray, " n"]:
        """100 times the cosine of each picture and its text: a CLIP score by our own captioner."""
        if isinstance(texts, str) or len(images) != len(texts):
            raise ValueError(f"{len(images)} pictures: give a list with the text of every picture")
        return 100.0 * np.sum(self.image_vectors(images, batch_size) * self.text_vectors(texts, batch_size), axis=-1)

    def image_vectors(self, images: Sequence[ImageArray], batch_size: int = 64) -> Float[np.ndarray, "n v"]:
        """Unit vectors of pictures."""
        run = functools.partial(_encode, self.params, module=self.module, method="encode_image")
        pixels = (self.prepare_images(part) for part in _padded_batches(images, batch_size))
        return _concatenate([run((batch,)) for batch in pixels], len(images))

    def text_vectors(self, texts: Sequence[str], batch_size: int = 64) -> Float[np.ndarray, "n v"]:
        """Unit vectors of texts."""
        run = functools.partial(_encode, self.params, module=self.module, method="encode_text")
        return _concatenate([run(self.tokenize(part)) for part in _padded_batches(texts, batch_size)], len(texts))

    def tokenize(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and mask of texts, with the token before them that begins each."""
        start, length = self.module.start_id, self.module.positions
        if start is None:
            return self.tokenizer(texts, length)
        ids, mask = self.tokenizer(texts, length - 1)
        before = np.full((len(texts), 1), start, ids.dtype)
        return np.concatenate([before, ids], 1), np.concatenate([np.ones_like(before, bool), mask], 1)

    def prepare_images(self, images: Sequence[ImageArray]) -> Float[np.ndarray, "b h w 3"]:
        """Pictures as the network sees them: all of each, brought to its size, in [-1, 1]."""
        height, width = self.module.image_size
        pixels = np.stack([_resize(image, height, width) for image in images])
        return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1.0)

    def _start_batches(
        self, images: Sequence[ImageArray], seeds: Sequence[int], batch_size: int, decoding: CaptionDecoding
    ) -> Iterator[DecodingState]:
        """The states of all batches of pictures; a short one is filled up with rows that are done."""
        start = self.module.start_id if self.module.start_id is not None else self.tokenizer.start
        for first in range(0, len(images), batch_size):
            names = np.arange(first, first + batch_size)
            names = np.where(names < len(images), names, -1).astype(np.int32)
            rows = [images[max(int(name), first)] for name in names]
            numbers = np.asarray([seeds[max(int(name), first)] for name in names], np.uint32)
            keys = jax.vmap(jax.random.key)(numbers)
            how = {"module": self.module, "decoding": decoding}
            yield start_decoding(self.params, self.prepare_images(rows), keys, names, np.int32(start or 0), **how)

    def _decode_batches(self, batches: Iterator[DecodingState], decoding: CaptionDecoding) -> Iterator[DecodingState]:
        """States some of whose texts are done, each row in as many as it takes until it is."""
        write = functools.partial(decode_tokens, self.params, module=self.module, decoding=decoding)
        waiting = None  # what earlier batches have left, fewer rows than a batch
        for state in batches:
            state = write(state, np.int32(SEGMENT))
            yield state
            if waiting is None:
                waiting = state
                continue
            full, waiting = pack_unfinished(waiting, state)
            while not full.done.all(-1).any() and not waiting.done.all():
                full = write(full, np.int32(SEGMENT))
                yield full
                full, waiting = pack_unfinished(full, waiting)
            if not full.done.all():
                waiting = full
        if waiting is not None and not waiting.done.all():
            yield write(waiting, np.int32(self.module.positions))

    def _collect(
        self, captions: dict[int, str], image_ids: np.ndarray, done: np.ndarray, tokens: np.ndarray, lengths: np.ndarray
    ) -> None:
        for row in np.flatnonzero(done & (image_ids >= 0)):
            kept = [int(token) for token in tokens[row, : lengths[row]] if token != self.module.eos_id]
            captions[int(image_ids[row])] = self.tokenizer.backend.decode(kept).strip()  # sub-words begin with a space


@functools.partial(jax.jit, static_argnames=("module", "method"))
def _encode(params: Params, inputs: Any, *, module: Captioner, method: str) -> Float[Array, "b v"]:
    return jnp.asarray(module.apply({"params": params}, *inputs, method=method))


def _padded_batches(rows: Sequence[Any], size: int) -> Iterator[list[Any]]:
    """The rows in batches of one size, the last one filled up with its last row."""
    for first in range(0, len(rows), size):
        part = list(rows[first : first + size])
        yield part + part[-1:] * (size - len(part))


def _concatenate(batches: Sequence[Any], count: int) -> np.ndarray:
    return np.concatenate([np.asarray(batch) for batch in batches])[:count]


def _resize(image: ImageArray, height: int, width: int) -> ImageArray:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
