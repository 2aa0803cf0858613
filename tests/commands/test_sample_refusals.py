"""`dalle3-jax sample` with input it cannot use, and when the world around it fails: one clear line, nothing lost."""

import json
import shutil
from pathlib import Path

import pytest

from dalle3_jax.checkpoints.release_record import seal_record
from dalle3_jax.commands.sample import main
from dalle3_jax.pipeline.album import Album
from tests.commands.outputs import contents, manifest


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
        (["--prompt", "x", "--spacing", "even"], "unknown spacing 'even': use one of uniform"),
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
        (["--repeat", "{file}"], "as an image"),
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
        ('{"prompt": "x", "promt": 1, "setps": 2}', "line 2: unknown key 'promt' (known are prompt, steps, sampler"),
        ('{"prompt": 3}', "line 2: prompt must be a text, not 3"),
        ('{"prompt": "x", "steps": "9"}', "line 2: steps must be a whole number, not '9'"),
        ('{"prompt": "x", "steps": true}', "line 2: steps must be a whole number"),
        ('{"prompt": "x", "size": [16, 16]}', "line 2: size must be a text"),
        ('{"prompt": "x", "size": "16"}', "line 2: '16' is no size"),
        ('{"prompt": "x", "size": "12x16"}', "line 2: size 12x16 is not a multiple of 8"),
        ('{"prompt": "x", "sampler": "eulr"}', "line 2: unknown sampler 'eulr'"),
        ('{"prompt": "x", "spacing": 2}', "line 2: spacing must be a spacing's name, not 2"),
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
    (copy / "model.json").write_text(json.dumps(seal_record(record)))
    capsys.readouterr()
    assert run("--repeat", path, checkpoint=copy, batch_size=None) == 2
    assert "give its own --checkpoint" in capsys.readouterr().err


def test_a_full_disk_keeps_what_is_done(run, out, monkeypatch, capsys):
    add = Album.add

    def full(album: Album, picture) -> Path:
        if len(album.listed_files) == 1:
            raise OSError(28, "No space left on device")
        return add(album, picture)

    monkeypatch.setattr(Album, "add", full)
    assert run("--prompt", "a fox", "--prompt", "an owl") == 1
    assert "No space left" in capsys.readouterr().err
    assert len(contents(out)) == len(manifest(out)) == 1
