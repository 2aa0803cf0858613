"""The config of a run: read from a file and flags, written beside the checkpoints, compared on resuming."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

__all__ = ["check_unchanged", "load", "plain"]

FIXED = ("data", "init", "init_digests", "model", "source", "train.accumulate", "train.b1", "train.b2")
FIXED += ("train.batch_size", "train.seed", "train.stage", "train.trainable")
FREE = ("data.threads", "data.prefetch", "data.max_bad")
"""What a run may go on with however it changed, though it stands within what is fixed: the batches stay the same."""


def load(argv: Sequence[str]) -> tuple[ConfigDict, Path] | None:
    """The config and the workdir that command line arguments name; None when they ask for help.

    `--config FILE[:STAGE] --workdir DIR [--config.train.steps=10 ...]`. Raises ValueError naming what is wrong.
    """
    argv = ["train", *argv]
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "folder of the run; stages get subfolders", flag_values=values)
    flags.DEFINE_boolean("help", False, "show this help", short_name="h", flag_values=values)
    config_flags.DEFINE_config_file(
        "config", help_string="config file, FILE.py:STAGE", lock_config=True, flag_values=values, sys_argv=argv
    )
    try:
        rest = values(argv)[1:]
        if values.help:
            return None
        if rest:
            raise ValueError(f"unexpected arguments: {' '.join(rest)}")
        missing = [f"--{name}" for name in ("config", "workdir") if not values[name].value]
        if missing:
            raise ValueError(f"{' and '.join(missing)} must be given")
        if not values.config.train.stage:  # a file that cannot be read raises here, not before
            raise ValueError(f"the config {values['config'].value!r} names no train.stage")
        return values.config, Path(values.workdir)
    except (flags.Error, AttributeError, KeyError, TypeError, OSError) as error:
        raise ValueError(_one_line(error)) from None


def _one_line(error: Exception) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split())


def plain(value: Any) -> Any:
    """A config as JSON values."""
    if isinstance(value, ConfigDict | Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def check_unchanged(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ValueError when a run that began with the config in `path` cannot go on with this one, naming the keys."""
    if not path.exists():
        return
    try:
        old = _leaves(json.loads(path.read_text()))
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}): restore it, or use another workdir") from None
    new = _leaves(json.loads(json.dumps(config)))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and _is_fixed(key)]
    if changed:
        listed = "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed)
        raise ValueError(
            f"the run in {path.parent} cannot go on with a config that differs in {listed}. "
            "Use the old values, or another workdir (config.init can begin from this run's release)"
        )


def _is_fixed(key: str) -> bool:
    return key not in FREE and any(key == prefix or key.startswith(f"{prefix}.") for prefix in FIXED)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves
