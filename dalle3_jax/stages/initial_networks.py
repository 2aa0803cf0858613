"""Fields of the networks that config.init names, from configs and records: no weights are read, nothing is fetched."""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax import convert
from dalle3_jax.checkpoints.release_record import is_release, read_record
from dalle3_jax.files import local_path
from dalle3_jax.loading.locate import find_release
from dalle3_jax.loading.stable_diffusion import describe_pipeline
from dalle3_jax.models.build import module_fields, module_kind
from dalle3_jax.stages.config_files import read_config_file

__all__ = ["add_initial_sections"]


def add_initial_sections(config: ConfigDict, file: Path) -> None:
    """Gives the networks of config.init that have no section in config.model the fields that they were made with.

    These are those of the stage of this name in the same config file, else of a release, a run or public weights on
    this machine. Networks of which none says them stay without a section.
    """
    with config.unlocked():
        for component, where in config.init.items():
            if component not in config.model and (section := _find_section(file, component, str(where))):
                config.model[component] = section


def _find_section(file: Path, component: str, where: str) -> ConfigDict | None:
    path = Path(local_path(where))
    if where == "demo" or path.exists():
        return ConfigDict(_stored_fields(path, component))
    seen: list[str] = []
    while where not in seen:  # a stage may itself begin with the network of one before it
        seen.append(where)
        try:
            stage = read_config_file(file, where)
        except ValueError:  # no stage of this name
            return None
        if component in stage.model:
            return stage.model[component]
        where = str(stage.init.get(component, where))
    return None


def _stored_fields(path: Path, component: str) -> dict[str, Any]:
    """A section of config.model for a network of a release, a run or public weights; ValueError where it has none."""
    if (path / "model_index.json").is_file() and not is_release(path):
        [module] = describe_pipeline(path, [component]).modules.values()  # by its folder, which may be called otherwise
    elif (path / "config.json").is_file() and not is_release(path / "release") and not (path / "checkpoints").is_dir():
        module = convert.open(path).module
    else:
        release = find_release(path)
        part = read_record(release)["components"].get(component)
        if part is None:
            raise ValueError(f"config.init.{component}: the release in {release} has none")
        return {"network": part["class"], **part["fields"]}
    return {"network": module_kind(module), **module_fields(module)}
