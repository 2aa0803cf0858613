"""Texts to conditions, each encoded once, in batches of the one size that is compiled, and kept on the host."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import jax
import numpy as np

from dalle3_jax.models.condition import Condition

__all__ = ["TEXT_COMPONENTS", "EncodeTexts", "encode_missing", "stack_conditions", "zero_empty_texts"]

TEXT_COMPONENTS = ("text_encoder", "text_encoder_2", "glyph_encoder", "xfnet")
"""The components that only encoding takes."""

EncodeTexts = Callable[[Sequence[str]], Condition]
"""Texts -> their conditions, as numpy arrays."""


def encode_missing(
    texts: Iterable[str], batch_size: int, encode: EncodeTexts, known: Collection[str] = ()
) -> dict[str, Condition]:
    """The condition of each text that is not known, without the axis of the batch.

    They are encoded `batch_size` at a time; a short last batch repeats its last text.
    """
    missing = [text for text in dict.fromkeys(texts) if text not in known]
    found = {}
    for i in range(0, len(missing), batch_size):
        part = missing[i : i + batch_size]
        rows = encode(part + part[-1:] * (batch_size - len(part)))
        found |= {text: Condition(*(leaf[row] for leaf in rows)) for row, text in enumerate(part)}
    return found


def stack_conditions(texts: Sequence[str], known: Mapping[str, Condition]) -> Condition:
    """The conditions of texts as one batch."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *(known[text] for text in texts))


def zero_empty_texts(rows: Condition, texts: Sequence[str]) -> Condition:
    """The conditions of texts, zeros for "": what SDXL was trained with where there is no text."""
    given = np.asarray([text != "" for text in texts])
    return rows._replace(tokens=rows.tokens * given[:, None, None], vector=rows.vector * given[:, None])
