"""Running an engine in a test: beside a script of clients, with what they ask for."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.queue import Job, Preparation


async def until(condition: Callable[[], bool]) -> None:
    """Waits until it holds, on a machine that may be busy."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def run(engine: Engine, script: Callable[[], Awaitable[None]], warm_up: Sequence = ()) -> None:
    """Runs a script beside the engine, after its warm-up."""

    async def both() -> None:
        task = asyncio.create_task(engine.run(warm_up))
        try:
            await until(lambda: engine.is_ready or task.done())
            await script()
        finally:
            task.cancel()

    asyncio.run(both())


def jobs_of(pipeline, *prompts: str, client: str = "a", **options) -> list[Job]:
    """A job of one image for each prompt."""
    return [Job([pipeline.request(prompt)], client, **options) for prompt in prompts]


async def finish(engine: Engine, *jobs: Job) -> None:
    """Submits jobs and waits for their ends."""
    for job in jobs:
        engine.submit(job)
    for job in jobs:
        await job.finished.wait()


def prepared_job(pipeline, compute: Callable[[], list], client: str = "b") -> Job:
    """A job whose request the device computes first."""
    [job] = jobs_of(pipeline, "unknown", client=client)
    job.preparation = Preparation(job, compute)
    return job
