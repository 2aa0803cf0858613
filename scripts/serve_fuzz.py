"""Requests made up from the server's own description of its API: none may end in a 5xx, hang, or be no error object.

    pip install schemathesis
    python -m scripts.serve_fuzz --requests 5000

The server runs in this process, and all of it is as it is but the device: what can be made is answered by blank images.
"""

import argparse
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck
from PIL import Image
from starlette.testclient import TestClient

from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.pipeline.request import Request
from dalle3_jax.serving import engine as engines
from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.service import Service

ADDRESS = "http://testserver"
SECONDS = 60
"""An answer that takes longer hangs."""


def blank_batch(pipeline: Any, batch: Sequence[Request], size: int, progress: Any) -> list[GeneratedImage]:
    """Stands for `run_batch`."""
    return [GeneratedImage(Image.new("RGB", request.size[::-1]), request, "digest", size) for request in batch]


def operations(client: TestClient) -> Iterator[Any]:
    """The operations of the API."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    for operation in schema.get_all_operations():
        yield operation.ok()


def fuzz_operation(operation: Any, client: TestClient, count: int, seed: int, tally: Counter) -> list[str]:
    """The errors of one operation's answers, of at most so many requests."""
    errors: list[str] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(case=operation.as_strategy())
    def try_case(case: Any) -> None:
        started = time.monotonic()
        call = requests.Request(**case.as_transport_kwargs(base_url=ADDRESS)).prepare()
        answer = client.request(str(call.method), str(call.url), headers=dict(call.headers), content=call.body)
        seconds = time.monotonic() - started
        tally[answer.status_code] += 1
        name = f"{case.method} {case.formatted_path[:80]} -> {answer.status_code}"
        if answer.status_code >= 500 or seconds > SECONDS:
            errors.append(f"{name} in {seconds:.1f} s: {case.body!r:.300}")
        elif answer.status_code >= 400 and not answer.json().get("error", {}).get("message"):
            errors.append(f"{name}: no error object")

    try_case()
    return errors


def main() -> int:
    """Prints what was answered; 1 where anything was wrong."""
    parser = argparse.ArgumentParser(description="Fuzz the server by its own description.")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--checkpoint", default="demo")
    arguments = parser.parse_args()
    engines.run_batch = blank_batch
    engine = Engine(Pipeline.load(arguments.checkpoint), batch_size=2)
    app = build_app(Service(engine, name="fuzzed", describer=lambda pixels: "a panda"))
    tally: Counter = Counter()
    errors: list[str] = []
    with TestClient(app, raise_server_exceptions=False) as client:
        routes = list(operations(client))
        varied = routes
        for seed in itertools.count():
            share = -(-(arguments.requests - sum(tally.values())) // len(varied))
            for operation in varied:
                errors += fuzz_operation(operation, client, share, seed, tally)
            if sum(tally.values()) >= arguments.requests:
                break
            varied = [operation for operation in routes if operation.body]  # the others have little to vary
        made = client.post("/v1/images/generations", json={"prompt": "a panda"})
        if made.status_code != 200:
            errors.append(f"afterwards an image is answered {made.status_code}")
    print(f"{sum(tally.values())} requests of {len(routes)} operations: {dict(sorted(tally.items()))}")
    print("\n".join(errors[:50]))
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
