"""Data that was made once and is read from then on: latents and text features, and newer captions."""
