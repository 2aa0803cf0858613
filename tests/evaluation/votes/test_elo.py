"""Ratings are those of the Bradley-Terry model; votes are read strictly; prompts are what is drawn again."""

import json

import numpy as np
import pytest

from dalle3_jax.evaluation.votes.elo import Vote, ratings, read_votes, strengths, win_rates

GOOD = {"prompt": "p", "left": "a", "right": "b", "winner": "tie"}
TINY = 1e-6  # a prior too small to see


def duel(one: str, other: str, won: int, lost: int, tied: int = 0) -> list[Vote]:
    """Votes on prompts of their own, the sides changing from one to the next."""
    votes = []
    for number, winner in enumerate([one] * won + [other] * lost + [""] * tied):
        left, right = (one, other) if number % 2 else (other, one)
        side = {left: "left", right: "right", "": "tie"}[winner]
        votes.append(Vote(f"{one} {other} {number}", left, right, side))
    return votes


def test_two_systems_are_as_far_apart_as_their_odds():
    found = ratings(duel("a", "b", 30, 10), prior=TINY, samples=10)
    assert found["a"].value - found["b"].value == pytest.approx(400 * np.log10(3))
    assert found["a"].value + found["b"].value == pytest.approx(2000)
    assert (found["a"].votes, found["b"].votes) == (40, 40)


def test_ten_to_one_is_four_hundred_points():
    found = ratings(duel("a", "b", 10, 1), prior=TINY, samples=10)
    assert found["a"].value - found["b"].value == pytest.approx(400)


def test_a_tie_is_half_a_win_for_both():
    found = ratings(duel("a", "b", 20, 0, 20), prior=TINY, samples=10)
    assert found["a"].value - found["b"].value == pytest.approx(400 * np.log10(3))


def test_prior_is_that_many_ties():
    found = ratings(duel("a", "b", 7, 0), prior=0.5, samples=10)
    assert found["a"].value - found["b"].value == pytest.approx(400 * np.log10(7.25 / 0.25))


def test_strengths_are_found_again_from_their_own_chances():
    true = np.array([2.0, -1.0, 0.5, -1.5])
    chances = 1 / (1 + np.exp(true[None] - true[:, None]))
    games = np.random.default_rng(0).integers(1, 50, size=(4, 4))
    wins = chances * (games + games.T) * (1 - np.eye(4))
    assert strengths(wins) == pytest.approx(true)
    assert strengths(np.stack([wins, wins.T])) == pytest.approx(np.stack([true, -true]))


def test_strengths_have_no_slope_left_even_where_systems_are_far_apart():
    wins = np.triu(np.full((6, 6), 1000.0), 1) + 0.05 * (1 - np.eye(6))
    found = strengths(wins)
    expected = (wins + wins.T) / (1 + np.exp(found[None] - found[:, None]))
    assert (expected * (1 - np.eye(6))).sum(1) == pytest.approx(wins.sum(1))
    assert (np.diff(found) < 0).all()


def test_systems_that_never_met_are_compared_through_a_third():
    found = ratings(duel("a", "b", 10, 1) + duel("b", "c", 10, 1), prior=TINY, samples=10)
    assert found["a"].value - found["c"].value == pytest.approx(800)
    assert list(found) == ["a", "b", "c"]


def test_systems_that_nothing_joins_are_refused():
    with pytest.raises(ValueError, match=r"no vote joins a, b \| c, d"):
        ratings(duel("a", "b", 1, 1) + duel("d", "c", 1, 1))


def test_best_comes_first_and_sides_do_not_matter():
    votes = duel("a", "b", 3, 9)
    turned = [Vote(v.prompt, v.right, v.left, {"left": "right", "right": "left"}[v.winner]) for v in votes]
    assert list(ratings(votes)) == ["b", "a"]
    assert ratings(votes) == ratings(turned)


def test_votes_on_one_prompt_are_one_piece_of_evidence():
    votes = duel("a", "b", 30, 10)
    often = [vote._replace(voter=str(voter)) for vote in votes for voter in range(5)]
    once, many = ratings(votes, prior=TINY)["a"], ratings(often, prior=TINY)["a"]
    assert many.votes == 5 * once.votes
    assert many[:3] == pytest.approx(once[:3])


def test_interval_of_a_rating_has_the_width_of_its_binomial():
    found = ratings(duel("a", "b", 200, 200), prior=TINY)["a"]
    deviation = 400 / np.log(10) / 2 * np.sqrt(4 / 400)  # the logit of a share has a variance of 1 / (n p q)
    assert (found.high - found.low) / 3.92 == pytest.approx(deviation, rel=0.1)
    assert found.low < 1000 < found.high


def test_an_unbeaten_system_stays_finite():
    found = ratings(duel("a", "b", 20, 0) + duel("b", "c", 20, 0))
    assert np.isfinite([rating[:3] for rating in found.values()]).all()


def test_win_rates_are_of_pairs_that_met():
    votes = duel("a", "b", 30, 8, 2) + duel("b", "c", 5, 0)
    found = win_rates(votes)
    assert set(found) == {("a", "b"), ("b", "c")}
    assert found["a", "b"].value == 31 / 40
    assert found["a", "b"].prompts == 40
    assert 0.6 < found["a", "b"].low < 31 / 40 < found["a", "b"].high < 0.92
    assert found["b", "c"][:3] == (1, 1, 1)


def test_no_votes_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        ratings([])


def test_without_a_prior_an_unbeaten_system_would_have_no_place():
    with pytest.raises(ValueError, match="above 0"):
        ratings(duel("a", "b", 1, 1), prior=0.0)


def test_votes_are_read_as_written(tmp_path):
    lines = [GOOD, GOOD | {"winner": "left", "voter": "Zoë", "prompt": "line\u2028break"}]
    file = tmp_path / "votes.jsonl"
    file.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n", encoding="utf-8")
    assert read_votes(file) == [Vote("p", "a", "b", "tie"), Vote("line\u2028break", "a", "b", "left", "Zoë")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"winner": "a"}, "winner 'a' is none of left, right, tie"),
        ({"right": "a"}, "'a' is on both sides"),
        ({"prompt": 3}, "prompt 3 is no text"),
        ({"prompt": ""}, "prompt is empty"),
        ({"voter": None}, "voter None is no text"),
        ({"time": "now"}, "unknown 'time'"),
    ],
)
def test_a_line_that_is_no_vote_is_refused(tmp_path, change, said):
    file = tmp_path / "votes.jsonl"
    file.write_text(json.dumps(GOOD | change))
    with pytest.raises(ValueError, match=f"line 1: {said}"):
        read_votes(file)


def test_every_wrong_line_is_named_at_once(tmp_path):
    file = tmp_path / "votes.jsonl"
    file.write_text("\n".join(["{", json.dumps(GOOD), "[1]", '{"left": "a"}']))
    said = r"line 1: no JSON .*; line 3: \[1\] is no object; line 4: no prompt, no right, no winner"
    with pytest.raises(ValueError, match=said):
        read_votes(file)
