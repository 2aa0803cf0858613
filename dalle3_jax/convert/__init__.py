"""Weights from and to elsewhere: folders that transformers and diffusers write, read without them and without torch.

from dalle3_jax import convert

encoder, params = convert.load("t5-v1_1-xxl")
"""

from dalle3_jax.convert.decoder import decoder_settings
from dalle3_jax.convert.networks import LAYOUTS, Opened, load, open, public_config, save

__all__ = ["LAYOUTS", "Opened", "decoder_settings", "load", "open", "public_config", "save"]
