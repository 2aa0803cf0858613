"""What tests of several rooms share."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from tests import public_folders
from tests.tiny import tiny_reader, tiny_release

# Pipelines and commands keep compiled programs in the user's cache; tests only where they ask for it, in their own.
jax.config.update("jax_enable_compilation_cache", False)


@pytest.fixture(scope="session")
def release_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny system as a release on disk; tests copy it before they change it."""
    from dalle3_jax.checkpoints.releases import save_release

    folder = tmp_path_factory.mktemp("releases") / "tiny"
    save_release(folder, tiny_release())
    return folder


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reader as a release on disk."""
    from dalle3_jax.checkpoints.releases import save_release

    folder = tmp_path_factory.mktemp("releases") / "reader"
    save_release(folder, tiny_reader())
    return folder


@pytest.fixture(scope="session")
def pipeline(release_folder: Path):
    """The tiny system's pipeline; programs of one System and shape are compiled once for all tests."""
    from dalle3_jax.pipeline import Pipeline

    return Pipeline.load(release_folder)


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Stable Diffusion 1 as diffusers writes it; tests copy it before they change it."""
    return public_folders.stable_diffusion(tmp_path_factory.mktemp("public") / "sd")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL."""
    return public_folders.stable_diffusion_xl(tmp_path_factory.mktemp("public") / "sdxl")


@pytest.fixture(scope="module")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command's cache of programs in a folder of the tests."""
    names = (
        "jax_enable_compilation_cache",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    folder = tmp_path_factory.mktemp("xla")
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    reset_cache()  # whether there is one, and where, is decided at a process's first compilation
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    reset_cache()
