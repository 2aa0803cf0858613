"""Work that the first host does alone: what fails there ends the others too, which wait for it, with the step saved."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import jax
import pytest
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.training import Checkpointer
from dalle3_jax.stages import first_host, train
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage
from dalle3_jax.training.logging import MetricsWriter
from dalle3_jax.training.state import TrainState

CONTEXT = Context(ConfigDict(), Path(), StageNetworks({}, {}, {}, ()))
FULL, NO_FONT = OSError("no space left"), ValueError("no such font")


class Ended(Exception):
    """An error that a handler makes of another."""


def nothing(*_: Any) -> Any:
    """A stand-in for what a stage holds."""
    return {}


def raises(error: Exception):
    """A stand-in for what fails."""

    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.fixture
def handled() -> list[Exception]:
    """The errors that `handle` was called with."""
    return []


@pytest.fixture
def handle(handled):
    """Keeps the error, and makes another of it."""

    def keep(error: Exception) -> Exception:
        handled.append(error)
        return Ended()

    return keep


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize("error", [FULL, NO_FONT], ids=str)
def test_what_fails_on_the_first_host_is_handled_and_raised_on_all(process, error, monkeypatch, handle, handled):
    """The stand-ins are of what crosses hosts."""
    stage, waits, asked = Stage(loss_fn=nothing, data=nothing, preview=nothing, release=nothing), [], []
    answers = [True, error is NO_FONT]
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(first_host.processes, "gather_params", lambda tree: tree)
    monkeypatch.setattr(first_host.processes, "barrier", waits.append)
    monkeypatch.setattr(
        first_host.processes, "from_first_process", lambda own: asked.append(own) or answers[len(asked) - 1]
    )
    monkeypatch.setattr(first_host, "build_stage", lambda _: stage)
    monkeypatch.setattr(first_host, "place_params", nothing)
    with pytest.raises(Ended):
        first_host.on_first_host(CONTEXT, stage, {}, raises(error), handle)
    assert len(waits) == 1
    assert asked == (answers if process == 0 else [False, False])
    assert handled == [error] if process == 0 else "its log says why" in str(handled[0])
    assert [type(one) for one in handled] == [type(error)]


def test_what_fails_as_one_host_gathers_is_not_handled_as_if_all_knew(monkeypatch, handle, handled):
    stage = Stage(loss_fn=nothing, data=nothing, preview=nothing, release=nothing)
    monkeypatch.setattr(first_host.processes, "gather_params", raises(MemoryError()))
    with pytest.raises(MemoryError):
        first_host.on_first_host(CONTEXT, stage, {}, nothing, handle)
    assert handled == []


def test_writing_the_figures_is_part_of_what_the_first_host_does_alone(handle, handled):
    stage = Stage(loss_fn=nothing, data=nothing, preview=lambda *_: {"psnr": 8.0}, release=nothing)
    run, state = Mock(train.Run, context=CONTEXT, folder=Path(), stage=stage), Mock(TrainState, ema={})
    with pytest.raises(Ended):
        train.write_preview(run, state, 3, Mock(MetricsWriter, write=raises(FULL)), handle)
    assert handled == [FULL]


@pytest.mark.parametrize(
    ("error", "save", "said"),
    [
        (FULL, nothing, "step 3 is saved, the same command goes on from there"),
        (MemoryError("12 GiB"), nothing, "step 3 is saved, the same command goes on from there"),
        (FULL, raises(OSError("the store is gone")), "step 3 is not saved: the store is gone"),
        (TypeError("a bug"), raises(ValueError("no arrays")), "step 3 is not saved: no arrays"),
    ],
    ids=["saved", "saved out of memory", "store gone", "no arrays"],
)
def test_the_error_of_a_later_preview_stays_and_says_whether_its_step_is_saved(error, save, said):
    run = Mock(train.Run, checkpointer=Mock(Checkpointer, save=save))
    error = type(error)(*error.args)  # a new one, without notes
    assert train.save_after_error(run, Mock(TrainState), 3, Mock(), error) is error
    assert error.__notes__ == [said]
