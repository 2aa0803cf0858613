"""The command `dalle3-jax scenes`."""

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.commands.scenes import main
from dalle3_jax.data.scenes import FIRST, make_record, world_of
from dalle3_jax.data.sources import TFDSSource
from dalle3_jax.pipeline.contact_sheet import MARGIN


def test_a_sheet_shows_the_pictures_in_rows_above_their_captions(tmp_path):
    arguments = ["--rows", "2", "--columns", "3", "--size", "160x136", "--split", "held_out", "--seed", "5"]
    assert main(["--out", str(tmp_path / "sheet.png"), *arguments]) == 0
    sheet = np.array(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1] == MARGIN + 3 * (160 + MARGIN)
    for column in range(3):
        left = MARGIN + column * (160 + MARGIN)
        picture = make_record(FIRST, 5, column, 136, 160, "held_out").image
        assert (sheet[MARGIN : MARGIN + 136, left : left + 160] == picture).all()
        assert (sheet[MARGIN + 136 : MARGIN + 156, left : left + 160] < 100).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sheet.png"]


def test_a_world_is_named_described_or_read_from_a_file(tmp_path):
    described = tmp_path / "small.json"
    described.write_text('{"words": 0, "kinds": ["row"]}\n')
    for world in ("whole", '{"words": 0, "kinds": ["row"]}', str(described)):
        arguments = ["--rows", "1", "--columns", "1", "--size", "128x128", "--world", world]
        assert main(["--out", str(tmp_path / "sheet.png"), *arguments]) == 0
        expected = make_record(
            world_of(world if world == "whole" else {"words": 0, "kinds": ["row"]}), 0, 0, 128, 128
        ).image
        sheet = np.array(Image.open(tmp_path / "sheet.png"))
        assert (sheet[MARGIN : MARGIN + 128, MARGIN : MARGIN + 128] == expected).all()


def test_tfds_is_written_by_the_command(tmp_path):
    assert main(["--tfds", str(tmp_path), "--count", "3", "--size", "64x32"]) == 0
    assert [TFDSSource(tmp_path)[i].key for i in range(3)] == ["first-train-0-0", "first-train-0-1", "first-train-0-2"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "130x128"], "multiples of 8"),
        (["--size", "large"], "WIDTHxHEIGHT"),
        (["--rows", "0"], "at least 1"),
        (["--world", "second"], "'second': choose one of ['first', 'scattered', 'whole']"),
        (["--world", "whole", "--size", "64x64"], "do not fit 64x64"),
        (["--world", '{"words: 0}'], "write JSON, as in '{\"words\": 0}'"),
        (["--world", '{"word": 0}'], "it has no word: its keys are"),
        (["--world", "/nowhere/at/all.json"], "No such file"),
        (["--out", "sheet.jpg"], "name it .png"),
        (["--out", "/nowhere/at/all/sheet.png"], "No such file"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message, tmp_path, capsys):
    assert main(["--out", str(tmp_path / "sheet.png"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())
