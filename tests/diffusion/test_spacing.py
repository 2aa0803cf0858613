"""Times of a loop: their ends, their order, and the rules that lay them, beside the formulas in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import spacing as laid
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import SPACINGS, Spacing, initial_noise_std, sampling_times

SCHEDULES = [Cosine(), ScaledLinear(), ScaledLinear(zero_terminal_snr=True), Cosine().shifted(0.25)]
FROM_THE_LAST = ("uniform", "trailing", "linspace", "logsnr", "karras")


def entries(*spacing, steps=10, sampler="ddim", **fields):
    """Which entries of a table of 1,000 are evaluated."""
    return np.asarray(1000 * sampling_times(ScaledLinear(), steps, Spacing(*spacing, **fields), sampler)[:-1] - 1)


@pytest.mark.parametrize("kind", FROM_THE_LAST)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_times_fall_from_1_to_0(schedule, steps, kind):
    found = sampling_times(schedule, steps, Spacing(kind))
    assert (len(found), found[0], found[-1]) == (steps + 1, 1, 0)
    assert np.all(np.diff(found) < 0)


def test_uniform_is_the_default_and_stays_as_it_was_bit_for_bit():
    np.testing.assert_array_equal(sampling_times(Cosine(), 30), jnp.linspace(1.0, 0.0, 31))
    np.testing.assert_array_equal(
        jax.jit(lambda: sampling_times(Cosine(), 30))(), jax.jit(lambda: jnp.linspace(1.0, 0.0, 31))()
    )


def test_logsnr_times_are_even_in_logsnr():
    logsnr = Cosine().logsnr(sampling_times(Cosine(), 12, Spacing("logsnr"))[1:-1])
    np.testing.assert_allclose(np.diff(logsnr), (Cosine().logsnr(jnp.asarray(0.001)) + 10) / 11, rtol=1e-3)


def test_leading_times_are_multiples_of_a_stride_plus_the_offset():
    np.testing.assert_allclose(entries("leading", 1, steps=7), 142 * np.arange(6, -1, -1) + 1, atol=1e-3)
    # The multistep solvers count the end among the points.
    np.testing.assert_allclose(entries("leading", 1, sampler="unipc"), 90 * np.arange(10, 0, -1) + 1, atol=1e-3)


def test_linspace_ends_at_the_first_entry_and_is_whole_but_in_sigma():
    whole, between = entries("linspace", steps=7), entries("linspace", steps=7, sampler="euler")
    np.testing.assert_allclose(whole, [999, 832, 666, 500, 333, 166, 0], atol=1e-3)
    np.testing.assert_allclose(between, 166.5 * np.arange(6, -1, -1), atol=1e-3)
    assert entries("linspace", sampler="dpmsolver++")[-1] > 99


def test_skipping_takes_every_so_many_of_the_entries_that_the_model_was_distilled_on():
    np.testing.assert_allclose(entries("skipping", steps=4), [999, 759, 499, 259], atol=1e-3)
    np.testing.assert_allclose(entries("skipping", steps=3, original_steps=20), [999, 699, 349], atol=1e-3)
    with pytest.raises(ValueError, match="51 steps of skipping spacing: this model was distilled on 50"):
        entries("skipping", steps=51)


def test_trailing_is_uniform_at_whole_entries():
    np.testing.assert_allclose(entries("trailing", steps=7), [999, 856, 713, 570, 428, 285, 142], atol=1e-3)
    np.testing.assert_allclose(entries("trailing"), entries("uniform"), atol=1e-3)


@pytest.mark.parametrize(("sampler", "ends"), [("heun", (901, 1)), ("dpmsolver++", (999, 0))])
def test_karras_is_even_in_the_seventh_root_of_sigma(sampler, ends):
    schedule, spacing = ScaledLinear(), Spacing("karras", 1, within="leading")
    found = sampling_times(schedule, 10, spacing, sampler)[:-1]
    np.testing.assert_allclose(1000 * found[jnp.asarray([0, -1])] - 1, ends, atol=1e-3)
    roots = (schedule.sigma(found) / schedule.alpha(found)) ** (1 / 7)
    np.testing.assert_allclose(roots, np.linspace(roots[0], roots[-1], 10), rtol=1e-5)


@pytest.mark.parametrize("kind", SPACINGS)
@pytest.mark.parametrize(("sampler", "end"), [("ddim", 0.001), ("euler", 0.001), ("ddpm", 0), ("unipc", 0)])
def test_a_loop_that_is_not_clean_ends_at_the_first_entry(kind, sampler, end):
    found = sampling_times(ScaledLinear(), 10, Spacing(kind, clean=False), sampler)
    np.testing.assert_allclose(found[-1], end, rtol=1e-6)
    assert np.all(np.diff(found) <= 0)


def test_first_noise_is_scaled_where_sigma_is_stepped_from_its_maximum():
    def deviation(kind, sampler, **fields):
        return float(initial_noise_std(ScaledLinear(), 10, Spacing(kind, **fields), sampler))

    highest = float(ScaledLinear().sigma(jnp.asarray(1.0)))
    assert highest < 0.999
    assert deviation("linspace", "euler") == deviation("trailing", "heun") == deviation("karras", "heun") == highest
    assert deviation("leading", "euler") == deviation("uniform", "euler") == deviation("linspace", "ddim") == 1
    assert deviation("karras", "euler", within="leading") == deviation("karras", "unipc") == 1


def test_network_is_told_whole_entries_only_where_it_must_be():
    t = jnp.asarray([0.4004, 0.4006, 0.401])
    np.testing.assert_allclose(ScaledLinear().network_time(t), [399.4, 399.6, 400], rtol=1e-6)
    for schedule in (ScaledLinear(whole=True), Cosine(steps=1000, whole=True)):
        np.testing.assert_array_equal(schedule.network_time(t), [399, 400, 400])


@pytest.mark.parametrize("sampler", ["ddim", "unipc"])
@pytest.mark.parametrize("kind", ["leading", "linspace", "trailing"])
def test_steps_that_leave_the_table_are_refused(kind, sampler):
    schedule = ScaledLinear(steps=50)
    most = 50 - (kind == "leading") - (sampler == "unipc" and kind != "trailing")
    found = sampling_times(schedule, most, Spacing(kind, 1), sampler)
    assert found[0] <= 1
    assert np.all(np.diff(found) < 0)
    with pytest.raises(ValueError, match=f"51 steps of {kind} spacing leave the table of 50 entries: use fewer"):
        sampling_times(schedule, 51, Spacing(kind, 1), sampler)


def test_bad_times_are_refused():
    with pytest.raises(ValueError, match="0 sampling steps"):
        sampling_times(Cosine(), 0)
    with pytest.raises(ValueError, match=r"'exponential'.*uniform, trailing, leading, linspace, logsnr, karras"):
        sampling_times(Cosine(), 5, Spacing("exponential"))


def test_build_makes_what_a_release_names_and_refuses_the_rest():
    assert laid.build_spacing({}) == Spacing()
    assert laid.build_spacing({"kind": "leading", "offset": 1, "clean": False}) == Spacing("leading", 1, clean=False)
    with pytest.raises(ValueError, match=r"no field rho.*kind, offset, clean, within"):
        laid.build_spacing({"kind": "karras", "rho": 7})
    with pytest.raises(ValueError, match=r"'karras'.*leading, linspace, trailing"):
        laid.build_spacing({"kind": "karras", "within": "karras"})
    with pytest.raises(ValueError, match="'even'"):
        laid.build_spacing({"kind": "even"})
