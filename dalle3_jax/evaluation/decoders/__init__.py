"""Measures of decoders: what they keep of pictures, how they spell, and their cost."""
