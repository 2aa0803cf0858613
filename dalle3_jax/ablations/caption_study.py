"""The parts of a study of captions beside its runs: captions by its own captioners, and prompts made of captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.ablations.measures import data_world
from dalle3_jax.captioning import CaptionDecoding, CaptionModel
from dalle3_jax.captioning.recaption import Guards, captions_metadata, make_captioning, recaption
from dalle3_jax.data import batches as pipeline
from dalle3_jax.data.scenes import World
from dalle3_jax.evaluation.captions.following import (
    flatten_scores,
    generate_and_score,
    render_true_images,
    score_images,
    version_prompts,
)
from dalle3_jax.evaluation.prompts import Prompt
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.stages.inputs import data_section

__all__ = ["CaptionPrompts", "write_captions"]


@dataclass(frozen=True)
class CaptionPrompts:
    """Held-out captions of each version as prompts, and the captioner that scores the pictures made of them."""

    world: World
    prompts: Mapping[str, list[Prompt]]
    captioners: Mapping[str, CaptionModel]
    reader: Reader

    @classmethod
    def of(
        cls, data: Mapping[str, Any], workdir: Path, *, prompts: Mapping[str, str], count: int, points: int
    ) -> "CaptionPrompts":
        """For each version of `prompts` `count` captions of the world that this data section trains on.

        `prompts` names the stage of the workdir whose captioner scores each.
        """
        world = data_world(data)
        texts = {version: version_prompts(world, version, count) for version in prompts}
        captioners = {version: CaptionModel.load(workdir / stage) for version, stage in prompts.items()}
        return cls(world, texts, captioners, Reader.load())

    def score(self, pipeline: Pipeline) -> dict[str, float]:
        """ "version: measure" -> value, of a model's pictures."""
        return flatten_scores(
            {
                version: generate_and_score(pipeline, prompts, self.reader, self.captioners[version])
                for version, prompts in self.prompts.items()
            }
        )

    def ceilings(self, size: tuple[int, int]) -> dict[str, float]:
        """The same of faultless pictures."""
        return flatten_scores(
            {
                version: score_images(
                    render_true_images(prompts, self.world, size), prompts, self.reader, self.captioners[version]
                )
                for version, prompts in self.prompts.items()
            }
        )


def write_captions(config: ConfigDict, captioner: Path, version: str, folder: Path) -> None:
    """A captioner's captions of the records that a config trains on, or what is missing of them."""
    source = pipeline.open_source(data_section(config))
    model, decoding, guards = CaptionModel.load(captioner), CaptionDecoding(), Guards("keep")
    made = captions_metadata(source, version, model, decoding, guards)
    captioning = make_captioning(source, model, decoding, guards)
    recaption(str(folder), source, made, captioning, config.data.latents or config.data.records)
