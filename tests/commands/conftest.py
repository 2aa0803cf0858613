"""What the tests of commands share: the sample command with the tiny release."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dalle3_jax.commands.sample import main


@pytest.fixture
def run(release_folder: Path, tmp_path: Path) -> Callable[..., int]:
    """The command in tmp_path/out with the tiny release and batches of 2."""

    def call(*arguments: object, checkpoint: Path = release_folder, batch_size: int | None = 2) -> int:
        size = [] if batch_size is None else ["--batch-size", str(batch_size)]
        options = ["--checkpoint", str(checkpoint), "--outdir", str(tmp_path / "out"), *size]
        return main([*options, *map(str, arguments)])

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
