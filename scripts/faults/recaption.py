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

from scripts.faults.trainings import ROOT, kill_group, parse_options, report_cases, wait_until


def main() -> int:
    """Run both and compare."""
    options = {"captioner": "", "source": "scenes:whole", "count": 10_000, "kills": 5, "words": "alt", "seed": 0}
    arguments = parse_options(__doc__, **options)
    command = [sys.executable, "-m", "dalle3_jax", "recaption", "--version", "captioned"]
    for name in ("captioner", "source", "count", "words"):
        command += [f"--{name}", str(getattr(arguments, name))]
    whole, killed = (arguments.workdir / name for name in ("whole", "killed"))
    began = time.monotonic()
    print(run_to_end(command, whole))
    share = (time.monotonic() - began) / (2 * arguments.kills + 2)  # each kill waits for a file too
    draw = random.Random(arguments.seed)
    rows = [kill_once(command, killed, number, share, draw) for number in range(arguments.kills)]
    said = run_to_end(command, killed)
    rows.append(
        {"kill": "end", "files": len(caption_files(killed)), "good": same_captions(whole, killed, arguments.count)}
    )
    print(f"{said}; {arguments.count} records, {arguments.kills} kills")
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("recaptioning", rows, arguments.json)


def start_command(command: list[str], folder: Path) -> subprocess.Popen:
    """The command in a process group of its own, its output beside its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        words = [*command, "--outdir", str(folder)]
        return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def run_to_end(command: list[str], folder: Path) -> str:
    """Run it to its end; what it says there."""
    log = folder.with_suffix(".log")
    if start_command(command, folder).wait():
        sys.exit(f"recaption failed: see {log}")
    return log.read_text().splitlines()[-1]


def kill_once(command: list[str], folder: Path, number: int, share: float, draw: random.Random) -> dict:
    """Start it and kill it: some time after it wrote its first new file, the first time some time after its start."""
    before, process = set(caption_files(folder)), start_command(command, folder)
    moved = number == 0 or wait_until(lambda: process.poll() is not None or set(caption_files(folder)) > before, 3600)
    time.sleep(draw.uniform(0, share))
    running = process.poll() is None
    kill_group(process)
    return {"kill": number + 1, "files": len(caption_files(folder)), "good": moved and running}


def caption_files(folder: Path) -> list[str]:
    """The files of captions that are there."""
    return sorted(path.name for path in folder.glob("*.jsonl"))


def same_captions(whole: Path, killed: Path, count: int) -> bool:
    """Whether both hold every record once, in its place, in the same bytes."""
    same = all((whole / name).read_bytes() == (killed / name).read_bytes() for name in caption_files(whole))
    lines = [line for name in caption_files(killed) for line in (killed / name).read_text().splitlines()]
    places = [json.loads(line)["index"] for line in lines]
    return same and caption_files(whole) == caption_files(killed) and places == list(range(count))


if __name__ == "__main__":
    sys.exit(main())
