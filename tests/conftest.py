"""What tests of several rooms share, and how all of them are run: types checked, programs kept, memory bounded."""

import ctypes
import gc
import os
import platform
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import jax
import pytest
from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

from tests.typecheck import check_types

ROOT = Path(__file__).parents[1]
MEGABYTES = 1200
"""Resident memory of a process of tests beyond which it drops its compiled programs."""

ROOM = 300
"""And what they may fill at least, where the rest alone has grown to about as much."""

LONGEST = (
    *("examples/", "commands/test_ablate", "stages/test_decoder", "stages/test_train", "runtime/test_processes"),
    *("stages/", "commands/"),
)
"""Where the files that take longest are, which begin first: no process is left with one of them at the end."""


def modules_with_shapes() -> Iterator[str]:
    """The modules of the package that name a shape; those too that name types without importing them."""
    for path in (ROOT / "dalle3_jax").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if any(word in text for word in ("jaxtyping", "dalle3_jax.typing", "TYPE_CHECKING")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


# Types are checked at every call, in tests only; shapes too where there are any: binding arguments for their sake costs
# more than writing a caption does. Nothing of the package may be imported before this.
beartype_package("dalle3_jax", conf=BeartypeConf(claw_is_pep526=False, violation_type=TypeError))
install_import_hook([*modules_with_shapes()], f"{check_types.__module__}.{check_types.__name__}")


def pytest_configure(config: pytest.Config) -> None:
    """All processes of one run share a folder of compiled programs, those that tests start as well."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.TemporaryDirectory(prefix="programs-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        settings = {"compilation_cache_dir": folder.name, "persistent_cache_min_compile_time_secs": 0}
        for name, value in settings.items():
            os.environ[f"JAX_{name.upper()}"] = str(value)  # for workers
            jax.config.update(f"jax_{name}", value)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: it is searched for garbage once, when all is, and not a thousand times."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, the others in their order."""

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(ROOT / "tests").as_posix()
        return next((index for index, start in enumerate(LONGEST) if place.startswith(start)), len(LONGEST))

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What modules of tests traced is dropped, and what else they left is not searched for garbage again and again."""
    drop_programs()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def drop_programs() -> None:
    """Give back the memory of traced and compiled programs."""
    jax.clear_caches()
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


_rest = [0.0]  # what was resident when programs were last dropped


def resident_megabytes() -> float:
    """The memory of this process; 0 where the system does not say it as Linux does."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages.exists() else 0.0


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Compiled programs are dropped after a file where they have filled the memory, and only then: files share them."""
    yield
    if resident_megabytes() > max(MEGABYTES, _rest[0] + ROOM):
        drop_programs()
        _rest[0] = resident_megabytes()


@pytest.fixture(scope="module")
def few_statistics() -> Iterator[None]:
    """Stages of VAEs measure their latents over a few pictures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dalle3_jax.stages.vae.STATISTICS", 32)
        yield


@pytest.fixture(scope="session")
def release_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny system as a release on disk; tests copy it before they change it."""
    from dalle3_jax.checkpoints.releases import save_release
    from tests.tiny import tiny_release

    folder = tmp_path_factory.mktemp("releases") / "tiny"
    save_release(folder, tiny_release())
    return folder


@pytest.fixture(scope="session")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny reader as a release on disk."""
    from dalle3_jax.checkpoints.releases import save_release
    from tests.tiny import tiny_reader

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
    from tests import public_folders

    return public_folders.stable_diffusion(tmp_path_factory.mktemp("public") / "sd")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SDXL."""
    from tests import public_folders

    return public_folders.stable_diffusion_xl(tmp_path_factory.mktemp("public") / "sdxl")
