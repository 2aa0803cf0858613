"""stable-diffusion-webui's names of samplers and schedulers, and ours."""

from collections.abc import Iterable
from typing import Any

from dalle3_jax.pipeline.png import SAMPLER_TITLES, SPACING_TITLES

__all__ = ["find_sampler", "list_samplers", "list_schedulers", "split_sampler"]

AUTOMATIC = "automatic"


def list_samplers(names: Iterable[str]) -> list[dict[str, Any]]:
    """The samplers as GET /sdapi/v1/samplers has them: by the names that they have there, ours as aliases."""
    titles = [(SAMPLER_TITLES.get(name, name), name) for name in names]
    return [{"name": title, "aliases": [name], "options": {}} for title, name in titles]


def list_schedulers(names: Iterable[str]) -> list[dict[str, Any]]:
    """The spacings as GET /sdapi/v1/schedulers has them, the release's own as the automatic one."""
    rows = [("automatic", "Automatic"), *((name, SPACING_TITLES.get(name, name)) for name in names)]
    return [
        {"name": name, "label": label, "aliases": None, "default_rho": -1.0, "need_inner_model": False}
        for name, label in rows
    ]


def find_sampler(text: str, names: Iterable[str], titles: dict[str, str]) -> str | None:
    """Our name of what is called so, here or there, in any case; None for what we do not have."""
    wanted = text.strip().lower()
    known = {titles[name].lower(): name for name in reversed([*names]) if name in titles}
    return known.get(wanted, wanted if wanted in names else None)


def split_sampler(
    sampler: str, scheduler: str, samplers: Iterable[str], spacings: Iterable[str]
) -> tuple[dict[str, str], list[str]]:
    """The settings that a sampler and a scheduler stand for, and warnings of what is passed over.

    Older programs write both as one, as in "DPM++ 2M Karras". What is left out, or automatic, is the release's own.
    """
    settings, warnings = {}, []
    samplers, spacings = tuple(samplers), tuple(spacings)
    name = find_sampler(sampler, samplers, SAMPLER_TITLES)
    first, _, last = sampler.rpartition(" ")
    if name is None and (joined := find_sampler(first, samplers, SAMPLER_TITLES)):
        name, scheduler = joined, scheduler if scheduler.lower() not in ("", AUTOMATIC) else last
    if name is not None:
        settings["sampler"] = name
    elif sampler.strip().lower() not in ("", AUTOMATIC):
        warnings.append(f"there is no sampler {sampler[:60]!a}: the release's own was used")
    spacing = find_sampler(scheduler, spacings, SPACING_TITLES)
    if spacing is not None:
        settings["spacing"] = spacing
    elif scheduler.strip().lower() not in ("", AUTOMATIC):
        warnings.append(f"there is no scheduler {scheduler[:60]!a}: the release's own was used")
    return settings, warnings
