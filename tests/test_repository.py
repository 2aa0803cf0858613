"""The repository as a whole: its size, its requirements, its packages and its commands."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setuptools

from dalle3_jax import __main__ as entry
from dalle3_jax.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]


def tracked() -> list[Path]:
    """The files of a checkout, as git lists them."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def megabytes(paths: list[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6


def requirements(path: Path) -> set[str]:
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {line for line in lines if line}


def distribution(requirement: str) -> str:
    """The normalised name of what a requirement asks for."""
    return re.split(r"[\[<>=]", requirement)[0].lower().replace("_", "-")


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(
        [sys.executable, *argv], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


def test_the_tree_is_small_enough_to_carry():
    assert megabytes(tracked()) < 58


def test_shipped_weights_stay_under_their_ceiling():
    assert megabytes([path for path in tracked() if "releases" in path.parts]) < 40


def test_no_file_of_weights_is_large():
    assert all(path.stat().st_size <= 15e6 for path in tracked() if path.suffix == ".safetensors")


def test_requirements_are_the_dependencies_and_the_train_extra():
    extras = PROJECT["optional-dependencies"]
    assert requirements(ROOT / "requirements.txt") == {*PROJECT["dependencies"], *extras["train"]}


def test_constraints_pin_every_direct_requirement():
    extras = PROJECT["optional-dependencies"]
    wanted = [
        *PROJECT["dependencies"],
        *(line for name in ("train", "tfds", "eval", "serve", "dev", "browser", "parity") for line in extras[name]),
    ]
    pins = set(map(distribution, requirements(ROOT / "constraints.txt")))
    assert set(map(distribution, wanted)) - {"dalle3-jax"} <= pins


def test_every_folder_of_code_is_a_package():
    folders = {path.parent for path in (ROOT / "dalle3_jax").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_wheel_holds_every_file_that_is_not_code():
    package = ROOT / "dalle3_jax"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["dalle3_jax"]
    shipped = {path for pattern in patterns for path in package.glob(pattern)}
    assert {path for path in tracked() if package in path.parents and path.suffix != ".py"} <= shipped


def test_the_wheel_holds_every_config(monkeypatch):
    """A config that is not there where a command runs is no use: `--config demo:vae` works from anywhere."""
    asked = {}
    monkeypatch.setattr(setuptools, "setup", asked.update)
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    folders = {ROOT / asked["package_dir"].get(package, package.replace(".", "/")) for package in asked["packages"]}
    assert {path.parent for path in tracked() if path.is_relative_to(ROOT / "configs")} <= folders
    assert {path.parent for path in (ROOT / "dalle3_jax").rglob("*.py")} <= folders


def test_no_file_postpones_its_annotations():
    ours = [path for path in tracked() if path.suffix == ".py" and path != Path(__file__)]
    assert [path for path in ours if "from __future__ import annotations" in path.read_text()] == []


def test_the_list_of_commands_matches_their_files():
    files = {path.stem for path in (ROOT / "dalle3_jax/commands").iterdir()} - {"__init__", "__pycache__", "cli"}
    assert {module.rpartition(".")[2] for module, _ in COMMANDS.values()} <= files
    assert set(COMMANDS) <= files


def exit_code(*argv: str) -> object:
    """What the command ends with, in this process."""
    try:
        return entry.main(argv)
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    assert exit_code(name, "--help") == 0
    assert len(capsys.readouterr().out) > 200


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_the_list_of_commands_is_shown(argv, capsys):
    assert exit_code(*argv) == 0
    assert COMMANDS.keys() <= {*capsys.readouterr().out.split()}


def test_an_unknown_command_is_one_line_and_exit_status_2():
    done = run("-m", "dalle3_jax", "smple")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no command 'smple': did you mean sample?\n"


def test_a_missing_library_is_named_with_its_extra(monkeypatch, capsys):
    def absent(_):
        raise ModuleNotFoundError("No module named 'orbax'", name="orbax.checkpoint")

    monkeypatch.setattr(entry.importlib, "import_module", absent)
    assert entry.run_command("train", []) == 2
    assert "dalle3_jax[train]" in capsys.readouterr().err
