"""`evaluate atoms` against a server on this machine: what it writes, and what is refused before any picture is made."""

import json
from pathlib import Path

import pytest
from PIL import Image

from dalle3_jax.commands.evaluate import main
from dalle3_jax.pipeline import Pipeline
from tests.evaluation.test_judge import LINE, body
from tests.prompting.test_chat import KEY, says, server, status

__all__ = ["server"]  # a fixture


@pytest.fixture
def given(server, release_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a run on two prompts in GenEval 2's format."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "suite.jsonl").write_text(f"{json.dumps(LINE)}\n{json.dumps(LINE)}\nno JSON\n")
    found = ["--checkpoint", str(release_folder), "--suite", str(tmp_path / "suite.jsonl")]
    found += ["--size", "16x16", "--steps", "1", "--outdir", str(tmp_path / "out"), "--judge-timeout", "0.5"]
    return ["atoms", *found, "--judge-url", f"http://127.0.0.1:{server.server_port}/v1", "--judge-model", "eyes"]


def test_a_run_writes_the_table_all_answers_and_the_pictures(server, given, tmp_path, capsys):
    server.behaviours = [says(body("Red", {"Red": 0.9})), says(body("Yes", {"Yes": 0.64, "two": 0.36}))]
    assert main(given) == 0
    printed = capsys.readouterr()
    assert "line 3" in printed.err
    table, values = (tmp_path / "out" / "atoms.md").read_text(), (tmp_path / "out" / "atoms.json").read_text()
    assert table in printed.out
    rates = {name: row["model"]["value"] for name, row in json.loads(values)["rates"].items()}
    assert rates == pytest.approx(
        {
            "mean of atoms": 0.5,
            "whole prompt (geometric mean)": 0.48,
            "skill: count": 0.36,
            "skill: attribute": 0.64,
            "2 atoms": 0.48,
        }
    )
    assert KEY not in table + values + printed.out + printed.err
    assert len(list((tmp_path / "out").glob("two-red-cats-*.png"))) == 2
    with Image.open(tmp_path / "out" / "atoms.png") as plot:
        assert plot.width > 400
    asked, server.behaviours = len(server.requests), [says(body("Red", {"Red": 0.9}))]
    assert main(given) == 0
    assert len(server.requests) == asked + 1  # whether it sees; what it has answered is kept


@pytest.mark.parametrize(
    ("act", "changes", "message"),
    [
        (status(401), [], "status 401: no; give the --judge-url"),
        (says(body("No", {"No": 1.0})), [], "eyes at http"),
        (says(b"garbage"), [], "answer is none; give the --judge-url"),
        (says(body("Red")), ["--suite", "/nowhere.jsonl"], "cannot read the suite '/nowhere.jsonl'"),
        (says(body("Red")), ["--judge-url", "ftp://x"], "the chat url 'ftp://x'"),
        (says(body("Red")), ["--judge-threads", "0"], "--judge-threads 0 must be at least 1"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_any_picture(server, given, act, changes, message, capsys, monkeypatch):
    monkeypatch.setattr(Pipeline, "generate", lambda *_, **__: pytest.fail("a picture was made"))
    server.behaviours = [act]
    assert main([*given, *changes]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert KEY not in error
