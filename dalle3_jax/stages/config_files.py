"""Config files by path or by name: those that the package carries are there wherever a command is run."""

import re
import runpy
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

import dalle3_jax
from dalle3_jax.files import local_path
from dalle3_jax.stages.objective import moved_key_error

__all__ = ["find_config", "importable_configs", "read_config_file"]

PACKAGE = Path(dalle3_jax.__file__).parent
CARRIED = next((folder for folder in (PACKAGE / "configs", PACKAGE.parent / "configs") if folder.is_dir()), PACKAGE)
"""The configs of an installation, or those at the top of a checkout."""


def find_config(name: str, folder: str = "") -> Path:
    """The file that a path or a name stands for: "my/config.py", "demo", "configs/demo.py" or "ablations/xfnet".

    A file that is there goes before one that the package carries; `folder` is where in those a bare name is sought
    first. Raises ValueError naming those that there are.
    """
    path = Path(local_path(name))
    if path.suffix == ".py" and path.is_file():
        return path
    inner = path.as_posix().removeprefix("configs/").removesuffix(".py")
    for place in (CARRIED / folder / f"{inner}.py", CARRIED / f"{inner}.py"):
        if not path.is_absolute() and place.is_file():
            return place
    files = [file for file in sorted((CARRIED / folder).glob("*.py")) if file.stem != "common"]
    names = [file.stem for file in files if "\ndef get_config(" in file.read_text(encoding="utf-8")]
    raise ValueError(f"there is no config {name!r}: give a file, or one of {', '.join(names)}")


def read_config_file(path: Path, *arguments: str) -> ConfigDict:
    """`get_config` of a config file; ValueError when there is none, or when it raises."""
    if not path.is_file():
        raise ValueError(f"there is no config file {path}")
    with importable_configs(path):
        try:
            config = runpy.run_path(str(path))["get_config"](*arguments)
        except ValueError as error:  # which says what is wrong with the arguments
            raise ValueError(str(error)) from None
        except (AttributeError, KeyError) as error:  # ml_collections' way to say that there is no such key
            key = re.search(r"[\"'](\w+)[\"']", str(error))
            if key and (moved := moved_key_error(f"train.{key[1]}")):
                raise ValueError(f"{path}: config.{moved}") from None
            raise ValueError(f"{path} gives no config: {type(error).__name__}: {error}") from None
        except Exception as error:
            raise ValueError(f"{path} gives no config: {type(error).__name__}: {error}") from None
    if not isinstance(config, ConfigDict):
        raise ValueError(f"{path} gives no config: its get_config returns a {type(config).__name__}, no ConfigDict")
    return config


@contextmanager
def importable_configs(path: Path) -> Iterator[None]:
    """Lets a config import others as `configs.NAME`: from the folder `configs` that it lies in, from here, or ours."""
    above = [parent for parent in path.resolve().parents if parent.name == "configs"]
    folders = [str(folder) for folder in (*above[:1], Path("configs").resolve(), CARRIED) if folder.is_dir()]
    present = sys.modules.get("configs")
    if present is not None and folders[0] in map(str, getattr(present, "__path__", ())):
        yield
        return
    others = _take_modules()
    package = types.ModuleType("configs")
    package.__path__ = folders
    sys.modules["configs"] = package
    try:
        yield
    finally:
        _take_modules()
        sys.modules.update(others)


def _take_modules() -> dict[str, Any]:
    """The modules of a package `configs`, which is imported no longer."""
    names: Sequence[str] = [name for name in sys.modules if name.partition(".")[0] == "configs"]
    return {name: sys.modules.pop(name) for name in names}
