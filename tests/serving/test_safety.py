"""What a check finds unfit reaches nobody, and nothing else is held back."""

import asyncio
import itertools
import sys

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.pipeline.request import Decoding
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.queue import Job
from dalle3_jax.serving.safety import load_check
from tests.serving.engines import run, until


def test_an_image_that_is_withheld_is_an_error_of_its_job_alone(pipeline, gate):
    """Its previews are withheld too; the neighbour in its batch is made."""
    unfit = Image.new("RGB", (16, 16)).tobytes()
    shown, turns = list[bytes](), itertools.count()

    def check(image: Image.Image) -> list[str]:
        shown.append(image.tobytes())
        return [] if next(turns) else ["nudity"]

    engine = Engine(pipeline, batch_size=2, check=check)

    async def script() -> None:
        jobs = [Job([pipeline.request(prompt)], prompt) for prompt in ("one", "another")]
        for job in jobs:
            engine.submit(job)
        gate.let_through()
        await asyncio.gather(*(job.finished.wait() for job in jobs))
        bad, good = sorted(jobs, key=lambda job: job.status == "completed")  # threads may check either first
        assert (bad.status, bad.error.status, bad.error.code) == ("failed", 400, "content_policy_violation")
        assert "it shows nudity" in bad.error.message
        assert bad.images[0].content is None
        assert good.status == "completed"
        assert engine.metrics.withheld._value.get() == 1

    run(engine, script)
    assert shown == [unfit] * 2


def test_a_preview_that_is_withheld_is_not_sent(pipeline, gate):
    engine = Engine(pipeline, batch_size=1, check=lambda image: ["nudity"])

    async def script() -> None:
        job = Job([pipeline.request("a")], partial_images=3)
        engine.submit(job)
        gate.let_through()
        kinds = [update.kind async for update in job.updates()]
        assert "progress" in kinds
        assert kinds[-1] == "failed"
        assert {"preview", "image"}.isdisjoint(kinds)

    run(engine, script)


def test_a_withheld_preview_that_was_asked_for_is_not_made_again(pipeline, gate, monkeypatch):
    decoded = []

    def decode(latents: np.ndarray, windows: Decoding) -> np.ndarray:
        decoded.append(len(latents))
        return np.zeros((len(latents), 16, 16, 3), np.float32)

    monkeypatch.setattr(pipeline.codec, "decode", decode)
    engine = Engine(pipeline, batch_size=1, check=lambda image: ["nudity"])

    async def script() -> None:
        job = Job([pipeline.request("a")])
        job.wants_preview = True
        engine.submit(job)
        for step in (1, 2, 3):  # one at a time, as publishing a step is the event loop's turn
            gate.let_through(1)
            await until(lambda step=step: job.images[0].step == step)
        gate.let_through()
        await job.finished.wait()
        assert job.images[0].preview is None

    run(engine, script)
    assert decoded == [1]


@pytest.fixture(scope="module")
def nudenet():
    return load_check("nudenet")


def test_nudenet_finds_nothing_in_noise_and_in_one_colour(nudenet):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    assert [nudenet(image) for image in (Image.fromarray(noise), Image.new("RGB", (64, 64), "tan"))] == [[], []]


def test_nudenet_is_given_the_order_of_its_files_and_believed_from_a_score_on(monkeypatch):
    """Red first in the image, last in what it is given; covered parts and faint guesses are no reason."""
    given = []

    class Detector:
        def detect(self, pixels: np.ndarray) -> list[dict]:
            given.append(pixels)
            scores = {"BUTTOCKS_EXPOSED": 0.9, "ANUS_EXPOSED": 0.3, "BELLY_EXPOSED": 0.9, "FACE_MALE": 0.9}
            return [{"class": name, "score": score, "box": [0, 0, 1, 1]} for name, score in scores.items()]

    monkeypatch.setattr(sys.modules["nudenet"], "NudeDetector", Detector)
    assert load_check("nudenet")(Image.new("RGB", (2, 2), "red")) == ["exposed buttocks"]
    assert given[0][0, 0].tolist() == [0, 0, 255]
