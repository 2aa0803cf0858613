"""Kill a recaptioning with SIGKILL at random moments, start it again each time, and compare it with one left alone.

    python -m scripts.faults.recaption --captioner runs/demo/captioner_short --count 10000 --kills 5

Exit code 0 when every record has one line, in its place, and all files are the same bytes as without a kill.
"""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from scripts.faults.trainings import ROOT, kill, parsed, report, wait_until


def main() -> int:
    """Run both and compare."""
    options = {"captioner": "", "source": "scenes:whole", "count": 10_000, "kills": 5, "words": "alt", "seed": 0}
    arguments = parsed(__doc__, **options)
    command = [sys.executable, "-m", "dalle3_jax", "recaption", "--version", "captioned"]
    for name in ("captioner", "source", "count", "words"):
        command += [f"--{name}", str(getattr(arguments, name))]
    whole, killed = (arguments.workdir / name for name in ("whole", "killed"))
    began = time.monotonic()
    print(finished(command, whole))
    share = (time.monotonic() - began) / (2 * arguments.kills + 2)  # each kill waits for a file too
    draw = random.Random(arguments.seed)
    rows = [killed_once(command, killed, number, share, draw) for number in range(arguments.kills)]
    said = finished(command, killed)
    rows.append({"kill": "end", "files": len(files(killed)), "good": compared(whole, killed, arguments.count)})
    print(f"{said}; {arguments.count} records, {arguments.kills} kills")
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report("recaptioning", rows, arguments.json)


def started(command: list[str], folder: Path) -> subprocess.Popen:
    """The command in a process group of its own, its output beside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        words = [*command, "--outdir", str(folder)]
        return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def finished(command: list[str], folder: Path) -> str:
    """Run it to its end; what it says there."""
    log = folder.with_suffix(".log")
    if started(command, folder).wait():
        sys.exit(f"recaption failed: see {log}")
    return log.read_text().splitlines()[-1]


def killed_once(command: list[str], folder: Path, number: int, share: float, draw: random.Random) -> dict:
    """Start it and kill it: some time after it wrote its first new file, the first time some time after its start."""
    before, process = set(files(folder)), started(command, folder)
    moved = number == 0 or wait_until(lambda: process.poll() is not None or set(files(folder)) > before, 3600)
    time.sleep(draw.uniform(0, share))
    running = process.poll() is None
    kill(process)
    return {"kill": number + 1, "files": len(files(folder)), "good": moved and running}


def files(folder: Path) -> list[str]:
    """The files of captions that are there."""
    return sorted(path.name for path in folder.glob("*.jsonl"))


def compared(whole: Path, killed: Path, count: int) -> bool:
    """Whether both hold every record once, in its place, in the same bytes."""
    same = all((whole / name).read_bytes() == (killed / name).read_bytes() for name in files(whole))
    lines = [line for name in files(killed) for line in (killed / name).read_text().splitlines()]
    places = [json.loads(line)["index"] for line in lines]
    return same and files(whole) == files(killed) and places == list(range(count))


if __name__ == "__main__":
    sys.exit(main())
