"""scheduler_config.json of diffusers: what it says of schedule, prediction, times and sampler, read and written.

A class reads its own options only, with its own defaults, and passes over those that a config carries along for other
classes; so does this reader.
"""

import math
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dalle3_jax.convert.configs import is_size, raise_unsupported, unsupported_options
from dalle3_jax.convert.scheduler_options import (
    FOREIGN,
    PREDICTIONS,
    SCHEDULERS,
    SPACINGS,
    SUPPORTED,
    Scheduler,
)

__all__ = ["read_scheduler", "write_scheduler"]

Config = Mapping[str, Any]

BETAS = {1: "linear", 2: "scaled_linear"}
"""Their name of a table that is linear in beta^(1 / power)."""

MOST_STEPS = 100_000
"""Entries of a table that are looked through."""

SOLVERS = ("dpmsolver++", "dpmsolver++_sde", "unipc")
"""Samplers whose timesteps are whole, also those of Karras' sigmas."""


def read_scheduler(
    config: Config, class_name: str | None = None, forced: Config = MappingProxyType({})
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(The diffusion section of a release, its sampling section) that a scheduler_config.json amounts to.

    `class_name` is the class that model_index.json names: it counts, and the one in the config only where there is
    none. `forced` are values that a pipeline gives its scheduler whatever the config says; a warning names those that
    differ, and options that no class here has, which are passed over.
    Raises ValueError for a class that is not built, or naming every option that is not.
    """
    name = class_name or config.get("_class_name")
    if name not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {name!r}: use the scheduler_config.json of one of {', '.join(SCHEDULERS)}")
    scheduler, given = SCHEDULERS[name], _given_options(config)
    own = {key: forced.get(key, given.get(key, default)) for key, default in scheduler.defaults.items()}
    raise_unsupported(name, _scheduler_option_errors(scheduler, own))
    _warn_of_others(given, own, forced)
    sampler = _sampler(scheduler, own)
    section = {"schedule": _schedule(sampler, own), "prediction": PREDICTIONS[own["prediction_type"]]}
    return section | {"spacing": _spacing(sampler, own), **_clipping(own)}, {"sampler": sampler}


def _given_options(config: Config) -> dict[str, Any]:
    """The options that a config gives; those that it lists as another class's defaults are none."""
    defaults = config.get("_use_default_values")
    absent = defaults if isinstance(defaults, list) else []
    return {key: value for key, value in config.items() if key[:1] != "_" and key not in absent}


def _sampler(scheduler: Scheduler, own: Config) -> str:
    if own.get("algorithm_type") == "sde-dpmsolver++":
        return "dpmsolver++_sde"
    return "pndm_prk" if own.get("skip_prk_steps") is False else scheduler.sampler


def _warn_of_others(given: Config, own: Config, forced: Config) -> None:
    replaced = [key for key in forced if key in own and key in given and given[key] != own[key]]
    if replaced:
        differences = ", ".join(f"{key}={own[key]!r} in place of {given[key]!r}" for key in replaced)
        warnings.warn(f"the scheduler runs with {differences}, as diffusers' pipeline of this kind does", stacklevel=4)
    if unknown := sorted(given.keys() - own.keys() - FOREIGN):
        warnings.warn(f"options of another scheduler are passed over: {', '.join(unknown)}", stacklevel=4)


def _scheduler_option_errors(scheduler: Scheduler, own: Config) -> list[str]:
    """A class's options that are not supported."""
    supported = {key: values for key, values in {**SUPPORTED, **scheduler.supported}.items() if key in own}
    errors = unsupported_options(own, supported)
    original = own.get("original_inference_steps", 1)
    if not (is_size(original) and is_size(own["num_train_timesteps"]) and original <= own["num_train_timesteps"]):
        errors.append("original_inference_steps that are not whole numbers of steps up to num_train_timesteps")
    errors += _clipping_errors(own)
    if not is_size(own["num_train_timesteps"]) or not (own["steps_offset"] == 0 or is_size(own["steps_offset"])):
        errors.append("num_train_timesteps and steps_offset that are not whole numbers of steps")
    if not all(isinstance(own[end], float) and 0 < own[end] < 1 for end in ("beta_start", "beta_end")):
        errors.append("beta_start and beta_end that do not lie between 0 and 1")
    elif not errors and own["prediction_type"] == "epsilon" and _ends_in_noise(own):
        errors.append(
            "beta_start and beta_end that leave nothing of the image at the end, where eps says nothing of it"
        )
    zero_snr = own.get("rescale_betas_zero_snr")
    if zero_snr and own["prediction_type"] == "epsilon":
        errors.append("rescale_betas_zero_snr=True with prediction_type='epsilon', which pure noise cannot start from")
    if own["beta_schedule"] == "squaredcos_cap_v2" and (zero_snr or own["num_train_timesteps"] != 1000):
        errors.append("beta_schedule='squaredcos_cap_v2' in other than 1000 num_train_timesteps or to zero SNR")
    return errors


def _clipping(own: Config) -> dict[str, Any]:
    """The section of what keeps estimates of x0 within bounds, where anything does."""
    if own.get("thresholding"):
        return {"clipping": {"bound": own["sample_max_value"], "quantile": own["dynamic_thresholding_ratio"]}}
    return {"clipping": {"bound": own["clip_sample_range"]}} if own.get("clip_sample") else {}


def _clipping_errors(own: Config) -> list[str]:
    """Bounds that are none, of a class that clips."""
    values = {"bound": 1.0, "quantile": 0.5, **_clipping(own).get("clipping", {})}
    if all(type(value) in (int, float) and value > 0 for value in values.values()) and values["quantile"] <= 1:
        return []
    return ["clip_sample_range, sample_max_value or dynamic_thresholding_ratio that are no bounds above 0, ratios to 1"]


def _ends_in_noise(own: Config) -> bool:
    """Whether alpha rounds to 0 at the last entry of a table, in float32."""
    power = next((power for power, name in BETAS.items() if name == own["beta_schedule"]), None)
    steps = own["num_train_timesteps"]
    if power is None or not steps <= MOST_STEPS:
        return False
    first, last = own["beta_start"] ** (1 / power), own["beta_end"] ** (1 / power)
    betas = ((first + (last - first) * i / max(steps - 1, 1)) ** power for i in range(steps))
    return math.exp(sum(math.log1p(-beta) for beta in betas) / 2) < 2.0**-24


def _schedule(sampler: str, own: Config) -> dict[str, Any]:
    steps, whole = own["num_train_timesteps"], {"whole": True} if sampler in SOLVERS else {}
    if own["beta_schedule"] == "squaredcos_cap_v2":
        return {"name": "cosine", "steps": steps, **whole}
    [power] = (power for power, name in BETAS.items() if name == own["beta_schedule"])
    ends = {end: own[end] for end in ("beta_start", "beta_end")}
    zero_snr = bool(own.get("rescale_betas_zero_snr"))
    return {"name": "scaled_linear", **ends, "steps": steps, "zero_terminal_snr": zero_snr, "power": power, **whole}


def _spacing(sampler: str, own: Config) -> dict[str, Any]:
    if sampler == "lcm":  # which reads no other option of times
        return {"kind": "skipping", "original_steps": own["original_inference_steps"]}
    clean = bool(own.get("set_alpha_to_one", True)) and own.get("final_sigmas_type", "zero") == "zero"
    spacing = {"kind": own["timestep_spacing"], "offset": own["steps_offset"], "clean": clean}
    if not own.get("use_karras_sigmas"):
        return spacing
    within = own["timestep_spacing"] if sampler in ("euler", "heun") else "linspace"
    return spacing | {"kind": "karras", "within": within}


def write_scheduler(diffusion: Mapping[str, Any], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The scheduler_config.json of a release's diffusion and sampling sections; `read_scheduler` is its inverse.

    "uniform" times are written as "trailing", their like at whole entries. Raises ValueError naming all that cannot be
    said in one.
    """
    schedule, sampler = diffusion["schedule"], sampling.get("sampler", "ddim")
    default = {"kind": "uniform", "offset": 0, "clean": True, "within": "linspace", "original_steps": 50}
    spacing = default | diffusion.get("spacing", {})
    named = {"dpmsolver++_sde": "dpmsolver++", "pndm_prk": "pndm"}.get(sampler, sampler)
    name = next((name for name, scheduler in SCHEDULERS.items() if scheduler.sampler == named), "")
    options = SCHEDULERS[name].defaults if name else {}
    errors = _export_errors(schedule, diffusion["prediction"], spacing, sampler, options)
    if options and (unknown := _clipping_options(diffusion.get("clipping")).keys() - options.keys()):
        errors.append(f"{', '.join(sorted(unknown))} for the sampler {sampler}")
    if errors:
        raise ValueError(f"no scheduler of diffusers does this: {'; '.join(errors)}")
    karras = spacing["kind"] == "karras"
    kind = {"karras": spacing["within"], "skipping": "leading"}.get(spacing["kind"], spacing["kind"])
    values = {
        **_beta_table_options(schedule),
        "prediction_type": next(theirs for theirs, ours in PREDICTIONS.items() if ours == diffusion["prediction"]),
        "timestep_spacing": "trailing" if kind == "uniform" else kind,
        "steps_offset": spacing["offset"],
        "set_alpha_to_one": spacing["clean"],
        "final_sigmas_type": "zero" if spacing["clean"] or sampler != "euler" else "sigma_min",
        "use_karras_sigmas": karras,
        "algorithm_type": "sde-dpmsolver++" if sampler == "dpmsolver++_sde" else "dpmsolver++",
        "skip_prk_steps": sampler != "pndm_prk",
        "clip_sample": False,
        "original_inference_steps": spacing["original_steps"],
    }
    values |= _clipping_options(diffusion.get("clipping"))
    return {"_class_name": name, **{option: value for option, value in values.items() if option in options}}


def _clipping_options(clipping: Config | None) -> dict[str, Any]:
    """The options of clipped or thresholded estimates; none where they are not."""
    if not clipping:
        return {}
    if quantile := clipping.get("quantile"):
        return {"thresholding": True, "dynamic_thresholding_ratio": quantile, "sample_max_value": clipping["bound"]}
    return {"clip_sample": True, "clip_sample_range": clipping["bound"]}


def _beta_table_options(schedule: Config) -> dict[str, Any]:
    if schedule["name"] == "cosine":
        return {"num_train_timesteps": schedule["steps"], "beta_schedule": "squaredcos_cap_v2"}
    default = {"beta_start": 0.00085, "beta_end": 0.012, "steps": 1000, "zero_terminal_snr": False, "power": 2}
    given = {**default, **schedule}
    return {
        "num_train_timesteps": given["steps"],
        "beta_start": given["beta_start"],
        "beta_end": given["beta_end"],
        "beta_schedule": BETAS[given["power"]],
        "rescale_betas_zero_snr": given["zero_terminal_snr"],
    }


def _export_errors(schedule: Config, prediction: str, spacing: Config, sampler: str, options: Config) -> list[str]:
    """Parts of a release's sections that a class with these options cannot express."""
    cosine = schedule["name"] == "cosine"
    errors = [] if options else [f"the sampler {sampler}"]
    if prediction not in PREDICTIONS.values():
        errors.append(f"the prediction {prediction}")
    if schedule.get("shift", 1) != 1 or schedule.get("s", 0.008) != 0.008 or schedule.get("power", 2) not in BETAS:
        errors.append(f"the schedule {dict(schedule)}")
    if cosine and schedule.get("steps") != 1000:
        errors.append("a cosine schedule whose network is not told entries of a table of 1000 steps")
    if schedule.get("zero_terminal_snr") and options and "rescale_betas_zero_snr" not in options:
        errors.append(f"zero_terminal_snr for the sampler {sampler}")
    kinds = ("uniform", *SPACINGS, *(("karras",) if "use_karras_sigmas" in options else ()))
    kinds = ("skipping",) if sampler == "lcm" else kinds
    if options and spacing["kind"] not in kinds:
        errors.append(f"{spacing['kind']} spacing for the sampler {sampler}")
    return errors
