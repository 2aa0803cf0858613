"""`dalle3-jax export`: what is no run, or no finished checkpoint, is said in one line."""

import pytest

from dalle3_jax.commands.export import find_stage, main


def test_a_workdir_stands_for_its_base_stage(tmp_path):
    for stage in ("vae", "base"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "config.json").write_text("{}")
    assert find_stage(tmp_path) == tmp_path / "base"
    assert find_stage(tmp_path / "vae") == tmp_path / "vae"


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_what_is_no_run_is_said_in_one_line(tmp_path, capsys, name):
    assert main([str(tmp_path / name), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "is not a training workdir" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_checkpoint_is_said_in_one_line(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints" / "00000004").mkdir(parents=True)  # a save that was killed: it has no manifest
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert "has no finished checkpoint yet" in capsys.readouterr().err
