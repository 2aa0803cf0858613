"""The train command on the tiny config: what users and operators see."""

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.checkpoints.training import finished_steps
from dalle3_jax.commands.train import main
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.runtime.distributed import lock_folder
from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_SAVED
from dalle3_jax.stages import base as drawing
from dalle3_jax.text.glyphs import encode_glyphs
from dalle3_jax.training import logging
from scripts.faults.trainings import saved_arrays

ROOT = Path(__file__).parents[2]
STEPS = 8
LETTERED = """
from configs import tiny

def get_config(stage):
    c = tiny.glyphs()
    if stage == "base":
        del c.model["text_encoder"], c.model["glyph_encoder"]
        c.init.text_encoder = c.init.glyph_encoder = "text"
        c.train.trainable = ("glyph_encoder", "xfnet", "unet")
        return c
    text = tiny.text()
    text.data.glyph_length = c.data.glyph_length
    text.model.glyph_encoder = c.model.glyph_encoder
    text.model.xfnet.glyphs = True
    text.train.trainable = (*text.train.trainable, "glyph_encoder")
    return text
"""
FROM_INT8 = """
from configs import tiny

def get_config(folder):
    c = tiny.vae()
    del c.model["vae"]
    c.init.vae = folder
    return c
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning"),  # by ml_collections 1.1
    pytest.mark.usefixtures("few_statistics"),
]


def arguments(workdir: Path, *overrides: str, stage: str = "vae") -> list[str]:
    """The command line of a short run."""
    config = ["--config", str(ROOT / f"configs/tiny.py:{stage}"), "--workdir", str(workdir)]
    return [*config, f"--config.train.steps={STEPS}", "--config.train.save_every=2", *overrides]


def end(workdir: Path) -> dict[str, np.ndarray]:
    """Everything in the newest checkpoint."""
    folder = workdir / "vae" / "checkpoints"
    return saved_arrays(folder / f"{finished_steps(folder)[-1]:08d}")


def metrics(folder: Path) -> list[dict[str, float]]:
    """What a stage wrote of its steps."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if a[name].tobytes() != b[name].tobytes()] == []


def failing(*words: str) -> str:
    """What a run with bad input prints."""
    stderr = io.StringIO()
    with redirect_stderr(stderr):
        assert main(list(words)) == 2
    text = stderr.getvalue()
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def launch(workdir: Path, *overrides: str) -> subprocess.Popen:
    """The same command as a process."""
    command = [sys.executable, str(ROOT / "train.py"), *arguments(workdir, *overrides)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, start_new_session=True)


def wait_for_a_save(process: subprocess.Popen, workdir: Path) -> None:
    """Until the run has begun to save its first step."""
    while process.poll() is None and not list((workdir / "vae" / "checkpoints").glob("0*")):
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    assert main(arguments(workdir, "--config.sample.every=4")) == 0
    return workdir


def test_run_leaves_release_metrics_samples_and_records(whole):
    folder = whole / "vae"
    release = load_release(folder / "release")
    assert release.latent.channels == 4
    assert release.training["steps"] == STEPS
    lines = metrics(folder)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert {"loss", "psnr", "grad_norm", "learning_rate", "images_per_second", "skipped"} <= lines[0].keys()
    assert [path.stem for path in sorted((folder / "samples").iterdir())] == ["00000000", "00000004", "00000008"]
    assert json.loads((folder / "config.json").read_text())["train"]["stage"] == "vae"
    assert "jax" in json.loads((folder / "versions.json").read_text())


def test_release_holds_the_average(whole):
    release, saved = load_release(whole / "vae" / "release"), end(whole)
    kernel = release.params["vae"]["encoder"]["conv_in"]["kernel"]
    average = saved["['ema']['vae']['encoder']['conv_in']['kernel']"]
    np.testing.assert_array_equal(kernel, average.astype(np.float16))
    assert np.abs(average - saved["['params']['vae']['encoder']['conv_in']['kernel']"]).max() > 1e-5


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workdir of a run that was killed and run again, which releases its matrices in 8 bits."""
    workdir = tmp_path_factory.mktemp("resumed")
    process = launch(workdir, "--config.train.release_dtype=int8")
    wait_for_a_save(process, workdir)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert main(arguments(workdir, "--config.train.release_dtype=int8")) == 0
    return workdir


def fail_at(call: int, error: Exception):
    """A stand-in for what writes a preview, of which one call fails."""
    calls = iter(range(1, call + 1))

    def save(*_):
        if next(calls) == call:
            raise error

    return save


def test_a_preview_that_cannot_be_made_ends_the_run_before_its_first_step(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logging, "save_image_rows", fail_at(1, ValueError("no such font")))
    assert main(arguments(tmp_path, "--config.sample.every=4")) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert "error: no such font; so no preview can be made: mend config.sample" in error
    assert not (tmp_path / "vae" / "checkpoints").exists()


def test_a_preview_that_fails_later_costs_no_step(whole, tmp_path, monkeypatch, capsys):
    words = arguments(tmp_path, "--config.sample.every=3", "--config.train.save_every=100")
    with monkeypatch.context() as patch:
        patch.setattr(logging, "save_image_rows", fail_at(2, ValueError("no such font")))
        assert main(words) == EXIT_FAILED
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith(
        "the preview of step 3 failed: no such font; step 3 is saved, the same command goes on from there"
    )
    assert finished_steps(tmp_path / "vae" / "checkpoints") == [3]
    assert main(words) == 0
    assert [path.stem for path in sorted((tmp_path / "vae" / "samples").iterdir())] == ["00000006", "00000008"]
    assert_same(end(tmp_path), end(whole))


def test_sigkill_then_resume_ends_as_the_uninterrupted_run(whole, resumed):
    assert_same(end(resumed), end(whole))


def test_sigterm_saves_and_says_how_to_go_on(whole, tmp_path):
    process = launch(tmp_path, "--config.train.steps=100000")
    wait_for_a_save(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate()
    assert process.returncode == EXIT_SAVED
    saved = finished_steps(tmp_path / "vae" / "checkpoints")[-1]
    assert f"stopped: saved at step {saved}; the same command goes on" in stderr.decode()


def test_finished_run_started_again_changes_nothing(whole):
    before = end(whole), (whole / "vae" / "metrics.jsonl").read_text()
    assert main(arguments(whole)) == 0
    assert_same(end(whole), before[0])
    assert (whole / "vae" / "metrics.jsonl").read_text() == before[1]


def test_changed_config_is_refused_by_the_keys_that_changed(whole):
    words = arguments(whole, "--config.train.batch_size=4", "--config.data.seed=3", "--config.train.learning_rate=1.0")
    error = failing(*words)
    assert "data.seed: 0 -> 3" in error
    assert "train.batch_size: 8 -> 4" in error
    assert "learning_rate" not in error


def test_second_run_in_the_same_folder_is_refused(whole):
    with lock_folder(whole / "vae"):
        assert "another process is training" in failing(*arguments(whole))


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("--config.train.learning_rat=1.0", "learning_rat"),
        ("--config.train.dtype=float8", "train.dtype is 'float8'"),
        ("--config.train.steps=many", "many"),
        ("--config.data.crop=48", "data.crop is 48"),
        ("--config.train.batch_size=0", "train.batch_size is 0"),
        ("--config.mesh.data=3", "mesh (data=3"),
        ("--config.train.accumulate=3", "multiple of 3"),
        ("--config.train.stage=cooking", "train.stage is 'cooking'"),
        ("--config.data.world=flat", "flat"),
        ("--config.model.vae.latent_chanels=4", "latent_chanels"),
        ("--oddity=1", "oddity"),
    ],
)
def test_bad_setting_is_named_before_anything_is_written(tmp_path, override, named):
    assert named in failing(*arguments(tmp_path, override))
    assert not (tmp_path / "vae" / "checkpoints").exists()


def test_missing_flags_and_stages_are_named(tmp_path):
    assert "--config and --workdir must be given" in failing()
    assert "'oven'" in failing(*arguments(tmp_path, stage="oven"))
    assert "there.py" in failing("--config", str(tmp_path / "there.py"), "--workdir", str(tmp_path))


def test_base_without_its_vae_is_told_to_train_that_first(tmp_path):
    error = failing(*arguments(tmp_path, stage="base"))
    assert "config.init names 'vae'" in error
    assert "train that first" in error


def test_a_suite_that_is_not_there_is_named_before_the_first_step(whole, tmp_path):
    shutil.copytree(whole / "vae", tmp_path / "vae")
    assert "nowhere.jsonl" in failing(*arguments(tmp_path, "--config.sample.suite=nowhere.jsonl", stage="base"))
    assert not (tmp_path / "base" / "checkpoints").exists()


def test_a_head_that_does_not_fit_is_told_all_at_once(whole, tmp_path):
    shutil.copytree(whole / "vae", tmp_path / "vae")
    wrong = [f"--config.model.{name}" for name in ("latent_head.patch=4", "latent_head.channels=5", "xfnet.queries=3")]
    error = failing(*arguments(tmp_path, *wrong, stage="text"))
    assert "grid and patch cover (64, 64) pixels, data.size is (32, 32)" in error
    assert "channels is 5, the latents of the VAE have 4" in error
    assert "grid (2, 2) wants an xfnet of kind resampler with 4 queries" in error
    assert not (tmp_path / "text" / "checkpoints").exists()


@pytest.fixture(scope="module")
def lettered(whole, reader_folder, tmp_path_factory) -> Path:
    """The workdir of a text stage that reads quoted text, and of a base stage on its encoders, scored and previewed."""
    workdir = tmp_path_factory.mktemp("glyphs")
    shutil.copytree(whole / "vae", workdir / "vae")
    (workdir / "config.py").write_text(LETTERED)
    words = ["--workdir", str(workdir), "--config.train.steps=3", "--config.sample.every=3"]
    assert main(["--config", f"{workdir / 'config.py'}:text", *words]) == 0
    suite = ["--config.sample.suite=first", "--config.sample.suite_count=6"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawing.Reader, "load", functools.partial(Reader.load, reader_folder))
        assert main(["--config", f"{workdir / 'config.py'}:base", *words, *suite]) == 0
    return workdir


def test_the_text_stage_teaches_every_part_of_the_text_side(lettered):
    folder = lettered / "text"
    assert metrics(folder)[-1]["explained"] < 1
    assert {path.name for path in (folder / "samples").iterdir()} == {"00000000.png", "00000003.png"}
    assert set(load_release(folder / "release").modules) == {"text_encoder", "glyph_encoder", "xfnet", "latent_head"}


def test_base_goes_on_from_the_text_stage_and_leaves_what_is_not_trainable_alone(lettered):
    text, base = (load_release(lettered / stage / "release").params for stage in ("text", "base"))
    old, new = (jax.tree.leaves(params["text_encoder"]) for params in (text, base))
    assert all((a == b).all() for a, b in zip(old, new, strict=True))
    old, new = (params["glyph_encoder"]["final_norm"]["scale"] for params in (text, base))
    assert 0 < np.abs(old - new).max() < 0.05
    assert "latent_head" not in base


def test_a_base_stage_is_scored_by_the_suite_that_it_names(lettered):
    figures = [line for line in metrics(lettered / "base") if "held_out/all prompts" in line]
    assert [line["step"] for line in figures] == [3]
    assert all(0 <= share <= 1 for name, share in figures[0].items() if name != "step")


def test_a_glyph_encoder_learns_and_is_released(lettered):
    folder = lettered / "base"
    release = load_release(folder / "release")
    assert release.text == {"length": 16, "glyph_length": 12}
    assert {path.name for path in (folder / "samples").iterdir()} == {"00000000.png", "00000003.png"}
    saved = saved_arrays(folder / "checkpoints" / "00000003")
    bias = saved["['params']['xfnet']['project_glyphs']['bias']"]
    assert np.abs(bias).max() > 0


def test_only_quoted_text_changes_the_tokens_of_glyphs(lettered):
    pipeline = Pipeline.load(lettered)
    prompts = ['a "cat"', 'a "dog"', 'one "cat"', "a cat"]
    said = pipeline.encode(prompts)
    glyphs = said.mask[:, 16:]
    assert glyphs.sum(1).tolist() == [4, 4, 4, 0]
    encoder, params = pipeline.system.glyph_encoder, pipeline.params["glyph_encoder"]
    ids, mask = map(jnp.asarray, encode_glyphs(prompts, 12))
    letters = encoder.apply({"params": params}, ids, mask)
    assert (letters[0] == letters[2]).all()
    assert np.abs(letters[0] - letters[1])[mask[0]].max() > 1e-3
    assert np.abs(said.vector[0] - said.vector[1]).max() > 0
    assert len(pipeline(prompts[0], steps=2)) == 1


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("--config.data.glyph_length=0", "but not a glyph_length above 0"),
        ("--config.model.xfnet.glyphs=False", "but not xfnet.glyphs"),
        ("--config.model.glyph_encoder.vocab_size=200", "glyph_encoder.vocab_size is 200"),
        ("--config.data.glyph_length=-1", "glyph_length"),
    ],
)
def test_glyphs_that_lack_a_part_are_refused(whole, tmp_path, override, named):
    shutil.copytree(whole / "vae", tmp_path / "vae")
    assert named in failing(*arguments(tmp_path, override, stage="glyphs"))
    assert not (tmp_path / "base" / "checkpoints").exists()


def test_a_run_releases_matrices_in_8_bits_and_another_goes_on_from_them(resumed, tmp_path):
    folder, second = resumed / "vae" / "release", tmp_path / "second"
    record = json.loads((folder / "model.json").read_text())
    assert (record["format_version"], record["components"]["vae"]["dtype"]) == (2, "int8")
    (tmp_path / "config.py").write_text(FROM_INT8)
    words = ["--config", f"{tmp_path / 'config.py'}:{folder}", "--workdir", str(second), "--config.train.steps=1"]
    assert main([*words, "--config.train.learning_rate=1e-9", "--config.train.release_dtype=float32"]) == 0
    before, after = (load_release(name).params["vae"] for name in (folder, second / "vae" / "release"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-8), before, after)


def test_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot write" in failing(*arguments(tmp_path / "file"))


def test_help_is_shown(capsys):
    assert main(["--help"]) == 0
    assert "--workdir W" in capsys.readouterr().out
