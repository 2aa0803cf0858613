"""The commands write their reports, and say in one line what is wrong before they make a picture."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.commands.evaluate import main


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
    for name in ("best", "median", "worst", "rates-short"):
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert min(sheet.size) > 256


def test_a_checkpoint_does_not_differ_from_itself(
    release_folder: Path, given: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = str(release_folder)
    assert main(["compare", one, one, *given, "--count", "6", "--outdir", str(tmp_path / "out")]) == 0
    values = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert values["differences"]["all prompts"]["difference"] == {"value": 0.0, "low": 0.0, "high": 0.0, "prompts": 6}
    assert (tmp_path / "out" / "comparison.md").read_text() in capsys.readouterr().out


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


def test_a_vae_alone_is_no_checkpoint_to_evaluate(
    reader_folder: Path, given: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--checkpoint", str(reader_folder), *given]) == 2
    assert "it lacks text_encoder, xfnet, unet, vae" in capsys.readouterr().err
