"""The bar and the files of metrics."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.training import logging
from dalle3_jax.training.progress import Progress


@pytest.fixture
def bar(tmp_path: Path) -> Iterator[Progress]:
    """A bar over ten steps that writes every second one to `tmp_path`."""
    settings = {"first": 0, "steps": 10, "batch_size": 4, "log_every": 2, "max_skipped": 3}
    bar = Progress(logging.MetricsWriter(tmp_path, 0), lambda count: 0.5 * count, **settings)
    yield bar
    bar.close()


def metrics(loss: float, skipped: int = 0, in_a_row: int = 0) -> dict[str, np.ndarray]:
    return {"loss": np.float32(loss), "skipped": np.int32(skipped), "skipped_in_a_row": np.int32(in_a_row)}


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Pending:
    """A metric of a step that still runs: reading it fails."""

    def __float__(self):
        raise AssertionError("the host waited for the device")


def test_metrics_are_read_one_step_behind(bar, tmp_path):
    bar.update(1, metrics(1.0))
    bar.update(2, {"loss": Pending()})
    assert lines(tmp_path) == []


def test_logged_loss_is_the_mean_since_the_last_line(bar, tmp_path):
    for step, loss in enumerate([1.0, 3.0, 5.0, 9.0], 1):
        bar.update(step, metrics(loss))
    bar.flush()
    written = lines(tmp_path)
    assert [(line["step"], line["loss"], line["learning_rate"]) for line in written] == [(2, 2.0, 1.0), (4, 7.0, 2.0)]
    assert any((tmp_path / "tensorboard").iterdir())


def test_skipped_steps_do_not_spoil_the_mean(bar, tmp_path):
    bar.update(1, metrics(float("nan"), skipped=1, in_a_row=1))
    bar.update(2, metrics(3.0, skipped=1))
    bar.flush()
    assert [(line["loss"], line["skipped"]) for line in lines(tmp_path)] == [(3.0, 1)]


def test_too_many_skipped_steps_in_a_row_stop_the_run(bar):
    for step in (1, 2, 3):
        bar.update(step, metrics(float("nan"), skipped=step, in_a_row=step))
    with pytest.raises(FloatingPointError, match=r"last 3 steps up to 3 .*learning_rate"):
        bar.update(4, metrics(1.0))


def test_lines_after_the_restored_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"step": 8, "lo')
    logging.MetricsWriter(tmp_path, 4).close()
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]


def test_a_run_that_begins_again_keeps_no_line_of_its_first_preview(tmp_path):
    for _ in range(2):
        writer = logging.MetricsWriter(tmp_path, 0)
        writer.write(0, {"held_out/psnr": 8.0})
        writer.close()
    assert lines(tmp_path) == [{"step": 0, "held_out/psnr": 8.0}]
    logging.MetricsWriter(tmp_path, 2).close()
    assert [line["step"] for line in lines(tmp_path)] == [0]


def test_rows_of_pictures_are_written_whole(tmp_path):
    rows = [np.full((3, 8, 8, 3), -1.0), np.full((3, 8, 8, 3), 1.0)]
    logging.save_image_rows(tmp_path / "samples" / "1.png", rows, gap=2)
    pixels = np.asarray(Image.open(tmp_path / "samples" / "1.png"))
    assert pixels.shape == (20, 30, 3)
    assert pixels[:8, :8].max() == 0
    assert pixels[10:18, :8].min() == 255
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["1.png"]


def test_runs_of_different_folders_are_different_runs_of_wandb(tmp_path, monkeypatch):
    calls = []
    fake = SimpleNamespace(init=lambda **about: calls.append(about) or SimpleNamespace(finish=lambda: None))
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for folder in ("a/base", "b/base", "a/base", "a/vae"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        logging.MetricsWriter(tmp_path / folder, 0, "project").close()
    first, other, again, stage = (call["id"] for call in calls)
    assert first == again
    assert len({first, other, stage}) == 3
    assert [call["name"] for call in calls] == ["a/base", "b/base", "a/base", "a/vae"]
    (tmp_path / "a").rename(tmp_path / "moved")
    logging.MetricsWriter(tmp_path / "moved" / "base", 0, "project").close()
    assert calls[-1]["id"] == first, "a workdir that moves goes on with its run"


def test_wandb_that_cannot_be_reached_stops_nothing(tmp_path, monkeypatch, capsys):
    def fail(**_):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=fail))
    writer = logging.MetricsWriter(tmp_path, 0, "project")
    writer.write(1, {"loss": 0.5})
    writer.close()
    assert lines(tmp_path) == [{"step": 1, "loss": 0.5}]
    assert "no route to host" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["tensorboard", "wandb"])
def test_a_place_that_fails_under_a_run_stops_nothing_and_is_noted_once(tmp_path, monkeypatch, capsys, place):
    def fails(*_, **__):
        raise ConnectionError("it is gone")

    run = SimpleNamespace(log=fails, finish=fails)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: run))
    writer = logging.MetricsWriter(tmp_path, 0, "project" if place == "wandb" else "")
    if place == "tensorboard":
        monkeypatch.setattr("tensorboardX.SummaryWriter.add_scalar", fails)
    for step in (1, 2):
        writer.write(step, {"loss": 0.5})
    writer.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().err.count(f"nothing goes to {place} (ConnectionError: it is gone)") == 1


def test_a_folder_in_which_tensorboard_cannot_write_is_noted(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("a file in the way")
    writer = logging.MetricsWriter(tmp_path, 0)
    writer.write(1, {"loss": 0.5})
    writer.close()
    assert "nothing goes to tensorboard" in capsys.readouterr().err
