"""The stage `drawing`, and a base model that goes on with it: labels first, then the captions that say the same."""

import numpy as np

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.pipeline import Pipeline
from tests.stages.test_train import metrics
from tests.stages.untrained import run_stage, write_untrained


def test_a_unet_learns_from_labels_and_then_reads_captions_through_the_layout_head(tmp_path):
    write_untrained(tmp_path)
    steps = ("--config.train.steps=60", "--config.train.log_every=10", "--config.train.learning_rate=0.01")
    code, error = run_stage(tmp_path, "drawing", *steps, "--config.data.records=8", "--config.sample.every=60")
    assert code == 0, error
    figures = [line["loss"] for line in metrics(tmp_path / "drawing") if "loss" in line]
    assert figures[-1] < figures[0]
    assert {path.name for path in (tmp_path / "drawing" / "samples").iterdir()} == {"00000000.png", "00000060.png"}
    release = load_release(tmp_path / "drawing" / "release")
    assert set(release.modules) == {"unet", "layout_encoder", "vae"}
    assert len(release.modules["layout_encoder"].concepts) == 48
    assert np.abs(release.params["layout_encoder"]["text_tokens"]["kernel"]).max() == 0

    code, error = run_stage(tmp_path, "captioned")
    assert (code, "init names 'layout'" in error) == (2, True)
    assert run_stage(tmp_path, "layout")[0] == 0
    code, error = run_stage(tmp_path, "captioned", "--config.train.learning_rate=0.01")
    assert code == 0, error
    pipeline = Pipeline.load(tmp_path / "base" / "release")
    assert {"layout_head", "layout_encoder"} <= set(pipeline.release.modules)
    assert np.abs(pipeline.release.params["layout_encoder"]["text_tokens"]["kernel"]).max() > 0
    one, other = (np.asarray(pipeline([prompt], seed=1)[0].image) for prompt in ("a panda", "two owls"))
    assert (one != other).any()


def test_a_model_with_a_memory_samples_a_layout_for_every_image(tmp_path):
    write_untrained(tmp_path)
    for stage in ("layout", "recall", "drawing"):
        code, error = run_stage(tmp_path, stage, "--config.train.learning_rate=0.01")
        assert code == 0, error
    assert set(load_release(tmp_path / "recall" / "release").modules) == {
        *("text_encoder", "xfnet", "layout_head", "layout_memory")
    }
    code, error = run_stage(tmp_path, "captioned", "--config.init.layout_memory=recall")
    assert code == 0, error
    pipeline = Pipeline.load(tmp_path / "base" / "release")
    assert pipeline.samples_layouts
    first, second = (pipeline.encode(["a panda"] * 3, seeds) for seeds in ([1, 2, 1], [2, 7, 1]))
    tokens = np.asarray(first.tokens), np.asarray(second.tokens)
    np.testing.assert_array_equal(tokens[0][0], tokens[0][2])  # a layout hangs on the text and the seed alone
    np.testing.assert_array_equal(tokens[0][1], tokens[1][0])
    assert (tokens[0][0] != tokens[0][1]).any()
    pictures = pipeline(["a panda"] * 2, seed=5)
    assert [picture.request.seed for picture in pictures] == [5, 6]
    [again] = pipeline(["a panda"], seed=6, batch_size=2)
    np.testing.assert_array_equal(pictures[1].image, again.image)
    pipeline.drop_text_encoder(["a panda"])
    assert pipeline(["two owls"], seed=5)


def test_what_the_stage_lacks_is_named_before_anything_is_trained(tmp_path):
    write_untrained(tmp_path)
    code, error = run_stage(tmp_path, "drawing", "--config.model.layout_encoder.grid=(1, 4)")
    assert code == 2
    assert "layout_encoder.grid is (1, 4), unet.grid (2, 2)" in error
    for wrong in ("(-2, -2)", "(0, 4)"):
        code, error = run_stage(tmp_path, "drawing", f"--config.model.unet.grid={wrong}")
        assert code == 2
        assert f"model.unet.grid is {wrong}: give its rows and columns" in error
    code, error = run_stage(tmp_path, "base", "--config.model.unet.grid=(2, 2)")
    assert code == 2
    assert "unet.grid (2, 2) wants an xfnet of kind resampler with 4 queries" in error
    code, error = run_stage(tmp_path, "drawing", "--config.train.objective.blurred=1.5")
    assert code == 2
    assert "blurred is 1.5" in error
