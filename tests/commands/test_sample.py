"""`dalle3-jax sample`: what was asked for is in the folder once, however often it is stopped; or one clear line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from dalle3_jax.commands.album import Album, slug
from dalle3_jax.commands.prompts import parse_size
from dalle3_jax.commands.sample import main
from dalle3_jax.pictures import read_settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True, scope="module")
def compilation_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The command's cache of programs in a folder of the tests."""
    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    folder = tmp_path_factory.mktemp("xla")
    jax.config.update("jax_compilation_cache_dir", str(folder))
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def run(release_folder: Path, tmp_path: Path) -> Callable[..., int]:
    """The command in tmp_path/out with the tiny release and batches of 2."""

    def call(*arguments: object, checkpoint: Path = release_folder, batch_size: int | None = 2) -> int:
        size = [] if batch_size is None else ["--batch-size", str(batch_size)]
        options = ["--checkpoint", str(checkpoint), "--outdir", str(tmp_path / "out"), *size]
        return main([*options, *map(str, arguments)])

    return call


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


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
        assert read_settings(out / line["file"]) == {key: value for key, value in line.items() if key != "file"}
    [direct] = pipeline("Two Cats!", seed=8, batch_size=2)
    np.testing.assert_array_equal(pixels(out / listed[3]["file"]), np.asarray(direct.image))
    with Image.open(printed[4]) as grid:
        assert grid.width > 2 * 256
    assert not [path for path in out.iterdir() if path.suffix not in (".png", ".jsonl")]


def test_options_reach_the_pictures(run, out):
    settings = ["--steps", 3, "--sampler", "dpmsolver++", "--guidance-scale", 3.5, "--negative-prompt", "fog"]
    more = ["--size", "32x16", "--guidance-rescale", 0.25, "--guidance-interval", 0.1, 0.9]
    assert run("--prompt", "a fox", *settings, *more) == 0
    [line] = manifest(out)
    expected = {"steps": 3, "sampler": "dpmsolver++", "guidance_scale": 3.5, "negative_prompt": "fog", "width": 32}
    expected |= {"height": 16, "guidance_rescale": 0.25, "guidance_interval": [0.1, 0.9], "seed": 0, "batch_size": 2}
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
        if len(album.listed) < 2:
            return listing(album, path, settings)
        if killed_after == "half a line":
            with (out / "manifest.jsonl").open("a") as file:
                file.write('{"file": "fox-2-0')
        raise Killed

    listing = Album._list
    with monkeypatch.context() as patch:
        patch.setattr(Album, "_list", killed)
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
    "prompt", ["../../../etc/passwd", "/root/x", "..", "con", "a" * 5000, "🐼🐼🐼", "\ud800", "-rf *", "x\ny\tz", "."]
)
def test_file_names_are_safe_whatever_the_prompt(prompt):
    name = slug(prompt)
    assert 0 < len(name) <= 48
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name[0] != "-"


def test_hostile_prompts_make_pictures_in_the_folder_only(run, out, tmp_path, capsys):
    lines = ["../../escape", "a\0b", "🐼", "word " * 200_000]
    (tmp_path / "p.jsonl").write_text("\n".join(json.dumps({"prompt": prompt}) for prompt in lines))
    before = {path for path in tmp_path.iterdir()}
    assert run("--prompts-file", tmp_path / "p.jsonl", "--grid") == 0
    assert [line["prompt"] for line in manifest(out)] == lines
    assert {path for path in tmp_path.iterdir()} == before | {out}
    errors = capsys.readouterr().err
    assert "has 1000001 tokens; this model reads the first 24" in errors
    assert len(errors) < 1000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no prompt: give --prompt TEXT"),
        (["--prompt", "x", "--size", "20x16"], "size 20x16 is not a multiple of 8: use 16x16"),
        (["--prompt", "x", "--size", "big"], "'big' is no size: write WIDTHxHEIGHT"),
        (["--prompt", "x", "--sampler", "eulr"], "unknown sampler 'eulr': use one of ddim"),
        (["--prompt", "x", "--steps", "0"], "steps 0"),
        (["--prompt", "x", "--steps", "many"], "invalid int value: 'many'"),
        (["--prompt", "x", "--seed", "-3"], "seed -3"),
        (["--prompt", "x", "-n", "0"], "at least 1 a prompt"),
        (["--prompt", "x", "-n", "2000000"], "at most 1,000,000"),
        (["--prompt", "x", "-n", "500", "--grid"], "--grid takes at most 400"),
        (["--prompt", "x", "--batch-size", "0"], "--batch-size 0"),
        (["--prompt", "x", "--guidance-scale", "nan"], "guidance scale nan"),
        (["--prompt", "x", "--checkpoint", "nowhere"], "'nowhere' is not a folder"),
        (["--prompt", "x", "--checkpoint", "."], "holds no release"),
        (["--prompt", "x", "--prompts-file", "nowhere.txt"], "cannot read the prompts file 'nowhere.txt'"),
        (["--prompt", "x", "--outdir", "{file}"], "cannot write to the folder"),
        (["--prompt", "x", "--outdir", "{file}/deeper"], "cannot write to the folder"),
        (["--prompt", "x", "--outdir", "/proc/none"], "cannot write to the folder"),
        (["--prompt", "x", "--promptt", "y"], "unrecognized arguments: --promptt"),
        (["--prompts", "x"], "unrecognized arguments: --prompts"),
        (["--repeat", "{file}"], "as a PNG"),
        (["--repeat", "{file}", "--prompt", "x", "--seed", "1"], "leave out --prompt, --seed"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(release_folder, tmp_path, capsys, arguments, message):
    (tmp_path / "file").write_text("text")
    arguments = [argument.replace("{file}", str(tmp_path / "file")) for argument in arguments]
    start = ["--checkpoint", str(release_folder), "--outdir", str(tmp_path / "out")]
    try:
        status = main([*start, *arguments])
    except SystemExit as error:  # argparse's way out
        status = error.code
    told = capsys.readouterr()
    assert status == 2
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert message in told.err
    assert told.out == ""
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('"a fox"', "line 2: not an object"),
        ('{"seed": 3}', "line 2: it has no prompt"),
        ('{"prompt": "x", "promt": 1, "setps": 2}', "line 2: unknown key 'promt' (known are prompt, negative_prompt"),
        ('{"prompt": 3}', "line 2: prompt must be a text, not 3"),
        ('{"prompt": "x", "steps": "9"}', "line 2: steps must be a whole number, not '9'"),
        ('{"prompt": "x", "steps": true}', "line 2: steps must be a whole number"),
        ('{"prompt": "x", "size": [16, 16]}', "line 2: size must be a text"),
        ('{"prompt": "x", "size": "16"}', "line 2: '16' is no size"),
        ('{"prompt": "x", "size": "12x16"}', "line 2: size 12x16 is not a multiple of 8"),
        ('{"prompt": "x", "sampler": "eulr"}', "line 2: unknown sampler 'eulr'"),
        (
            '{"prompt": "x", "guidance_interval": [1]}',
            "guidance_interval must be a list of two numbers, not [1]",
        ),
        ('{"prompt": "x", "guidance_interval": [0, "1"]}', "line 2: guidance_interval must be a list of two numbers"),
        ('{"prompt": "x", "guidance_interval": 1}', "line 2: guidance_interval must be a list of two numbers, not 1"),
        ('{"prompt": "x", "seed": -1, "n": 2}', "line 2: seed -1"),
        ('{"prompt": "x", "seed": 4294967295, "n": 2}', "line 2: seed 4294967296"),
        ('{"prompt": "x", "n": 0}', "at least 1 a prompt"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_a_bad_line_is_named_with_its_file(run, out, tmp_path, capsys, line, message):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a fox"}\n' + line)
    assert run("--prompts-file", tmp_path / "p.jsonl") == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_all_bad_lines_are_told_at_once(run, tmp_path, capsys):
    (tmp_path / "p.jsonl").write_text("\n".join(["{"] * 20))
    assert run("--prompts-file", tmp_path / "p.jsonl") == 2
    told = capsys.readouterr().err
    assert "line 1:" in told
    assert "line 8:" in told
    assert "and 12 more" in told


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xff\xfe\x00prompt", b"\x80"])
def test_files_without_prompts_are_refused(run, out, tmp_path, capsys, data):
    (tmp_path / "p.txt").write_bytes(data)
    assert run("--prompts-file", tmp_path / "p.txt") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not out.exists()


def test_a_damaged_release_is_named(run, out, release_folder, tmp_path, capsys):
    copy = Path(shutil.copytree(release_folder, tmp_path / "copy"))
    [path] = copy.glob("unet-*")
    data = bytearray(path.read_bytes())
    data[-1] ^= 8
    path.write_bytes(data)
    assert run("--prompt", "a fox", checkpoint=copy) == 2
    assert f"{path} is damaged" in capsys.readouterr().err
    assert not out.exists()


def test_a_repeat_needs_the_release_that_made_it(run, out, release_folder, tmp_path, capsys):
    run("--prompt", "a fox")
    [path] = out.glob("*.png")
    copy = Path(shutil.copytree(release_folder, tmp_path / "copy"))
    record = json.loads((copy / "model.json").read_text())
    record.pop("sha256")
    record["training"]["steps"] = 7
    from dalle3_jax.checkpoints.records import sealed

    (copy / "model.json").write_text(json.dumps(sealed(record)))
    capsys.readouterr()
    assert run("--repeat", path, checkpoint=copy, batch_size=None) == 2
    assert "give its own --checkpoint" in capsys.readouterr().err


def test_a_full_disk_keeps_what_is_done(run, out, monkeypatch, capsys):
    add = Album.add

    def full(album: Album, picture) -> Path:
        if len(album.listed) == 1:
            raise OSError(28, "No space left on device")
        return add(album, picture)

    monkeypatch.setattr(Album, "add", full)
    assert run("--prompt", "a fox", "--prompt", "an owl") == 1
    assert "No space left" in capsys.readouterr().err
    assert len(contents(out)) == len(manifest(out)) == 1


def test_a_second_start_takes_its_programs_from_the_cache(run, out):
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


def test_sizes_are_width_by_height():
    assert parse_size("32x16") == parse_size(" 32X16 ") == (16, 32)
    for text in ("", "16", "16x", "x16", "16x16x16", "-16x16", "1e3x16"):
        with pytest.raises(ValueError, match="no size"):
            parse_size(text)


def test_help_comes_without_jax_and_shows_examples():
    code = (
        "import sys; from dalle3_jax.commands.sample import parser; print(parser().format_help());"
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=dict(os.environ)
    )
    assert "--prompts-file FILE" in done.stdout
    assert '{"prompt": "a panda"' in done.stdout
