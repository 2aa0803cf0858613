"""The commands write their reports, and say in one line what is wrong before they make a picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.commands.evaluate import main, votes
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release

TRAINING = {"images": 0, "config": {"data": {"source": "scenes", "world": "first", "latents": 120}}}


@pytest.fixture
def given(release_folder: Path, reader_folder: Path) -> list[str]:
    return ["--suite", "first", "--reader", str(reader_folder), "--size", "64x32", "--steps", "2"]


def test_a_run_writes_table_values_plots_and_sheets(
    release_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(release_folder), *given, "--count", "6", "--seeds", "2", "--neighbours", "0"]
    assert main([*arguments, "--outdir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    table, values = (tmp_path / "out" / "report.md").read_text(), (tmp_path / "out" / "report.json").read_text()
    assert table in printed
    assert json.loads(values)["settings"]["size"] == [32, 64]
    assert json.loads(values)["settings"]["steps"] == 2
    assert len(json.loads(values)["pictures"]) == 12
    assert json.loads(values)["rates"]["short"]["all prompts"]["model"]["prompts"] == 6
    assert {"mean of atoms", "skill: object"} <= json.loads(values)["atoms"]["short"].keys()
    assert json.loads(values)["seed_differences"]["short"]["all prompts"]["prompts"] == 6
    for name in ("best", "median", "worst", "rates-short", "atoms-short"):
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert min(sheet.size) > 256


@pytest.fixture
def trained_folder(tmp_path: Path) -> Path:
    """The tiny system as if it were trained on 120 scenes."""
    save_release(tmp_path / "trained", replace(tiny_release(), training=TRAINING))
    return tmp_path / "trained"


def test_likeness_is_in_the_report_with_how_much_of_the_training_set_was_searched(
    trained_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--size", "32x32", "--count", "102", "--neighbours", "110", "--outdir", str(tmp_path / "out")]
    assert main(["--checkpoint", str(trained_folder), *given, *small]) == 0
    table, values = (tmp_path / "out" / "report.md").read_text(), (tmp_path / "out" / "report.json").read_text()
    found = json.loads(values)["likeness"]
    assert (found["pictures"], found["searched"], found["records"]) == (102, 110, 120)
    assert found["true"]["frechet"]["value"] < found["model"]["frechet"]["value"]
    assert "110 of 120 training records were searched" in table
    assert table[table.index("| generated") :] in capsys.readouterr().out + "\n"
    with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
        assert sheet.width > 8 * 160


def test_what_cannot_be_measured_is_named_before_and_in_the_report(
    trained_folder: Path,
    given: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Words of the whole world do not fit 64 pixels, and there is no matplotlib."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    arguments = ["--suite", "whole", "--count", "12", "--no-words", "--outdir", str(tmp_path / "out")]
    assert main(["--checkpoint", str(trained_folder), *given, *arguments]) == 0
    table, error = (tmp_path / "out" / "report.md").read_text(), capsys.readouterr().err
    for line in ("plots: matplotlib is not installed", "likeness to true pictures: the words of the world 'whole'"):
        assert f"note: not measured: {line}" in error
        assert f"- {line}" in table
    assert (tmp_path / "out" / "best.png").exists()
    assert not list((tmp_path / "out").glob("rates-*"))


def test_a_likeness_that_fails_leaves_the_report(
    trained_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(trained_folder), *given, "--count", "6", "--outdir", str(tmp_path / "out")]) == 0
    line = "likeness to true pictures: 6 square pictures of prompts with scenes and 120 training records"
    assert f"not measured: {line}" in capsys.readouterr().out
    assert f"- {line}" in (tmp_path / "out" / "report.md").read_text()


def broken(*_, **__):
    raise FloatingPointError("the model gave pixels that are no numbers")


@pytest.mark.parametrize("before", [[], ["compare"], ["votes"]])
def test_a_model_that_breaks_is_one_line(
    release_folder: Path,
    given: list[str],
    before: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Pipeline, "generate", broken)
    (tmp_path / "other").symlink_to(release_folder)
    both = [str(release_folder), str(tmp_path / "other")] if before else ["--checkpoint", str(release_folder)]
    given = given[:2] if before == ["votes"] else given
    assert main([*before, *both, *given, "--count", "6", "--outdir", str(tmp_path / "out")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "no numbers" in lines[0]


def test_a_checkpoint_does_not_differ_from_itself(
    release_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(release_folder)
    assert main(["compare", one, one, *given, "--count", "6", "--outdir", str(tmp_path / "out")]) == 0
    values = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert values["differences"]["all prompts"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "prompts": 6}
    assert values["differences"]["all prompts"]["first_shuffled"]["prompts"] == 6
    assert (tmp_path / "out" / "comparison.md").read_text() in capsys.readouterr().out
    assert "| check: objects" in (tmp_path / "out" / "second.md").read_text()


def test_checkpoints_of_other_sizes_are_not_compared(
    release_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, side in (("small", 32), ("large", 64)):
        save_release(tmp_path / name, replace(tiny_release(), sizes=((side, side),)))
    given = [word for word in given if word not in ("--size", "64x32")]
    assert main(["compare", str(tmp_path / "small"), str(tmp_path / "large"), *given, "--count", "6"]) == 2
    assert "pictures of other sizes" in capsys.readouterr().err


def test_votes_of_people_become_ratings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": str(i), "left": "a", "right": "b", "winner": "left" if i % 4 else "right"} for i in range(40)]
    (tmp_path / "votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert main(["elo", str(tmp_path / "votes.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert printed.index("| a ") < printed.index("| b ")
    assert "75.0 %" in printed
    (tmp_path / "votes.jsonl").write_text("{}")
    assert main(["elo", str(tmp_path / "votes.jsonl")]) == 2
    assert "line 1: no prompt" in capsys.readouterr().err


def test_a_page_to_vote_on_holds_both_checkpoints_pictures(
    release_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.symlink_to(release_folder)
    page = tmp_path / "page"
    arguments = ["--suite", "first", "--count", "6", "--size", "32x32", "--outdir", str(page)]
    assert main(["votes", str(release_folder), str(other), *arguments]) == 0
    assert "index.html" in capsys.readouterr().out
    assert len(list(page.rglob("*.png"))) == 12
    assert main(["votes", str(release_folder), str(other), *arguments]) == 2
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["votes", str(release_folder), str(release_folder)]) == 2
    assert "each once" in capsys.readouterr().err


def test_votes_are_on_pictures_of_the_prompts_own_aspects(release_folder: Path, tmp_path: Path) -> None:
    line = {"kind": "aspect ratios", "prompt": "a car", "labels": {"objects": [{"concept": "car"}]}}
    rows = [line | {"id": str(number), "aspect": aspect} for number, aspect in enumerate([[1, 1], [2, 1], [1, 2]])]
    (tmp_path / "suite.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "other").symlink_to(release_folder)
    given = ["--suite", str(tmp_path / "suite.jsonl"), "--size", "32x32", "--outdir", str(tmp_path / "page")]
    jobs, *_ = votes.prepare_votes(
        votes.build_parser().parse_args([str(release_folder), str(tmp_path / "other"), *given])
    )
    for _, requests in jobs.values():
        assert [request.size for request in requests] == [(32, 32), (16, 48), (48, 16)]


def test_a_page_that_cannot_be_written_is_refused_before_any_picture(
    release_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Pipeline, "generate", broken)
    (tmp_path / "other").symlink_to(release_folder)
    given = ["--suite", "first", "--count", "6", "--outdir", "/proc/none"]
    assert main(["votes", str(release_folder), str(tmp_path / "other"), *given]) == 2
    assert "cannot write to the folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "5"], "at least 6"),
        (["--count", "0"], "--count 0 must be at least 1"),
        (["--steps", "0"], "steps 0 must be"),
        (["--sampler", "magic"], "unknown sampler 'magic'"),
        (["--size", "60x64"], "not a multiple of 8"),
        (["--size", "big"], "'big' is no size"),
        (["--size", "16x16"], "too small to read"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--seeds", "0"], "--seeds 0"),
        (["--seed", "4294967296"], "seed 4294967296"),
        (["--seed", "4294967294", "--count", "6"], "seed 4294967296 must be"),
        (["--neighbours", "-1"], "--neighbours -1 must be at least 0"),
        (["--suite", "nowhere.jsonl"], "cannot read the suite 'nowhere.jsonl'"),
        (["--checkpoint", "nowhere"], "'nowhere' is not a folder"),
        (["--reader", "nowhere"], "nowhere"),
        (["--protocol", "upsampled"], 'none of the prompts has an "upsampled" text'),
        (["--outdir", "/proc/none"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_line_and_no_picture(
    release_folder: Path, given: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(release_folder), *given, *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_several_problems_are_named_together(
    release_folder: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(release_folder), *given, "--count", "-1", "--steps", "0"]) == 2
    error = capsys.readouterr().err
    assert "--count -1" in error
    assert "steps 0" in error


def test_a_checkpoint_without_a_decoder_is_named(
    given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tiny_release()
    modules, params = ({name: part[name] for name in part if name != "vae"} for part in (whole.modules, whole.params))
    save_release(tmp_path / "blind", replace(whole, modules=modules, params=params))
    assert main(["--checkpoint", str(tmp_path / "blind"), *given]) == 2
    assert capsys.readouterr().err == "error: this release makes no pictures: it lacks vae\n"
