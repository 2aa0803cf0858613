"""What commands set up before they compute."""

import os
from pathlib import Path

import jax

__all__ = ["enable_compilation_cache"]


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder, as it does everywhere in JAX.
    """
    if not jax.config.jax_compilation_cache_dir:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "dalle3_jax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
