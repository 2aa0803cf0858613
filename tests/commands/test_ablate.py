"""An ablation runs from nothing to its table and plot, goes on where it stopped, and refuses what cannot be run."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dalle3_jax.ablations import measures, results, run
from dalle3_jax.ablations import study as studies
from dalle3_jax.checkpoints.release_record import read_record, seal_record
from dalle3_jax.commands.ablate import main
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading import scene_reader
from dalle3_jax.runtime.exit_codes import EXIT_SAVED

SMALL = """
from configs import tiny

def get_config(stage):
    c = tiny.get_config(stage)
    c.train.steps, c.train.batch_size, c.train.log_every = 4, 2, 1
    if stage == "base":
        del c.model["text_encoder"], c.model["unet"]
        c.init.text_encoder = c.init.unet = "vae"
        c.model.xfnet = {"kind": "linear", "width": 16, "vector_width": 8}
        c.train.trainable = ("xfnet",)
    return c
"""
BASE = ("small.py:vae", "small.py:base")
ERROR = {"times": (0.3, 0.8), "records": 4, "points": 2}
FIELDS = {
    "title": "Predictions",
    "base": BASE,
    "variants": {"v": {}, "x0": {"model.diffusion.prediction": "x0"}},
    "seeds": (0, 1),
    "measure": {
        "error": ERROR,
        "prompts": {"count": 6},
        "unet_time": {"lengths": (16,), "batch": 2, "rounds": 1},
    },
}

DEMO = {"base": (), "release": "demo", "measure": {"prompts": {"count": 6}}}


def write(folder: Path, **changes: Any) -> Path:
    """An ablation file with these fields, beside the configs of its stages."""
    (folder / "small.py").write_text(SMALL)
    path = folder / "predictions.py"
    lines = ["from ml_collections import ConfigDict", "def get_config():", "    c = ConfigDict(convert_dict=False)"]
    lines += [f"    c[{name!r}] = {value!r}" for name, value in (FIELDS | changes).items()]
    path.write_text("\n".join([*lines, "    return c", ""]))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, release_folder: Path) -> tuple[Path, list]:
    """Two variants with one seed (out1), then one of them with two (out2 and W), and what was trained.

    The stage that they share is ready, and the variants differ in nothing that a program is compiled for.
    """
    folder, seen, train = tmp_path_factory.mktemp("ablation"), [], run.train_stage

    def trained(config: Any, workdir: Path) -> int:
        seen.append((config.train.stage, config.train.release_dtype, config.train.seed))
        if config.train.stage == "base":
            return train(config, workdir)
        shutil.copytree(release_folder, workdir / config.train.stage / "release", dirs_exist_ok=True)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "train_stage", trained)
        patch.setattr(measures, "prompt_shares", lambda pipeline, count, seed: {"background": count / 8})
        common = {"data.tokenizer": str(release_folder / "tokenizer.json")}
        half, full = common, common | {"train.release_dtype": "float32"}
        for seeds, variants in (((0,), {"half": half, "full": full}), ((0, 1), {"half": half})):
            words = [str(write(folder, seeds=seeds, variants=variants)), "--workdir", str(folder / "W")]
            assert main([*words, "--out", str(folder / f"out{len(seeds)}")]) == 0
    return folder, seen


def test_table_and_plot_are_written_with_every_measure(whole):
    folder, _ = whole
    table = (folder / "out1" / "predictions.md").read_text()
    for column in ("x0 error, t = 0.3", "background", "UNet, ms at 16 tokens", "training, s"):
        assert column in table
    assert [row.split("|")[1].strip() for row in table.splitlines() if "75.0 %" in row] == ["half", "full"]
    assert "4 steps of 2 pictures (8) a run" in table
    assert "Means over 2 seeds" in (folder / "out2" / "predictions.md").read_text()
    for name in ("predictions.md", "predictions.png"):
        assert (folder / "W" / name).read_bytes() == (folder / "out2" / name).read_bytes()
    for place in ("out1", "out2"):
        with Image.open(folder / place / "predictions.png") as plot:
            assert min(plot.size) > 400


def test_shared_stages_come_first_and_no_run_is_trained_twice(whole):
    folder, seen = whole
    base = [("base", "float16", 0), ("base", "float32", 0), ("base", "float16", 1)]
    assert seen == [("vae", "float16", 0), *base[:2], ("vae", "float16", 0), base[2]]
    for variant, dtype in (("half", "float16"), ("full", "float32")):
        record = read_record(folder / "W" / "runs" / variant / "0" / "base" / "release")
        assert record["components"]["xfnet"]["dtype"] == dtype


def test_errors_are_kept_for_every_point_and_variants_see_the_same_data_and_noise(whole):
    folder, _ = whole
    names = ("half-0", "half-1", "full-0")
    made = {name: json.loads((folder / "W" / "results" / f"{name}.json").read_text()) for name in names}
    for one in made.values():
        assert list(one["curve"]) == ["2", "4"]
        assert all(len(errors) == 2 and min(errors) > 0 for errors in one["curve"].values())
        assert one["seconds"] > 0
        assert one["machine"] == results.machine_info()
    first = made["half-0"]["curve"]
    assert first["2"] != first["4"]
    assert first == made["full-0"]["curve"]
    assert first != made["half-1"]["curve"]


def test_a_finished_ablation_trains_and_measures_nothing_again(whole, monkeypatch):
    folder, _ = whole
    before = files(folder / "W" / "runs"), files(folder / "W" / "results")
    for name in ("prompt_shares", "denoising_errors", "unet_seconds"):
        monkeypatch.delattr(measures, name)
    monkeypatch.setattr(run, "train_stage", lambda config, workdir: {"vae": 0}[config.train.stage])
    assert main([str(folder / "predictions.py"), "--workdir", str(folder / "W")]) == 0
    assert before == (files(folder / "W" / "runs"), files(folder / "W" / "results"))


def test_a_stopped_ablation_says_so_and_keeps_what_is_measured(whole, tmp_path, monkeypatch):
    folder, _ = whole
    shutil.copytree(folder / "W", tmp_path / "W", symlinks=True)
    kept = (tmp_path / "W" / "results" / "half-0.json").read_bytes()
    (tmp_path / "W" / "results" / "half-1.json").unlink()
    (tmp_path / "W" / "predictions.md").unlink()
    trained = []

    def stopped(config: Any, workdir: Path) -> int:
        trained.append((config.train.stage, config.train.seed))
        return EXIT_SAVED if config.train.stage == "base" else 0

    monkeypatch.setattr(run, "train_stage", stopped)
    assert main([str(folder / "predictions.py"), "--workdir", str(tmp_path / "W")]) == EXIT_SAVED
    assert trained == [("vae", 0), ("base", 1)]
    assert (tmp_path / "W" / "results" / "half-0.json").read_bytes() == kept
    assert not (tmp_path / "W" / "predictions.md").exists()


def test_results_of_other_settings_are_refused(whole, tmp_path, capsys):
    folder, _ = whole
    path = write(tmp_path, variants={"half": {"train.learning_rate": 0.5}})
    assert main([str(path), "--workdir", str(folder / "W")]) == 2
    assert "half-0.json" in (error := capsys.readouterr().err)
    assert "made with other settings" in error


def retrained(folder: Path) -> None:
    """Replaces a release by one that says that it was trained for longer."""
    record = read_record(folder) | {"training": {"steps": 9}}
    del record["sha256"]
    (folder / "model.json").write_text(json.dumps(seal_record(record)))


def test_what_a_run_starts_from_and_who_reads_its_pictures_are_part_of_its_settings(
    release_folder, tmp_path, monkeypatch
):
    start, reader = (shutil.copytree(release_folder, tmp_path / name) for name in ("start", "reader"))
    monkeypatch.setattr(scene_reader, "SHIPPED", reader)
    given = dict.fromkeys(("init.vae", "init.text_encoder", "init.unet"), str(start))
    study, found = studies.load_study(write(tmp_path, base=BASE[1:], variants={"v": given}), tmp_path), []
    for folder in (start, reader):
        found.append(results.run_settings(study, tmp_path, "v", 0))
        retrained(folder)
    found.append(results.run_settings(study, tmp_path, "v", 0))
    assert found[0]["releases"] != found[1]["releases"] == found[2]["releases"]
    assert found[0]["reader"] == found[1]["reader"] != found[2]["reader"]


def test_the_shared_stages_are_part_of_the_settings(tmp_path):
    (tmp_path / "longer.py").write_text(SMALL.replace("= 4, 2, 1", "= 5, 2, 1"))
    found = [
        results.run_settings(studies.load_study(write(tmp_path, base=base), tmp_path), tmp_path, "v", 0)
        for base in (BASE, ("longer.py:vae", BASE[1]))
    ]
    assert found[0] != found[1]


def test_results_of_another_release_are_refused_at_the_start_and_before_the_table(
    release_folder, tmp_path, monkeypatch, capsys
):
    release = shutil.copytree(release_folder, tmp_path / "release")
    changes = {"base": (), "release": str(release), "seeds": (0,), "measure": {"prompts": {"count": 6}}}
    path = write(tmp_path, variants={"few": {"steps": 1}, "more": {"steps": 2}}, **changes)
    words = [str(path), "--workdir", str(tmp_path / "W")]

    def follow(pipeline: Pipeline, count: int, seed: int, steps: int) -> dict[str, float]:
        if steps == 2:
            retrained(release)
        return {"background": 0.5}

    monkeypatch.setattr(measures, "prompt_shares", follow)
    for _ in range(2):
        assert main(words) == 2
        assert "another release or reader: " + str(tmp_path / "W" / "results" / "few-0.json") in capsys.readouterr().err
        assert not (tmp_path / "W" / "predictions.md").exists()


def test_the_table_names_the_machines_that_trained(tmp_path):
    study = studies.load_study(write(tmp_path, **DEMO, variants={"v": {}}), tmp_path)
    gpu = {"device": "NVIDIA H100", "cores": 16}
    assert "on 2 CPU cores or NVIDIA H100" in run.budget_text(study, [{"device": "cpu", "cores": 2}, gpu, gpu])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": {"v": {}, "w": {"train.learning_rat": 1.0}}}, "variant 'w': unknown key 'train.learning_rat'"),
        ({"variants": {"v": {"modle.unet.groups": 2}}}, "variant 'v': unknown key 'modle.unet.groups'"),
        ({"variants": {"v": {"model.xfnet.gruops": 2}}}, "gruops"),
        ({"variants": {"v": {"train.steps": "many"}}}, "train.steps cannot be 'many'"),
        ({"variants": {"v": {"model.diffusion.prediction": "w"}}}, "unknown prediction 'w'"),
        ({"variants": {"v": {"data.dropout": 2.0}}}, "data.dropout is 2.0"),
        ({"variants": {"v": {"init.vae": "nowhere"}}}, "config.init names 'nowhere'"),
        ({"variants": {}}, "no variants"),
        ({"variants": {"a b": {}, "a-b": {}}}, "too much alike"),
        ({"seeds": (1, 1)}, "seeds (1, 1)"),
        ({"measure": {}}, "nothing to measure"),
        ({"measure": {"beauty": {}}}, "measure.beauty"),
        ({"measure": {"prompts": {"n": 3}}}, "measure.prompts is {'n': 3}: it takes count"),
        ({"measure": {"prompts": 5}}, "measure.prompts is 5: it takes count"),
        ({"measure": {"prompts": {"count": True}}}, "measure.prompts.count is True: give a whole number above 0"),
        ({"measure": {"prompts": {"count": 3}}}, "a count of 3: at least 6 prompts are needed"),
        ({"measure": {"error": {**ERROR, "points": 0}}}, "measure.error.points is 0: give a whole number above 0"),
        ({"measure": {"error": {**ERROR, "records": 0}}}, "measure.error.records is 0"),
        ({"measure": {"error": {**ERROR, "times": ()}}}, "measure.error.times is (): give numbers between 0 and 1"),
        ({"measure": {"error": {**ERROR, "times": (0.5, 1.0)}}}, "measure.error.times is (0.5, 1.0)"),
        ({"measure": {"unet_time": {"lengths": (8, 0), "batch": 2, "rounds": 2}}}, "unet_time.lengths is (8, 0)"),
        ({"base": BASE[:1]}, "base ends with stage 'vae'"),
        ({"base": ("there.py:base",)}, "no config file there.py"),
        ({**DEMO, "release": "nowhere"}, "'nowhere' is not a folder"),
        ({**DEMO, "measure": {"prompts": {"count": 3}}}, "a count of 3: at least 6 prompts are needed"),
        ({**DEMO, "variants": {"v": {"step": 3}}}, "variant 'v': unknown setting step"),
        ({**DEMO, "variants": {"v": {"steps": 0}}}, "variant 'v': steps 0"),
        ({**DEMO, "variants": {"v": {"steps": 3}}, "axes": ("guidance_scale",)}, "it has no guidance_scale"),
        ({"release": "demo"}, "either base"),
        ({"oddity": 1}, "unknown field 'oddity'"),
    ],
)
def test_what_cannot_be_run_is_one_line_before_anything_is_written(tmp_path, capsys, changes, message):
    assert main([str(write(tmp_path, **changes)), "--workdir", str(tmp_path / "W")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "W").exists()


def test_without_matplotlib_nothing_is_trained_and_the_remedy_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(write(tmp_path)), "--workdir", str(tmp_path / "W")]) == 2
    assert 'needs matplotlib: pip install "dalle3_jax[eval]"' in capsys.readouterr().err
    assert not (tmp_path / "W").exists()


def test_several_problems_are_named_together(tmp_path, capsys):
    path = write(tmp_path, variants={"v": {"train.learning_rat": 1.0, "model.diffusion.prediction": "w"}})
    assert main([str(path), "--workdir", str(tmp_path / "W")]) == 2
    error = capsys.readouterr().err
    assert "learning_rat" in error
    assert "unknown prediction 'w'" in error


def test_a_finished_release_is_measured_over_settings(release_folder, tmp_path, monkeypatch):
    def follow(pipeline: Pipeline, count: int, seed: int, steps: int, guidance_scale: float) -> dict[str, float]:
        return {"background": steps / 10, "count": guidance_scale / 10}

    monkeypatch.setattr(measures, "prompt_shares", follow)
    variants = {f"{s} {g}": {"steps": s, "guidance_scale": g} for s in (1, 2) for g in (1.0, 3.0)}
    path = write(
        tmp_path,
        base=(),
        release=str(release_folder),
        variants=variants,
        seeds=(0,),
        measure={"prompts": {"count": 6}},
        axes=("guidance_scale", "steps"),
    )
    assert main([str(path), "--workdir", str(tmp_path / "W")]) == 0
    rows = (tmp_path / "W" / "predictions.md").read_text().splitlines()
    assert [row.split("|")[2:4] for row in rows if row.startswith("| 2 3.0")] == [[" 20.0 %     ", " 30.0 % "]]
    assert len(list((tmp_path / "W" / "results").iterdir())) == 4
    assert (tmp_path / "W" / "predictions.png").stat().st_size > 10_000


CAPTIONED = """
from configs import tiny

def get_config(stage):
    c = tiny.get_config(stage)
    c.train.steps, c.train.batch_size, c.train.log_every = 2, 2, 1
    if stage == "base":
        del c.model["text_encoder"], c.model["unet"]
        c.init.vae = c.init.text_encoder = c.init.unet = "vae"
        c.model.xfnet = {"kind": "linear", "width": 16, "vector_width": 8}
        c.train.trainable = ("xfnet",)
        c.data.latents = 8
        c.data.part = {"concepts": ("panda", "frog", "apple"), "backgrounds": ("beach", "snow")}
    return c
"""


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_a_study_of_captions_writes_them_trains_on_them_and_is_shared_by_processes(
    tmp_path, release_folder, monkeypatch, capsys
):
    train = run.train_stage

    def trained(config: Any, workdir: Path) -> int:
        if config.train.stage != "vae":
            return train(config, workdir)
        shutil.copytree(release_folder, workdir / "vae" / "release", dirs_exist_ok=True)
        return 0

    monkeypatch.setattr(run, "train_stage", trained)
    common = {"data.tokenizer": str(release_folder / "tokenizer.json")}
    path = write(
        tmp_path,
        base=("small.py:vae", "small.py:captioner", "small.py:base"),
        captions={"written": "captioner"},
        variants={"alt": common | {"data.captions": {"alt": 1.0}}, "own": common | {"data.captions": {"written": 1.0}}},
        groups={"kinds": ("alt", "own")},
        seeds=(0,),
        measure={"captions": {"prompts": {"alt": "captioner", "descriptive": "captioner"}, "count": 6, "points": 2}},
    )
    (tmp_path / "small.py").write_text(CAPTIONED)
    command = [str(path), "--workdir", str(tmp_path / "W")]
    with run.lock_folder(tmp_path / "W" / "runs" / "own" / "0"):  # another process is at it
        assert main(command) == 0
    assert "other processes are still at own, seed 0" in capsys.readouterr().out
    assert main(command) == 0
    made = {name: json.loads((tmp_path / "W" / "results" / f"{name}-0.json").read_text()) for name in ("alt", "own")}
    assert made["alt"]["captions"].keys() == made["own"]["captions"].keys() == {"1", "2"}
    assert made["alt"]["ceilings"]["descriptive: right"] == 1.0
    table = (tmp_path / "W" / "predictions.md").read_text()
    assert "| faultless pictures" in table
    assert "descriptive: similarity" in table
    with Image.open(tmp_path / "W" / "predictions.png") as plot:
        assert min(plot.size) > 300


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"captions": {"x": "painter"}}, "no captioner 'painter'"),
        ({"groups": {"g": ("y",)}}, "'y', which is no variant"),
        ({"measure": {"captions": {"prompts": {"alt": "painter"}, "count": 6, "points": 2}}}, "no captioner 'painter'"),
        (
            {"measure": {"error": ERROR, "captions": {"prompts": {"alt": "x"}, "count": 6, "points": 3}}},
            "want different points",
        ),
    ],
)
def test_a_study_of_captions_that_cannot_be_made_is_refused(changes, said, tmp_path, capsys):
    assert main([str(write(tmp_path, **changes)), "--workdir", str(tmp_path / "W")]) == 2
    assert said in capsys.readouterr().err
