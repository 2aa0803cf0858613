"""A sample run of two hosts: each makes its share of the pictures, and the first lists them all."""

import os
import subprocess
import sys
from pathlib import Path

from scripts.faults.hosts import free_port, wait_or_kill
from tests.commands.outputs import contents, manifest

ROOT = Path(__file__).resolve().parents[2]
TWO = ["--coordinator", "10.0.0.2:8476", "--processes", "2", "--process"]


def share(release: Path, out: Path, *words: str) -> list[str]:
    """Runs the sample command as two processes that must end well; returns what each printed."""
    port, environment = free_port(), {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "dalle3_jax", "sample", "--checkpoint", str(release), "--outdir", str(out), *words]
    processes = []
    for index in range(2):
        flags = [f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}"]
        log = out.with_name(f"log-{index}").open("wb")
        processes.append(
            subprocess.Popen(
                [*command, *flags], cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        )
        log.close()
    codes = [wait_or_kill(process, 100) for process in processes]
    printed = [out.with_name(f"log-{index}").read_text() for index in range(2)]
    assert codes == [0, 0], printed
    return printed


def test_two_hosts_share_the_pictures_that_one_would_make(run, out, release_folder):
    words = ["--prompt", "a panda", "--prompt", "two cats", "-n", "2", "--batch-size", "2"]
    assert run(*words, "--grid") == 0
    together = out.with_name("together")
    together.mkdir()
    [kept] = [path for path in out.glob("a-panda-1-*")]
    (together / kept.name).write_bytes(kept.read_bytes())  # of a run that was stopped
    printed = share(release_folder, together, *words, "--grid")
    assert contents(together) == contents(out)
    assert {line["file"]: line for line in manifest(together)} == {line["file"]: line for line in manifest(out)}
    assert len(manifest(together)) == 4
    assert [text.count(".png") for text in printed] == [
        3,
        2,
    ]  # two and the grid; one, and the one already there
    assert "note: 1 of 2 pictures are there already" in printed[1]


def test_one_picture_is_not_shared(run, capsys):
    assert run("--repeat", "a.png", *TWO, "0") == 2
    assert "--repeat makes one picture: run it on one host" in capsys.readouterr().err
