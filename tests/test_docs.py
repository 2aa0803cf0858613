"""What the prose names exists: files, modules, commands, and what its examples import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dalle3_jax.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PACKAGE = ROOT / "dalle3_jax"
ROOMS = "|".join(sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"))
TOPS = "dalle3_jax|configs|tests|docs|scripts|benchmarks|deploy|examples"

PATH = re.compile(rf"(?<![\w/.-])(?:{TOPS})/[\w./-]*\w")
SHORT_PATH = re.compile(rf"(?<![\w/.-])(?:{ROOMS})/[\w/]+\.py")
MODULE = re.compile(r"(?<![\w/.-])(?:dalle3_jax|scripts|benchmarks|configs)(?:\.[A-Za-z_]\w*)+")
PROGRAM = re.compile(r"python -m ((?:dalle3_jax|scripts|benchmarks)[\w.]*)")
COMMAND = re.compile(r"(?:python -m dalle3_jax|dalle3-jax) ([a-z]\w+)")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def missing(page: str, folder: Path = ROOT) -> Iterator[str]:
    """Everything that a page names and that is not there; NAME in a path or a module stands for any."""
    page = re.sub(r"\S+\bNAME\b\S*", "", page)
    paths = {ROOT / name for name in PATH.findall(page)} | {folder / name for name in LINK.findall(page)}
    yield from (str(path) for path in paths if not path.exists())
    yield from (name for name in SHORT_PATH.findall(page) if not any((top / name).exists() for top in (PACKAGE, ROOT)))
    yield from (name for name in MODULE.findall(page) if not named(name.split(".")))
    yield from (name for name in PROGRAM.findall(page) if not source(name.split(".")))
    yield from (name for name in COMMAND.findall(page) if name not in COMMANDS)
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        yield from (f"import of {name}" for name in example_imports(block) if not named(name.split(".")))


def source(parts: list[str]) -> Path | None:
    """The file of a module or package."""
    path = ROOT.joinpath(*parts)
    return next(
        (one for one in (path.with_suffix(".py"), path / "__init__.py", path / "__main__.py") if one.is_file()), None
    )


def named(parts: list[str]) -> bool:
    """Whether dotted parts are a module, or a word in the source of the module that the first of them name."""
    if source(parts) or ROOT.joinpath(*parts[:-1]).joinpath(parts[-1]).is_dir():
        return True
    home = source(parts[:-1]) or source(parts[:-2])
    return home is not None and re.search(rf"\b{parts[-1]}\b", home.read_text()) is not None


def example_imports(block: str) -> Iterator[str]:
    """The dotted names that an example imports of ours."""
    try:
        nodes = list(ast.walk(ast.parse(block)))
    except SyntaxError:  # signatures in docs/api.md
        return
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dalle3_jax"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page):
    now = page.read_text().split("\n## [")[: 2 if page.name == "CHANGELOG.md" else None]  # of old versions nothing
    assert sorted(set(missing("\n## [".join(now), page.parent))) == []


@pytest.mark.parametrize(
    "text",
    [
        "`dalle3_jax/opening.py`",
        "see text/translation.py",
        "`dalle3_jax.pictures`",
        "`dalle3_jax.pipeline.request.Picture`",
        "python -m scripts.recipes",
        "dalle3-jax smple",
        "[there](nothing.md)",
        "```python\nfrom dalle3_jax.models.build import build\n```",
    ],
)
def test_the_walk_sees_what_is_missing(text):
    assert len(list(missing(text))) >= 1


def test_the_walk_lets_the_rest_pass():
    text = "`configs/ablations/NAME.py`, python -m scripts.faults.NAME, `training/step.py`, dalle3-jax sample"
    assert list(missing(f"{text}, [a](README.md), `dalle3_jax.pipeline.request.Request`")) == []
