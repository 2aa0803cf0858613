"""What the prose names exists: files, modules, commands, and what its examples import."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dalle3_jax.commands import COMMANDS
from dalle3_jax.models.build import NETWORKS, NOT_FIELDS
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet

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
DOTTED = re.compile(rf"(?<![\w/.-])((?:{ROOMS})(?:\.[a-z_]\w*)+\.[A-Za-z_]\w*)")
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
    dotted = (f"dalle3_jax.{name}".split(".") for name in DOTTED.findall(page))
    yield from (".".join(parts) for parts in dotted if source(parts[:3]) and not named(parts))
    yield from (name for name in PROGRAM.findall(page) if not source(name.split(".")))
    yield from (name for name in COMMAND.findall(page) if name not in COMMANDS)
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        yield from (f"import of {name}" for name in example_imports(block) if not named(name.split(".")))


def source(parts: list[str]) -> Path | None:
    """The file of a module or package."""
    path = ROOT.joinpath(*parts)
    files = (path.with_suffix(".py"), path / "__init__.py", path / "__main__.py")
    return next((file for file in files if file.is_file()), None)


def named(parts: list[str]) -> bool:
    """Whether dotted parts are a module or a folder, or a name that the module in front of it defines or imports."""
    if source(parts) or ROOT.joinpath(*parts[:-1]).joinpath(parts[-1]).is_dir():
        return True
    if home := source(parts[:-1]):
        return parts[-1] in names(ast.parse(home.read_text()))
    return len(parts) > 2 and named(parts[:-1])  # a method or a field


def names(tree: ast.Module) -> set[str]:
    """The functions, methods, classes, fields, constants and imports of a module."""
    nodes = list(ast.walk(tree))
    found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return found | {alias.asname or alias.name for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}


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
    text = page.read_text()
    if page.name == "CHANGELOG.md":  # what is new in it, without the table of what things were called before
        text = "\n".join(line for line in text.split("\n## [")[1].splitlines() if not line.startswith("  |"))
    assert sorted(set(missing(text, page.parent))) == []


def test_the_page_of_networks_names_every_kind_and_every_field_of_those_with_a_table():
    page = (ROOT / "docs" / "networks.md").read_text()
    names = set(NETWORKS)
    for network in (T5Encoder, XFNet, UNet, VAE, DecoderUNet):
        names |= {field.name for field in dataclasses.fields(network)} - set(NOT_FIELDS)
    assert sorted(name for name in names if not re.search(rf"`{name}[`=]", page)) == []


@pytest.mark.parametrize(
    "text",
    [
        "`dalle3_jax/opening.py`",
        "see text/translation.py",
        "`dalle3_jax.pictures`",
        "`dalle3_jax.pipeline.request.Picture`",
        "`convert.schedulers.read`",
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
