"""The meaning of a checkpoint's name, decided in one place: a release, a run, public weights, an id of the hub."""

from pathlib import Path
from typing import Literal, NamedTuple

from dalle3_jax.checkpoints.release_record import is_release
from dalle3_jax.convert.folders import no_weights_message
from dalle3_jax.files import is_stray, local_path
from dalle3_jax.loading.hub import fetch, is_hub_id

__all__ = ["DEMO", "Located", "find_release", "find_stage", "locate"]

DEMO = Path(__file__).parents[1] / "releases" / "demo"

Kind = Literal["release", "run", "pipeline", "network", "flat"]


class Located(NamedTuple):
    """The place of a checkpoint, and its kind.

    `kind` is "release" (a folder with a model.json) or "run" (a training workdir or a stage's folder, whose newest
    release is at `path`); of public weights "pipeline" (a folder with a model_index.json), "network" (one with a
    config.json) or "flat" (safetensors without one, in a folder or as one file).
    """

    kind: Kind
    path: Path


def locate(name: str | Path, variant: str | None = None) -> Located:
    """The place and kind of the checkpoint of this name, fetched from the hub if it has to be; ValueError without one.

    A path that exists goes before an id of the hub; `variant` is that of `fetch`.
    """
    given = Path(local_path(name))
    if given.is_file() and given.suffix == ".json":
        raise ValueError(f"{given} describes a checkpoint: give its folder, {given.parent}")
    if given.is_file() and given.suffix != ".safetensors":
        raise ValueError(f"{given} cannot be used: {no_weights_message([given.name])}")
    if kind := _public_kind(given):
        return Located(kind, given)
    if is_hub_id(name):
        folder = fetch(str(name), variant)
        return Located(_public_kind(folder) or "release", folder)
    try:
        path = find_release(name)
    except ValueError as error:
        raise ValueError(
            f"{error}; a folder of diffusers (with its model_index.json) or an id of the hub, organisation/name, do too"
        ) from None
    return Located("release" if path in (given, DEMO) else "run", path)


def find_release(name: str | Path) -> Path:
    """The folder that "demo", a release's folder or a training workdir stands for; ValueError when there is none."""
    if str(name) == "demo":
        return DEMO
    given = Path(local_path(name))
    for folder in (given, given / "release", given / "base" / "release"):
        if is_release(folder):
            return folder
    what = "holds no release" if given.is_dir() else "is not a folder"
    raise ValueError(
        f'the checkpoint {str(name)!r} {what}: give "demo", the folder of a release (with its model.json) or a '
        "training workdir; `dalle3-jax export WORKDIR FOLDER` makes a release of a run's newest checkpoint"
    )


def find_stage(workdir: Path) -> Path:
    """The folder of the stage that a training workdir means: itself, or its base stage; ValueError for no workdir."""
    for folder in (workdir, workdir / "base"):
        if (folder / "config.json").is_file():
            return folder
    raise ValueError(f"{workdir} is not a training workdir: neither it nor its base/ holds a config.json")


def _public_kind(path: Path) -> Literal["pipeline", "network", "flat"] | None:
    """The kind of public weights that lie at a path; None for a release, a run, and what is neither."""
    if path.is_file():
        return "flat"
    if is_release(path):
        return None
    if (path / "model_index.json").is_file():
        return "pipeline"
    if is_release(path / "release") or (path / "checkpoints").is_dir():  # a run, whose config.json is another
        return None
    if (path / "config.json").is_file():
        return "network"
    return "flat" if any(not is_stray(file.name) for file in path.glob("*.safetensors")) else None
