"""How captions are written: every measure on captions that have just that fault, distances that know their bounds."""

import json

import numpy as np
import pytest

from dalle3_jax.commands import captions as command
from dalle3_jax.evaluation.captions.style import entropy, measure_style
from dalle3_jax.evaluation.captions.style_distance import auc, jensen_shannon, prompt_distance
from dalle3_jax.evaluation.captions.style_report import style_warnings, styles_markdown

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLAIN = [f"{word.capitalize()} thing number {word}{' too' * (i % 4)}." for i, word in enumerate(NUMBERS)]
FAULTS = {
    "articles": [f"a {text.lower()}" for text in PLAIN],
    "lower_case": [text.lower() for text in PLAIN],
    "title_case": [text.title() for text in PLAIN],
    "upper_case": [text.upper() for text in PLAIN],
    "outer_spaces": [f" {text}" for text in PLAIN],
    "duplicates": PLAIN[:5] * 2,
    "truncated": [f"{text} {'more words ' * 40}." for text in PLAIN],
    "odd_characters": [f"{text}\x07" for text in PLAIN],
}


def words(text):
    return len(text.split()) + 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_measured_and_warned_of_and_the_others_are_not(name):
    fine, bad = measure_style(PLAIN, words, 40), measure_style(FAULTS[name], words, 40)
    assert getattr(fine, name) == 0.0
    assert getattr(bad, name) == 1.0
    assert {*style_warnings("x", bad)} - {*style_warnings("x", fine)}


def test_ends_and_starts_are_shares():
    mixed = measure_style([*PLAIN, *(text.rstrip(".").lower() for text in PLAIN)], words, 40)
    assert mixed.end_punctuation == mixed.capitalised == mixed.lower_case == 0.5
    assert mixed.near_duplicates == 0.0
    assert measure_style([*PLAIN, *(text.lower() for text in PLAIN)], words, 40).near_duplicates == 1.0


def test_lengths_are_where_the_numbers_lie():
    found = measure_style([" ".join(["word"] * n) for n in range(100)], words, 90)
    assert found.tokens == pytest.approx(
        {"min": 1, "median": 50.5, "mean": 50.5, "p95": 95.05, "p99": 99.01, "max": 100}
    )
    assert found.truncated == pytest.approx(0.1)
    assert found.commonest_length == pytest.approx(0.01)
    same = measure_style([f"{word} more word" for word in NUMBERS], words, 90)
    assert same.commonest_length == 1.0
    assert any("same number of tokens" in line for line in style_warnings("x", same))


def test_first_words_are_the_commonest_ten():
    found = measure_style(
        [f"{word} owl" for i, word in enumerate((*NUMBERS, "zero", "nought")) for _ in range(12 - i)], words, 90
    )
    assert list(found.first_words) == list(NUMBERS)
    assert found.first_words["one"] == pytest.approx(12 / 78)


def test_entropy_and_distances_know_their_bounds():
    assert entropy({"a": 5, "b": 5, "c": 5, "d": 5}) == pytest.approx(2.0)
    assert jensen_shannon({"a": 1, "b": 1}, {"a": 3, "b": 3}) == pytest.approx(0.0)
    assert jensen_shannon({"a": 1}, {"b": 1}) == pytest.approx(1.0)
    assert 0 < jensen_shannon({"a": 1, "b": 1}, {"b": 1, "c": 1}) < 1


def test_auc_is_the_chance_of_the_higher_score():
    draw = np.random.default_rng(0)
    scores, y = draw.integers(0, 5, 60).astype(float), draw.random(60) < 0.4
    pairs = [(a > b) + (a == b) / 2 for a in scores[y] for b in scores[~y]]
    assert auc(scores, y) == pytest.approx(np.mean(pairs))


def test_captions_of_another_form_are_told_apart_and_halves_of_one_set_are_not():
    draw = np.random.default_rng(0)
    prompts = [" ".join(draw.choice(["red", "fox", "Owl", "sea", "on", "a"], draw.integers(2, 12))) for _ in range(300)]
    apart = prompt_distance([f"A {text}." for text in prompts], prompts)
    assert apart.told_apart > 0.95
    assert abs(apart.control - 0.5) < 0.12
    assert apart.longer == pytest.approx(1.0)
    assert apart.capitalised == pytest.approx(np.mean([not text.startswith("Owl") for text in prompts]))
    same = prompt_distance(prompts[::-1], prompts)
    assert same.words == pytest.approx(0.0, abs=1e-6)
    assert abs(same.told_apart - 0.5) < 0.2  # below a half: the copy of each text was learnt with the other label
    with pytest.raises(ValueError, match="at least 10"):
        prompt_distance(prompts[:3], prompts)


def test_the_table_says_what_was_found():
    found = {"x": measure_style(FAULTS["articles"], words, 40)}
    text = styles_markdown(found, {})
    assert "| begin with a, an, the" in text
    assert "100.0 % begin with an article" in text


def test_the_command_reports_files_and_scenes(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("\n".join(PLAIN) + "\n")
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": text.lower()}) for text in PLAIN))
    out, prompts = tmp_path / "out", str(tmp_path / "prompts.jsonl")
    given = ["report", "scenes", str(tmp_path / "mine.txt"), "--count", "30", "--prompts", prompts, "--out", str(out)]
    assert command.main(given) == 0
    said = capsys.readouterr().out
    assert "descriptive" in said
    assert "mine" in said
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.md", "report.png"]
    assert json.loads((out / "report.json").read_text())["styles"]["mine"]["captions"] == 10
    assert "Not of the same pictures" not in said


def test_captions_of_other_pictures_are_named(capsys):
    assert command.main(["report", "scenes", 'scenes:{"of": "first", "words": 0}', "--count", "5"]) == 0
    said = capsys.readouterr().out
    assert "descriptive of scenes:{" in said
    assert "Not of the same pictures" in said


@pytest.mark.parametrize(("content", "said"), [("3", "text"), ('{"prompt": 3}', "text"), ('{"x": "y"}', "text")])
def test_a_line_without_a_text_is_named(tmp_path, capsys, content, said):
    (tmp_path / "lines.jsonl").write_text(content + "\n")
    assert command.main(["report", str(tmp_path / "lines.jsonl")]) == 2
    error = capsys.readouterr().err
    assert content in error
    assert said in error


def test_a_folder_of_something_else_and_a_file_as_the_folder_are_refused(tmp_path, capsys):
    (tmp_path / "captions.json").write_text("{}")
    assert command.main(["report", str(tmp_path)]) == 2
    assert "is not what recaption writes" in capsys.readouterr().err
    assert command.main(["report", "x", "x", "--count", "0", "--out", str(tmp_path / "captions.json")]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in ("--count 0", "given twice", "is a file"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "nowhere"], "nowhere"),
        (["report", "missing.txt"], "cannot read"),
        (["report", "scenes", "--count", "0"], "--count 0"),
        (["report", "scenes", "--versions", "long", "--count", "3"], "long: there are"),
        (["report", "scenes:mars"], "mars"),
        (["count"], "no part 'count'"),
    ],
)
def test_bad_input_is_one_line(arguments, said, capsys):
    assert command.main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
