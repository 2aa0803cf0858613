"""Errors of commands: one line, and the exit code that says whose fault it was."""

import io
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from dalle3_jax import __main__ as front
from dalle3_jax.commands.cli import CommandError, CommandParser, bad_input, failures, print_command_errors


def ended(capsys, body):
    """(exit code, what stderr has) of a command that is `body`."""

    @print_command_errors
    def main(argv):
        body()
        return 0

    return main([]), capsys.readouterr().err


def within(context, error):
    def body():
        with context:
            raise error

    return body


def test_bad_input_is_one_line_and_status_two(capsys):
    assert ended(capsys, within(bad_input(), ValueError("no such size"))) == (2, "error: no such size\n")
    assert ended(capsys, within(bad_input(OSError), OSError(2, "gone"))) == (2, "error: [Errno 2] gone\n")


def test_a_failure_is_one_line_that_tells_what_remains_and_status_one(capsys):
    context = failures(OSError, FloatingPointError, remark="nothing was measured")
    assert ended(capsys, within(context, OSError(28, "full"))) == (1, "error: [Errno 28] full; nothing was measured\n")


def test_what_is_bad_input_stays_so_within_what_may_fail(capsys):
    def body():
        with failures(ValueError, OSError, remark="kept"), bad_input():
            raise ValueError("x")

    assert ended(capsys, body) == (2, "error: x\n")


def test_an_error_says_its_own_line_and_code(capsys):
    def body():
        raise CommandError("no part 'x'")

    assert ended(capsys, body) == (2, "error: no part 'x'\n")
    assert ended(capsys, lambda: None) == (0, "")


@pytest.mark.parametrize(("context", "error"), [(bad_input(), OSError), (failures(OSError, remark="x"), ValueError)])
def test_other_errors_are_faults_of_the_program_and_keep_their_traceback(capsys, context, error):
    with pytest.raises(error):
        ended(capsys, within(context, error))


def test_arguments_that_make_no_sense_are_bad_input(capsys):
    with pytest.raises(SystemExit) as stop:
        CommandParser("command").parse_args(["--nix"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --nix; --help says more\n"


@pytest.fixture
def parser():
    parser = CommandParser("command", allow_abbrev=False)
    parser.add_argument("--prompt", action="append", metavar="TEXT")
    parser.add_argument_group("how").add_argument("--negative-prompt", metavar="TEXT")
    parser.add_argument("--seed", type=int)
    parser.add_argument("-n", type=int)
    return parser


def test_a_home_folder_is_one_behind_an_equals_sign_too(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    parser = CommandParser("command", allow_abbrev=False)
    for name, how in {"outdir": {}, "out": {"type": Path}, "prompt": {"metavar": "TEXT"}}.items():
        parser.add_argument(f"--{name}", **how)
    parsed = parser.parse_args(["--outdir=~/pictures", "--out=~", "--prompt=~/not a folder"])
    assert (parsed.outdir, parsed.out, parsed.prompt) == ("/home/me/pictures", Path("/home/me"), "~/not a folder")
    assert parser.parse_args(["--outdir=a~b"]).outdir == "a~b"


@pytest.mark.parametrize("address", ["file:///data/a", "FILE://localhost/data/a", "file:/data/a"])
def test_an_address_of_this_machine_is_a_path_wherever_one_may_stand(address):
    parser = CommandParser("command", allow_abbrev=False)
    parser.add_argument("--outdir", metavar="DIR")
    parser.add_argument("--prompt", metavar="TEXT")
    parser.add_argument("files", nargs="*")
    for given in (["--outdir", address], [f"--outdir={address}"]):
        parsed = parser.parse_args([address, *given, "--prompt", address])
        assert (parsed.files, parsed.outdir, parsed.prompt) == (["/data/a"], "/data/a", address)
    assert parser.parse_args(["--outdir", "gs://b/a", "a/file:/x"]).files == ["a/file:/x"]


@pytest.mark.parametrize("text", ["-night", "-10 degrees, snow", "-- a dash", "-n1ght", "--prompts", "-x=1", "-"])
def test_a_text_may_begin_with_a_dash(parser, text):
    parsed = parser.parse_args(["--prompt", text, "--negative-prompt", text, "--prompt", "b", "-n", "2"])
    assert (parsed.prompt, parsed.negative_prompt, parsed.n) == ([text, "b"], text, 2)


@pytest.mark.parametrize("follows", [["--seed", "3"], ["--seed=3"], ["-n", "3"], ["-n3"], ["--negative-prompt=x"], []])
def test_a_text_that_was_forgotten_is_still_an_error(parser, follows, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--prompt", *follows])
    assert stop.value.code == 2
    assert "--prompt: expected one argument" in capsys.readouterr().err


def test_a_terminal_shows_by_its_code_what_its_encoding_lacks(monkeypatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(said, encoding="ascii", errors="strict"))
    monkeypatch.setattr(sys, "argv", ["dalle3-jax", "s\xe4mple"])
    assert front.main() == 2
    assert said.getvalue().startswith(b"error: no command 's\\xe4mple'")


@pytest.mark.parametrize(("argv", "again"), [(None, [(signal.SIGINT, signal.SIG_DFL)]), (["sample"], [])])
def test_a_second_ctrl_c_ends_the_program_at_once_and_leaves_a_caller_its_own(argv, again, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    signals = []
    monkeypatch.setattr(sys, "argv", ["dalle3-jax", "sample"])
    monkeypatch.setattr(front.importlib, "import_module", lambda name: types.SimpleNamespace(main=interrupted))
    monkeypatch.setattr(front.signal, "signal", lambda *given: signals.append(given))
    assert front.main(argv) == 130
    assert signals == again


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_output_that_nobody_reads_ends_a_command_without_a_traceback(words):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        run = subprocess.run(
            [sys.executable, "-m", "dalle3_jax", *words], stdout=closed, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (run.returncode, run.stderr) == (1, b"")
