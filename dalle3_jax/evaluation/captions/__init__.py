"""Measures of captions: how they are written, how true they are, and how well a model follows them."""
