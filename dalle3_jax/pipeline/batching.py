"""Which requests one program can sample together."""

from collections.abc import Sequence
from typing import Any

from dalle3_jax.pipeline.request import Request

__all__ = ["group_by_program"]


def group_by_program(requests: Sequence[Request]) -> list[list[int]]:
    """Indices of requests that one program can make: of the same size, sampling and decoder, guided or not."""
    found: dict[Any, list[int]] = {}
    for index, r in enumerate(requests):
        program = r.size, r.steps, r.sampler, r.spacing, r.guidance_scale == 1, r.decoder, r.decoder_steps, r.tile
        found.setdefault(program, []).append(index)
    return list(found.values())
