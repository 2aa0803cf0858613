"""`sample --upsample` and `--size auto`: shown, saved in the picture, edited by hand, made again; or one line."""

import json

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from dalle3_jax.checkpoints.releases import Release, load_release, save_release, weights_digest
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import read_metadata
from dalle3_jax.pipeline.request import Request
from tests.commands.outputs import manifest


@pytest.fixture
def reads_all(monkeypatch):
    """The tiny model reads 40 bytes; what it cannot read to its end would not be drawn."""
    monkeypatch.setattr(Pipeline, "can_read", lambda self, prompt: True)


@pytest.mark.usefixtures("reads_all")
def test_a_revised_prompt_is_shown_saved_and_repeated(run, out, capsys):
    assert run("--prompt", "a panda", "--prompt", "as is: a fox", "--upsample", "template") == 0
    said = capsys.readouterr().err
    panda, fox = manifest(out)
    assert panda["original_prompt"] == "a panda"
    assert panda["prompt"].startswith("A panda.")
    assert f"a panda -> {panda['prompt']}" in said
    assert (fox["prompt"], fox["original_prompt"]) == ("a fox", "as is: a fox")
    assert read_metadata(out / panda["file"])["original_prompt"] == "a panda"
    assert run("--repeat", out / panda["file"], batch_size=None) == 0
    assert "the same in every pixel" in capsys.readouterr().out


@pytest.mark.usefixtures("reads_all")
def test_revised_prompts_can_be_edited_and_given_again(run, out, capsys):
    assert run("--prompt", "a panda", "--upsample", "template", "--size", "32x16") == 0
    file = out / "prompts.jsonl"
    [line] = map(json.loads, file.read_text().splitlines())
    assert line["original_prompt"] == "a panda"
    line["prompt"] = "A panda by hand."
    file.write_text(json.dumps(line) + "\n")
    edited = file.rename(out.parent / "edited.jsonl")
    assert run("--prompts-file", edited, "--upsample", "template") == 0
    assert [row["prompt"] for row in manifest(out)][-1] == "A panda by hand."
    assert "->" not in capsys.readouterr().err.split("edit them")[-1]


def test_a_prompt_that_is_not_revised_makes_the_picture_that_it_always_made(run, out):
    assert run("--prompt", "a panda") == 0
    assert "original_prompt" not in manifest(out)[0]
    request, same = Request("a panda", (16, 16)), Request("a panda", (16, 16), original_prompt="x")
    assert request.identity("d") == same.identity("d")
    assert request == same


def test_a_size_is_chosen_from_each_prompt_with_its_reason(run, out, capsys):
    assert run("--prompt", "a panda, 16:9", "--prompt", "a fox", "--size", "auto", "--upsample", "template") == 0
    said = capsys.readouterr().err
    wide, square = manifest(out)
    assert wide["width"] > wide["height"]
    assert f"{wide['width']}x{wide['height']} for 'a panda, 16:9': the prompt says \"16:9\"" in said
    assert (square["width"], square["height"]) in ((16, 16), (32, 32))
    assert "nothing is said of it" in said


@pytest.fixture
def save_head(release_folder, tmp_path):
    """Saves a size head that always names the last of its two sizes, for the tiny text encoder or another."""

    def save(encoder=None):
        encoders = load_release(release_folder, ["text_encoder"])
        width = encoders.modules["text_encoder"].width
        head = SizeHead(((16, 16), (16, 24)), width=width, hidden=4)
        inputs = jnp.zeros((1, 3, width)), jnp.ones((1, 3), bool)
        params = nn.unbox(jax.jit(head.init)(jax.random.key(0), *inputs)["params"])
        params["logits"]["bias"] = jnp.array([0.0, 30.0])
        told = {"length": 8, "encoder": encoder or weights_digest(encoders.params["text_encoder"])}
        save_release(tmp_path / "size_head" / "release", Release({"size_head": head}, {"size_head": params}, text=told))
        return tmp_path / "size_head"

    return save


def test_a_head_of_ones_own_chooses_among_its_own_sizes(run, out, capsys, save_head):
    assert run("--prompt", "a fox", "--prompt", "a fox, square", "--size", "Auto", "--size-head", save_head()) == 0
    assert "24x16 for 'a fox': the size head gives it 100%" in capsys.readouterr().err
    assert [(row["width"], row["height"]) for row in manifest(out)] == [(24, 16), (16, 16)]


def test_a_head_that_does_not_fit_is_refused_before_anything_is_made(run, out, capsys, save_head, release_folder):
    for head, size, said in (
        (save_head("another"), "auto", "another text encoder"),
        (release_folder, "auto", "lacks size_head"),
        (out / "nowhere", "auto", "not a folder"),
        (save_head("another"), "16x16", "nothing asks for"),
    ):
        assert run("--prompt", "a fox", "--size", size, "--size-head", head, "--upsample", "template") == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not out.exists()


def test_lines_of_a_file_may_ask_for_it(run, out, tmp_path):
    rows = [{"prompt": "a fox, landscape", "size": "auto"}, {"prompt": "a fox", "size": "32x16"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert run("--prompts-file", tmp_path / "p.jsonl") == 0
    chosen, wide = manifest(out)
    assert chosen["width"] > chosen["height"]
    assert (wide["width"], wide["height"]) == (32, 16)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--upsample", "chat", "--chat-url", "nowhere"], "chat url"),
        (["--upsample", "chat", "--chat-timeout", "0"], "deadline"),
        (["--size", "large"], "or auto"),
    ],
)
def test_bad_input_is_one_line(run, arguments, said, capsys):
    assert run("--prompt", "a panda", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_server_that_is_not_there_costs_the_revision_alone(run, out, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    address = ["--upsample", "chat", "--chat-url", "http://127.0.0.1:9/v1", "--chat-timeout", "0.5"]
    assert run("--prompt", "a panda", *address) == 0
    captured = capsys.readouterr()
    assert manifest(out)[0]["prompt"] == "a panda"
    assert "is drawn as it is" in captured.err
    assert "secret" not in captured.err + captured.out
