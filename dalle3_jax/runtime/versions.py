"""Libraries and devices of a run."""

import importlib.metadata
import platform
from typing import Any

import jax

__all__ = ["versions"]

LIBRARIES = ("dalle3_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def versions() -> dict[str, Any]:
    """Libraries and devices of this run."""
    versions = {"python": platform.python_version(), "machine": platform.platform()}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[name] = "source"
    device = jax.devices()[0]
    return {**versions, "device": device.device_kind, "devices": jax.device_count(), "processes": jax.process_count()}
