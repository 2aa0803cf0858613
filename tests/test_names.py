"""Names that a stranger can search for: of functions, of error messages, of files."""

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "dalle3_jax"

OUT = {
    *("apart", "asked", "chosen", "drawing", "drawn", "found", "given", "known", "laid", "learnt", "made", "named"),
    *("said", "seen", "spoiled", "spoilt", "spoken", "taught", "told", "wanted"),
}
"""No function is called so: a function is a verb with its object, or the noun that it returns."""

OUT_OF_BODIES = {"drawn", "found", "laid", "spoken", "told"}
"""Nor is a variable: a result is called by what it is."""

OPENINGS = ("What ", "How ", "Where ")
"""No docstring opens so: its first line names what is returned."""

ENDS = ("ed", "en", "wn")
IRREGULAR = {
    *("bent", "bought", "bound", "brought", "built", "caught", "dealt", "dug", "felt", "fought", "found"),
    *("gone", "had", "heard", "held", "kept", "laid", "led", "learnt", "left", "lent", "lost"),
    *("made", "meant", "met", "paid", "said", "sent", "sold", "sought", "spelt", "spent", "spoilt"),
    *("spun", "stood", "struck", "swept", "swum", "taught", "thought", "told", "understood", "won", "wound"),
}
INNOCENT = {
    *(
        "bed",
        "embed",
        "feed",
        "len",
        "markdown",
        "need",
        "open",
        "screen",
        "seed",
        "shorten",
        "speed",
        "token",
        "widen",
    ),
}
"""Verbs and nouns with a participle's end."""

MOST_PARTICIPLES = 20

# A network, a stage and a command bear the same name in each of the rooms that they go through.
PAIRED = ("models", "convert", "training/objectives", "stages", "reading", "prompting", "commands")
# Names that two other files may share: what one of them holds stands on the other.
PAIRS = {
    "consistency": {"diffusion/consistency.py", "training/objectives/consistency.py"},
    "decoders": {"pipeline/decoders.py", "commands/evaluate/decoders.py"},
    "files": {"files.py", "data/files.py"},
    "latents": {"checkpoints/latents.py", "stages/latents.py"},
}


def functions(source: str) -> Iterator[str]:
    """The names of all functions and methods, without underscores around them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name.strip("_")


def variables(source: str) -> Iterator[str]:
    """The names of all arguments, and of all that is assigned to."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def first_lines(source: str) -> Iterator[str]:
    """The first lines of all docstrings."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (ast.get_docstring(node) or "").partition("\n")[0]


def is_participle(name: str) -> bool:
    """Whether a name is one word that is a participle."""
    return "_" not in name and name not in INNOCENT and (name.endswith(ENDS) or name in IRREGULAR)


def twins(paths: list[str]) -> dict[str, set[str]]:
    """File name -> where it stands, for names that stand in several places and may not."""
    places = defaultdict(set)
    for path in paths:
        places[Path(path).stem].add(path)
    repeated = {name: at for name, at in places.items() if len(at) > 1 and name not in ("__init__", "cli")}
    return {
        name: at
        for name, at in repeated.items()
        if PAIRS.get(name) != at and sum(not path.startswith(PAIRED) for path in at) > 1
    }


SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def test_the_words_that_are_out_stay_out():
    assert [(path, name) for path, source in SOURCES.items() for name in functions(source) if name in OUT] == []


def test_error_messages_are_errors():
    """A batch poses a task, and what is wrong is said by errors; `problems` was both."""
    named = [(path, name) for path, source in SOURCES.items() for name in [*functions(source), *variables(source)]]
    assert [(path, name) for path, name in named if name.strip("_").split("_")[-1] == "problems"] == []


def test_results_are_called_by_what_they_are():
    names = [(path, name) for path, source in SOURCES.items() for name in variables(source)]
    assert [(path, name) for path, name in names if name in OUT_OF_BODIES] == []


def test_docstrings_name_what_is_returned():
    lines = [(path, line) for path, source in SOURCES.items() for line in first_lines(source)]
    assert [(path, line) for path, line in lines if line.startswith(OPENINGS)] == []


def test_few_functions_are_bare_participles():
    participles = Counter(name for source in SOURCES.values() for name in functions(source) if is_participle(name))
    assert participles.total() <= MOST_PARTICIPLES, dict(participles)


@pytest.mark.parametrize(
    ("name", "bare"),
    [("drawn", True), ("scaled", True), ("told", True), ("split", False), ("seed", False), ("scaled_noise", False)],
)
def test_a_participle_is_known_by_its_end(name, bare):
    assert is_participle(name) == bare


def test_a_file_name_stands_once():
    assert twins(list(SOURCES)) == {}


def test_a_name_that_stands_twice_is_seen():
    assert twins(["data/report.py", "evaluation/report.py"]) == {"report": {"data/report.py", "evaluation/report.py"}}
    assert twins(["models/vae.py", "stages/vae.py", "data/cli.py", "nn/cli.py"]) == {}
    assert twins(["diffusion/consistency.py", "nn/consistency.py"]).keys() == {"consistency"}
