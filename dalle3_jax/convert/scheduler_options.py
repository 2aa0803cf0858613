"""The options of diffusers' schedulers: each class's own defaults, which differ, and the values that are built here."""

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["FOREIGN", "PREDICTIONS", "SCHEDULERS", "SPACINGS", "SUPPORTED", "Scheduler"]


class Scheduler(NamedTuple):
    """A class: our sampler for it, the defaults of its options, and the values that are built, where not all are."""

    sampler: str
    defaults: Mapping[str, Any]
    supported: Mapping[str, Any] = {}


PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "x0"}
SPACINGS = ("leading", "linspace", "trailing")
MINUS_INFINITY = float("-inf")

TABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "timestep_spacing": "linspace",
    "steps_offset": 0,
}
LEADING = {**TABLE, "timestep_spacing": "leading"}
ZERO_SNR = {"rescale_betas_zero_snr": False}
THRESHOLDING = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
CLIPPED = {**ZERO_SNR, **THRESHOLDING, "clip_sample": True, "clip_sample_range": 1.0}
SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
ENDS = {"final_sigmas_type": "zero", "sigma_min": None, "sigma_max": None}
SOLVER = {
    **{**TABLE, **SIGMAS, **ZERO_SNR, **THRESHOLDING},
    "solver_order": 2,
    "use_flow_sigmas": False,
    "use_dynamic_shifting": False,
    "final_sigmas_type": "zero",
    "lower_order_final": True,
}

SCHEDULERS = {
    "DDIMScheduler": Scheduler("ddim", {**LEADING, **CLIPPED, "set_alpha_to_one": True}),
    "PNDMScheduler": Scheduler(
        "pndm",
        {**LEADING, "set_alpha_to_one": False, "skip_prk_steps": False},
        {"prediction_type": ("epsilon", "v_prediction"), "skip_prk_steps": (True, False)},
    ),
    "DDPMScheduler": Scheduler(
        "ddpm",
        {**LEADING, **CLIPPED, "variance_type": "fixed_small"},
        {"variance_type": ("fixed_small", "fixed_small_log")},
    ),
    "EulerDiscreteScheduler": Scheduler(
        "euler",
        {**TABLE, **SIGMAS, **ZERO_SNR, **ENDS, "interpolation_type": "linear", "timestep_type": "discrete"},
        {"final_sigmas_type": ("zero", "sigma_min"), "interpolation_type": "linear", "timestep_type": "discrete"},
    ),
    "EulerAncestralDiscreteScheduler": Scheduler("euler_ancestral", {**TABLE, **ZERO_SNR}),
    "HeunDiscreteScheduler": Scheduler(
        "heun",
        {**TABLE, **SIGMAS, "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, "clip_sample_range": 1.0},
    ),
    "DPMSolverMultistepScheduler": Scheduler(
        "dpmsolver++",
        {
            **SOLVER,
            "algorithm_type": "dpmsolver++",
            "solver_type": "midpoint",
            "variance_type": None,
            "use_lu_lambdas": False,
            "lambda_min_clipped": MINUS_INFINITY,
            "euler_at_final": False,
        },
        {
            "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"),
            "solver_type": ("midpoint", "logrho", "bh1", "bh2"),  # the others are read as midpoint
            "variance_type": None,
        },
    ),
    "LCMScheduler": Scheduler(
        "lcm",
        {
            **{**LEADING, **CLIPPED},
            **{"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False},
            **{"original_inference_steps": 50, "timestep_scaling": 10.0},
        },
        {"timestep_scaling": 10.0},
    ),
    "UniPCMultistepScheduler": Scheduler(
        "unipc",
        {
            **{**SOLVER, **ENDS},
            "solver_type": "bh2",
            "predict_x0": True,
            "disable_corrector": [],
            "solver_p": None,
            "shift_terminal": None,
        },
        {
            "lower_order_final": True,
            "solver_type": ("bh2", "midpoint", "heun", "logrho"),  # the others are read as bh2
            "predict_x0": True,
            "disable_corrector": ([],),
        },
    ),
}

SUPPORTED = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2"),
    "prediction_type": tuple(PREDICTIONS),
    "timestep_spacing": SPACINGS,
    "final_sigmas_type": "zero",
    "solver_order": 2,
    "lambda_min_clipped": (MINUS_INFINITY, None),
    **dict.fromkeys(("trained_betas", "sigma_min", "sigma_max", "solver_p", "shift_terminal"), None),
    **dict.fromkeys(("clip_sample", "thresholding"), (True, False, None)),
    **dict.fromkeys(("use_exponential_sigmas", "use_beta_sigmas"), (False, None)),
    **dict.fromkeys(("use_flow_sigmas", "use_dynamic_shifting", "use_lu_lambdas"), (False, None)),
}
"""The values that are built of an option, whichever class has it; a class's own `supported` goes before."""

FOREIGN = {
    *(option for scheduler in SCHEDULERS.values() for option in scheduler.defaults),
    *("flow_shift", "time_shift_type"),  # of flows
}
"""Options that configs carry along for other classes, or for parts that are not built: no word is lost on them."""
