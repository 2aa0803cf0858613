"""What is computed of a job before its images: in its turn, alone, and to its end."""

import asyncio
import threading

import pytest

from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job
from tests.serving.engines import jobs_of, prepared_job, run, until


def test_a_preparation_takes_its_turn_and_its_images_come_before_those_of_later_jobs(pipeline, gate):
    """It waits like an image, alone in its batch; one that is cancelled is never computed."""
    engine, made = Engine(pipeline, batch_size=2, places=4), []

    def prepare(name: str) -> list:
        made.append(name)
        return [pipeline.request(name)]

    async def script() -> None:
        [blocking] = jobs_of(pipeline, "blocking", client="a")
        engine.submit(blocking)
        await until(lambda: len(gate.batches) == 1)
        behind = Job([pipeline.request("behind")] * 3, "a")
        first, stopped = (prepared_job(pipeline, lambda name=name: prepare(name)) for name in ("first", "stopped"))
        for job in (first, stopped, behind):
            engine.submit(job)
        [late] = jobs_of(pipeline, "late", client="b")
        with pytest.raises(ApiError) as refused:
            engine.submit(late)
        assert refused.value.status == 429
        engine.cancel(stopped)
        engine.submit(late)
        assert (engine.queue.count_before(first), first.progress) == (1, 0)
        gate.let_through(4)
        await until(lambda: gate.batches[1:] == [["behind", "first"]])
        assert (first.status, made) == ("running", ["first"])
        gate.let_through()
        await late.finished.wait()
        await behind.finished.wait()
        assert [job.status for job in (first, stopped, late)] == ["completed", "cancelled", "completed"]
        assert (made, gate.batches[2:]) == (["first"], [["behind", "late"], ["behind"]])

    run(engine, script)


def test_a_job_whose_preparation_runs_is_finished_at_the_end_and_one_that_waits_is_refused(pipeline, gate):
    engine, prepares = Engine(pipeline, batch_size=1), threading.Event()
    gate.let_through()

    async def script() -> None:
        runs, waits = (
            prepared_job(pipeline, lambda: prepares.wait(60) and [pipeline.request("prepared")]) for _ in range(2)
        )
        engine.submit(runs)
        engine.submit(waits)
        await until(lambda: runs.status == "running")
        engine.drain()
        assert (waits.status, waits.error.status, runs.status) == ("failed", 503, "running")
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        prepares.set()
        await stopping
        assert (runs.status, bool(runs.images[0].content)) == ("completed", True)

    run(engine, script)


def test_a_job_that_is_stopped_while_it_is_prepared_makes_no_image(pipeline, gate):
    engine, prepares = Engine(pipeline, batch_size=1), threading.Event()
    gate.let_through()

    async def script() -> None:
        stopped = prepared_job(pipeline, lambda: prepares.wait(60) and [pipeline.request("prepared")])
        [after] = jobs_of(pipeline, "after")
        engine.submit(stopped)
        await until(lambda: stopped.status == "running")
        engine.cancel(stopped)
        engine.submit(after)
        prepares.set()
        await after.finished.wait()
        assert (stopped.status, stopped.preparation, gate.batches) == ("cancelled", None, [["after"]])

    run(engine, script)
