"""`dalle3-jax captions report | measure`: what captions are like, and how true they are."""

from collections.abc import Sequence
from importlib import import_module

from dalle3_jax.commands.cli import CommandError, print_command_errors

__all__ = ["main"]

PARTS = {
    "report": ("dalle3_jax.commands.captions.report", "how any captions are written: what DALL-E 3's paper warns of"),
    "measure": ("dalle3_jax.commands.captions.measure", "how true captions of scenes are, against exact labels"),
}


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the part that the first argument names."""
    name, *rest = list(argv) or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {part:<8} {line}" for part, (_, line) in PARTS.items()]
        print("\n".join(["usage: dalle3-jax captions <part> [options]", "", *lines, "", "Each has a --help."]))
        return 0
    if name not in PARTS:
        raise CommandError(f"no part {name!r}: choose from {', '.join(PARTS)}")
    return import_module(PARTS[name][0]).main(rest)
