"""What the stages of distillation share: the component that learns, its teacher, and the objective."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.diffusion import schedules
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.training import tasks
from dalle3_jax.training.objectives.consistency import consistency_loss
from dalle3_jax.typing import LossFn

__all__ = ["DECODERS", "distillation_loss", "teacher_release", "trained_component"]

DECODERS = ("decoder", "refiner")
"""The components that turn latents into images, or into better ones."""


def trained_component(config: ConfigDict, components: tuple[str, ...]) -> str:
    """The one component that the stage trains; ValueError where it is none of those it can, or several."""
    trainable = tuple(config.train.trainable)
    if len(trainable) != 1 or trainable[0] not in components:
        raise ValueError(f"train.trainable is {trainable}: this stage trains {' or '.join(components)} alone")
    return trainable[0]


def teacher_release(system: StageNetworks, component: str) -> Release:
    """The release of the component's teacher; ValueError where there is none or what it holds is none."""
    release = system.releases.get(component)
    if release is None:
        raise ValueError(f"there is no teacher: name its release in config.init.{component}")
    if component in DECODERS:
        kind = release.decoders[component].kind if component in release.decoders else "unknown"
        if kind != "diffusion":
            raise ValueError(f"config.init.{component} is of kind {kind}: a teacher is of kind diffusion")
        if found := system.latent().mismatches(release.decoders[component].latent):
            raise ValueError(f"config.init.{component} was trained on other latents: {'; '.join(found)}")
    return release


def distillation_loss(config: ConfigDict, pose: tasks.MakeTask, component: str, diffusion: Mapping[str, Any]) -> LossFn:
    """The objective of distillation with the config's settings; `diffusion` holds schedule and prediction."""
    how = config.train.consistency
    first, last = how.parts
    if not 1 <= first <= last:
        raise ValueError(f"train.consistency.parts {tuple(how.parts)}: two numbers from 1 up, the second no smaller")
    return consistency_loss(
        pose,
        component,
        schedule=schedules.build_schedule(**diffusion["schedule"]),
        predict=diffusion["prediction"],
        top=how.top,
        parts=(first, last),
        steps=config.train.steps,
        teacher=how.teacher,
        guidance_scale=how.guidance_scale,
    )
