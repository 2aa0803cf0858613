"""The files that a run writes for people: metrics (JSONL, TensorBoard, wandb), picture grids, versions."""

import io
import json
import math
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from dalle3_jax.files import write_whole
from dalle3_jax.typing import Float

__all__ = ["MetricsWriter", "save_image", "save_image_rows", "write_json"]


class MetricsWriter:
    """Appends to FOLDER/metrics.jsonl and FOLDER/tensorboard; on processes other than the first it does nothing.

    Lines from beyond `first_step`, written before the run was killed, are dropped: those steps are taken again. A run
    that begins again at step 0 drops all lines, that of its first preview too.
    """

    def __init__(self, folder: Path, first_step: int, wandb: str = "", config: Mapping[str, Any] | None = None):
        """`wandb` names a project there; empty is off."""
        self._active = jax.process_index() == 0
        if not self._active:
            return
        path = folder / "metrics.jsonl"
        drop_from = first_step + 1 if first_step else 0
        _truncate_metrics(path, drop_from)
        self._file = path.open("a")
        self._mirrors: dict[str, Any] = {"tensorboard": _start_tensorboard(folder, drop_from)}
        if wandb:
            self._mirrors["wandb"] = _start_wandb(wandb, folder, config)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line for one step."""
        if not self._active:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        missing = dict.fromkeys(metrics.keys() - finite.keys())  # null: JSON knows no NaN
        print(json.dumps({"step": step, **finite, **missing}), file=self._file, flush=True)
        self._mirror("tensorboard", lambda board: [board.add_scalar(*pair, step) for pair in finite.items()])
        self._mirror("wandb", lambda run: run.log(finite, step=step))

    def close(self) -> None:
        """Write what is buffered."""
        if self._active:
            self._file.close()
            self._mirror("tensorboard", lambda board: board.close())
            self._mirror("wandb", lambda run: run.finish())

    def _mirror(self, name: str, send: Callable[[Any], object]) -> None:
        """Send elsewhere what metrics.jsonl has; a place that fails is noted, and left out from then on."""
        if (place := self._mirrors.get(name)) is None:
            return
        try:
            send(place)
        except Exception as error:  # of networks, services and disks: none of them is worth a training
            self._mirrors[name] = None
            note_lost(name, error)


def _truncate_metrics(path: Path, drop_from: int) -> None:
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _line_step(line) < drop_from]
        write_whole(path, "".join(f"{line}\n" for line in kept).encode())


def _line_step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the line that a kill cut short
        return math.inf


def note_lost(name: str, error: Exception) -> None:
    """Say that metrics go to one place fewer."""
    print(f"note: nothing goes to {name} ({type(error).__name__}: {error}); metrics.jsonl has it all", file=sys.stderr)


def _start_tensorboard(folder: Path, drop_from: int) -> Any:
    from tensorboardX import SummaryWriter

    try:
        return SummaryWriter(str(folder / "tensorboard"), purge_step=drop_from)
    except OSError as error:
        note_lost("tensorboard", error)
        return None


def _start_wandb(project: str, folder: Path, config: Mapping[str, Any] | None) -> Any:
    try:
        import wandb
    except ImportError:
        raise ValueError(
            "train.wandb is set but wandb is not installed: pip install wandb, or leave it empty"
        ) from None
    name = f"{folder.parent.name}/{folder.name}"
    about = {"project": project, "dir": str(folder), "config": dict(config or {}), "name": name}
    try:
        return wandb.init(**about, id=_wandb_id(folder), resume="allow")
    except Exception as error:  # no network, no login
        note_lost("wandb", error)
        return None


def _wandb_id(folder: Path) -> str:
    """The id of the folder's run, the same whenever it goes on; runs in other folders have others."""
    path = folder / "wandb_id"
    if not path.exists():
        write_whole(path, secrets.token_hex(8).encode())
    return path.read_text().strip()


def save_image_rows(path: Path, rows: Sequence[Float[np.ndarray, "b h w 3"]], gap: int = 2) -> None:
    """Rows of pictures in [-1, 1] as one PNG, written whole."""
    lines = []
    for row in rows:
        pictures = np.clip((np.asarray(row, np.float32) + 1.0) * 127.5 + 0.5, 0, 255).astype(np.uint8)
        padded = np.pad(pictures, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255)
        lines.append(np.concatenate(list(padded), axis=1))
    save_image(path, Image.fromarray(np.concatenate(lines, axis=0)))


def save_image(path: Path, image: Image.Image) -> None:
    """A PNG, written whole."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_whole(path, content.getvalue(), parents=True)


def write_json(path: Path, value: Any) -> None:
    """Plain values as JSON, written whole."""
    write_whole(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), parents=True)
