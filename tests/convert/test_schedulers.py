"""scheduler_config.json read and written: what Stable Diffusion's files mean, each class's defaults, refusals."""

import itertools
import json

import pytest

from dalle3_jax.convert import schedulers
from dalle3_jax.convert.scheduler_options import SCHEDULERS

SCHEDULE = {
    **{"name": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps": 1000},
    **{"zero_terminal_snr": False, "power": 2},
}
STABLE_DIFFUSION_1 = """{
  "_class_name": "PNDMScheduler", "_diffusers_version": "0.7.0.dev0", "beta_end": 0.012,
  "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": false,
  "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null, "clip_sample": false}"""
XL = """{
  "_class_name": "EulerDiscreteScheduler", "_diffusers_version": "0.19.0.dev0", "beta_end": 0.012,
  "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false, "interpolation_type": "linear",
  "num_train_timesteps": 1000, "prediction_type": "epsilon", "sample_max_value": 1.0, "set_alpha_to_one": false,
  "skip_prk_steps": true, "steps_offset": 1, "timestep_spacing": "leading", "trained_betas": null,
  "use_karras_sigmas": false}"""


def test_stable_diffusion_1_is_pndm_at_leading_times_that_end_at_the_first_entry():
    spacing = {"kind": "leading", "offset": 1, "clean": False}
    expected = {"schedule": SCHEDULE, "prediction": "eps", "spacing": spacing}
    assert schedulers.read_scheduler(json.loads(STABLE_DIFFUSION_1)) == (expected, {"sampler": "pndm"})


def test_an_option_of_another_class_has_no_say():
    diffusion, sampling = schedulers.read_scheduler(json.loads(XL))
    assert diffusion["spacing"] == {"kind": "leading", "offset": 1, "clean": True}
    assert sampling == {"sampler": "euler"}


def test_zero_terminal_snr_and_v_are_read():
    config = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "clip_sample": False}
    config |= {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    diffusion, _ = schedulers.read_scheduler(config)
    assert diffusion["prediction"] == "v"
    assert diffusion["schedule"]["zero_terminal_snr"]
    assert diffusion["spacing"] == {"kind": "trailing", "offset": 0, "clean": True}


@pytest.mark.parametrize(
    ("name", "options", "sampler", "kind", "clean"),
    [
        ("DDIMScheduler", {"clip_sample": False}, "ddim", "leading", True),
        ("PNDMScheduler", {}, "pndm_prk", "leading", False),
        ("PNDMScheduler", {"skip_prk_steps": True, "set_alpha_to_one": True}, "pndm", "leading", True),
        ("DDPMScheduler", {"clip_sample": False}, "ddpm", "leading", True),
        ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}, "euler", "linspace", False),
        ("EulerAncestralDiscreteScheduler", {}, "euler_ancestral", "linspace", True),
        ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, "heun", "karras", True),
        ("DPMSolverMultistepScheduler", {}, "dpmsolver++", "linspace", True),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, "dpmsolver++_sde", "linspace", True),
        ("UniPCMultistepScheduler", {}, "unipc", "linspace", True),
    ],
)
def test_what_is_missing_takes_the_defaults_of_the_class(name, options, sampler, kind, clean):
    diffusion, sampling = schedulers.read_scheduler({"_class_name": name, **options})
    assert sampling == {"sampler": sampler}
    assert (diffusion["spacing"]["kind"], diffusion["spacing"]["clean"]) == (kind, clean)
    assert diffusion["schedule"]["power"] == 1
    assert diffusion["schedule"]["beta_start"] == (0.00085 if name == "HeunDiscreteScheduler" else 0.0001)
    assert diffusion["schedule"].get("whole", False) == (sampler in ("dpmsolver++", "dpmsolver++_sde", "unipc"))


def test_karras_lie_within_the_times_of_the_schedulers_in_sigma_and_within_the_table_for_solvers():
    options = {"timestep_spacing": "leading", "steps_offset": 1, "use_karras_sigmas": True}
    for name, within in (("EulerDiscreteScheduler", "leading"), ("UniPCMultistepScheduler", "linspace")):
        diffusion, _ = schedulers.read_scheduler({"_class_name": name, **options})
        assert diffusion["spacing"] == {"kind": "karras", "offset": 1, "clean": True, "within": within}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("DDIMScheduler", {"trained_betas": [0.1], "beta_schedule": "exp", "clip_sample_range": 0.0}),
        ("DDPMScheduler", {"thresholding": True, "dynamic_thresholding_ratio": 1.5, "variance_type": "learned_range"}),
        ("PNDMScheduler", {"prediction_type": "sample", "num_train_timesteps": 0, "skip_prk_steps": 1}),
        ("EulerDiscreteScheduler", {"use_exponential_sigmas": True, "use_beta_sigmas": True, "sigma_max": 80.0}),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear", "timestep_type": "continuous"}),
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "even", "steps_offset": -1, "beta_end": 2.0}),
        ("HeunDiscreteScheduler", {"clip_sample": True, "clip_sample_range": "1", "beta_schedule": "exp"}),
        ("DPMSolverMultistepScheduler", {"solver_order": 3, "algorithm_type": "dpmsolver", "use_lu_lambdas": True}),
        ("DPMSolverMultistepScheduler", {"solver_type": "heun", "final_sigmas_type": "sigma_min"}),
        ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1, "use_flow_sigmas": True}),
        ("UniPCMultistepScheduler", {"solver_type": "bh1", "predict_x0": False, "disable_corrector": [0]}),
        ("UniPCMultistepScheduler", {"lower_order_final": False, "use_dynamic_shifting": True}),
        ("HeunDiscreteScheduler", {"beta_schedule": "exp", "timestep_spacing": "log"}),
    ],
)
def test_every_option_that_is_not_built_is_named_at_once(name, wrong):
    with pytest.raises(ValueError, match=f"this {name} has options that are not supported") as error:
        schedulers.read_scheduler({"_class_name": name, **wrong})
    assert [option for option in wrong if option not in str(error.value)] == []


def test_options_that_no_class_here_has_are_passed_over_with_a_warning():
    config = json.loads(XL)
    with pytest.warns(UserWarning, match="passed over: interpolation, some_option_of_tomorrow$"):
        sections = schedulers.read_scheduler(config | {"some_option_of_tomorrow": 3, "interpolation": "cubic"})
    assert sections == schedulers.read_scheduler(config)


def test_the_class_that_is_named_counts_and_reads_its_own_options():
    config = json.loads(STABLE_DIFFUSION_1)
    diffusion, sampling = schedulers.read_scheduler(config, "EulerDiscreteScheduler")
    assert sampling == {"sampler": "euler"}
    assert diffusion["spacing"] == {"kind": "linspace", "offset": 1, "clean": True}
    del config["_class_name"]
    assert schedulers.read_scheduler(config, "DDIMScheduler")[1] == {"sampler": "ddim"}
    with pytest.raises(ValueError, match="unknown scheduler 'LMSDiscreteScheduler'"):
        schedulers.read_scheduler(config, "LMSDiscreteScheduler")


def test_values_of_another_class_that_are_only_its_defaults_are_none():
    config = {"_class_name": "DDIMScheduler", "timestep_spacing": "leading", "clip_sample": False}
    config |= {"_use_default_values": ["timestep_spacing", "clip_sample"]}
    diffusion, _ = schedulers.read_scheduler(config, "UniPCMultistepScheduler")
    assert diffusion["spacing"]["kind"] == "linspace"


def test_what_a_pipeline_forces_goes_before_the_config():
    forced = {"steps_offset": 1, "clip_sample": False}
    for name in ("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "UniPCMultistepScheduler"):
        diffusion, _ = schedulers.read_scheduler({"_class_name": name}, forced=forced)
        assert diffusion["spacing"]["offset"] == 1
    with pytest.warns(UserWarning, match="steps_offset=1 in place of 3, clip_sample=False in place of True"):
        schedulers.read_scheduler(
            {"_class_name": "DDIMScheduler", "steps_offset": 3, "clip_sample": True}, None, forced
        )


@pytest.mark.parametrize(("schedule", "beta_end"), [("linear", 0.2), ("scaled_linear", 0.5)])
def test_a_table_that_ends_in_nothing_but_noise_is_refused_for_eps(schedule, beta_end):
    config = {"_class_name": "DDIMScheduler", "clip_sample": False, "beta_schedule": schedule, "beta_end": beta_end}
    with pytest.raises(ValueError, match="leave nothing of the image"):
        schedulers.read_scheduler(config)
    for change in ({"prediction_type": "v_prediction"}, {"beta_end": 0.02}):
        schedulers.read_scheduler(config | change)


def test_clipping_is_on_where_a_config_of_ddim_does_not_say():
    for name in ("DDIMScheduler", "DDPMScheduler"):
        assert schedulers.read_scheduler({"_class_name": name})[0]["clipping"] == {"bound": 1.0}
    for name in ("LCMScheduler", "HeunDiscreteScheduler", "UniPCMultistepScheduler"):
        assert "clipping" not in schedulers.read_scheduler({"_class_name": name})[0]


@pytest.mark.parametrize(
    ("name", "options", "clipping"),
    [
        ("DDIMScheduler", {"clip_sample_range": 2.5}, {"bound": 2.5}),
        ("DDPMScheduler", {"thresholding": True, "sample_max_value": 3.0}, {"bound": 3.0, "quantile": 0.995}),
        ("HeunDiscreteScheduler", {"clip_sample": True}, {"bound": 1.0}),
        ("DPMSolverMultistepScheduler", {"thresholding": True}, {"bound": 1.0, "quantile": 0.995}),
        (
            "UniPCMultistepScheduler",
            {"thresholding": True, "dynamic_thresholding_ratio": 0.9},
            {"bound": 1.0, "quantile": 0.9},
        ),
        ("LCMScheduler", {"clip_sample": True, "clip_sample_range": 4.0}, {"bound": 4.0}),
    ],
)
def test_bounds_of_estimates_are_read_and_written(name, options, clipping):
    sections = schedulers.read_scheduler({"_class_name": name, "beta_schedule": "scaled_linear", **options})
    assert sections[0]["clipping"] == clipping
    assert schedulers.read_scheduler(schedulers.write_scheduler(*sections)) == sections
    with pytest.raises(ValueError, match=r"(clip_sample|thresholding).* for the sampler pndm"):
        schedulers.write_scheduler({**sections[0], "spacing": {}}, {"sampler": "pndm"})


def test_combinations_that_have_no_meaning_are_refused():
    config = {"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": True}
    with pytest.raises(ValueError, match="zero_snr=True with prediction_type='epsilon'"):
        schedulers.read_scheduler(config)
    with pytest.raises(ValueError, match="'squaredcos_cap_v2'"):
        schedulers.read_scheduler({**config, "prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"})


@pytest.mark.parametrize("name", ["LMSDiscreteScheduler", "FlowMatchEulerDiscreteScheduler", None])
def test_other_classes_are_refused_with_those_that_are_read(name):
    with pytest.raises(ValueError, match=rf"unknown scheduler {name!r}.*DDIMScheduler.*UniPCMultistepScheduler"):
        schedulers.read_scheduler({"_class_name": name})


@pytest.mark.parametrize(
    ("name", "prediction"),
    [pair for pair in itertools.product(SCHEDULERS, ("eps", "v", "x0")) if pair != ("PNDMScheduler", "x0")],
)  # PNDM predicts no images
@pytest.mark.parametrize("karras", [False, True])
def test_reading_what_was_written_gives_the_same_sections(name, karras, prediction):
    config = {"_class_name": name, "beta_schedule": "scaled_linear", "steps_offset": 1, "clip_sample": False}
    config |= {"timestep_spacing": "leading", "use_karras_sigmas": karras, "set_alpha_to_one": False}
    config |= {"skip_prk_steps": karras}
    theirs = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
    sections = schedulers.read_scheduler({**config, "prediction_type": theirs[prediction]})
    assert schedulers.read_scheduler(schedulers.write_scheduler(*sections)) == sections


def test_a_release_of_our_own_is_written_with_trailing_times():
    written = schedulers.write_scheduler(
        {"schedule": {"name": "scaled_linear"}, "prediction": "v"}, {"sampler": "ddim"}
    )
    assert written["timestep_spacing"] == "trailing"
    assert (written["beta_start"], written["beta_schedule"], written["clip_sample"]) == (
        0.00085,
        "scaled_linear",
        False,
    )
    cosine = {"schedule": {"name": "cosine", "steps": 1000}, "prediction": "v"}
    assert schedulers.write_scheduler(cosine, {"sampler": "unipc"})["beta_schedule"] == "squaredcos_cap_v2"


@pytest.mark.parametrize(
    ("changes", "sampler", "said"),
    [
        ({}, "consistency", "the sampler consistency"),
        ({"prediction": "edm"}, "ddim", "the prediction edm"),
        ({"schedule": {**SCHEDULE, "shift": 0.5}}, "ddim", "'shift': 0.5"),
        ({"schedule": {"name": "cosine"}}, "ddim", "a table of 1000"),
        ({"schedule": {**SCHEDULE, "zero_terminal_snr": True}}, "heun", "zero_terminal_snr for the sampler heun"),
        ({"spacing": {"kind": "logsnr"}}, "unipc", "logsnr spacing for the sampler unipc"),
        ({"spacing": {"kind": "karras"}}, "ddim", "karras spacing for the sampler ddim"),
    ],
)
def test_what_no_scheduler_does_is_refused(changes, sampler, said):
    with pytest.raises(ValueError, match="no scheduler of diffusers does this") as error:
        schedulers.write_scheduler({"schedule": SCHEDULE, "prediction": "v"} | changes, {"sampler": sampler})
    assert said in str(error.value)
