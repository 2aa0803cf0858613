"""The warm-up makes ready what fits into the device, and no more."""

import pytest

from dalle3_jax.serving.engine import Engine
from tests.serving.conftest import COMPILATION
from tests.serving.engines import run


@pytest.mark.parametrize(
    ("most", "fails", "sizes", "made"),
    [(8, 1, (1, 2), [1, 1, 2, 2, 4]), (8, 2, (1, 2), [1, 1, 2, 2, 4, 4]), (1, 1, (1,), [1, 1])],
)
def test_warming_up_fits_the_batches_to_the_memory(pipeline, monkeypatch, most, fails, sizes, made):
    """Where the first or the second batch of a size finds none."""
    batches = []

    def batch(pipeline, requests, size, progress):
        batches.append(size)
        if size > 2 and batches.count(size) == fails:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr("dalle3_jax.serving.engine.run_batch", batch)
    engine = Engine(pipeline, batch_size=most)

    async def script() -> None:
        assert (engine.is_ready, engine.sizes, batches) == (True, sizes, made)
        assert tuple(entry["batch_size"] for entry in engine.warm) == sizes

    run(engine, script, [pipeline.request("")])


def test_compilation_counts_in_what_the_warm_up_took_and_not_in_what_is_expected(pipeline, device):
    engine = Engine(pipeline, batch_size=8)

    async def script() -> None:
        took = {entry["batch_size"]: entry["seconds"] for entry in engine.warm}
        assert took == {size: COMPILATION + seconds for size, seconds in device.seconds.items()}
        assert engine.seconds_for(8) == pytest.approx(device.seconds[8])

    run(engine, script, [pipeline.request("")])
