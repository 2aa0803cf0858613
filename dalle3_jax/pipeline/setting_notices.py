"""Notes on settings that a request may have, but that do not do what their names say.

What cannot be meant, `request_errors` refuses; what is of one prompt's length or words, `revision` notes.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dalle3_jax.pipeline.edit_settings import begin_step
from dalle3_jax.pipeline.request import SETTINGS, Request, Sampling, shorten
from dalle3_jax.pipeline.setting_values import Capabilities

__all__ = ["describe_low_scale", "setting_notices"]

BY_GUIDANCE = ("negative_prompt", "guidance_interval", "guidance_rescale", "guidance_parallel", "guidance_norm")
"""The settings that act by the difference between the prompt's output and the null's, which guidance scales."""

StepTimes = Callable[[Sampling], tuple[float, ...]]


def setting_notices(
    requests: Iterable[Request], capabilities: Capabilities, defaults: Mapping[str, Any] | None = None
) -> list[str]:
    """One notice for each way in which settings of requests have no effect, or a guidance scale is below 1.

    No word is lost on values that are `defaults`, the release's own.
    """
    step_times, own = functools.cache(capabilities.step_times), defaults or {}
    takes_scale = capabilities.takes_guidance_scale
    notices = []
    for request in requests:
        scale = request.guidance.scale
        if scale < 1 and scale != own.get("guidance_scale"):
            notices.append(f"guidance_scale {describe_low_scale(scale, takes_scale)}; 1 is no guidance")
        reason = _idle_reason(request, takes_scale, step_times)
        if reason and (idle := _idle_settings(request, takes_scale, own)):
            notices.append(f"{' and '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect: {reason}")
        notices += _idle_alone(request, step_times)
    return list(dict.fromkeys(notices))


def describe_low_scale(scale: float, takes_scale: bool = False) -> str:
    """The effect of a guidance scale below 1, in networks that are guided, or else take the scale as an input."""
    if takes_scale:
        return f"{scale:g} is below what this model was distilled with"
    if scale == 0:
        return "0 leaves the prompt no say (other tools take 0 for no guidance)"
    does = "gives the prompt less say than no guidance does" if scale > 0 else "leads away from the prompt"
    return f"{scale:g} {does}"


def _idle_reason(request: Request, takes_scale: bool, step_times: StepTimes) -> str:
    """Why the null condition plays no part; "" where it does."""
    if takes_scale:
        return "this model takes the guidance scale itself and has no null pass"
    if request.guidance.scale == 1:
        return "guidance_scale 1 is no guidance"
    first, last = request.guidance.interval
    if first <= 0 and last >= 1:
        return ""
    times = step_times(request.sampling)[begin_step(request.edit, request.sampling.steps) :]
    if times and not any(first <= time <= last for time in times):
        return f"none of the {len(times)} steps, from {times[0]:.3g} to {times[-1]:.3g}, begins within the interval"
    return ""


def _idle_settings(request: Request, takes_scale: bool, defaults: Mapping[str, Any]) -> list[str]:
    """The settings that are not at their defaults and act by guidance alone."""
    idle = []
    if request.guidance.scale != 1 and not takes_scale:
        idle.append(f"guidance_scale {request.guidance.scale:g}")
    for name in BY_GUIDANCE:
        setting = SETTINGS[name]
        value, own = setting.value(request), defaults.get(name, setting.default)
        # An upscaler is guided away from the negative prompt by a scale of its own.
        if name == "negative_prompt" and (request.upscaling.factor or not value.strip()):
            continue
        if name == "guidance_interval" and takes_scale:
            continue  # out of which the scale that it takes is 1
        if value not in (own, setting.default):
            text = repr(shorten(value)) if isinstance(value, str) else _plain(value)
            idle.append(f"{name} {text}")
    return idle


def _idle_alone(request: Request, step_times: StepTimes) -> list[str]:
    """A notice for each setting that has no effect for a reason of its own."""
    sampling, edit, notices = request.sampling, request.edit, []
    if edit.feather != SETTINGS["feather"].default and edit.kind != "mask":
        notices.append(f"feather {edit.feather} has no effect: there is no mask and no outpaint")
    if sampling.deep_cache == 1 and not sampling.text_gate:
        return notices
    times = step_times(sampling)[begin_step(edit, sampling.steps) :]
    if sampling.deep_cache > 1 and len(times) == 1:
        notices.append(f"deep_cache {sampling.deep_cache} has no effect: there is one step")
    if sampling.text_gate and times and not any(time < sampling.text_gate for time in times[1:]):
        notices.append(f"text_gate {sampling.text_gate:g} has no effect: no step after the first begins below it")
    return notices


def _plain(value: Any) -> str:
    return " ".join(f"{number:g}" for number in value) if isinstance(value, tuple) else f"{value:g}"
