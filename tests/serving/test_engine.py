"""What a client that leaves frees, what an error reaches, how the engine ends, and that batching changes nothing."""

import asyncio
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.serving.batch_sizes import batch_sizes, fill_batch, learn_seconds
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job, Preparation
from dalle3_jax.serving.step_reports import wants_preview


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def run(engine: Engine, script: Callable[[], Awaitable[None]]) -> None:
    """Runs a script beside the engine."""

    async def both() -> None:
        task = asyncio.create_task(engine.run())
        try:
            await script()
        finally:
            task.cancel()

    asyncio.run(both())


def jobs_of(pipeline, *prompts: str, client: str = "a", **options) -> list[Job]:
    return [Job([pipeline.request(prompt)], client, **options) for prompt in prompts]


@pytest.mark.parametrize(
    ("most", "devices", "sizes"),
    [(1, 1, (1,)), (8, 1, (1, 2, 4, 8)), (6, 1, (1, 2, 4, 6)), (8, 4, (4, 8)), (4, 16, (16,))],
)
def test_batches_are_powers_of_two_and_multiples_of_the_devices(most, devices, sizes):
    assert batch_sizes(most, devices) == sizes


SIZES = (1, 2, 4, 8)
FULL = {1: 1.0, 2: 2.0, 4: 3.9, 8: 7.0}
"""Seconds of batches on a device that one image nearly fills, such as one core."""
WIDE = {1: 1.0, 2: 1.0, 4: 1.1, 8: 1.2}
"""And on one that eight images do not fill."""


@pytest.mark.parametrize(
    ("waiting", "seconds", "most"),
    [
        *((waiting, WIDE, size) for waiting, size in ((1, 1), (2, 2), (3, 4), (5, 8), (7, 8), (8, 8), (30, 8))),
        *((waiting, FULL, size) for waiting, size in ((1, 1), (3, 1), (4, 4), (5, 4), (7, 4), (8, 8), (30, 8))),
        *((waiting, {}, size) for waiting, size in ((1, 1), (3, 4), (5, 8), (9, 8))),
        (5, {1: 1.0, 2: 0.1}, 8),
        (8, {1: 0.1, 2: 9.0, 4: 9.0, 8: 9.0}, 8),
    ],
)
def test_a_batch_is_as_large_as_makes_most_images_a_second(waiting, seconds, most):
    assert fill_batch(waiting, SIZES, seconds) == most


@pytest.mark.parametrize(
    ("warm_up", "seconds", "best"),
    [
        (WIDE | {8: 12.0}, WIDE, 1.2),
        (FULL | {4: 39.0}, FULL, 4.9),
        (FULL | {1: 9.0, 2: 9.0, 8: 0.1}, FULL, 4.9),
        (FULL, WIDE, 1.2),
        (WIDE, FULL, 4.9),
    ],
)
def test_seconds_that_were_wrong_at_the_start_do_not_stay(warm_up, seconds, best):
    """Five that wait, again and again, come to take little longer than in the best batches."""
    known, rounds = dict(warm_up), []
    for _ in range(300):
        waiting, total = 5, 0.0
        while waiting > 0:
            size = fill_batch(waiting, SIZES, known)
            learn_seconds(known, size, seconds[size])
            waiting, total = waiting - size, total + seconds[size]
        rounds.append(total)
    assert np.mean(rounds[-150:]) <= 1.06 * best


@pytest.fixture
def device(monkeypatch) -> SimpleNamespace:
    """A device whose batches take the `seconds` of their size, by its own clock; `made` is how many images each had."""
    device = SimpleNamespace(seconds=FULL, made=[], clock=0.0)

    def run_batch(pipeline, requests, size, progress) -> list[GeneratedImage]:
        device.made.append(len(requests))
        device.clock += device.seconds[size]
        return [GeneratedImage(Image.new("RGB", (16, 16)), request, "digest", size) for request in requests]

    monkeypatch.setattr("dalle3_jax.serving.engine.run_batch", run_batch)
    monkeypatch.setattr("dalle3_jax.serving.engine.time", SimpleNamespace(monotonic=lambda: device.clock))
    return device


@pytest.mark.parametrize(("seconds", "batches"), [(FULL, [4, 1]), (WIDE, [5])])
def test_too_few_for_a_full_batch_are_made_in_smaller_ones_where_that_is_quicker(pipeline, device, seconds, batches):
    """Of a program that the warm-up has compiled; of any other in one batch, for which one program is compiled."""
    device.seconds = seconds
    engine = Engine(pipeline, batch_size=8)

    async def make_five(**settings) -> list[int]:
        device.made.clear()
        jobs = [Job([pipeline.request(prompt, **settings)], "a") for prompt in "abcde"]
        for job in jobs:
            engine.submit(job)
        for job in jobs:
            await job.finished.wait()
        return [*device.made]

    async def script() -> None:
        task = asyncio.create_task(engine.run([pipeline.request("")]))
        await until(lambda: engine.is_ready)
        assert engine.seconds_for(8) == pytest.approx(seconds[8])
        assert await make_five(seed=3) == batches
        assert await make_five(steps=7) == await make_five(size=(24, 40)) == [5]
        [times] = engine._batch_seconds.values()
        known, device.seconds = times[4], {size: 0.1 for size in SIZES}
        assert await make_five() == batches
        assert (times[4] < 0.9 * known) == (batches == [4, 1])
        task.cancel()

    asyncio.run(script())


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


def prepared_job(pipeline, compute: Callable[[], list], client: str = "b") -> Job:
    """A job whose request the device computes first."""
    [job] = jobs_of(pipeline, "unknown", client=client)
    job.preparation = Preparation(job, compute)
    return job


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


@pytest.mark.parametrize(
    ("most", "fails", "sizes", "made"),
    [(8, 1, (1, 2), [1, 1, 2, 2, 4]), (8, 2, (1, 2), [1, 1, 2, 2, 4, 4]), (1, 1, (1,), [1])],
)
def test_warming_up_fits_the_batches_to_the_memory(pipeline, monkeypatch, most, fails, sizes, made):
    """Where the first or the second batch of a size finds none; one size alone needs no second."""
    batches = []

    def batch(pipeline, requests, size, progress):
        batches.append(size)
        if size > 2 and batches.count(size) == fails:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr("dalle3_jax.serving.engine.run_batch", batch)
    engine = Engine(pipeline, batch_size=most)

    async def script() -> None:
        task = asyncio.create_task(engine.run([pipeline.request("")]))
        await until(lambda: engine.is_ready or task.done())
        task.cancel()

    asyncio.run(script())
    assert (engine.is_ready, engine.sizes, batches) == (True, sizes, made)
    assert tuple(entry["batch_size"] for entry in engine.warm) == sizes


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


def pixels(image) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(image.content)).convert("RGB"), np.int16)


def test_an_image_is_the_same_alone_and_beside_those_of_others(pipeline):
    """Bit for bit in a batch of the same size, and nearly so in one of another."""
    engine = Engine(pipeline, batch_size=2)

    async def make(*jobs: Job) -> list[np.ndarray]:
        for job in jobs:
            engine.submit(job)
        for job in jobs:
            await job.finished.wait()
        return [pixels(image) for job in jobs for image in job.images]

    async def script() -> None:
        def ours(client: str = "a", **options) -> Job:
            return Job([pipeline.request("a panda", seed=5)], client, **options)

        other = Job([pipeline.request("snow", seed=9, guidance_scale=4.0, negative_prompt="x")], "b")
        [alone] = await make(ours())
        together, _ = await make(ours(), other)
        [again] = await make(ours(batch_size=2))
        assert np.array_equal(together, again)
        assert (np.abs(alone - together) <= 1).mean() > 0.999
        assert together.std() > 1

    run(engine, script)
