"""JAX's errors whose cause is known: one line with the remedy, and an exit code; others keep their traceback."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from dalle3_jax import __main__ as front
from dalle3_jax.commands import COMMANDS, MEMORY_REMEDIES
from dalle3_jax.runtime import distributed
from dalle3_jax.runtime.device_errors import explain_device_error
from dalle3_jax.runtime.distributed import run_job
from dalle3_jax.runtime.exit_codes import EXIT_PEER

ROOT = Path(__file__).parents[2]
MEMORY = (
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.\n  more lines"),
    jax.errors.JaxRuntimeError("INTERNAL: Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    jax.errors.JaxRuntimeError("INTERNAL: cuDNN: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("std::bad_alloc"),
    MemoryError("Unable to allocate 12.3 GiB for an array"),
    MemoryError(),
)


def raises(error):
    def body(*_):
        raise error

    return body


@pytest.mark.parametrize("error", MEMORY, ids=str)
@pytest.mark.parametrize("command", ["sample", "encode"])
def test_memory_that_does_not_suffice_is_a_failure_with_the_commands_own_remedy(capsys, monkeypatch, error, command):
    monkeypatch.setattr(f"{COMMANDS[command][0]}.main", raises(error))
    assert front.run_command(command, []) == 1
    assert run_job(raises(error), MEMORY_REMEDIES[command]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("error: ") and "--batch-size" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad"), 2),
        (OSError("full"), 1),
        (MemoryError("12 GiB"), 1),
        (RuntimeError("Unable to initialize backend 'tpu'"), 2),
        (jax.errors.JaxRuntimeError("connection closed"), EXIT_PEER),
    ],
    ids=str,
)
def test_notes_on_an_error_stand_behind_it(capsys, monkeypatch, error, code):
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "exit_distributed", lambda code: code)
    error.add_note("step 3 is saved")
    assert run_job(raises(error)) == code
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.endswith("; step 3 is saved\n")
    assert line.count("\n") == 1


def test_the_note_of_jax_on_its_traceback_is_left_out(capsys):
    error = ValueError("bad")
    assert run_job(jax.jit(raises(error))) == 2
    assert error.__notes__
    assert capsys.readouterr().err == "error: bad\n"


def test_a_backend_that_another_process_holds_is_bad_input_that_says_so():
    said = "Unable to initialize backend 'tpu': ABORTED: The TPU is already in use by process with pid 4711. Not owned"
    line, code = explain_device_error(RuntimeError(said))
    assert "4711" in line
    assert "end that process" in line
    assert code == 2


@pytest.mark.parametrize(
    "error",
    [jax.errors.JaxRuntimeError("INTERNAL: a bug"), RuntimeError("x"), AssertionError(), ValueError("out of memory")],
)
def test_other_errors_keep_their_traceback(error, monkeypatch):
    assert explain_device_error(error) is None
    monkeypatch.setattr(f"{COMMANDS['sample'][0]}.main", raises(error))
    with pytest.raises(type(error)):
        front.run_command("sample", [])


@pytest.mark.parametrize("platform", ["cuda", "gpuu", "cuda,rocm"])
def test_a_backend_that_is_not_there_is_bad_input_in_every_command(tmp_path, platform):
    """One process asks several commands: each begins with the backends, which is what takes the time."""
    program = f"""
from dalle3_jax.__main__ import main
from dalle3_jax.commands.train import main as train
sample = main(["sample", "--prompt", "x", "--outdir", {str(tmp_path / "out")!r}])
trained = train(["--config=configs/tiny.py:vae", {f"--workdir={tmp_path / 'run'}"!r}])
print(sample, trained)
"""
    environment = os.environ | {"JAX_PLATFORMS": platform}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["2", "2"]
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 2
    assert all("JAX_PLATFORMS" in line for line in lines)
    assert "Traceback" not in done.stderr
