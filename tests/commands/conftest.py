"""What the tests of commands share: a folder for compiled programs, the sample command with the tiny release."""

from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from dalle3_jax.commands.sample import main


@pytest.fixture(autouse=True, scope="module")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command's cache of programs in a folder of the tests."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    folder = tmp_path_factory.mktemp("xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    reset_cache()  # whether there is one, and where, is decided at a process's first compilation
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()


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
