"""Train on datasets of which a known part is bad: what is counted must be what was put in, reason by reason.

    python -m scripts.faults.records

2,000 records of 64 px, 5 % of them bad in twelve ways in turn, as tars and as a folder; the controls have none. Every
training is long enough to meet each record. With data.max_bad below 5 % it must stop with code 2 and say the counts;
dalle3-jax encode must leave out the same records. Exit code 0 when all of it is so.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from scripts.faults.trainings import ROOT, Training, parse_options, report_cases
from scripts.make_bad_records import FORMS, write_dataset

COUNT, SHARE = 2000, 0.05
STEPS = COUNT // 8 + 10


def main() -> int:
    """Every case."""
    arguments = parse_options(__doc__)
    rows = []
    for form in FORMS:
        for share in (0.0, SHARE):
            data = arguments.workdir / f"{form}-{share:g}"
            injected = Counter(write_dataset(data, COUNT, share, form, [(64, 64)]).values())
            rows.append(count_bad_records(data, arguments.workdir / f"run-{form}-{share:g}", injected))
    rows.append(stop_at_max_bad(data, arguments.workdir / "run-stopped"))
    rows.append(check_left_out(data, arguments.workdir / f"run-{form}-{share:g}", injected))
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("bad records", rows, arguments.json)


def data_flags(data: Path, most: float) -> tuple[str, ...]:
    """Of a training on the data."""
    section = {"source": data, "size": "(64, 64)", "max_bad": most}
    train = {"steps": STEPS, "log_every": 10, "save_every": STEPS, "release_dtype": "float32"}
    lines = [f"--config.data.{name}={value}" for name, value in section.items()]
    return (*lines, *(f"--config.train.{name}={value}" for name, value in train.items()))


def count_bad_records(data: Path, workdir: Path, injected: Counter) -> dict:
    """A training that goes through, and what it counted."""
    training = Training("configs/tiny.py:vae", workdir, data_flags(data, 0.1))
    code = training.finish()
    lines = (training.folder / "metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    found = {name.removeprefix("bad_records/"): int(n) for name, n in last.items() if name.startswith("bad_records/")}
    good = code == 0 and found == injected
    return {
        "case": f"train on {data.name}",
        "injected": format_counts(injected),
        "counted": format_counts(found),
        "good": good,
    }


def stop_at_max_bad(data: Path, workdir: Path) -> dict:
    """A training that allows fewer bad records than there are."""
    training = Training("configs/tiny.py:vae", workdir, data_flags(data, 0.03))
    code = training.finish()
    errors = [line for line in training.log().splitlines() if "error: " in line and "data.max_bad=0.03" in line]
    good = code == 2 and len(errors) == 1
    return {
        "case": "max_bad 0.03",
        "injected": "5 %",
        "counted": f"code {code}: {(errors or [''])[0][:60]}",
        "good": good,
    }


def check_left_out(data: Path, run: Path, injected: Counter) -> dict:
    """What dalle3-jax encode leaves out of the same data, index by index."""
    words = ["--config", "configs/tiny.py:base", "--workdir", run, "--outdir", run / "cache", *data_flags(data, 0.1)]
    command = [sys.executable, "-m", "dalle3_jax", "encode", *map(str, words)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    shards = json.loads((run / "cache" / "cache.json").read_text())["shards"]
    found = {index: reason for shard in shards for index, reason, *_ in shard["bad"]}
    wanted = {int(index): reason for index, reason in json.loads((data / "bad.json").read_text()).items()}
    counts = format_counts(Counter(found.values()))
    return {"case": "encode", "injected": format_counts(injected), "counted": counts, "good": found == wanted}


def format_counts(counts: dict) -> str:
    """Counts in one line."""
    numbers = sorted(set(counts.values()))
    return f"{sum(counts.values())}: {len(counts)} reasons, {'/'.join(map(str, numbers)) or 0} each"


if __name__ == "__main__":
    sys.exit(main())
