"""The curves of training stages, side by side: python scripts/training_curves.py W decoder distill --out curves.png

Above each stage's loss, below what its previews measured of held-out pictures: of decoders the PSNR, with the VAE's
beside it.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dalle3_jax.evaluation import plots
from dalle3_jax.files import write_whole

Lines = Sequence[Mapping[str, float]]


def read_metrics(workdir: Path, stage: str) -> list[dict[str, float]]:
    """What the stage wrote of its steps."""
    path = workdir / stage / "metrics.jsonl"
    if not path.is_file():
        raise SystemExit(f"error: there is no {path}: train that stage first")
    return [json.loads(line) for line in path.read_text().splitlines()]


def metric_series(lines: Lines, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric where it was written."""
    found = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    steps, values = zip(*found, strict=True) if found else ((), ())
    return np.array(steps), np.array(values)


def plot_curves(stages: Mapping[str, Lines], path: Path) -> None:
    """Writes the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(stages), 5.4), layout="constrained")
    axes: Any = figure.subplots(2, len(stages), squeeze=False, sharex="col")
    for column, (stage, lines) in enumerate(stages.items()):
        above, below = axes[:, column]
        above.plot(*metric_series(lines, "loss"), color=plots.SEEN)
        above.set(title=stage, ylabel="loss", yscale="log")
        for name, label, colour in (("psnr", stage, plots.HELD_OUT), ("vae_psnr", "VAE", plots.CEILING)):
            below.plot(*metric_series(lines, f"held_out/{name}"), "o-", markersize=3, color=colour, label=label)
        below.set(xlabel="step", ylabel="PSNR of held-out pictures, dB")
        below.legend(frameon=False)
    write_whole(path, plots.figure_png(figure, dpi=100))


def main() -> None:
    """Reads the stages and draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("stages", nargs="+", metavar="stage")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    arguments = parser.parse_args()
    plot_curves({stage: read_metrics(arguments.workdir, stage) for stage in arguments.stages}, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
