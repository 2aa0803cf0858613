"""How a running server does under load: images a second, waiting times by client, refusals, memory and file handles.

    dalle3-jax serve --port 8000 &
    python -m scripts.serve_load http://127.0.0.1:8000 --clients 64 --requests 2000 --pid $!
    python -m scripts.serve_load http://127.0.0.1:8000 --what preview      # seconds to the first partial image
    python -m scripts.serve_load http://127.0.0.1:8000 --what leave        # seconds until a place is free again
    python -m scripts.serve_load http://127.0.0.1:8000 --what turns        # one who asks for 1 beside one with 100

Each client asks for one image after the other, and comes again as Retry-After says when the queue is full. Clients are
told apart by `X-Forwarded-For`, which a server on this machine believes.
"""

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

MOST_WAIT = 2.0
"""Seconds after which a client comes again at the latest: this is a test."""


@dataclass
class Tally:
    """What happened so far."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    memory: list[tuple[int, int]] = field(default_factory=list)

    def count(self, status: int) -> None:
        """Notes an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1


def process_size(pid: int) -> tuple[int, int]:
    """Resident megabytes and open file handles of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 // 2**20, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def request_body(arguments: argparse.Namespace) -> dict[str, Any]:
    """The body of every call."""
    return {"prompt": arguments.prompt, "response_format": "b64_json", "steps": arguments.steps}


async def ask(client: httpx2.AsyncClient, name: str, body: dict[str, Any], tally: Tally) -> None:
    """One image, however often the client must come again."""
    started = time.monotonic()
    while True:
        answer = await client.post("/v1/images/generations", json=body, headers={"X-Forwarded-For": name})
        tally.count(answer.status_code)
        if answer.status_code != 429:
            break
        await asyncio.sleep(min(float(answer.headers["retry-after"]), MOST_WAIT))
    tally.seconds.setdefault(name, []).append(time.monotonic() - started)


async def run_client(client: httpx2.AsyncClient, name: str, count: int, body: dict[str, Any], tally: Tally) -> None:
    """One client's images, one after the other."""
    for index in range(count):
        await ask(client, name, {**body, "seed": index}, tally)


async def measure(arguments: argparse.Namespace) -> Tally:
    """Runs all clients to their end."""
    tally, share = Tally(), arguments.requests // arguments.clients
    body = request_body(arguments)
    limits = httpx2.Limits(max_connections=arguments.clients)
    async with httpx2.AsyncClient(base_url=arguments.url, timeout=600, limits=limits) as client:
        names = [f"10.0.{index // 250}.{index % 250 + 1}" for index in range(arguments.clients)]
        clients = asyncio.gather(*(run_client(client, name, share, body, tally) for name in names))
        while not clients.done():
            if arguments.pid:
                tally.memory.append(process_size(arguments.pid))
            await asyncio.wait([clients], timeout=1)
        await clients
    return tally


async def time_preview(client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[float, float]:
    """Seconds to the first partial image of a stream, and to its end."""
    started, first = time.monotonic(), 0.0
    streaming = {**body, "stream": True, "partial_images": 3}
    async with client.stream("POST", "/v1/images/generations", json=streaming) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if "partial_image" in line and not first:
                first = time.monotonic() - started
    return first, time.monotonic() - started


async def read_metric(client: httpx2.AsyncClient, name: str) -> float:
    """A number of /metrics."""
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"dalle3_jax_{name} "))


async def time_leaving(client: httpx2.AsyncClient, body: dict[str, Any]) -> float:
    """Seconds from a connection that is closed in the middle of its image to the end of its batch."""
    before = await read_metric(client, "abandoned_batches_total")
    streaming = {**body, "stream": True, "partial_images": 10}
    async with client.stream("POST", "/v1/images/generations", json=streaming) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if "partial_image" in line:
                break
    started = time.monotonic()
    while await read_metric(client, "abandoned_batches_total") == before:
        await asyncio.sleep(0.005)
    return time.monotonic() - started


async def time_turns(client: httpx2.AsyncClient, body: dict[str, Any]) -> tuple[float, float]:
    """Seconds of one image of one client, and of the hundred of another who came before."""
    started = time.monotonic()
    many = {"X-Forwarded-For": "10.1.0.1"}
    calls = [client.post("/v1/images/generations", json={**body, "n": 10}, headers=many) for _ in range(10)]
    hundred = asyncio.gather(*calls)
    await asyncio.sleep(0.5)
    asked = time.monotonic()
    answer = await client.post("/v1/images/generations", json=body, headers={"X-Forwarded-For": "10.1.0.2"})
    one = time.monotonic() - asked
    for refused in (answer, *await hundred):
        refused.raise_for_status()
    return one, time.monotonic() - started


async def measure_once(what: str, url: str, body: dict[str, Any]) -> str:
    """One measurement of --what, in words; the median of five where it is of single images."""
    async with httpx2.AsyncClient(base_url=url, timeout=600) as client:
        if what == "turns":
            one, hundred = await time_turns(client, body)
            return f"one image: {one:.2f} s, beside 100 of another client that took {hundred:.2f} s"
        if what == "leave":
            return f"free after {statistics.median([await time_leaving(client, body) for _ in range(5)]):.3f} s"
        times = [await time_preview(client, body) for _ in range(5)]
        first, whole = (statistics.median(column) for column in zip(*times, strict=True))
        return f"first partial image after {first:.2f} s, the image after {whole:.2f} s"


def report(tally: Tally, seconds: float) -> str:
    """What was measured, for people."""
    every = sorted(one for times in tally.seconds.values() for one in times)
    means = [statistics.mean(times) for times in tally.seconds.values()]
    lines = [
        f"{len(every)} images in {seconds:.1f} s: {len(every) / seconds:.2f} a second",
        f"waiting: median {statistics.median(every):.2f} s, worst {every[-1]:.2f} s",
        f"mean by client: {min(means):.2f} to {max(means):.2f} s",
        "answers: " + ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items())),
    ]
    if tally.memory:
        (first, files), (last, after) = tally.memory[len(tally.memory) // 10], tally.memory[-1]
        lines.append(f"memory: {first} MB after a tenth, {last} MB at the end; file handles {files} and {after}")
    return "\n".join(lines)


def main() -> int:
    """Prints the figures; 1 where an answer was neither an image nor a refusal."""
    parser = argparse.ArgumentParser(description="Put a running server under load.")
    parser.add_argument("url")
    parser.add_argument("--what", choices=("load", "preview", "leave", "turns"), default="load")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=64, help="of all clients")
    parser.add_argument("--prompt", default="a panda on a beach")
    parser.add_argument("--steps", type=int, help="of an image (default: the release's)")
    parser.add_argument("--pid", type=int, help="of the server, on this machine")
    arguments = parser.parse_args()
    if arguments.what != "load":
        print(asyncio.run(measure_once(arguments.what, arguments.url, request_body(arguments))))
        return 0
    started = time.monotonic()
    tally = asyncio.run(measure(arguments))
    print(report(tally, time.monotonic() - started))
    return 0 if tally.statuses.keys() <= {200, 429} else 1


if __name__ == "__main__":
    sys.exit(main())
