"""Report on one GPU, in at most 8 minutes: `python -m scripts.gpu_report [--out gpu_report.json]`.

A table on the screen and all figures as JSON: the card's own bf16 product, the training step of an 860 M UNet on 64x64
latents, 30 steps of sampling with it, T5-XXL, the consistency decoder at 512 and 1024 px, the demo's training, and the
same sampling through diffusers and torch.compile where those are installed with CUDA.

A part that no time is left for, or that fails, is a line that says so, and the others are measured all the same; a
second run compiles nothing that the first one did. `--toy` makes the report of tiny networks on any machine.

Exit codes: 0 all measured, PyTorch where it is installed; 1 something failed or was left out; 2 bad input, or no GPU.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jax

from benchmarks import gpu
from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.files import write_whole
from dalle3_jax.runtime.device_errors import first_line
from dalle3_jax.runtime.distributed import enable_compilation_cache
from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, print_error
from dalle3_jax.runtime.versions import versions

__all__ = ["Part", "Result", "main", "measure_parts", "report_parts"]

LEAST_SECONDS = 75.0
"""A part is begun only with so much time left: what the dearest one takes to compile and run."""

TITLES = ("what", "seconds a call", "TFLOP/s", "of the product", "goal", "a second", "note")


@dataclass(frozen=True)
class Part:
    """A line of the report: its title, what measures it, and the share of the card's product that is its goal."""

    title: str
    measure: Callable[[], gpu.Figures]
    goal: float = 0.0


@dataclass(frozen=True)
class Result:
    """A part's figures, or a note that says why there are none; `took` is in seconds, with compiling.

    `share` is that of the card's own product, in the same run.
    """

    title: str
    figures: gpu.Figures
    took: float
    goal: float = 0.0
    share: float = 0.0
    note: str = ""
    failed: bool = False

    def row(self) -> tuple[str, ...]:
        """A line of the table."""
        rates = [f"{self.figures[name]:,.1f} {name}" for name in ("images", "captions") if name in self.figures]
        return (
            self.title,
            f"{self.figures['seconds']:.4f}" if self.figures else "",
            f"{self.figures['tflops']:,.1f}" if "tflops" in self.figures else "",
            f"{self.share:.0%}" if self.share else "",
            f"{self.goal:.0%}" if self.goal else "",
            *(rates or [""]),
            self.note,
        )


def report_parts(size: gpu.Workload) -> list[Part]:
    """Everything that is measured, the dearest to miss first; the product, which others are a share of, at the top."""
    work = functools.partial
    return [
        Part("bf16 product", work(gpu.matrix_product, size)),
        Part(f"UNet training step, batch {size.train_batch}", work(gpu.train, size), 0.5),
        Part(f"UNet, {size.sample_steps} steps of DDIM, {size.sample_batch} images", work(gpu.sample, size)),
        Part(f"T5 encoder, {size.captions[0]} captions of {size.captions[1]} tokens", work(gpu.encode_text, size), 0.6),
        Part("the same sampling, diffusers and torch.compile", work(sample_with_torch, size)),
        Part("demo, training step", work(gpu.train_demo, size)),
        *(
            Part(f"consistency decoder, {side} px, 2 steps", work(gpu.decode, size, side))
            for side in size.decoder_sides
        ),
    ]


def sample_with_torch(size: gpu.Workload) -> gpu.Figures:
    """PyTorch's figures; ModuleNotFoundError says what is not installed."""
    for name in ("torch", "diffusers"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is not installed: pip install torch diffusers", name=name)
    if jax.default_backend() == "gpu" and not importlib.import_module("torch").cuda.is_available():
        raise ModuleNotFoundError("torch is installed without CUDA: install a build for this card", name="torch")
    return importlib.import_module("benchmarks.gpu_torch").sample(size)


def measure_parts(parts: Sequence[Part], seconds: float) -> list[Result]:
    """Each part's result, in turn; a part is not begun with less than LEAST_SECONDS of these left."""
    began, results, peak = time.monotonic(), list[Result](), 0.0
    for part in parts:
        left = seconds - (time.monotonic() - began)
        if results and left < LEAST_SECONDS:
            note = f"left out: {max(left, 0):.0f} s were left"
            results.append(Result(part.title, {}, 0.0, part.goal, note=note, failed=True))
            continue
        print(f"{part.title} ...", file=sys.stderr, flush=True)
        start, figures, note, failed = time.monotonic(), gpu.Figures(), "", False
        try:
            figures = part.measure()
        except ModuleNotFoundError as error:
            note = first_line(error)
        except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:  # its line says so; others go on
            note, failed = f"failed: {first_line(error)}", True
        share = figures["tflops"] / peak if "tflops" in figures and peak else 0.0
        if not results:  # without the product there are no shares
            peak = figures.get("tflops", 0.0)
        results.append(Result(part.title, figures, time.monotonic() - start, part.goal, share, note, failed))
    return results


def main(argv: Sequence[str] | None = None) -> int:
    """The command: measures, prints the table and writes the figures."""
    parser = argparse.ArgumentParser(
        prog="gpu_report", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("gpu_report.json"), help="file of all figures")
    parser.add_argument("--minutes", type=float, default=8.0, help="nothing is begun that would not end by then")
    parser.add_argument("--toy", action="store_true", help="tiny networks, on any machine")
    options = parser.parse_args(argv)
    if not options.toy and jax.default_backend() != "gpu":
        remedy = "install jax[cuda13] on a machine with a GPU, or rehearse with --toy"
        return print_error(f"no GPU here, only {jax.default_backend()}: {remedy}", EXIT_BAD_INPUT)
    enable_compilation_cache()
    size = gpu.TOY if options.toy else gpu.FULL
    seconds = 60 * options.minutes
    results = measure_parts(report_parts(size), seconds)
    device = f"{jax.devices()[0].device_kind}, {'toy size' if options.toy else 'bfloat16'}"
    print(f"{device}\n\n{markdown_table(TITLES, [result.row() for result in results])}")
    record = {"device": device, "versions": versions(), "parts": [asdict(result) for result in results]}
    write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    return EXIT_FAILED if any(result.failed for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
