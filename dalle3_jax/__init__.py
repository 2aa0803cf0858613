"""An open DALL-E 3 in JAX/Flax.

    import dalle3_jax

    pipeline = dalle3_jax.Pipeline.load("demo")
    pipeline("a panda on a beach", seed=7)[0].save("panda.png")

Importing the package imports nothing else: JAX starts when a name is first asked for. docs/api.md lists every public
name. The two flows through the package, and the rooms that they pass:

    generate   prompt -> revised prompt, size (prompting) -> token ids, mask (text)
               -> T5: text features (b l d) -> xfnet: tokens (b m d), vector (b v) (models)
               -> UNet inside one jitted sampling loop -> latents (b h w c) (diffusion, joined in pipeline)
               -> decoder: vae | consistency | refiner + vae -> image (b 8h 8w 3)
               -> upscaler, where asked for -> PNG + metadata (pipeline)

    train      records (image, captions, size) -> caption choice, bucket, crop -> batch (data)
               -> task -> objective -> TrainState (training, run by stages) -> checkpoint -> release (checkpoints)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalle3_jax import convert
    from dalle3_jax.pipeline.pipeline import Pipeline
    from dalle3_jax.pipeline.request import Request

    __version__: str

__all__ = ["Pipeline", "Request", "__version__", "convert"]


def __getattr__(name: str) -> Any:
    """A name of `__all__`, imported when it is first asked for."""
    if name == "Pipeline":
        value = importlib.import_module("dalle3_jax.pipeline.pipeline").Pipeline
    elif name == "Request":
        value = importlib.import_module("dalle3_jax.pipeline.request").Request
    elif name == "convert":
        value = importlib.import_module("dalle3_jax.convert")
    elif name == "__version__":
        value = _version()
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version that was installed, or "unknown" in a checkout that never was."""
    metadata = importlib.import_module("importlib.metadata")
    try:
        return metadata.version("dalle3_jax")
    except metadata.PackageNotFoundError:
        return "unknown"
