"""The stages of decoders on the tiny config: from teacher to two steps, and what is refused before anything runs."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.request import Guidance, Sampling
from dalle3_jax.stages.run_release import export_release
from tests.stages.untrained import run_stage, write_untrained

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoder, refiner and base model, each with its distilled one, after two steps each."""
    folder = tmp_path_factory.mktemp("decoders")
    write_untrained(folder)
    for stage in ("decoder", "distill", "refiner", "distill_refiner", "distill_base"):
        preview = ["--config.sample.every=2"] if stage in ("decoder", "distill_refiner") else []
        assert run_stage(folder, stage, *preview)[0] == 0, stage
    return folder


def test_every_stage_says_what_it_decodes_and_how(workdir):
    vae = load_release(workdir / "vae" / "release")
    assert vae.latent is not None
    kinds = {"decoder": "diffusion", "distill": "consistency", "refiner": "diffusion", "distill_refiner": "consistency"}
    for stage, kind in kinds.items():
        release = load_release(workdir / stage / "release")
        [(component, how)] = release.decoders.items()
        assert (component, how.kind) == ("refiner" if "refiner" in stage else "decoder", kind)
        assert how.latent == vae.latent
    assert load_release(workdir / "distill" / "release").decoders["decoder"].prediction == "x0_skip"


def test_a_distilled_decoder_begins_at_its_teacher_and_leaves_it(workdir):
    before, after = (load_release(workdir / stage / "release").params["decoder"] for stage in ("decoder", "distill"))
    gaps = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), before, after)
    assert 0 < max(jax.tree.leaves(gaps)) < 0.05


def test_previews_compare_with_the_vae(workdir):
    for stage in ("decoder", "distill_refiner"):
        assert (workdir / stage / "samples" / "00000002.png").stat().st_size > 0
        lines = [json.loads(line) for line in (workdir / stage / "metrics.jsonl").read_text().splitlines()]
        assert [line["step"] for line in lines if "held_out/vae_psnr" in line] == [0, 2]


def test_export_joins_decoders_to_the_base_model(workdir, tmp_path):
    added = [str(workdir / "distill"), str(workdir / "distill_refiner")]
    export_release(workdir / "base" / "release", tmp_path / "all", add=added)
    pipeline = Pipeline.load(tmp_path / "all")
    assert pipeline.codec.decoders == ("vae", "consistency", "refiner")
    assert pipeline.request("a").decoding.decoder == "vae"
    export_release(tmp_path / "all", tmp_path / "again", decoder="consistency")
    assert Pipeline.load(tmp_path / "again").request("a").decoding.decoder == "consistency"
    with pytest.raises(ValueError, match="unknown decoder 'diffusion'"):
        export_release(tmp_path / "all", tmp_path / "wrong", decoder="diffusion")
    with pytest.raises(ValueError, match="holds no decoder"):
        export_release(tmp_path / "all", tmp_path / "wrong", add=[str(workdir / "vae")])
    assert not (tmp_path / "wrong").exists()


def test_a_teacher_joins_a_pipeline_by_its_folder(workdir):
    pipeline = Pipeline.load(workdir, decoders=[workdir / "decoder"])
    assert pipeline.codec.decoders == ("vae", "diffusion")


def test_a_distilled_base_model_samples_in_few_steps_and_reads_the_guidance_scale(workdir):
    pipeline = Pipeline.load(workdir / "distill_base")
    request = pipeline.request("a panda")
    assert (request.sampling, request.guidance) == (Sampling(2, "consistency"), Guidance(2.5))
    assert np.abs(pipeline.release.params["unet"]["guidance_projection"]["kernel"]).max() > 0
    condition, null = pipeline.encode(["a panda"]), pipeline.encode([""])
    scales = [dataclasses.replace(request, guidance=Guidance(scale)) for scale in (2.5, 1.0)]
    others = [dataclasses.replace(request, guidance=Guidance(2.5, interval)) for interval in ((0.0, 1.0), (2.0, 3.0))]
    one, two, same, outside = (pipeline.sample_latents(condition, null, [row]) for row in (*scales, *others))
    assert (one != two).any()
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(two, outside)
    np.testing.assert_array_equal(pipeline.sample_latents(condition, condition, [request]), one)  # no null pass


def test_consistency_training_needs_no_teacher(workdir):
    places = [f"--config.init.{part}={workdir / part}" for part in ("vae", "decoder")]
    assert run_stage(workdir / "alone", "distill", "--config.train.objective.teacher=False", *places)[0] == 0
    assert load_release(workdir / "alone" / "distill" / "release").decoders["decoder"].kind == "consistency"


@pytest.mark.parametrize(
    ("stage", "overrides", "told"),
    [
        ("distill", ["--config.init.decoder=distill"], "of kind consistency: a teacher is of kind diffusion"),
        ("distill", ["--config.train.objective.parts=(8,2)"], "train.objective.parts is (8, 2): give two"),
        ("decoder", ["--config.train.objective.crop=12"], "train.objective.crop 12: it must be a multiple of 8"),
        ("decoder", ["--config.model.decoder.latent_channels=3"], "latent_channels is 3, not 4"),
        (
            "decoder",
            ["--config.train.objective.perturbation.resampled=0.5"],
            "the stage needs text_encoder, xfnet",
        ),
        ("refiner", ["--config.model.refiner.factor=8"], "factor is 8, not 1"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(workdir, tmp_path, stage, overrides, told):
    for part in ("vae", "base", "decoder", "distill", "refiner"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "release").symlink_to(workdir / part / "release")
    code, text = run_stage(tmp_path, stage, *overrides)
    assert code == 2
    assert told in text
    assert text.count("\n") == 1
