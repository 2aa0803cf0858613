"""Parts that the stages of distillation share: the component that learns, and its teacher."""

from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.stages.networks import StageNetworks

__all__ = ["DECODERS", "teacher_release", "trained_component"]

DECODERS = ("decoder", "refiner")
"""The components that turn latents into images, or into better ones."""


def trained_component(config: ConfigDict, components: tuple[str, ...]) -> str:
    """The one component that the stage trains; ValueError where it is none of those it can, or several."""
    trainable = tuple(config.train.trainable)
    if len(trainable) != 1 or trainable[0] not in components:
        raise ValueError(f"train.trainable is {trainable}: this stage trains {' or '.join(components)} alone")
    return trainable[0]


def teacher_release(networks: StageNetworks, component: str) -> Release:
    """The release of the component's teacher; ValueError where there is none or what it holds is none."""
    release = networks.releases.get(component)
    if release is None:
        raise ValueError(f"there is no teacher: name its release in config.init.{component}")
    if component == "unet" and not release.diffusion:
        raise ValueError(
            "config.init.unet names a network alone, whose schedule nothing says: name a release or pipeline"
        )
    if component in DECODERS:
        kind = release.decoders[component].kind if component in release.decoders else "unknown"
        if kind != "diffusion":
            raise ValueError(f"config.init.{component} is of kind {kind}: a teacher is of kind diffusion")
        if mismatches := networks.latent().mismatches(release.decoders[component].latent):
            raise ValueError(f"config.init.{component} was trained on other latents: {'; '.join(mismatches)}")
    return release
