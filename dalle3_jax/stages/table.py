"""The stages of a config by name; the keywords of a stage's function are what train.objective may hold."""

from collections.abc import Callable, Mapping

from dalle3_jax.stages.base import base_stage, distill_base_stage
from dalle3_jax.stages.captioner import captioner_stage
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.decoder import decoder_stage, distill_decoder_stage
from dalle3_jax.stages.drawing import drawing_stage
from dalle3_jax.stages.image_prompt import image_prompt_stage
from dalle3_jax.stages.inpaint import inpaint_stage
from dalle3_jax.stages.layout import layout_stage
from dalle3_jax.stages.objective import objective_keywords
from dalle3_jax.stages.reader import scene_reader_stage
from dalle3_jax.stages.size_head import size_head_stage
from dalle3_jax.stages.stage import Stage
from dalle3_jax.stages.text import text_stage
from dalle3_jax.stages.upscaler import distill_upscaler_stage, upscaler_stage
from dalle3_jax.stages.vae import vae_stage

__all__ = ["STAGES", "build_stage"]

STAGES: Mapping[str, Callable[..., Stage]] = {
    "vae": vae_stage,
    "text": text_stage,
    "layout": layout_stage,
    "drawing": drawing_stage,
    "base": base_stage,
    "decoder": decoder_stage,
    "refiner": decoder_stage,
    "distill": distill_decoder_stage,
    "distill_refiner": distill_decoder_stage,
    "distill_base": distill_base_stage,
    "inpaint": inpaint_stage,
    "image_prompt": image_prompt_stage,
    "reader": scene_reader_stage,
    "captioner": captioner_stage,
    "size_head": size_head_stage,
    "upscaler": upscaler_stage,
    "distill_upscaler": distill_upscaler_stage,
}
"""Name -> stage(context, *, keywords of its objective)."""


def build_stage(context: Context) -> Stage:
    """The stage that the config names, with its train.objective; ValueError naming keywords that it does not take."""
    stage = STAGES[context.config.train.stage]
    return stage(context, **objective_keywords(context.config, stage))
