"""The loop in pieces: the null condition where somebody is guided and nowhere else, text keys and values once."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.denoisers import denoiser
from dalle3_jax.pipeline.request import Guidance, stored_values
from dalle3_jax.pipeline.sampling_loop import gated_steps, guided_steps, split_loop
from dalle3_jax.planning.flops import jaxpr_flops
from tests.tiny import randomised, tiny_release

TIMES = np.linspace(1, 0, 6, dtype=np.float32)  # 5 steps, from 1, 0.8, 0.6, 0.4 and 0.2


@pytest.mark.parametrize(
    ("guides", "between", "expected"),
    [
        ([Guidance(3.0)], False, "11111"),
        ([Guidance(1.0)], False, "00000"),
        ([Guidance(3.0, (0.3, 0.7))], False, "00110"),
        ([Guidance(3.0, (0.4, 0.6))], False, "00110"),  # both ends included, as the program has them
        ([Guidance(3.0, (0.3, 0.7))], True, "01110"),  # what begins at 0.8 evaluates at 0.6 too
        ([Guidance(3.0, (0.9, 1.0)), Guidance(3.0, (0.1, 0.3))], False, "10001"),
        ([Guidance(1.0, (0.9, 1.0)), Guidance(3.0, (0.1, 0.3))], False, "00001"),
        ([Guidance(3.0, (2.0, 3.0))], True, "00000"),
    ],
)
def test_a_step_is_guided_where_the_guidance_of_any_image_acts(guides, between, expected):
    assert "".join(str(int(acts)) for acts in guided_steps(TIMES, guides, between)) == expected


@pytest.mark.parametrize(
    ("guided", "most", "expected"),
    [
        ("11111", 5, [(0, 5, True)]),
        ("00110", 5, [(0, 2, False), (2, 2, True), (4, 1, False)]),
        ("00110", 2, [(0, 2, False), (2, 2, True), (4, 1, False)]),
        ("01110", 2, [(0, 1, False), (1, 1, True), (2, 2, True), (4, 1, False)]),
    ],
)
def test_pieces_are_cut_where_guidance_changes_and_where_progress_is_told(guided, most, expected):
    pieces = split_loop(np.asarray([step == "1" for step in guided]), most)
    assert [piece[:3] for piece in pieces] == expected


@pytest.mark.parametrize(
    ("guided", "gated", "most", "every", "expected"),
    [
        ("11111", "00011", 5, 1, [(0, 3, True, False), (3, 2, False, True)]),
        ("11111", "00011", 5, 2, [(0, 4, True, False), (4, 1, False, True)]),  # steps 2 and 3 share features
        ("10001", "00000", 5, 3, [(0, 5, True, False)]),
        ("10000", "00000", 5, 3, [(0, 3, True, False), (3, 2, False, False)]),
        ("11111", "00000", 1, 2, [(0, 2, True, False), (2, 2, True, False), (4, 1, True, False)]),
    ],
)
def test_steps_that_share_features_stay_together(guided, gated, most, every, expected):
    guided, gated = (np.asarray([step == "1" for step in steps]) for steps in (guided, gated))
    assert list(split_loop(guided, most, gated, every)) == expected


def test_the_text_is_frozen_below_the_gate_and_never_in_the_first_step():
    assert gated_steps(TIMES, 0.0).tolist() == [False] * 5
    assert gated_steps(TIMES, 0.5).tolist() == [False, False, False, True, True]
    assert gated_steps(TIMES, 1.5).tolist() == [False, True, True, True, True]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_release())


def test_steps_out_of_the_interval_see_no_null_condition_and_give_the_same_image(pipeline, monkeypatch):
    """An image whose interval ends at 0.6 has the same latents alone as beside one that is guided to the end."""
    condition, null = pipeline.encode(["a fox", "an owl"]), pipeline.encode(["", ""])
    short = pipeline.request("a fox", steps=4, guidance_interval=(0.6, 1.0), guidance_scale=4.0, seed=1)
    others = [pipeline.request("an owl", steps=4, guidance_scale=scale, seed=2) for scale in (1.0, 2.0)]
    calls, advance = [], programs.advance

    def spy(params, rows, guide, *inputs, **how):
        calls.append((len(rows.mask), guide is not None, *map(int, inputs[3:5])))
        return advance(params, rows, guide, *inputs, **how)

    monkeypatch.setattr(programs, "advance", spy)
    alone, beside = (pipeline.sample_latents(condition, null, [short, other]) for other in others)
    assert calls == [(4, True, 0, 2), (2, False, 2, 2), (4, True, 0, 4)]
    np.testing.assert_allclose(alone[0], beside[0], atol=2e-5)
    unguided = dataclasses.replace(short, guidance=Guidance(1.0))
    assert np.abs(pipeline.sample_latents(condition, null, [unguided, others[0]])[0] - alone[0]).max() > 1e-2


def test_the_loop_computes_no_keys_and_values_of_the_text(pipeline):
    """More tokens cost a step the attention to them, and no projection of theirs."""

    def flops(tokens: int) -> tuple[float, float]:
        condition = jax.eval_shape(lambda: pipeline.encode(["a fox"]))
        condition = condition._replace(
            tokens=jax.ShapeDtypeStruct((1, tokens, condition.tokens.shape[-1]), np.float32),
            mask=jax.ShapeDtypeStruct((1, tokens), bool),
        )
        project = jax.make_jaxpr(lambda condition: programs.project_rows(params, condition, None, system=system))
        rows = jax.eval_shape(lambda c: programs.project_rows(params, c, None, system=system), condition)
        step = jax.make_jaxpr(lambda rows: denoiser(params, rows, system=system)(x, jnp.ones(1)))
        return jaxpr_flops(project(condition)), jaxpr_flops(step(rows))

    modules, x = pipeline.release.modules, jnp.zeros((1, 2, 2, 2))
    unet: UNet = modules["unet"].clone(levels=(Level(8, 1, depth=1, heads=2),))
    system = dataclasses.replace(pipeline.system, unet=unet)
    params = jax.device_put({**pipeline.params, "unet": randomised(unet, modules, 0)})
    (few_projected, few), (more_projected, more) = flops(8), flops(16)
    layers, channels, width, pixels = 4, 8, 16, 4  # transformers of the UNet: one down, two up, the middle
    assert sum(1 for _ in unet.transformers()) == layers
    assert more_projected - few_projected == layers * 8 * 2 * 2 * width * channels
    assert more - few == layers * 8 * 2 * 2 * pixels * channels


def test_shortcuts_are_near_the_full_loop_and_the_same_in_pieces(pipeline):
    condition, null = pipeline.encode(["a fox", "an owl"]), pipeline.encode(["", ""])

    def sample(progress=None, **settings):
        requests = [pipeline.request("a fox", steps=4, seed=seed, **settings) for seed in (1, 2)]
        return np.asarray(pipeline.sample_latents(condition, null, requests, progress))

    reports = []
    full, both = sample(), sample(deep_cache=2, text_gate=0.6)
    np.testing.assert_array_equal(sample(lambda *report: reports.append(report[0]), deep_cache=2, text_gate=0.6), both)
    assert reports == [2, 4]
    assert 1e-3 < np.abs(both - full).mean() < 0.3 * np.abs(full - full.mean()).mean()


def test_frozen_text_keeps_the_mean_of_conditional_and_null_tokens_on_the_grid(pipeline):
    unet: UNet = pipeline.release.modules["unet"].clone(levels=(Level(8, 1, depth=1, heads=2),), grid=(1, 6))
    system = dataclasses.replace(pipeline.system, unet=unet)
    xfnet = pipeline.release.modules["xfnet"].clone(kind="resampler", queries=6)
    params = jax.device_put({"unet": randomised(unet, {**pipeline.release.modules, "xfnet": xfnet}, 0)})
    text = pipeline.encode(["a fox"])
    condition, null = (
        text._replace(tokens=jnp.full((1, 6, text.tokens.shape[-1]), value), mask=jnp.ones((1, 6), bool))
        for value in (1.0, -0.5)
    )
    rows = programs.project_rows(params, condition, null, system=system)
    frozen = programs.freeze_text(params, rows, jnp.zeros((1, 2, 2, 2)), jnp.float32(0.5), system=system)
    (grid,), (pair,) = frozen.grids, rows.grids
    assert jnp.abs(pair[0] - pair[1]).max() > 1e-2
    np.testing.assert_allclose(grid, pair.mean(axis=0, keepdims=True), atol=1e-6)


def test_samplers_that_evaluate_several_times_a_step_keep_no_features(pipeline):
    with pytest.raises(ValueError, match="deep_cache with heun, which evaluates several times a step"):
        pipeline.request("a fox", sampler="heun", deep_cache=2)


def test_shortcuts_are_told_in_metadata_and_are_part_of_the_identity(pipeline):
    plain = pipeline.request("a fox")
    short = pipeline.request("a fox", deep_cache=3, text_gate=0.4, guidance_parallel=0.0, guidance_norm=5.0)
    assert {"deep_cache", "text_gate", "guidance_parallel", "guidance_norm"}.isdisjoint(stored_values(plain))
    assert stored_values(short).items() >= {"deep_cache": 3, "text_gate": 0.4, "guidance_norm": 5.0}.items()
    assert short.identity("") != plain.identity("")
