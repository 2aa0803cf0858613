"""Spelling of rendered words: the words that were read against those asked for."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dalle3_jax.evaluation.statistics import Rate, bootstrap, shuffled_rate
from dalle3_jax.reading.ocr import Words


class SpellingScore(NamedTuple):
    """A score of rendered words of one length: their number, the share without fault, and the character error rate.

    Prompts weigh the same. What is shuffled is the same of every picture and the words of the other prompts that ask
    for some of this length; None where there is no other.
    """

    words: int
    exact: Rate
    error_rate: Rate
    shuffled_exact: Rate | None
    shuffled_error_rate: Rate | None


def has_exact_words(read: Words, expected: Words) -> bool:
    """Whether the words read are those wanted, letter by letter, in any order.

    What else is read is let pass when it has fewer than two letters of the Latin alphabet: a ring looks like an O, a
    fence like 111.
    """
    left = list(read)
    for word in expected:
        if word not in left:
            return False
        left.remove(word)
    return all(len(re.findall("[A-Za-z]", word)) < 2 for word in left)


def scores_by_length(results: Iterable[tuple[str, Words, Words]]) -> dict[int, SpellingScore]:
    """(prompt, words read, words wanted) of many pictures -> length of a word -> how words of that length were drawn.

    Every word wanted is compared with a word read of its own, so that the edits are fewest; one without such a word is
    missing as a whole. Words that nobody wanted cost nothing here. Of a prompt's pictures the first is shuffled.
    """
    rows = list(results)
    lengths = sorted({len(word) for _, _, wanted in rows for word in wanted})
    return {length: _length_score([row for row in rows if length in map(len, row[2])], length) for length in lengths}


def _length_score(rows: Sequence[tuple[str, Words, Words]], length: int) -> SpellingScore:
    """The score of the words of one length, which every row asks for."""
    pictures: dict[str, list[tuple[Words, Words]]] = defaultdict(list)
    for prompt, read, wanted in rows:
        pictures[prompt].append((read, wanted))
    reads, wanteds = zip(*(pairs[0] for pairs in pictures.values()), strict=True)

    def exactly(read: Words, wanted: Words) -> float:
        return float(np.mean([not error for error in _edit_shares(read, wanted, length)]))

    def wrong(read: Words, wanted: Words) -> float:
        return float(np.mean(_edit_shares(read, wanted, length)))

    tests = exactly, wrong
    means = [[np.mean([test(*pair) for pair in pairs]) for pairs in pictures.values()] for test in tests]
    rates = [bootstrap(np.array(values)) for values in means]
    controls = [shuffled_rate(test, reads, wanteds) if len(reads) > 1 else None for test in tests]
    words = sum(len(word) == length for _, _, wanted in rows for word in wanted)
    return SpellingScore(words, *rates, *controls)


def _edit_shares(read: Words, expected: Words, length: int) -> list[float]:
    """The edits for each letter of every word wanted that is of this length."""
    errors = zip(expected, _word_edits(read, expected), strict=True)
    return [error / length for word, error in errors if len(word) == length]


def edit_distance(one: str, two: str) -> int:
    """The Levenshtein distance: letters put in, left out or exchanged."""
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, 1):
        above, row = row, [i]
        for j, other in enumerate(two, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return row[-1]


def _word_edits(read: Words, expected: Words) -> list[int]:
    """The edits that each word wanted needs, under the assignment of words read that needs fewest."""
    from scipy.optimize import linear_sum_assignment

    costs = [
        [min(edit_distance(word, other), len(word)) for other in read] + [len(word)] * len(expected)
        for word in expected
    ]
    return [costs[row][at] for row, at in zip(*linear_sum_assignment(costs), strict=True)] if expected else []
