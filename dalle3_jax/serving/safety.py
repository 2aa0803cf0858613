"""Checks of what images show, before anybody sees them: off unless asked for."""

from collections.abc import Callable

import numpy as np
from PIL import Image

__all__ = ["CHECKS", "ImageCheck", "load_check"]

ImageCheck = Callable[[Image.Image], list[str]]
"""What an image shows that is not to be shown, in words; nothing where it may be shown."""

EXPOSED = {
    "ANUS_EXPOSED": "an exposed anus",
    "BUTTOCKS_EXPOSED": "exposed buttocks",
    "FEMALE_BREAST_EXPOSED": "exposed female breasts",
    "FEMALE_GENITALIA_EXPOSED": "exposed female genitalia",
    "MALE_GENITALIA_EXPOSED": "exposed male genitalia",
}
"""The classes of NudeNet that are not shown."""
LEAST_SCORE = 0.4


def load_check(name: str) -> ImageCheck:
    """The check of a name of CHECKS."""
    return CHECKS[name]()


def load_nudenet() -> ImageCheck:
    """NudeNet's detector of nudity, whose model lies in its package: nothing is downloaded."""
    from nudenet import NudeDetector

    detector = NudeDetector()

    def find_nudity(image: Image.Image) -> list[str]:
        pixels = np.asarray(image.convert("RGB"))[:, :, ::-1]  # the order in which it reads files itself
        detections = detector.detect(np.ascontiguousarray(pixels))
        names = {one["class"] for one in detections if one["score"] >= LEAST_SCORE}
        return [EXPOSED[name] for name in sorted(names & EXPOSED.keys())]

    return find_nudity


CHECKS: dict[str, Callable[[], ImageCheck]] = {"nudenet": load_nudenet}
