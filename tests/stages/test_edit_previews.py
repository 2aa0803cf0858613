"""Previews of the stages that make images from images: of any number of prompts, in images of several sizes."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from configs import tiny
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.stages import image_prompt, inpaint

PROMPTS = tuple(f"{number} owls" for number in range(19))
SIZES = ((32, 32), (32, 48))
MADE = [SimpleNamespace(image=Image.new("RGB", (8, 8)))]


class Recorder(Pipeline):
    """A pipeline in place of a model: it keeps what it was asked to make."""

    def __init__(self):
        self.made: list[tuple[str, np.ndarray]] = []

    def edit(self, image, prompt, mask, **_):  # pyright: ignore[reportIncompatibleMethodOverride]
        assert mask.shape == image.shape[:2]
        self.made.append((prompt, image))
        return MADE

    def __call__(self, prompt, image_prompt, **_):  # pyright: ignore[reportIncompatibleMethodOverride]
        if prompt:
            self.made.append((prompt, image_prompt))
        return MADE


@pytest.mark.parametrize("stage", ["inpaint", "image_prompt"])
def test_a_preview_has_an_image_for_every_prompt(stage, monkeypatch, tmp_path):
    monkeypatch.setattr(
        inpaint, "random_masks", lambda key, count, height, width, _: np.ones((count, height, width, 1))
    )
    config = getattr(tiny, stage)()
    config.data.buckets = SIZES
    config.sample.prompts = PROMPTS
    preview = {"inpaint": inpaint.preview_edits, "image_prompt": image_prompt.preview_variations}[stage]
    pipeline = Recorder()
    assert preview(config, pipeline, tmp_path / "sheet.png", 1) == {}
    assert tuple(prompt for prompt, _ in pipeline.made) == PROMPTS
    assert {image.shape[:2] for _, image in pipeline.made} == set(SIZES)
    assert len({image.tobytes() for _, image in pipeline.made}) == len(PROMPTS)
    assert (tmp_path / "sheet.png").stat().st_size > 0
