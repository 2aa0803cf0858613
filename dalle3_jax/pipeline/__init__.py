"""Prompts to images: the one room that joins networks to samplers."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalle3_jax.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    """Pipeline, imported when it is asked for: what only reads requests or images needs no networks."""
    if name == "Pipeline":
        from dalle3_jax.pipeline.pipeline import Pipeline

        return Pipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
