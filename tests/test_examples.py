"""Every prompt that README, the help and the docs show is of things that the whole world of scenes has."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.unknown_words import unknown_words

ROOT = Path(__file__).parents[1]
LEXICON = world_lexicon(WHOLE)
PAGES = sorted(
    {ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")} - {ROOT / "docs" / "weights.md"}
)
"""docs/weights.md is about public weights, which draw anything."""

MODULES = [*sorted((ROOT / "dalle3_jax").rglob("*.py")), ROOT / "sample.py", ROOT / "train.py"]
FLAG = re.compile(r"""(?<![\w-])--prompt[ =](?:"((?:[^"\\]|\\.)*)"|'([^']*)')""")
FIELD = re.compile(r'"prompt": "((?:[^"\\]|\\.)*)"')
CALL = re.compile(r"\b(?:pipeline|pipe)\(\s*(\[[^\]]*\]|\"[^\"]*\"|'[^']*')")
PUBLIC = re.compile(r"stable-diffusion|organisation/name|org/name|consistency-decoder")
"""Weights that are not ours."""

LISTS = ("docs/prompts.txt",)


def shown_prompts(text: str) -> Iterator[str]:
    """The prompts of a page or a module: after --prompt, in JSON lines, and in calls of a pipeline."""
    for block in re.split(r"\n\s*\n|^```.*$", text, flags=re.MULTILINE):
        if not PUBLIC.search(block):
            yield from (re.sub(r"\\(.)", r"\1", one or other) for one, other in FLAG.findall(block))
            yield from (re.sub(r"\\(.)", r"\1", one) for one in FIELD.findall(block))
            for found in CALL.findall(block):
                value = ast.literal_eval(found)
                yield from value if isinstance(value, list) else [value]


def module_texts(path: Path) -> Iterator[str]:
    """The texts that a module shows to people: its docstrings and the help of its flags."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def prompts_of(path: Path) -> list[str]:
    texts = [path.read_text(encoding="utf-8")] if path.suffix == ".md" else module_texts(path)
    return [prompt for text in texts for prompt in shown_prompts(text)]


@pytest.mark.parametrize("paths", [PAGES, MODULES], ids=["pages", "modules"])
def test_examples_hold_no_word_that_a_model_of_the_whole_world_has_never_seen(paths):
    shown = {(path.name, prompt) for path in paths for prompt in prompts_of(path)}
    assert len(shown) >= 5
    assert {(name, prompt) for name, prompt in shown if unknown_words(prompt, LEXICON)} == set()


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_examples_hold_none_either(name):
    for prompt in (ROOT / name).read_text(encoding="utf-8").splitlines():
        assert unknown_words(prompt, LEXICON) == (), prompt


@pytest.mark.parametrize(
    ("name", "prompts"),
    [
        ("README.md", {"a panda on the left and an umbrella on the right, on a beach", "three penguins in the snow"}),
        ("dalle3_jax/commands/sample.py", {"a panda on a beach", "a red apple", "two cats"}),
        ("dalle3_jax/pipeline/pipeline.py", {"a panda on a beach"}),
        ("docs/sampling.md", {"a red apple", "two cats", "a panda on a beach"}),
    ],
)
def test_the_examples_are_found_where_they_are_known_to_stand(name, prompts):
    assert prompts <= set(prompts_of(ROOT / name))


def test_prompts_are_found_in_every_form_and_those_for_public_weights_are_not():
    text = (
        'sample --prompt "a \\"b\\"" --prompt \'c\'\n{"prompt": "d", "n": 2}\n'
        'pipeline("e")\npipe(\n    ["f", "g"], n=2)\n\n'
        'sample --checkpoint stable-diffusion-v1-5 --prompt "h"\n\nsample --prompt="i" --prompts-file "j"\n'
    )
    assert sorted(shown_prompts(text)) == ['a "b"', "c", "d", "e", "f", "g", "i"]
    assert [word.text for word in unknown_words("a wizard", LEXICON)] == ["wizard"]
