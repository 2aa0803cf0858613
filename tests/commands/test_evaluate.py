"""The command writes its report, and says in one line what is wrong before it makes a picture."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.commands.evaluate import main


def test_a_run_writes_table_values_and_sheets(
    release_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(release_folder), "--count", "6", "--size", "64x32", "--steps", "2"]
    assert main([*arguments, "--outdir", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    table, values = (tmp_path / "out" / "report.md").read_text(), (tmp_path / "out" / "report.json").read_text()
    assert table in printed
    assert json.loads(values)["settings"]["size"] == [32, 64]
    assert json.loads(values)["settings"]["steps"] == 2
    assert len(json.loads(values)["pictures"]) == 6
    for name in ("best", "median", "worst"):
        with Image.open(tmp_path / "out" / f"{name}.png") as sheet:
            assert min(sheet.size) > 256


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "5"], "--count 5 must be at least 6"),
        (["--steps", "0"], "steps 0 must be"),
        (["--sampler", "magic"], "unknown sampler 'magic'"),
        (["--size", "60x64"], "not a multiple of 8"),
        (["--size", "big"], "'big' is no size"),
        (["--size", "16x16"], "too small to read"),
        (["--batch-size", "0"], "--batch-size 0"),
        (["--seed", "4294967295"], "seed 4294967594"),
        (["--checkpoint", "nowhere"], "'nowhere' is not a folder"),
        (["--outdir", "/proc/none"], "cannot write to the folder"),
    ],
)
def test_bad_input_is_one_line_and_no_picture(
    release_folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--checkpoint", str(release_folder), "--size", "32x32"]
    assert main([*given, *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_several_problems_are_named_together(release_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(release_folder), "--count", "1", "--steps", "0", "--size", "32x32"]) == 2
    error = capsys.readouterr().err
    assert "--count 1" in error
    assert "steps 0" in error
