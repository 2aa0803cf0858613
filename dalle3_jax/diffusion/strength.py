"""The part of the sampling loop that image to image takes."""

__all__ = ["steps_of_strength"]


def steps_of_strength(steps: int, strength: float) -> int:
    """The number of `steps` steps that image to image takes, the last ones: strength 1 all, from nothing but noise.

    diffusers' rule, min(int(steps * strength), steps). Raises ValueError outside (0, 1], and where no step is left.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength {strength}: above 0 (nothing changes) and at most 1 (nothing is kept)")
    if not (taken := min(int(steps * strength), steps)):
        raise ValueError(
            f"strength {strength} leaves none of {steps} steps: use at least {1 / steps:.3g}, or more steps"
        )
    return taken
