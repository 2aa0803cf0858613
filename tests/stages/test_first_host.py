"""Work that the first host does alone: what fails there ends the others too, which wait for it."""

from pathlib import Path
from typing import Any

import jax
import pytest
from ml_collections import ConfigDict

from dalle3_jax.stages import first_host
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage

CONTEXT = Context(ConfigDict(), Path(), StageNetworks({}, {}, {}, ()))
FAILED = OSError("no space left")


def nothing(*_: Any) -> Any:
    """A stand-in for what a stage holds."""
    return {}


@pytest.mark.parametrize(("process", "message"), [(0, "no space left"), (1, "its log says why")])
def test_what_fails_on_the_first_host_is_an_error_on_all(process, message, monkeypatch):
    """The stand-ins are of what crosses hosts."""
    stage, waits = Stage(loss_fn=nothing, data=nothing, preview=nothing, release=nothing), []

    def fail(*_: Any) -> None:
        raise FAILED

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: process)
    monkeypatch.setattr(first_host.processes, "gather_params", lambda tree: tree)
    monkeypatch.setattr(first_host.processes, "barrier", waits.append)
    monkeypatch.setattr(first_host.processes, "from_first_process", lambda failed: failed or process == 1)
    monkeypatch.setattr(first_host, "build_stage", lambda _: stage)
    monkeypatch.setattr(first_host, "place_params", nothing)
    with pytest.raises(OSError, match=message):
        first_host.on_first_host(CONTEXT, stage, {}, fail)
    assert len(waits) == 1
