"""Data that was made once and is read from then on: latents and text features, and newer captions."""

LATENTS_BATCH = 32
"""Images that are encoded at once into a cache, unless another number is asked for."""
