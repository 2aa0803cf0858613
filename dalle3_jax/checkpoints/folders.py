"""Folders that appear whole or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dalle3_jax.files import wait_for_disk

__all__ = ["atomic_folder"]


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that takes its place when the block ends well.

    What stood at `target` before is kept as `NAME.previous` until the new one stands there. ValueError when nothing
    can be written there.
    """
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}; give a folder that can be written") from None
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp lets only its owner in
        _move_into_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, target: Path) -> None:
    previous = target.with_name(f"{target.name}.previous")
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        target.rename(previous)
    temporary.rename(target)
    wait_for_disk(target.parent)
    shutil.rmtree(previous, ignore_errors=True)
