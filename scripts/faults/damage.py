"""Damage the newest checkpoint in every way that disks have, and see that the one before it is taken, and why.

    python -m scripts.faults.damage --count 25

Truncated, emptied and deleted files, broken JSON, one bit flipped, each in files drawn at random; the control restores
the undamaged folder. Exit code 0 when every damage is noticed, named, and undone by the step before.
"""

import contextlib
import io
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from dalle3_jax.checkpoints.training import MANIFEST, Checkpointer, finished_steps, verify_step
from scripts.faults.trainings import Training, parse_options, report_cases

FLAGS = ("--config.train.steps=12", "--config.train.save_every=4")


def main() -> int:
    """Train once, then damage copies of its checkpoints."""
    arguments = parse_options(__doc__, count=25, seed=0)
    training = Training("configs/tiny.py:vae", arguments.workdir / "run", FLAGS)
    if training.finish():
        sys.exit(f"the training failed: see {training.workdir / 'log'}")
    draw = random.Random(arguments.seed)
    rows = [{"damage": "none (control)", "file": "", "taken": restored_step(training.checkpoints)[0], "said": ""}]
    rows[0]["good"] = rows[0]["taken"] == 12
    for number in range(arguments.count):
        name, harm = list(DAMAGES.items())[number % len(DAMAGES)]
        copy = arguments.workdir / f"copy-{number}"
        shutil.copytree(training.checkpoints, copy)
        newest = copy / f"{max(finished_steps(copy)):08d}"
        file = choose_file(newest, name, draw)
        harm(file, draw)
        step, said = restored_step(copy)
        rows.append({"damage": name, "file": str(file.relative_to(newest))[-40:], "taken": step, "said": said[-60:]})
        rows[-1]["good"] = step == 8 and ("step 12" in said or name == "deleted manifest")
        shutil.rmtree(copy)
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("damage", rows, arguments.json)


def restored_step(checkpoints: Path) -> tuple[int, str]:
    """The step that a restart takes, and what it says of others."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        checkpointer = Checkpointer(checkpoints)
        step = checkpointer._newest()
        checkpointer.close()
    assert step < 0 or not verify_step(checkpoints / f"{step:08d}")
    return step, said.getvalue().strip()


def choose_file(step: Path, name: str, draw: random.Random) -> Path:
    """The file to harm: the manifest for what is done to manifests, else any other that is not empty."""
    if "manifest" in name or name == "broken JSON":
        return step / MANIFEST if "manifest" in name else step / draw.choice(["data.json", MANIFEST])
    files = [
        path for path in sorted(step.rglob("*")) if path.is_file() and path.stat().st_size and path.name != MANIFEST
    ]
    return draw.choice(files)


def truncate_file(path: Path, draw: random.Random) -> None:
    """Cut it off somewhere."""
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def flip_bit(path: Path, draw: random.Random) -> None:
    """Turn one bit."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path, random.Random], object]] = {
    "truncated": truncate_file,
    "emptied": lambda path, draw: path.write_bytes(b""),
    "deleted": lambda path, draw: path.unlink(),
    "one bit flipped": flip_bit,
    "broken JSON": lambda path, draw: path.write_text(path.read_text()[:-3] + "}{"),
    "deleted manifest": lambda path, draw: path.unlink(),
    "flipped bit in the manifest": flip_bit,
}


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    sys.exit(main())
