"""`dalle3-jax evaluate`: a model's scores, or one of the other evaluations that the first argument names."""

from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

PARTS = {
    "compare": ("dalle3_jax.commands.evaluate.compare", "main"),
    "atoms": ("dalle3_jax.commands.evaluate.atoms", "main"),
    "votes": ("dalle3_jax.commands.evaluate.votes", "main"),
    "elo": ("dalle3_jax.commands.evaluate.votes", "elo_main"),
    "decoders": ("dalle3_jax.commands.evaluate.decoders", "main"),
}


def main(argv: Sequence[str]) -> int:
    """Run the part that the first argument names; the scores of a model where it names none."""
    name, rest = (argv[0], argv[1:]) if argv and argv[0] in PARTS else ("", argv)
    module, function = PARTS.get(name, ("dalle3_jax.commands.evaluate.score", "main"))
    return getattr(import_module(module), function)(rest)
