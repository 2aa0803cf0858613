"""`dalle3-jax sample`: what was asked for is in the folder once, however often it is stopped; or one clear line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from PIL import Image

from dalle3_jax.checkpoints.shapes import _network_shapes
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.album import Album, slug
from dalle3_jax.pipeline.png import read_metadata
from dalle3_jax.pipeline.setting_values import parse_size
from tests.commands.outputs import contents, manifest

ROOT = Path(__file__).resolve().parents[2]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_prompts_become_files_that_the_manifest_lists(run, out, pipeline, capsys):
    assert run("--prompt", "a panda", "--prompt", "Two Cats!", "-n", 2, "--seed", 5, "--grid") == 0
    listed = manifest(out)
    assert [(line["prompt"], line["seed"]) for line in listed] == [
        *[("a panda", 5), ("a panda", 6)],
        *[("Two Cats!", 7), ("Two Cats!", 8)],
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [str(out / line["file"]) for line in listed]
    assert printed[4].startswith(str(out / "grid-"))
    assert listed[2]["file"].startswith("two-cats-7-")
    for line in listed:
        assert read_metadata(out / line["file"]) == {key: value for key, value in line.items() if key != "file"}
    [direct] = pipeline("Two Cats!", seed=8, batch_size=2)
    np.testing.assert_array_equal(pixels(out / listed[3]["file"]), np.asarray(direct.image))
    with Image.open(printed[4]) as grid:
        assert grid.width > 2 * 256
    assert not [path for path in out.iterdir() if path.suffix not in (".png", ".jsonl")]


def test_options_reach_the_pictures(run, out):
    settings = ["--steps", 3, "--sampler", "dpmsolver++", "--guidance-scale", 3.5, "--negative-prompt", "fog"]
    more = ["--size", "32x16", "--guidance-rescale", 0.25, "--guidance-interval", 0.1, 0.9, "--spacing", "karras"]
    assert run("--prompt", "a fox", *settings, *more) == 0
    [line] = manifest(out)
    expected = {"steps": 3, "sampler": "dpmsolver++", "guidance_scale": 3.5, "negative_prompt": "fog", "width": 32}
    expected |= {"height": 16, "guidance_rescale": 0.25, "guidance_interval": [0.1, 0.9], "seed": 0, "batch_size": 2}
    expected |= {"spacing": "karras"}
    assert {key: line[key] for key in expected} == expected


def test_lines_of_a_jsonl_have_their_own_settings(run, out, tmp_path):
    lines = [
        {"prompt": "a fox", "n": 2, "seed": 9},
        {"prompt": "an owl", "size": "16x32", "guidance_scale": 1, "negative_prompt": "fog"},
        {"prompt": "a cat"},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert run("--prompts-file", tmp_path / "p.jsonl", "--seed", 100, "--guidance-scale", 4) == 0
    made = {(line["prompt"], line["seed"]): line for line in manifest(out)}
    assert made.keys() == {("a fox", 9), ("a fox", 10), ("an owl", 102), ("a cat", 103)}
    assert made["an owl", 102]["guidance_scale"] == 1
    assert (made["an owl", 102]["width"], made["an owl", 102]["height"]) == (16, 32)
    assert made["a cat", 103]["guidance_scale"] == 4


def test_a_text_file_holds_a_prompt_a_line(run, out, tmp_path):
    (tmp_path / "p.txt").write_text("\ufeffa fox\r\n\n  \n{an owl}\n", encoding="utf-8")
    assert run("--prompts-file", tmp_path / "p.txt", "--prompt", "first") == 0
    assert [line["prompt"] for line in manifest(out)] == ["first", "a fox", "{an owl}"]


def test_a_finished_run_makes_nothing_again(run, out, monkeypatch, capsys):
    asked = ("--prompt", "a fox", "--prompt", "an owl")
    run(*asked)
    before, listed = contents(out), manifest(out)
    monkeypatch.setattr("dalle3_jax.pipeline.Pipeline.sample_latents", lambda *_, **__: pytest.fail("made again"))
    capsys.readouterr()
    assert run(*asked) == 0
    assert "2 of 2 pictures are there already" in capsys.readouterr().err
    assert contents(out) == before
    assert manifest(out) == listed


@pytest.mark.parametrize("killed_after", ["picture", "half a line"])
def test_a_killed_run_is_completed_and_repeats_nothing(run, out, tmp_path, monkeypatch, killed_after):
    asked = [argument for index in range(5) for argument in ("--prompt", f"fox {index}")]
    run(*asked, batch_size=None)
    whole, lines = contents(out), manifest(out)
    shutil.rmtree(out)

    class Killed(BaseException):
        pass

    def killed(album: Album, path: Path, settings: dict) -> None:
        if len(album.listed_files) < 2:
            return listing(album, path, settings)
        if killed_after == "half a line":
            with (out / "manifest.jsonl").open("a") as file:
                file.write('{"file": "fox-2-0')
        raise Killed

    listing = Album._append_to_manifest
    with monkeypatch.context() as patch:
        patch.setattr(Album, "_append_to_manifest", killed)
        with pytest.raises(Killed):
            run(*asked, batch_size=None)
    assert len(contents(out)) == 3
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}

    assert run(*asked, batch_size=None) == 0
    assert contents(out) == whole, "not the bits of a run that was never stopped"
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    read = []
    for line in (out / "manifest.jsonl").read_text().splitlines():
        if line.endswith("}"):
            read.append(json.loads(line))
    assert sorted(read, key=lambda line: line["seed"]) == lines


def test_a_file_that_only_has_the_name_is_no_picture(run, out):
    run("--prompt", "a fox")
    [path] = out.glob("*.png")
    good = path.read_bytes()
    for bad in (b"", good[:40], Path(ROOT / "pyproject.toml").read_bytes()):
        path.write_bytes(bad)
        run("--prompt", "a fox")
        assert path.read_bytes() == good
    assert len(manifest(out)) == 1


def test_the_same_job_twice_is_one_picture(run, out, tmp_path):
    line = json.dumps({"prompt": "a fox", "seed": 1})
    (tmp_path / "p.jsonl").write_text(f"{line}\n{line}\n")
    assert run("--prompts-file", tmp_path / "p.jsonl") == 0
    assert len(contents(out)) == len(manifest(out)) == 1


def test_overwrite_makes_again_and_lists_once(run, out):
    run("--prompt", "a fox")
    [path] = out.glob("*.png")
    before = path.stat().st_mtime_ns
    run("--prompt", "a fox", "--overwrite")
    assert path.stat().st_mtime_ns > before
    assert len(manifest(out)) == 1


def test_a_picture_repeats_from_its_own_words(run, out, tmp_path, capsys):
    run("--prompt", "an owl", "--prompt", "a fox", "--seed", 41, "--guidance-scale", 3.0)
    [original] = out.glob("a-fox-*")
    capsys.readouterr()
    moved = Path(shutil.copy(original, tmp_path / "anything.png"))
    assert run("--repeat", moved, batch_size=None) == 0
    path, verdict = capsys.readouterr().out.splitlines()
    assert verdict == "the same in every pixel"
    assert Path(path).name == f"{original.stem}.repeat.png"
    assert Path(path).read_bytes() == original.read_bytes()


def test_a_repeat_says_how_it_differs(run, out, tmp_path, capsys):
    run("--prompt", "a fox")
    [original] = out.glob("*.png")
    with Image.open(original) as image:
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("dalle3_jax", image.info["dalle3_jax"])
        Image.fromarray(np.asarray(image) ^ 2).save(tmp_path / "edited.png", pnginfo=info)
    capsys.readouterr()
    assert run("--repeat", tmp_path / "edited.png", batch_size=None) == 0
    assert "differs by at most 2/255, in 100.00%" in capsys.readouterr().out


@pytest.mark.parametrize(
    "prompt", ["../../../etc/passwd", "/tmp/x", "..", "con", "a" * 5000, "🐼🐼🐼", "\ud800", "-rf *", "x\ny\tz", "."]
)
def test_file_names_are_safe_whatever_the_prompt(prompt):
    name = slug(prompt)
    assert 0 < len(name) <= 48
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0] != "-"


@pytest.fixture
def empty_cache(tmp_path: Path) -> Iterator[None]:
    """Another folder of programs than the tests' own, with JAX's default of what is kept in it."""
    changed = {"jax_compilation_cache_dir": str(tmp_path / "xla"), "jax_persistent_cache_min_compile_time_secs": 1.0}
    before = {name: jax.config.values[name] for name in changed}
    for values in (changed, before):
        for name, value in values.items():
            jax.config.update(name, value)
        reset_cache()  # whether there is one, and where, is decided at a process's first compilation
        jax.clear_caches()  # what other tests have compiled is in no file yet
        if values is changed:
            yield


def test_a_second_start_takes_its_programs_from_the_cache(run, out, empty_cache):
    run("--prompt", "a fox")
    counts = {"/jax/compilation_cache/cache_hits": 0, "/jax/compilation_cache/cache_misses": 0}

    def listen(event: str, **_) -> None:
        if event in counts:
            counts[event] += 1

    jax.clear_caches()
    jax.monitoring.register_event_listener(listen)
    try:
        run("--prompt", "a fox", "--overwrite")
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert counts["/jax/compilation_cache/cache_hits"] >= 4
    assert counts["/jax/compilation_cache/cache_misses"] == 0


def test_a_second_start_traces_no_network(run, out, empty_cache, monkeypatch):
    run("--prompt", "a fox")
    pictures = {path.name: path.read_bytes() for path in out.glob("*.png")}
    for program in (programs.encode_prompts, programs.start, programs.project_rows, programs.advance):
        monkeypatch.setattr(program, "_programs", {})  # as in another process
    monkeypatch.setattr(programs.decode_latents, "_programs", {})
    _network_shapes.cache_clear()
    for network in (T5Encoder, XFNet, UNet, VAE):
        monkeypatch.setattr(network, "apply", None)
        monkeypatch.setattr(network, "init", None)
    run("--prompt", "a fox", "--overwrite")
    assert {path.name: path.read_bytes() for path in out.glob("*.png")} == pictures
    assert len(pictures) == 1


def test_sizes_are_width_by_height():
    assert parse_size("32x16") == parse_size(" 32X16 ") == (16, 32)
    for text in ("", "16", "16x", "x16", "16x16x16", "-16x16", "1e3x16"):
        with pytest.raises(ValueError, match="no size"):
            parse_size(text)


def test_help_comes_without_jax_and_shows_examples():
    code = (
        "import sys; from dalle3_jax.commands.sample import build_parser; print(build_parser().format_help());"
        "import importlib; from dalle3_jax.commands import COMMANDS\n"
        "for module, _ in COMMANDS.values(): importlib.import_module(module); assert 'jax' not in sys.modules, module"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ)
    )
    assert "--prompts-file FILE" in done.stdout
    assert '{"prompt": "a panda"' in done.stdout


def test_files_have_the_names_and_the_format_that_are_asked_for(run, out, capsys):
    asked = ("--prompt", "a fox", "--prompt", "-night", "--name", "{n:03d}", "--format", "jpeg", "--size", "16x24")
    assert run(*asked) == 0
    said = capsys.readouterr()
    assert [row["file"] for row in manifest(out)] == ["001.jpeg", "002.jpeg"]
    assert read_metadata(out / "002.jpeg")["prompt"] == "-night"
    assert "note: this model was not trained on images of 16x24, but on 16x16, 32x16" in said.err
    before = (out / "001.jpeg").stat().st_mtime_ns
    assert run(*asked) == 0
    said = capsys.readouterr()
    assert "2 of 2 pictures are there already" in said.err
    assert said.out.split() == [str(out / "001.jpeg"), str(out / "002.jpeg")]
    assert (out / "001.jpeg").stat().st_mtime_ns == before
    assert run("--prompt", "an owl", "--name", "{n:03d}", "--format", "jpeg") == 2
    assert "is another picture" in capsys.readouterr().err
    assert run("--prompt", "x" * 60_000, "--format", "jpeg") == 2
    assert "too long for a JPEG" in capsys.readouterr().err
