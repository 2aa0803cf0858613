"""What a client that leaves frees, how the engine ends, and what jobs say while they are made."""

import threading

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.pipeline.request import Decoding
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job
from dalle3_jax.serving.step_reports import wants_preview
from tests.serving.engines import finish, jobs_of, run, until


def test_a_client_that_leaves_frees_the_device_within_one_step(pipeline, gate):
    engine = Engine(pipeline, batch_size=2)

    async def script() -> None:
        leaving, next_one = jobs_of(pipeline, "leaving", "next", batch_size=1)
        engine.submit(leaving)
        engine.submit(next_one)
        gate.let_through(1)
        await until(lambda: gate.steps == 1 and leaving.images[0].step == 1)
        engine.cancel(leaving)
        gate.let_through(1)
        await until(lambda: gate.batches[1:] == [["next"]])
        assert gate.steps == 2
        assert leaving.status == "cancelled"
        gate.let_through()
        await next_one.finished.wait()
        assert next_one.status == "completed"

    run(engine, script)


def test_the_neighbour_in_the_batch_of_one_who_leaves_gets_its_image(pipeline, gate):
    engine = Engine(pipeline, batch_size=2)

    async def script() -> None:
        blocking, leaving, staying = jobs_of(pipeline, "blocking", "leaving", "staying")
        engine.submit(blocking)
        await until(lambda: len(gate.batches) == 1)
        engine.submit(leaving)
        engine.submit(staying)
        gate.let_through(5)
        await until(lambda: gate.batches[1:] == [["leaving", "staying"]])
        engine.cancel(leaving)
        gate.let_through()
        await staying.finished.wait()
        assert (leaving.status, staying.status) == ("cancelled", "completed")
        assert leaving.images[0].content is None

    run(engine, script)


def test_a_job_that_is_stopped_while_its_file_is_written_has_no_image(pipeline, gate):
    """What is said of it, and kept for it, does not change once it has ended."""
    begins, ends = threading.Event(), threading.Event()
    gate.let_through()

    def check(image: Image.Image) -> list[str]:
        begins.set()
        ends.wait(60)
        return []

    engine = Engine(pipeline, batch_size=1, check=check)

    async def script() -> None:
        [job] = jobs_of(pipeline, "a")
        engine.submit(job)
        await until(begins.is_set)
        engine.cancel(job)
        ends.set()
        await engine.stop()
        assert (job.status, job.images[0].is_done, job.images[0].content) == ("cancelled", False, None)

    run(engine, script)


def test_a_preview_is_decoded_in_the_windows_of_its_image(pipeline, gate, monkeypatch):
    """Where an image needs them for the memory, so do its previews."""
    tiles = []

    def decode(latents: np.ndarray, decoding: Decoding) -> np.ndarray:
        tiles.append(decoding.tile)
        return np.zeros((len(latents), 16, 16, 3), np.float32)

    monkeypatch.setattr(pipeline.codec, "decode", decode)
    engine = Engine(pipeline, batch_size=1)
    gate.let_through()

    async def script() -> None:
        await finish(engine, *(Job([pipeline.request("a", tile=tile)], partial_images=1) for tile in (0, 256)))

    run(engine, script)
    assert tiles == [0, 256]


def test_what_runs_is_finished_and_what_waits_is_refused_at_the_end(pipeline, gate):
    engine = Engine(pipeline, batch_size=1)

    async def script() -> None:
        begun = Job([pipeline.request("begun")] * 2, "a")
        waiting, late = jobs_of(pipeline, "waiting", "late")
        engine.submit(begun)
        await until(lambda: len(gate.batches) == 1)
        engine.submit(waiting)
        engine.drain()
        assert (waiting.status, waiting.error.status) == ("failed", 503)
        with pytest.raises(ApiError) as refused:
            engine.submit(late)
        assert refused.value.status == 503
        gate.let_through()
        await engine.stop()
        assert begun.status == "completed"
        assert all(image.content for image in begun.images)

    run(engine, script)


def test_a_full_queue_says_when_to_come_again(pipeline):
    engine = Engine(pipeline, places=2)
    first, second = jobs_of(pipeline, "first", "second")
    engine.submit(first)
    with pytest.raises(ApiError) as refused:
        engine.submit(second)
    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 120
    engine.cancel(first)
    engine.submit(second)


def test_previews_come_evenly_and_never_of_the_last_step(pipeline):
    job = Job([pipeline.request("a", steps=20)], partial_images=3)
    shown, at = 0, []
    for step in range(2, 21, 2):
        if wants_preview(job.images[0], step, shown):
            shown += 1
            at.append(step)
    assert at == [6, 10, 16]
    job.partial_images, job.wants_preview = 0, True
    assert wants_preview(job.images[0], 2, 0)
    assert not wants_preview(job.images[0], 20, 0)


def test_a_job_says_while_a_program_is_compiled_for_it(pipeline):
    """The first of its size, and no other: a new number of steps is no new program, but for its few times."""
    engine = Engine(pipeline, batch_size=1)

    async def follow(**settings) -> list[tuple[bool, float]]:
        job = Job([pipeline.request("a", size=(24, 40), **settings)])
        engine.submit(job)
        states = [(job.is_compiling, job.progress) async for _ in job.updates()]
        assert (job.status, job.is_compiling) == ("completed", False)
        return states

    async def script() -> None:
        first, second, third = [await follow(steps=steps) for steps in (4, 4, 5)]
        assert (True, 0) in first
        assert not any(compiling for compiling, _ in second)
        assert sum(compiling for compiling, _ in third) < sum(compiling for compiling, _ in first)

    run(engine, script)
