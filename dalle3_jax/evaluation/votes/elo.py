"""Which of two pictures people preferred: the file of votes, ratings on the Elo scale, and win rates by pair.

{"prompt": "12", "left": "ours", "right": "theirs", "winner": "left", "voter": "M."}

is one line of the file; the winner is left, right or tie, and the voter may be left out.
"""

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from dalle3_jax.evaluation.statistics import Rate
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table

WINNERS = ("left", "right", "tie")
SCALE = 400 / np.log(10)
"""A system 400 points ahead is preferred ten times as often as not."""

STEPS, CLOSE = 500, 1e-4
"""Newton's method ends after a step this small, whose square bounds what is left; some 20 steps are usual."""

Wins = Float[np.ndarray, "*samples systems systems"]
"""How often the system of a row was preferred to that of a column; a tie is half a win for both."""


class Vote(NamedTuple):
    """One person's choice between the pictures that two systems made of a prompt."""

    prompt: str
    left: str
    right: str
    winner: str
    voter: str = ""


class Rating(NamedTuple):
    """A place on the Elo scale, whose mean over all systems is 1000, its interval, and how many votes it rests on."""

    value: float
    low: float
    high: float
    votes: int


def read_votes(path: str | Path) -> list[Vote]:
    """The votes of a file; ValueError with every line that is none and why."""
    votes, wrong = [], []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            votes.append(_parse_vote(line))
        except ValueError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        raise ValueError(f"{path} is no file of votes: " + "; ".join(wrong))
    return votes


def _parse_vote(line: str) -> Vote:
    """The vote of one line."""
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"{line.strip()[:60]} is no object")
    if errors := _vote_errors(values):
        raise ValueError(", ".join(errors))
    return Vote(**values)


def _vote_errors(values: dict[str, Any]) -> list[str]:
    """Everything that keeps an object from being a vote."""
    needed = [name for name in Vote._fields if name not in Vote._field_defaults]
    errors = [f"no {name}" for name in needed if name not in values]
    errors += [f"unknown {name!r}" for name in values if name not in Vote._fields]
    errors += [f"{name} {value!r} is no text" for name, value in values.items() if not isinstance(value, str)]
    errors += [f"{name} is empty" for name in needed if values.get(name) == ""]
    if isinstance(winner := values.get("winner"), str) and winner and winner not in WINNERS:
        errors.append(f"winner {winner!r} is none of {', '.join(WINNERS)}")
    if "left" in values and values["left"] == values.get("right"):
        errors.append(f"{values['left']!r} is on both sides")
    return errors


def ratings(
    votes: Sequence[Vote], *, prior: float = 0.1, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> dict[str, Rating]:
    """Every system's rating, best first: the Bradley-Terry model, doi 10.2307/2334029, at its greatest likelihood.

    `prior` ties between any two systems are added to the votes, so that one that was never beaten stays finite.
    Intervals draw prompts again, each with all its votes. Raises ValueError where systems were compared with each other
    neither directly nor through others: nothing says how they stand.
    """
    if not prior > 0:
        raise ValueError(f"a prior of {prior}: it must be above 0, or a system that was never beaten has no rating")
    systems, wins = _win_tables(votes)
    total = wins.sum(0)
    if groups := _unconnected_groups(total):
        names = " | ".join(", ".join(systems[i] for i in group) for group in groups)
        raise ValueError(f"no vote joins {names}: have pictures of theirs compared too")
    added = prior / 2 * (1.0 - np.eye(len(systems)))
    values = 1000 + SCALE * strengths(total + added)
    resampled = 1000 + SCALE * strengths(_resample_wins(wins, samples, seed) + added)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    counts = (total + total.T).sum(1).round().astype(int)
    rows = zip(values.tolist(), low.tolist(), high.tolist(), counts.tolist(), strict=True)
    ratings = {system: Rating(*row) for system, row in zip(systems, rows, strict=True)}
    return dict(sorted(ratings.items(), key=lambda item: -item[1].value))


def win_rates(
    votes: Sequence[Vote], *, seed: int = 0, samples: int = 1000, level: float = 0.95
) -> dict[tuple[str, str], Rate]:
    """For each two systems that met, the share of votes for the first, a tie as half of one, over prompts redrawn."""
    systems, wins = _win_tables(votes)
    rates = {}
    for i, j in combinations(range(len(systems)), 2):
        duels = wins[:, [i, j], [j, i]]
        duels = duels[duels.sum(1) > 0]
        if not len(duels):
            continue
        share = duels.sum(0)[0] / duels.sum()
        times = _resample_counts(len(duels), samples, seed) @ duels
        low, high = np.quantile(times[:, 0] / times.sum(1), [(1 - level) / 2, (1 + level) / 2])
        rates[systems[i], systems[j]] = Rate(float(share), float(low), float(high), len(duels))
    return rates


def strengths(wins: Wins) -> Float[np.ndarray, "*samples systems"]:
    """The logarithms of the Bradley-Terry strengths, with mean 0: Newton's method, in steps of at most 1.

    Every two systems must be joined by wins both ways, if only through others: the greatest likelihood is then finite.
    """
    games, count = wins + np.swapaxes(wins, -1, -2), wins.shape[-1]
    strengths = np.zeros(wins.shape[:-1])
    for _ in range(STEPS):
        chance = 1.0 / (1.0 + np.exp(strengths[..., None, :] - strengths[..., :, None]))
        slope = (wins - games * chance).sum(-1)
        weight = games * chance * (1.0 - chance)
        curve = weight.sum(-1)[..., None] * np.eye(count) - weight + 1.0 / count  # the last term holds the mean at 0
        step = np.linalg.solve(curve, slope[..., None])[..., 0]
        strengths = strengths + step / np.maximum(1.0, np.abs(step).max(-1, keepdims=True))
        if np.abs(step).max() < CLOSE:
            break
    return strengths


def _win_tables(votes: Sequence[Vote]) -> tuple[list[str], Float[np.ndarray, "prompts systems systems"]]:
    """The systems by name, and the wins on each prompt."""
    if not votes:
        raise ValueError("no votes to count: at least one is needed")
    systems = sorted({system for vote in votes for system in (vote.left, vote.right)})
    prompts = sorted({vote.prompt for vote in votes})
    row, place = ({name: i for i, name in enumerate(names)} for names in (prompts, systems))
    wins = np.zeros((len(prompts), len(systems), len(systems)))
    for vote in votes:
        left, right, share = place[vote.left], place[vote.right], {"left": 1.0, "right": 0.0, "tie": 0.5}[vote.winner]
        wins[row[vote.prompt], left, right] += share
        wins[row[vote.prompt], right, left] += 1.0 - share
    return systems, wins


def _unconnected_groups(wins: Float[np.ndarray, "systems systems"]) -> list[list[int]]:
    """The groups of systems that no vote joins, or none where all are joined."""
    joined = np.linalg.matrix_power(np.eye(len(wins)) + np.sign(wins + wins.T), len(wins)) > 0
    groups = {tuple(np.flatnonzero(row).tolist()) for row in joined}
    return sorted(map(list, groups)) if len(groups) > 1 else []


def _resample_wins(wins: Float[np.ndarray, "prompts systems systems"], samples: int, seed: int) -> Wins:
    """The wins in total, for prompts drawn again `samples` times."""
    return np.tensordot(_resample_counts(len(wins), samples, seed), wins, 1)


def _resample_counts(count: int, samples: int, seed: int) -> Float[np.ndarray, "samples count"]:
    """The number of times that each of `count` prompts is resampled."""
    counts = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples)
    return counts.astype(np.float64)


def ratings_markdown(votes: Sequence[Vote]) -> str:
    """Ratings and win rates as Markdown tables."""
    rows = [
        [name, f"{rating.value:.0f}", f"{rating.low:.0f} to {rating.high:.0f}", str(rating.votes)]
        for name, rating in ratings(votes).items()
    ]
    duels = [
        [f"{a} before {b}", format_percent(rate.value), format_interval(rate), str(rate.prompts)]
        for (a, b), rate in win_rates(votes).items()
    ]
    first = markdown_table(["system", "rating", "95 % interval", "votes"], rows)
    return f"{first}\n\n{markdown_table(['', 'votes', '95 % interval', 'prompts'], duels)}"
