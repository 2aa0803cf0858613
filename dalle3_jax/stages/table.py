"""The stages of a config by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from ml_collections import ConfigDict

from dalle3_jax.stages import base, decoder, reader
from dalle3_jax.stages.captioner import captioner_stage
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.size_head import size_head_stage
from dalle3_jax.stages.stage import Stage
from dalle3_jax.stages.text import text_stage
from dalle3_jax.stages.vae import vae_stage

__all__ = ["STAGES"]

STAGES: Mapping[str, Callable[[ConfigDict, Path, StageNetworks], Stage]] = {
    "vae": vae_stage,
    "text": text_stage,
    "base": base.base_stage,
    "decoder": decoder.decoder_stage,
    "refiner": decoder.decoder_stage,
    "distill": decoder.distill_decoder_stage,
    "distill_refiner": decoder.distill_decoder_stage,
    "distill_base": base.distill_base_stage,
    "reader": reader.scene_reader_stage,
    "captioner": captioner_stage,
    "size_head": size_head_stage,
}
