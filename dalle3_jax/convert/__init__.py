"""Weights from and to elsewhere: folders that transformers and diffusers write, read without them and without torch.

from dalle3_jax import convert

encoder, params = convert.load("t5-v1_1-xxl")
"""

from dalle3_jax.convert.decoder import decoding
from dalle3_jax.convert.networks import LAYOUTS, config_of, load, module_of, save, stored_types

__all__ = ["LAYOUTS", "config_of", "decoding", "load", "module_of", "save", "stored_types"]
