"""`python -m dalle3_jax <command>` and the console script `dalle3-jax`: pick a command and run it."""

import difflib
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from dalle3_jax.commands import COMMANDS, MEMORY_REMEDIES, RESUMABLE
from dalle3_jax.runtime.device_errors import explain_device_error
from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_INTERRUPTED, print_error

# Libraries that only some commands need -> the extra that brings them.
EXTRAS = {
    "absl": "train",
    "array_record": "train",
    "grain": "train",
    "ml_collections": "train",
    "optax": "train",
    "orbax": "train",
    "tensorboardX": "train",
    "tensorflow_datasets": "tfds",
    "wandb": "wandb",
    "matplotlib": "eval",
    "rapidocr": "eval",
    "scipy": "eval",
    "nudenet": "safety",
    "c2pa": "c2pa",
    "prometheus_client": "serve",
    "pydantic": "serve",
    "python_multipart": "serve",
    "starlette": "serve",
    "uvicorn": "serve",
}


def usage_text() -> str:
    """The list of commands, one line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    head, tail = "usage: dalle3-jax <command> [options]", "dalle3-jax <command> --help says more."
    return "\n".join([head, "", *lines, "", tail])


def fail_unknown_command(name: str) -> int:
    """Say that there is no such command, and which one may have been meant."""
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(COMMANDS)}"
    return print_error(f"no command {name!r}: {hint}", EXIT_BAD_INPUT)


def run_command(name: str, argv: Sequence[str]) -> int:
    """Run one command; what is not here (a library, memory, a device) is one line with its remedy."""
    try:
        return importlib.import_module(COMMANDS[name][0]).main(list(argv))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        return print_error(f"{name} needs {error.name}: pip install 'dalle3_jax[{extra}]'", EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        remark = "; the same command goes on from what is saved" if name in RESUMABLE else ""
        print(f"stopped{remark}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (RuntimeError, MemoryError, AssertionError) as error:
        if explained := explain_device_error(error, MEMORY_REMEDIES.get(name, "")):
            line, code = explained
            return print_error(error, code, line)
        raise


def _print_whatever_comes() -> None:
    """Show by its code what the terminal's encoding lacks, so that no file's name stops a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names, with the rest as its own arguments."""
    if argv is None:
        _print_whatever_comes()
    try:
        code = run_arguments(list(sys.argv[1:] if argv is None else argv) or ["--help"])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    if code == EXIT_INTERRUPTED and argv is None:  # a second Ctrl-C ends Python at once, not within its own clean-up
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


def run_arguments(argv: Sequence[str]) -> int:
    """Run the command that the first argument names, or say what there is."""
    name, *rest = argv
    if name in ("-h", "--help", "help"):
        print(usage_text())
        return 0
    if name == "--version":
        print(version("dalle3_jax"))
        return 0
    if name not in COMMANDS:
        return fail_unknown_command(name)
    return run_command(name, rest)


if __name__ == "__main__":
    sys.exit(main())
