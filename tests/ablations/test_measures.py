"""Measures of an ablation's runs, and the table and plot that bring them together."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.ablations import measures
from dalle3_jax.ablations.summary import RunResult, ablation_figure, ablation_markdown
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading import scene_reader
from tests.tiny import tiny_release


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_errors_are_those_of_x0_whatever_the_network_predicts(prediction):
    release = tiny_release()
    zeros = jax.tree.map(np.zeros_like, release.params["unet"])
    diffusion = {**release.diffusion, "prediction": prediction}
    given = {**release.__dict__, "params": {**release.params, "unet": zeros}, "diffusion": diffusion}
    pipeline = Pipeline(type(release)(**given))
    x0, eps = (jax.random.normal(jax.random.key(i), (2, 2, 2, 2)) for i in (1, 2))
    rows = measures.HeldOutBatch(x0, eps, ["a cat", "a dog"])
    alpha, sigma = (
        jnp.float32(f(jnp.float32(0.6))) for f in (pipeline.system.schedule.alpha, pipeline.system.schedule.sigma)
    )
    x_t = alpha * x0 + sigma * eps
    guess = {"eps": x_t / alpha, "v": alpha * x_t, "x0": jnp.zeros_like(x0)}[prediction]
    [error] = measures.denoising_errors(pipeline, rows, [0.6])
    np.testing.assert_allclose(error, np.mean((guess - x0) ** 2), rtol=1e-5)


def test_the_table_gives_means_and_ranges_of_seeds_and_the_plot_every_panel():
    results = [RunResult("a", s, {5: [1.0], 10: [0.5 + s]}, {"count": 0.25 + s / 2}, 60.0, {32: 0.004}) for s in (0, 1)]
    table = ablation_markdown("T", "8 steps.", results, (0.5,))
    assert "1 (0.5 to 1.5)" in table
    assert "50.0 % (25.0 % to 75.0 %)" in table
    assert "| 60 " in table
    assert "| 4 " in table
    assert "8 steps. Means over 2 seeds" in table
    assert ablation_figure("T", "8 steps.", results, (0.5,)).startswith(b"\x89PNG")


def test_one_error_at_one_step_makes_a_plot():
    assert ablation_figure("T", "8 steps.", [RunResult("a", 0, {5: [1.0]}, {}, 0.0, {})], (0.5,)).startswith(b"\x89PNG")


def test_prompts_are_those_of_the_part_of_the_world_that_was_trained_on(reader_folder, monkeypatch):
    data = {"world": "first", "part": {"kinds": ["one"], "backgrounds": ["beach", "desert"]}}
    pipeline, asked, score = (
        Pipeline(replace(tiny_release(), training={"config": {"data": data}})),
        [],
        measures.score_model,
    )

    def watched(pipeline: Pipeline, prompts: Any, *arguments: Any, **options: Any) -> Any:
        asked.extend(prompts)
        return score(pipeline, prompts, *arguments, **options)

    monkeypatch.setattr(scene_reader, "SHIPPED", reader_folder)
    monkeypatch.setattr(measures, "score_model", watched)
    rates = measures.prompt_shares(pipeline, 3, 0, steps=1)
    assert {prompt.kind for prompt in asked} == {"one object"}
    assert {prompt.labels.background for prompt in asked} <= {"beach", "desert"}
    assert {"all prompts", "one object", "check: background"} <= rates.keys()
    assert all(0.0 <= rate <= 1.0 for rate in rates.values())
