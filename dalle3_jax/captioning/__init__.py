"""Pictures to captions: the captioner's release, and how its texts are written."""

from dalle3_jax.captioning.loop import CaptionDecoding
from dalle3_jax.captioning.model import CaptionModel

__all__ = ["CaptionDecoding", "CaptionModel"]
