"""Texts to conditions, each encoded once, in batches of the one size that is compiled, and kept on the host."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dalle3_jax.models.condition import Condition
from dalle3_jax.pipeline.mesh_rows import gather_rows

__all__ = ["EncodeTexts", "PromptCache", "PromptKey", "SeededPrompt"]

CACHED_TEXTS = 512


class SeededPrompt(NamedTuple):
    """A text and the seed of an image, of a model that samples a layout for each."""

    text: str
    seed: int


PromptKey = str | SeededPrompt
EncodeTexts = Callable[[Sequence[PromptKey]], Condition]
"""Texts, all with seeds or none -> their conditions, on devices."""


class PromptCache:
    """Conditions of texts, as numpy arrays without the axis of the batch.

    A text is looked up together with the size of its batch: another size is another program, whose last bits may
    differ. Of those, the `CACHED_TEXTS` that were used last stay; what `keep` encodes stays for good and serves batches
    of any size.
    """

    def __init__(self, encode: EncodeTexts, mesh: Mesh | None = None, zero_null: bool = False):
        """With `zero_null` the null condition of "" is zeros: what SDXL was trained with where there is no text."""
        self.encode, self._mesh, self._zero_null = encode, mesh, zero_null
        self._recent: dict[tuple[int, PromptKey], Condition] = {}
        self._kept: dict[PromptKey, Condition] = {}

    @property
    def kept_texts(self) -> frozenset[PromptKey]:
        """The texts that stay for good."""
        return frozenset(self._kept)

    def get(self, texts: Sequence[PromptKey]) -> Condition:
        """The conditions of a batch of texts, as one; those that are not known are encoded in a batch of its size."""
        missing = [text for text in texts if text not in self._kept and (len(texts), text) not in self._recent]
        new = self._encode_batches(missing, len(texts))
        self._recent |= {(len(texts), text): condition for text, condition in new.items()}
        rows = [self._kept[text] if text in self._kept else self._use(len(texts), text) for text in texts]
        for oldest in [*islice(self._recent, max(len(self._recent) - CACHED_TEXTS, 0))]:
            del self._recent[oldest]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)

    def get_null(self, texts: Sequence[str]) -> Condition:
        """The conditions of a batch of negative prompts."""
        rows = self.get(texts)
        if not self._zero_null:
            return rows
        given = np.asarray([text != "" for text in texts])
        return rows._replace(tokens=rows.tokens * given[:, None, None], vector=rows.vector * given[:, None])

    def keep(self, texts: Iterable[str], batch_size: int) -> None:
        """Encodes what is not kept yet, `batch_size` at a time."""
        self._kept |= self._encode_batches([text for text in texts if text not in self._kept], batch_size)

    def _use(self, size: int, text: PromptKey) -> Condition:
        """The condition of a known text, which moves to the end of the queue."""
        condition = self._recent[size, text] = self._recent.pop((size, text))
        return condition

    def _encode_batches(self, texts: Sequence[PromptKey], batch_size: int) -> dict[PromptKey, Condition]:
        """Each text's condition; a short last batch repeats its last text."""
        distinct, conditions = [*dict.fromkeys(texts)], {}
        for i in range(0, len(distinct), batch_size):
            part = distinct[i : i + batch_size]
            rows = gather_rows(self.encode(part + part[-1:] * (batch_size - len(part))), self._mesh)
            conditions |= {text: Condition(*(leaf[row] for leaf in rows)) for row, text in enumerate(part)}
        return conditions
