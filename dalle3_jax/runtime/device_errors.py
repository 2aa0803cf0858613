"""Errors of JAX that have a known cause, as one line with the remedy. Imports no jax."""

import traceback

from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED

__all__ = ["explain_device_error", "first_line"]

OUT_OF_MEMORY = (
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "alloc_failed",
    "bad_alloc",
    "failed to allocate",
)
NO_BACKEND = ("unable to initialize backend", "unknown backend", "not in the list of known backends")
HELD_BY_ANOTHER = "already in use by process"


def explain_device_error(error: BaseException, memory_remedy: str = "") -> tuple[str, int] | None:
    """(The line to print, the exit code) of an error of JAX whose cause is known; None for all others.

    A device that has not memory enough is a failure, and `memory_remedy` says what helps; a backend that JAX_PLATFORMS
    asks for and that is not there, or that another process holds, is bad input.
    """
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError) or any(text in said for text in OUT_OF_MEMORY):
        where = "this machine" if isinstance(error, MemoryError) else "the device"
        remedy = memory_remedy or "compute less at once, or see what else holds its memory"
        return f"{where} has not memory enough ({first_line(error)}): {remedy}", EXIT_FAILED
    if any(text in said for text in NO_BACKEND):
        remedy = "unset JAX_PLATFORMS to take what is there, or set JAX_PLATFORMS=cpu"
        if HELD_BY_ANOTHER in said:
            remedy = "end that process, or set JAX_PLATFORMS=cpu"
        return f"JAX has no device to compute on ({first_line(error)}): {remedy}", EXIT_BAD_INPUT
    if isinstance(error, AssertionError) and _is_raised_by_backend_choice(error):  # a plug-in that is not installed
        asked = "the backend that JAX_PLATFORMS names is not installed"
        return f"JAX has no device to compute on: {asked}; unset it, or set JAX_PLATFORMS=cpu", EXIT_BAD_INPUT
    return None


def first_line(error: BaseException) -> str:
    """The first line of what an error says."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _is_raised_by_backend_choice(error: AssertionError) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.endswith("xla_bridge.py")
