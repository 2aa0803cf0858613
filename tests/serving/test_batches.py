"""Sizes of batches, how those that wait are divided into them, and that an image is the same in each."""

import io

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.serving.batch_sizes import batch_sizes, fill_batch
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.queue import Job
from tests.serving.conftest import Device
from tests.serving.engines import finish, run


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
    ("waiting", "seconds", "size"),
    [
        *((waiting, WIDE, size) for waiting, size in ((1, 1), (2, 2), (3, 4), (5, 8), (7, 8), (8, 8), (30, 8))),
        *((waiting, FULL, size) for waiting, size in ((1, 1), (3, 2), (4, 4), (5, 4), (7, 4), (8, 8), (30, 8))),
        *((waiting, {}, size) for waiting, size in ((1, 1), (3, 4), (5, 8), (9, 8))),
        (5, {4: 0.1}, 8),
        (5, {8: 0.1}, 4),
        (8, {4: 0.1, 8: 9.0}, 8),
    ],
)
def test_a_batch_is_as_large_as_makes_most_images_a_second(waiting, seconds, size):
    """Of the sizes above and below what waits; one that was not measured is taken for the quicker one."""
    assert fill_batch(waiting, SIZES, seconds) == size


def test_fewer_images_than_devices_are_one_batch_of_as_many():
    assert [fill_batch(waiting, (4, 8), {4: 1.0, 8: 9.0}) for waiting in (1, 4, 5, 8)] == [4, 4, 4, 8]


async def make_five(engine: Engine, device: Device, **settings) -> list[int]:
    """The batches in which five images are made."""
    device.made.clear()
    await finish(engine, *(Job([engine.pipeline.request(prompt, **settings)], "a") for prompt in "abcde"))
    return [*device.made]


@pytest.mark.parametrize(("seconds", "batches"), [(FULL, [4, 1]), (WIDE, [5])])
def test_too_few_for_a_full_batch_are_made_in_smaller_ones_where_that_is_quicker(pipeline, device, seconds, batches):
    """Of a program that the warm-up has compiled; of any other in one batch, for which one program is compiled."""
    device.seconds = seconds
    engine = Engine(pipeline, batch_size=8)

    async def script() -> None:
        assert await make_five(engine, device, seed=3) == batches
        assert await make_five(engine, device, steps=7) == await make_five(engine, device, size=(24, 40)) == [5]
        assert await make_five(engine, device) == batches

    run(engine, script, [pipeline.request("")])


@pytest.mark.parametrize(("before", "now", "batches"), [(FULL, WIDE, [5]), (WIDE, FULL, [4, 1])])
def test_seconds_that_were_wrong_do_not_stay(pipeline, device, monkeypatch, before, now, batches):
    """Neither of the size that is made nor, which takes some batches, of the one that is passed over for it."""
    monkeypatch.setattr("dalle3_jax.serving.engine.TIMED_BATCHES", 12)
    device.seconds = before
    engine = Engine(pipeline, batch_size=8)

    async def script() -> None:
        device.seconds = now
        rounds = [await make_five(engine, device) for _ in range(10)]
        assert rounds[0] != batches
        assert rounds[-1] == batches

    run(engine, script, [pipeline.request("")])


def pixels(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.content)).convert("RGB"), np.int16)


def test_an_image_is_the_same_alone_and_beside_those_of_others(pipeline):
    """Bit for bit in a batch of the same size, and nearly so in one of another."""
    engine = Engine(pipeline, batch_size=2)

    async def make(*jobs: Job) -> list[np.ndarray]:
        await finish(engine, *jobs)
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
