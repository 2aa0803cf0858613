"""The recaption command: what it writes is what the captioner says, guarded, and training takes it up."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.captioning import CaptionDecoding, CaptionModel
from dalle3_jax.captioning import recaption as recaptioning
from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.commands import recaption
from dalle3_jax.data.caches import sidecars
from dalle3_jax.data.caches.sidecars import Sidecars
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image, stretch_image
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import Tower
from dalle3_jax.reading.ocr import Ocr
from scripts import make_bad_records
from scripts.faults.hosts import free_port, wait_or_kill
from tests.networks import randomised
from tests.tiny import tokenizer_json

ROOT = Path(__file__).parents[2]
COUNT = 22
SCENES = ["--source", "scenes:whole", "--size", "128x128", "--seed", "3"]
SOURCE = ScenesSource("whole", 3)

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


class Double:
    """A captioner whose captions are a function of the pixels, the seed where it draws, and nothing else."""

    digest, module = "d0", SimpleNamespace(image_size=(16, 16))

    def captions(self, images, decoding, *, seeds, batch_size):
        """One sentence about the picture, one about a sign."""
        drawn = (f" {seed}" if decoding.method == "top_p" else "" for seed in seeds)
        return [
            f'A picture of {np.sum(image, dtype=int)}{end}. A sign reads "track".'
            for image, end in zip(images, drawn, strict=True)
        ]


@pytest.fixture(autouse=True)
def double(monkeypatch):
    monkeypatch.setattr(sidecars, "CHUNK", 8)
    monkeypatch.setattr("dalle3_jax.captioning.CaptionModel", SimpleNamespace(load=lambda name: Double()))


def call(folder, *words, count=COUNT):
    counted = ["--count", str(count)] if count else []
    given = ["--captioner", "C", "--version", "mine", "--outdir", folder, *counted, *words]
    return recaption.main([str(word) for word in given])


def failing(capsys, *arguments, **more):
    assert call(*arguments, **more) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    return said


def first_sentence(index):
    return f"A picture of {np.sum(stretch_image(decode_image(SOURCE[index].image), 16, 16), dtype=int)}."


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def test_captions_are_the_captioner_s_and_their_folder_says_how_they_were_made(tmp_path, capsys):
    assert call(tmp_path, *SCENES, "--words", "keep") == 0
    found = Sidecars.open(str(tmp_path), SOURCE.fingerprint)
    for index in range(COUNT):
        assert found[index] == (f"whole-train-3-{index}", f'{first_sentence(index)} A sign reads "track".')
    out = capsys.readouterr().out
    assert "22 records, captions 'mine'; " in out
    assert "records/s; guards: none; left out: none" in out
    made = found.manifest["made"]
    assert (made["captioner"], made["drawn"], made["guards"]) == ("d0", [128, 128], {"words": "keep", "species": ""})
    assert made["decoding"]["method"] == "greedy"
    assert made["date"].startswith("20")
    assert {"dalle3_jax", "jax"} <= made["software"].keys()


def test_the_same_command_again_does_nothing_and_another_is_refused(tmp_path, capsys):
    words = [*SCENES, "--words", "keep"]
    assert call(tmp_path, *words, count=8) == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.jsonl")}
    assert call(tmp_path, *words, count=8) == 0
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.jsonl")} == before
    assert "nothing was left to do" in capsys.readouterr().out
    assert "'method': 'greedy'" in failing(capsys, tmp_path, *words, "--method", "beam")
    assert "guards is {'words': 'keep'" in failing(capsys, tmp_path, *SCENES, "--words", "alt")
    assert "drawn is [128, 128] there and [160, 192] here" in failing(capsys, tmp_path, *words, "--size", "192x160")
    assert "version is 'mine' there and 'yours' here" in failing(capsys, tmp_path, *words, "--version", "yours")


def test_quoted_words_stay_where_the_ocr_reads_them_in_the_whole_picture(tmp_path, monkeypatch, capsys):
    shapes = set()

    def lines(image):
        shapes.add(image.shape)
        return ["TRACK"] if image.sum(dtype=int) % 2 else ["trick"]

    monkeypatch.setattr(recaptioning.ocr, "find_ocr", lambda: Ocr("fake 1", lines))
    assert call(tmp_path / "ocr", *SCENES) == 0
    assert call(tmp_path / "alt", *SCENES, "--words", "alt") == 0
    found, plain = (Sidecars.open(str(tmp_path / name)) for name in ("ocr", "alt"))
    read = [np.sum(SOURCE[index].image, dtype=int) % 2 == 1 for index in range(COUNT)]
    assert shapes == {(128, 128, 3)}
    for index, kept in enumerate(read):
        assert found[index][1] == first_sentence(index) + (' A sign reads "track".' if kept else "")
        assert plain[index][1] == first_sentence(index)
    assert found.manifest["flags"] == {"words_dropped": read.count(False)}
    assert found.manifest["made"]["guards"]["words"] == "fake 1"
    assert "guards: 22 words_dropped" in capsys.readouterr().out


def test_names_of_species_go_by_a_list(tmp_path):
    (tmp_path / "names").write_text("picture: image\n")
    assert call(tmp_path / "out", *SCENES, "--words", "keep", "--species", tmp_path / "names") == 0
    found = Sidecars.open(str(tmp_path / "out"))
    for index in range(COUNT):
        alt = SOURCE[index].captions["alt"]
        word = "picture" if "picture" in alt.split() else "image"
        assert found[index][1].startswith(f"A {word} of" if word == "picture" else "An image of")
    assert 0 < found.manifest["flags"]["species"] <= COUNT


def test_draws_hang_on_the_record_alone(tmp_path):
    words = [*SCENES, "--words", "keep", "--method", "top_p"]
    assert call(tmp_path / "a", *words, "--batch-size", "3") == 0
    assert call(tmp_path / "b", *words) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert f"{Sidecars.open(str(tmp_path / 'a'))[20][1]}".split(".")[0].endswith(" 20")


def test_a_config_names_the_data(tmp_path):
    data = tmp_path / "data"
    bad = make_bad_records.write_dataset(data, 60, 0.25, "folder", reasons=("truncated", "bomb"))
    words = ["--config", f"{ROOT / 'configs/tiny.py'}:base", f"--config.data.source={data}", "--words", "keep"]
    assert call(tmp_path / "out", *words, "--config.data.max_bad=0.5", count=0) == 0
    found = Sidecars.open(str(tmp_path / "out"))
    assert (len(found), found.manifest["bad"]) == (60, Counter(bad.values()))
    assert "drawn" not in found.manifest["made"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--version", "Mine!"], ["--version 'Mine!'"]),
        (["--version", "short"], ["have captions 'short' already"]),
        (["--batch-size", "0", "--temperature", "0", "--species", "/no"], ["--batch-size 0", "temperature 0.0", "/no"]),
        (["--split", "none"], ["split"]),
        (["--size", "3x3"], ["size '3x3'"]),
        (["--max-bad", "2"], ["data.max_bad is 2.0"]),
        (["--config.data.seed=1"], ["--config.KEY=VALUE goes with --config"]),
        (["--source", "/nowhere"], ["data.source '/nowhere' is empty or not there"]),
        (["--count", "0"], ["scenes have no end: say by --count"]),
    ],
)  # fmt: skip
def test_what_cannot_be_captioned_is_said_in_one_line(tmp_path, capsys, words, said):
    error = failing(capsys, tmp_path / "out", *SCENES, "--words", "keep", *words)
    assert all(part in error for part in said), error
    assert not (tmp_path / "out").exists()


def test_flags_of_sources_and_an_absent_ocr_are_named(tmp_path, capsys, monkeypatch):
    words = ["--config", f"{ROOT / 'configs/tiny.py'}:base", "--seed", "1", "--max-bad", "0.5"]
    monkeypatch.setattr(recaptioning.ocr, "find_ocr", lambda: None)
    error = failing(capsys, tmp_path, *words)
    assert "--seed, --max-bad: with --config write --config.data.seed=VALUE" in error
    assert "no OCR is installed" in error
    assert "--words alt" in error


def test_two_processes_write_the_files_of_one(tmp_path):
    port = free_port()
    code = (
        "import sys\nfrom types import SimpleNamespace\nfrom dalle3_jax import captioning\n"
        "from dalle3_jax.commands import recaption\n"
        "from dalle3_jax.data.caches import sidecars\n"
        "from tests.commands.test_recaption import Double\nsidecars.CHUNK = 8\n"
        "captioning.CaptionModel = SimpleNamespace(load=lambda name: Double())\nsys.exit(recaption.main(sys.argv[1:]))"
    )
    words = ["--captioner", "C", "--version", "mine", "--outdir", str(tmp_path / "two"), "--count", str(COUNT), *SCENES]
    words += ["--words", "keep", f"--coordinator=localhost:{port}", "--processes=2"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words, f"--process={index}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for index in range(2)
    ]
    assert [wait_or_kill(process, 120) for process in running] == [0, 0]
    assert call(tmp_path / "one", *SCENES, "--words", "keep") == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    records = [json.loads((tmp_path / name / "captions.json").read_text()) for name in ("one", "two")]
    assert records[0]["chunks"] == records[1]["chunks"]


def test_a_captioner_from_a_release_writes_what_it_says_of_each_picture(tmp_path, monkeypatch):
    monkeypatch.setattr("dalle3_jax.captioning.CaptionModel", CaptionModel)
    tower = Tower(8, 1, 2, 16, "gelu")
    module = Captioner(tower, tower, tower, 300, 6, image_size=(32, 32), patch=16, projection=4, queries=0, eos_id=1)
    params = randomised(module, jnp.zeros((1, 6), int), jnp.ones((1, 6), bool), jnp.zeros((1, 32, 32, 3)))
    save_release(tmp_path / "c", Release({"captioner": module}, {"captioner": params}, tokenizer=tokenizer_json()))
    words = ["--captioner", tmp_path / "c", "--batch-size", "4", "--max-bad", "1", "--words", "keep"]
    assert call(tmp_path / "out", "--source", "scenes", *words, count=10) == 0
    captioner, source = CaptionModel.load(tmp_path / "c"), ScenesSource(height=32, width=32)
    found = Sidecars.open(str(tmp_path / "out"), source.fingerprint)
    said = captioner.captions(
        [decode_image(source[index].image) for index in range(8)], CaptionDecoding(), batch_size=4
    )
    assert found.manifest["made"]["captioner"] == captioner.digest
    assert [found.read_line(index).get("caption", "") for index in range(8)] == [
        " ".join(text.split()) for text in said
    ]
