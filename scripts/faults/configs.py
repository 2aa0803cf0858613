"""Start trainings with bad configs: each is answered within 10 seconds, by the name of the key, with exit code 2.

    python -m scripts.faults.configs

The control is the same config as it should be, which trains.
"""

import shutil
import sys
import time

from scripts.faults.bad_configs import BAD
from scripts.faults.trainings import Training, parse_options, report_cases

SECONDS = 10.0


def main() -> int:
    """Every bad config as a process of its own."""
    arguments = parse_options(__doc__)
    vae = Training("configs/tiny.py:vae", arguments.workdir / "control")
    base = Training("configs/tiny.py:base", arguments.workdir / "control", ("--config.train.steps=2",))
    codes = vae.finish(), base.finish()
    rows = [{"flag": "none (control)", "seconds": "", "exit code": codes[1], "named": "", "good": codes == (0, 0)}]
    for number, (flag, key) in enumerate(BAD.items()):
        folder = arguments.workdir / str(number)
        shutil.copytree(arguments.workdir / "control" / "vae" / "release", folder / "vae" / "release")
        training = Training("configs/tiny.py:base", folder, (flag,), devices=2)
        began = time.monotonic()
        code = training.finish()
        took, said = (
            time.monotonic() - began,
            [line for line in training.log().splitlines() if line.startswith("error:")],
        )
        named = len(said) == 1 and key in said[0]
        rows.append({"flag": flag, "seconds": f"{took:.1f}", "exit code": code, "named": named})
        rows[-1]["good"] = code == 2 and named and took < SECONDS
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("bad configs", rows, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
