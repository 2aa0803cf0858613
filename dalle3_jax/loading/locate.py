"""The folder that a name stands for: a release, a training workdir, public weights, an id of the hub."""

from pathlib import Path

from dalle3_jax.convert.folders import no_weights_message
from dalle3_jax.files import is_stray
from dalle3_jax.loading.hub import fetch, is_hub_id

__all__ = ["DEMO", "find_folder", "find_release"]

DEMO = Path(__file__).parents[1] / "releases" / "demo"


def find_release(name: str | Path) -> Path:
    """The folder that "demo", a release's folder or a training workdir stands for; ValueError when there is none."""
    if str(name) == "demo":
        return DEMO
    given = Path(name).expanduser()
    for folder in (given, given / "release", given / "base" / "release"):
        if (folder / "model.json").is_file():
            return folder
    what = "holds no release" if given.is_dir() else "is not a folder"
    raise ValueError(
        f'the checkpoint {str(name)!r} {what}: give "demo", the folder of a release (with its model.json) or a '
        "training workdir; `dalle3-jax export WORKDIR FOLDER` makes a release of a run's newest checkpoint"
    )


def find_folder(name: str | Path, variant: str | None = None) -> Path:
    """Where the checkpoint of this name is, fetched from the hub if it has to be; ValueError when there is none.

    It is a folder, or one file of safetensors. A path that exists goes before an id of the hub.
    """
    given = Path(name).expanduser()
    if given.is_file():
        if given.suffix != ".safetensors":
            raise ValueError(f"{given} cannot be used: {no_weights_message([given.name])}")
        return given
    if _is_public_weights(given):
        return given
    if is_hub_id(name):
        return fetch(str(name), variant)
    try:
        return find_release(name)
    except ValueError as error:
        raise ValueError(
            f"{error}; a folder of diffusers (with its model_index.json) or an id of the hub, organisation/name, do too"
        ) from None


def _is_public_weights(folder: Path) -> bool:
    """Whether a folder holds what diffusers or transformers wrote, or a flat file of OpenAI's decoder, not a run."""
    if (folder / "model_index.json").is_file():
        return True
    is_run = (folder / "release" / "model.json").is_file() or (folder / "checkpoints").is_dir()
    is_release = (folder / "model.json").is_file()
    described = (folder / "config.json").is_file() or any(
        not is_stray(path.name) for path in folder.glob("*.safetensors")
    )
    return described and not is_run and not is_release
