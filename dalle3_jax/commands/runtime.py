"""What commands set up before they compute."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

__all__ = ["enable_compilation_cache", "exclusive"]


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder, as it does everywhere in JAX.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "dalle3_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Holds the folder for this process (the first of a run); ValueError when another holds it or it cannot be written.

    The lock is the kernel's: it ends with the process, however that ends.
    """
    if jax.process_index() != 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}; give a --workdir that can be written") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"another process is training in {folder}; wait for it or use another workdir") from None
        yield
