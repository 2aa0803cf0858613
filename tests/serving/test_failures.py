"""What an error reaches: the jobs of its batch or its preparation, and nothing is held of them."""

import asyncio
import functools
import weakref

import pytest
from starlette.requests import Request
from starlette.types import Message

from dalle3_jax.serving.bodies import wait_for_job
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job, QueuedImage
from tests.serving.engines import finish, jobs_of, prepared_job, run, until


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), 503, "out_of_memory"),
        (FloatingPointError("nan"), 500, None),
        (KeyError("bug"), 500, None),
    ],
)
def test_an_error_is_the_answer_of_its_batch_alone(pipeline, gate, error, status, code):
    engine = Engine(pipeline, batch_size=1)

    async def script() -> None:
        bad, good = jobs_of(pipeline, "bad", "good")
        gate.error = error
        engine.submit(bad)
        gate.let_through(1)
        await bad.finished.wait()
        gate.error = None
        gate.let_through()
        engine.submit(good)
        await good.finished.wait()
        assert (bad.status, bad.error.status, bad.error.code) == ("failed", status, code)
        assert good.status == "completed"

    run(engine, script)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bug"), 500),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 503),
        (ApiError(400, "cannot be done"), 400),
        (ApiError(503, "cannot be reached"), 503),
    ],
)
def test_a_preparation_that_fails_is_answered_so_and_the_engine_goes_on(pipeline, gate, caplog, error, status):
    engine = Engine(pipeline, batch_size=1)
    gate.let_through()

    def fail() -> list:
        raise error

    async def script() -> None:
        bad, good = prepared_job(pipeline, fail), prepared_job(pipeline, lambda: [pipeline.request("good")])
        engine.submit(bad)
        engine.submit(good)
        await good.finished.wait()
        assert (bad.status, bad.error.status, good.status) == ("failed", status, "completed")
        assert gate.batches == [["good"]]
        assert engine.metrics.failures._value.get() == len(caplog.records) == (status != 400)

    run(engine, script)


def test_nothing_is_held_of_a_preparation_that_failed(pipeline, gate):
    """Neither by the engine, though no other batch comes, nor by what the job, which clients may ask for long, says."""
    engine = Engine(pipeline, batch_size=1)

    class Pixels:
        """Those of an upload."""

    def fail(pixels: Pixels) -> list:
        raise ApiError(400, "cannot be done")

    async def script() -> None:
        pixels = Pixels()
        job, held = prepared_job(pipeline, functools.partial(fail, pixels)), weakref.ref(pixels)
        del pixels
        engine.submit(job)
        await job.finished.wait()
        assert str(job.error) == "cannot be done"
        async with asyncio.timeout(5):
            await until(lambda: held() is None)

    run(engine, script)


def test_an_error_of_whoever_takes_an_image_fails_its_job_alone(pipeline, gate, caplog):
    engine = Engine(pipeline, batch_size=2)
    gate.let_through()

    def fail(image: QueuedImage) -> None:
        raise OSError("no room")

    async def script() -> None:
        bad, good = jobs_of(pipeline, "bad", "good")
        [later] = jobs_of(pipeline, "later", client="b")
        bad.on_image = fail
        async with asyncio.timeout(60):
            await finish(engine, bad, good, later)
            await engine.stop()
        assert (bad.status, bad.error.status, bad.images[0].is_done) == ("failed", 500, False)
        assert (good.status, later.status) == ("completed", "completed")
        assert "no room" in caplog.text

    run(engine, script)


def test_an_error_that_many_wait_for_is_raised_anew_to_each(pipeline, gate):
    """What they were doing, bodies with images among it, is not held by the error of a job that stays."""
    engine, gate.error = Engine(pipeline, batch_size=2), KeyError("bug")
    gate.let_through()

    async def never() -> Message:
        await asyncio.Event().wait()
        return {}

    async def wait(job: Job) -> ApiError:
        with pytest.raises(ApiError) as failure:
            await wait_for_job(Request({"type": "http"}, never), engine, job)
        return failure.value

    async def script() -> None:
        job = Job([pipeline.request("a")] * 2)
        engine.submit(job)
        first, second = await asyncio.gather(wait(job), wait(job))
        assert len({id(error) for error in (first, second, job.error)}) == 3
        assert first.body == second.body == job.error.body
        assert job.error.__traceback__ is None

    run(engine, script)


def test_nobody_waits_for_an_engine_that_cannot_begin(pipeline, gate):
    """What waits is refused, and what comes after it."""
    engine, gate.error = Engine(pipeline, batch_size=1), RuntimeError("no device")

    async def script() -> None:
        early, late = jobs_of(pipeline, "early", "late")
        engine.submit(early)
        running = asyncio.create_task(engine.run([pipeline.request("")]))
        gate.let_through(1)
        with pytest.raises(RuntimeError, match="no device"):
            await running
        assert (early.status, early.error.status, engine.is_ready) == ("failed", 503, False)
        with pytest.raises(ApiError) as refused:
            engine.submit(late)
        assert refused.value.status == 503

    asyncio.run(script())


def test_nobody_waits_for_an_engine_that_cannot_go_on(pipeline, gate, monkeypatch):
    """Neither for the rest of a job that has begun, though what is made of it stays, nor for one that has not."""
    engine = Engine(pipeline, batch_size=1)
    gate.let_through()

    async def script() -> None:
        begun, waiting = Job([pipeline.request("a")] * 2), Job([pipeline.request("b")])
        run_next = engine._run_next

        async def run_once() -> None:
            if gate.batches:
                await until(lambda: begun.images[0].is_done)
                assert [job.status for job in engine.queue.jobs()] == ["running", "queued"]
                raise RuntimeError("bug")
            await run_next()

        monkeypatch.setattr(engine, "_run_next", run_once)
        engine.submit(begun)
        engine.submit(waiting)
        with pytest.raises(RuntimeError, match="bug"):
            await engine.run()
        assert [(job.status, job.error and job.error.status) for job in (begun, waiting)] == [("failed", 503)] * 2
        assert [image.is_done for image in begun.images] == [True, False]
        async with asyncio.timeout(60):
            assert [update.kind async for update in begun.updates()] == ["image", "failed"]
            await engine.stop()

    asyncio.run(script())


def test_a_batch_of_a_size_that_was_found_not_to_fit_is_tried_all_the_same(pipeline, gate):
    """A job may have asked for it before the warm-up found that out."""
    engine = Engine(pipeline, batch_size=4)
    gate.let_through()

    async def script() -> None:
        asked = Job([pipeline.request("a")] * 3, "a", batch_size=4)
        engine.submit(asked)
        engine.sizes = (1, 2)
        [after] = jobs_of(pipeline, "after")
        running = asyncio.create_task(engine.run())
        await finish(engine, after)
        await asked.finished.wait()
        assert (asked.status, after.status) == ("completed", "completed")
        running.cancel()

    asyncio.run(script())
