"""Whether two trees of this repository train and sample the same numbers, bit for bit.

    python -m scripts.same_runs OLD NEW [--stages vae,base] [--pictures 2] [--workdir W]

Each stage of configs/tiny.py, the reader and the size head train three steps in either tree, each in a process of its
own; then parameters, moving average, moments, key and counters of the last checkpoint are compared by their bytes, and
so are the pixels of the shipped demo's first prompts. Only flags whose names both trees know are given. Runs that are
there already, in W/old and W/new, are not run again. About 20 minutes on one CPU core.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.faults.trainings import differing_arrays

STEPS = 3
TINY = ("vae", "text", "layout", "base", "glyphs", "decoder", "distill", "refiner", "distill_refiner", "distill_base")
TINY += ("captioner", "captioner_short")
SMALL = ("--config.train.batch_size=4", "--config.data.threads=1", "--config.sample.every=0")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{stage: (f"configs/tiny.py:{stage}", ()) for stage in TINY},
    "reader": ("configs/reader.py:reader", SMALL),
    "size_head": ("configs/demo.py:size_head", (*SMALL, "--config.train.release_dtype=float32")),
}
"""Name of the run -> config and flags; a run finds the ones before it in its workdir."""


def main(argv: Sequence[str] | None = None) -> int:
    """Train, sample and compare; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--stages", default=",".join(RUNS), help="with those that they begin from before them")
    parser.add_argument("--pictures", type=int, default=2, help="prompts of docs/prompts.txt; 0: none")
    parser.add_argument("--workdir", type=Path, help="a temporary folder by default")
    arguments = parser.parse_args(argv)
    if unknown := sorted({*arguments.stages.split(",")} - {*RUNS}):
        parser.error(f"unknown stages {', '.join(unknown)}: known are {', '.join(RUNS)}")
    trees = {"old": arguments.old.resolve(), "new": arguments.new.resolve()}
    workdir = (arguments.workdir or Path(tempfile.mkdtemp())).resolve()
    same = [compare_runs(trees, workdir, stage) for stage in arguments.stages.split(",")]
    if arguments.pictures:
        same.append(compare_pictures(trees, workdir, arguments.pictures))
    return 0 if all(same) else 1


def compare_runs(trees: dict[str, Path], workdir: Path, stage: str) -> bool:
    """Whether a stage ends in the same state in both trees; prints what differs."""
    config, flags = RUNS[stage]
    for side, tree in trees.items():
        words = ["train.py", f"--config={config}", f"--workdir={workdir / side}", f"--config.train.steps={STEPS}"]
        words += [f"--config.train.name={stage}", "--config.train.log_every=1", *flags]
        if not (workdir / side / stage / "release" / "model.json").exists():
            run_in(tree, words, workdir / side / f"{stage}.log")
    count, different = differing_arrays(*(workdir / side / stage / "checkpoints" for side in trees))
    print(f"{stage}: {count - len(different)} of {count} arrays are the same bytes", *different[:5], flush=True)
    return not different


def compare_pictures(trees: dict[str, Path], workdir: Path, count: int) -> bool:
    """Whether the shipped demo's pictures of the first `count` prompts have the same pixels in both trees."""
    prompts = workdir / "prompts.txt"
    prompts.write_text("\n".join((trees["new"] / "docs" / "prompts.txt").read_text().splitlines()[:count]) + "\n")
    pixels: dict[str, list[np.ndarray]] = {}
    for side, tree in trees.items():
        folder = workdir / side / "pictures"
        words = ["sample.py", "--checkpoint", "demo", "--prompts-file", str(prompts), "--outdir", str(folder)]
        if not folder.exists():
            run_in(tree, words, workdir / side / "pictures.log")
        pixels[side] = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    pairs = list(zip(pixels["old"], pixels["new"], strict=True))
    same = sum(np.array_equal(one, other) for one, other in pairs)
    print(f"pictures: {same} of {len(pairs)} have the same pixels", flush=True)
    return len(pairs) == count == same


def run_in(tree: Path, words: Sequence[str], log: Path) -> None:
    """Run a script of the tree with this interpreter; RuntimeError with the log's end where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    surroundings = {"JAX_PLATFORMS": "cpu", **os.environ, "PYTHONPATH": str(tree)}
    with log.open("w") as output:
        code = subprocess.run(
            [sys.executable, *words], cwd=tree, stdout=output, stderr=output, env=surroundings, check=False
        ).returncode
    if code:
        raise RuntimeError(f"{' '.join(words)} in {tree} ended with {code}: {log.read_text()[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
