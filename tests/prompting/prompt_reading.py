"""Prompts read with the words of the whole world, a few rows of a table at a time."""

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.prompting.claims import parse_claims
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.translation import translate

LEXICON = world_lexicon(WHOLE)


def read(prompt, lexicon=LEXICON):
    return parse_claims(translate(prompt, lexicon).text, lexicon)


def batches(rows, size=6):
    """Rows of different concepts, a few at a time."""
    waiting = list(rows)
    while waiting:
        batch = []
        for row in list(waiting):
            if len(batch) < size and row[0] not in [name for name, _ in batch]:
                batch.append(row)
                waiting.remove(row)
        yield batch


def listed(texts):
    """ "a, b and c"."""
    *most, last = texts
    return " and ".join(filter(None, [", ".join(most), last]))
