"""What a study of captions needs beside its runs: captions by its own captioners, and prompts made of captions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.ablations.measures import named_world
from dalle3_jax.captioning import CaptionModel, Decoding
from dalle3_jax.captioning.recaption import Guards, captioning_of, made_by, recaption
from dalle3_jax.data import batches as pipeline
from dalle3_jax.data.scenes import World
from dalle3_jax.evaluation.captions.following import flat, followed, prompts_of, score_pictures, true_pictures
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
        world = named_world(data)
        texts = {version: prompts_of(world, version, count) for version in prompts}
        captioners = {version: CaptionModel.load(workdir / stage) for version, stage in prompts.items()}
        return cls(world, texts, captioners, Reader.load())

    def follow(self, pipeline: Pipeline) -> dict[str, float]:
        """ "version: measure" -> value, of a model's pictures."""
        return flat(
            {
                version: followed(pipeline, prompts, self.reader, self.captioners[version])
                for version, prompts in self.prompts.items()
            }
        )

    def ceilings(self, size: tuple[int, int]) -> dict[str, float]:
        """The same of faultless pictures."""
        return flat(
            {
                version: score_pictures(
                    true_pictures(prompts, self.world, size), prompts, self.reader, self.captioners[version]
                )
                for version, prompts in self.prompts.items()
            }
        )


def write_captions(config: ConfigDict, captioner: Path, version: str, folder: Path) -> None:
    """A captioner's captions of the records that a config trains on, or what is missing of them."""
    source = pipeline.source_of(data_section(config))
    model, decoding, guards = CaptionModel.load(captioner), Decoding(), Guards("keep")
    made = made_by(source, version, model, decoding, guards)
    captioning = captioning_of(source, model, decoding, guards)
    recaption(str(folder), source, made, captioning, config.data.latents or config.data.records)
