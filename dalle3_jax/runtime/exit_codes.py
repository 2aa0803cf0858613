"""The exit codes of commands, and the one line in which a command says why it ends with one. Imports no jax."""

import sys

EXIT_FAILED = 1
"""Something that was right to ask for went wrong."""

EXIT_BAD_INPUT = 2
"""What was asked for makes no sense; nothing was computed."""

EXIT_PEER = 69
"""Another process of the run was lost: EX_UNAVAILABLE."""

EXIT_HUNG = 70
"""No step finished in time: EX_SOFTWARE."""

EXIT_SAVED = 75
"""A signal came, and everything is saved: EX_TEMPFAIL, run the same command again to go on."""

EXIT_INTERRUPTED = 130
"""Ctrl-C, as shells count it."""


def print_error(error: object, code: int, explanation: str = "") -> int:
    """Print the error, or what explains it, and the notes on it in one line, and return the code."""
    notes = (note for note in getattr(error, "__notes__", ()) if "\n" not in note)  # JAX's on its tracebacks has lines
    print("error: " + "; ".join([explanation or str(error), *notes]), file=sys.stderr, flush=True)
    return code
