"""Who may import whom: the rooms of the package, the libraries they may use, and what sampling must not load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Room -> the rooms it may import besides itself and what every room shares: typing, the legend of shapes, and files.
ROOMS: dict[str, set[str]] = {
    "nn": set(),
    "diffusion": set(),
    "text": set(),
    "data": set(),
    "runtime": set(),
    "releases": set(),
    "models": {"nn"},
    "training": {"nn", "diffusion"},
    "checkpoints": {"nn", "models", "runtime"},
    "convert": {"models", "checkpoints"},
    "loading": {"models", "text", "checkpoints", "convert"},
    "reading": {"models", "checkpoints", "data"},
    "captioning": {"models", "checkpoints", "text", "data", "reading", "prompting", "runtime"},
    "prompting": {"text", "data"},
    "pipeline": {"models", "diffusion", "text", "data", "checkpoints", "loading", "prompting", "runtime"},
    "serving": {"pipeline", "prompting", "loading", "runtime"},
    "evaluation": {"models", "data", "text", "convert", "captioning", "reading", "pipeline", "prompting"},
    "planning": {"stages", "pipeline", "models", "diffusion", "checkpoints", "training"},
}
# The lowest room that reads a config, and what stands on it.
ROOMS["stages"] = ROOMS["evaluation"] | {"evaluation", "training", "diffusion", "runtime", "loading", "checkpoints"}
ROOMS["ablations"] = ROOMS["stages"] | {"stages"}
ROOMS["commands"] = set(ROOMS)
SHARED = {"typing", "files"}
# The front door hands out `Pipeline`, `Request` and `convert` when they are asked for.
ROOMS |= {name: set() for name in SHARED} | {"__init__": {"pipeline", "convert"}, "__main__": {"commands", "runtime"}}

# Libraries that a room keeps out, wherever in its files.
BARRED = {
    "diffusion": {"flax", "optax", "orbax", "grain"},
    "data": {"jax", "flax", "optax", "orbax"},
    "text": {"jax", "flax", "optax", "orbax"},
    "nn": {"optax", "orbax", "grain"},
    "models": {"optax", "orbax", "grain"},
}

# Heavy or optional: imported inside the function that uses them, never at the top of a file.
HEAVY = {
    *("diffusers", "huggingface_hub", "matplotlib", "tensorboardX", "tensorflow", "tensorflow_datasets"),
    *("onnxruntime", "rapidocr", "torch", "transformers", "uvicorn", "wandb"),
}

# Files that exist for one heavy library; nothing imports them but a function that wants it.
ADAPTERS = {
    "dalle3_jax.data.scenes.tfds_builder": "tensorflow_datasets",
    "dalle3_jax.serving.connections": "uvicorn",
}

# What an installation without extras has.
CORE = {"flax", "jax", "jaxtyping", "numpy", "PIL", "safetensors", "tokenizers", "tqdm"}


def imported(source: str, module: str, package: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield (absolute dotted name, at top level) for everything that a source imports, `from a import b` as a.b."""
    tree = ast.parse(source)
    apart = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) or is_for_types(n)]
    inside = {id(n) for part in apart for n in ast.walk(part) if n is not part}
    for node in ast.walk(tree):
        top = id(node) not in inside
        if isinstance(node, ast.Import):
            yield from ((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module, package)
            yield from ((f"{base}.{alias.name}", top) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield from ((a.value, top) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def is_for_types(node: ast.AST) -> bool:
    """Whether it is `if TYPE_CHECKING:`, within which nothing is ever imported."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def absolute(node: ast.ImportFrom, module: str, package: bool) -> str:
    """Resolve the leading dots of a `from` import against the module that holds it."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    base = parts[: len(parts) - node.level + package]
    return ".".join([*base, node.module] if node.module else base)


def room(name: str) -> str:
    """The room of a dotted name inside the package."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = sorted((ROOT / "dalle3_jax").rglob("*.py"))
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return {name.removesuffix(".__init__"): path for name, path in zip(names, paths, strict=True)}


def imports(name: str, path: Path) -> list[tuple[str, bool]]:
    """The imports of one module of the package."""
    return list(imported(path.read_text(), name, package=path.name == "__init__.py"))


def permitted(name: str, target: str, top: bool) -> bool:
    """Whether the tables above let a module import a target, at the top of its file or inside a function."""
    home, library = room(name), target.partition(".")[0]
    if library == "dalle3_jax":
        return room(target) in ROOMS[home] | SHARED | {home, "__init__"} and not (
            top and target.startswith(tuple(ADAPTERS))
        )
    if library in ("configs", "tests", "benchmarks") or library in BARRED.get(home, set()):
        return False
    return not top or library not in HEAVY or ADAPTERS.get(name) == library


def trespasses(name: str, found: list[tuple[str, bool]]) -> list[str]:
    """What a module imports against the tables above."""
    return [f"{name} imports {target}" for target, top in found if not permitted(name, target, top)]


@pytest.mark.parametrize("name", modules())
def test_a_room_imports_only_what_the_table_says(name):
    assert room(name) in ROOMS, f"{name} is in no room of the table"
    assert trespasses(name, imports(name, modules()[name])) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dalle3_jax.models.t5", "from dalle3_jax.diffusion import schedules"),
        ("dalle3_jax.models.t5", "from ..diffusion import schedules"),
        ("dalle3_jax.models.t5", "from .. import diffusion"),
        ("dalle3_jax.training.step", "from dalle3_jax import models"),
        ("dalle3_jax.reading.ocr", "from dalle3_jax.evaluation.statistics import Rate"),
        ("dalle3_jax.training.step", "def f():\n    import dalle3_jax.models.unet"),
        ("dalle3_jax.diffusion.samplers", "import flax.linen as nn"),
        ("dalle3_jax.data.batches", "def f():\n    import jax.numpy as jnp"),
        ("dalle3_jax.data.batches", "from dalle3_jax.text import tokenizers"),
        ("dalle3_jax.pipeline", "import importlib\nimportlib.import_module('dalle3_jax.training')"),
        ("dalle3_jax.pipeline", "try:\n    import torch\nexcept ImportError:\n    torch = None"),
        ("dalle3_jax.stages.train", "from configs.common import x"),
        ("dalle3_jax.stages.train", "import wandb"),
        ("dalle3_jax.pipeline.programs", "from dalle3_jax.training import step"),
        ("dalle3_jax.data.sources", "from dalle3_jax.data.scenes import tfds_builder"),
        ("dalle3_jax.commands.scenes", "from dalle3_jax.data.scenes.tfds_builder import write_dataset"),
    ],
)
def test_the_walk_sees_a_trespass(module, source):
    assert len(trespasses(module, list(imported(source, module)))) == 1


def test_no_command_imports_another():
    """What commands share is in a cli.py; the tables that name commands import them when they are asked for."""
    known = modules()
    commands = {name for name in known if name.startswith("dalle3_jax.commands.") and not name.endswith(".cli")}
    for name, path in known.items():
        targets = {target for target, _ in imports(name, path)}
        homes = {max((one for one in known if f"{target}.".startswith(f"{one}.")), default="") for target in targets}
        others = homes & commands - {name}
        assert not others, f"{name} imports {others}"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("dalle3_jax.models.t5", "from . import build"),
        ("dalle3_jax.models.t5", "from ..typing import Array"),
        ("dalle3_jax.stages.train", "def f():\n    import wandb"),
        ("dalle3_jax.serving.server", "if TYPE_CHECKING:\n    import uvicorn"),
        ("dalle3_jax.diffusion.samplers", "import jax.numpy as jnp"),
        ("dalle3_jax.data.scenes.tfds_builder", "import tensorflow_datasets as tfds"),
        ("dalle3_jax.commands.scenes", "def f():\n    from dalle3_jax.data.scenes.tfds_builder import write"),
        ("dalle3_jax.evaluation.score", "from dalle3_jax.pipeline.png import GeneratedImage"),
        ("dalle3_jax.data.records", "from dalle3_jax.files import write_whole"),
    ],
)
def test_the_walk_lets_the_rest_pass(module, source):
    assert trespasses(module, list(imported(source, module))) == []


def test_a_config_imports_other_configs_only():
    for path in (ROOT / "configs").rglob("*.py"):
        found = {name for name, _ in imported(path.read_text(), "configs." + path.stem)}
        ours = {name for name in found if name.startswith(("dalle3_jax", "configs", "common"))}
        assert all(name.startswith("configs.") for name in ours), f"{path.name} imports {ours}"


def closure(start: str) -> set[str]:
    """Every library that importing a module of the package loads at once, through our own modules."""
    known, todo, libraries = modules(), [start], set()
    seen = set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name not in known:
            libraries |= {name.partition(".")[0]} - {"dalle3_jax"}
            continue
        todo += [target for target, top in imports(name, known[name]) if top]
        todo += [name.rpartition(".")[0]] if "." in name else []
    return libraries


@pytest.mark.parametrize(
    "name",
    [
        *("pipeline", "pipeline.pipeline", "pipeline.shared_album", "pipeline.contact_sheet", "commands.sample"),
        *("models.build", "diffusion.samplers", "__main__"),
    ],
)
def test_sampling_needs_no_extra(name):
    assert f"dalle3_jax.{name}" in modules()
    assert closure(f"dalle3_jax.{name}") <= CORE | set(sys.stdlib_module_names)


def test_sampling_loads_no_heavy_library():
    code = "import sys, dalle3_jax.models.build, dalle3_jax.pipeline.pipeline as _\n"
    code += "print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
