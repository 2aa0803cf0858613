"""What tests of several rooms share."""

from pathlib import Path

import pytest

from tests.tiny import tiny_reader, tiny_release


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
