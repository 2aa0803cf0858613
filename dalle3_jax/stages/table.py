"""The stages of a config by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from dalle3_jax.stages import base, decoder, reader
from dalle3_jax.stages.captioner import captioner
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.size_head import size_head
from dalle3_jax.stages.stage import Stage
from dalle3_jax.stages.text import text
from dalle3_jax.stages.vae import vae

__all__ = ["STAGES"]

STAGES: Mapping[str, Callable[[ConfigDict, Path, System], Stage]] = {
    "vae": vae,
    "text": text,
    "base": base.base,
    "decoder": decoder.decoder,
    "refiner": decoder.decoder,
    "distill": decoder.distill,
    "distill_refiner": decoder.distill,
    "distill_base": base.distill_base,
    "reader": reader.reader,
    "captioner": captioner,
    "size_head": size_head,
}
