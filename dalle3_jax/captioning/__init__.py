"""Pictures to captions: the captioner's release, and how its texts are written."""

from typing import TYPE_CHECKING, Any

from dalle3_jax.captioning.decoding import CaptionDecoding

if TYPE_CHECKING:
    from dalle3_jax.captioning.model import CaptionModel

__all__ = ["CaptionDecoding", "CaptionModel"]


def __getattr__(name: str) -> Any:
    """CaptionModel, imported when it is asked for: what only reads settings needs no networks."""
    if name == "CaptionModel":
        from dalle3_jax.captioning.model import CaptionModel

        return CaptionModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
