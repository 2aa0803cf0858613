"""What commands share: the parser of arguments, the pipeline of a checkpoint, the bar over its steps."""

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline


class CommandParser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line and leave with status 2."""
        self.exit(2, f"error: {message}; --help says more\n")


def open_pipeline(
    checkpoint: str, decoders: Sequence[str] = (), dtype: str | None = None, variant: str | None = None
) -> "Pipeline":
    """The pipeline, of several hosts on all devices of each; imported here: help and typing errors come at once."""
    import jax

    from dalle3_jax.checkpoints.weights import parse_dtype
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.runtime.distributed import enable_compilation_cache

    enable_compilation_cache()
    how = {"dtype": parse_dtype(dtype or "float32"), "variant": variant, "progress": sys.stderr.isatty()}
    if jax.process_count() > 1 and jax.local_device_count() > 1:
        how["mesh"] = jax.sharding.Mesh(jax.local_devices(), "data")
    return Pipeline.load(checkpoint, decoders=decoders, **how)


@contextlib.contextmanager
def progress_bar() -> Iterator[tuple[tqdm, Callable[[int, int, Any], None]]]:
    """A bar over the sampler's steps (on terminals only) and the callback that moves it."""
    with tqdm(unit="step", desc="sampling", disable=None) as bar:

        def progress(done: int, total: int, _: Any) -> None:
            bar.total = total
            bar.update(done - bar.n)

        # Always given: with and without a terminal the same programs run, and the compilation cache has them.
        yield bar, progress


def parse_world(text: str) -> str | dict[str, Any]:
    """The name of a world, or what JSON says of a part of one, as it stands or in a file."""
    described = Path(text).read_text(encoding="utf-8") if text.endswith(".json") else text
    if not described.lstrip().startswith("{"):
        return described.strip()
    try:
        return json.loads(described)
    except json.JSONDecodeError as error:
        raise ValueError(f"--world {text}: {error}; write JSON, as in '{{\"words\": 0}}'") from None


def parse_scene_size(text: str) -> tuple[int, int]:
    """(width, height) of "WIDTHxHEIGHT"."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"size {text!r}: write WIDTHxHEIGHT, as in 128x128")
    if min(int(width), int(height)) < 32 or int(width) % 8 or int(height) % 8:
        raise ValueError(f"size {text!r}: both sides must be multiples of 8 and at least 32")
    return int(width), int(height)
