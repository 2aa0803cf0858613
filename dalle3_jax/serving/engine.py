"""The engine: one thread that computes batches of what waits, piece by piece of the sampling loop."""

import asyncio
import functools
import logging
import math
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from PIL import Image

from dalle3_jax.pipeline.batching import MAX_BATCH, run_batch
from dalle3_jax.pipeline.image_formats import encode_image
from dalle3_jax.pipeline.mesh_rows import gather_rows
from dalle3_jax.pipeline.png import GeneratedImage, to_pixels
from dalle3_jax.pipeline.request import Decoding, Request
from dalle3_jax.pipeline.setting_values import format_size
from dalle3_jax.runtime.device_errors import explain_device_error
from dalle3_jax.serving.batch_sizes import batch_sizes, fill_batch
from dalle3_jax.serving.compilations import watch_compilations
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.metrics import Metrics
from dalle3_jax.serving.queue import Job, Preparation, Queue, QueuedImage, QueueFull, Update
from dalle3_jax.serving.safety import ImageCheck
from dalle3_jax.serving.step_reports import publish_compilation, publish_step, wants_preview
from dalle3_jax.serving.warm_up import time_sizes

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

__all__ = ["MEDIA_TYPES", "BatchAbandoned", "Engine", "ImageWithheld"]

LOGGER = logging.getLogger("dalle3_jax.serving")
MEDIA_TYPES = {".png": "image/png", ".jpeg": "image/jpeg", ".webp": "image/webp"}
Sign = Callable[[bytes, str, str], bytes]
"""(the file of an image, its media type, its digital source type) -> the signed file."""
MOST_RETRY_SECONDS = 120
"""Clients wait no longer than this."""
TIMED_BATCHES = 200
"""After so many batches the seconds of each size are measured anew: what one slow batch said does not stay."""


class BatchAbandoned(Exception):
    """Nobody wants the images of this batch any more."""


class ImageWithheld(Exception):
    """An image shows what is not to be shown; the message says what."""


class Engine:
    """Makes what waits, a batch at a time, on the one thread that computes.

    All methods are called on the event loop. An image is the same whatever else is in its batch; the last bits depend
    on the size of the batch, which a job may ask for.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        *,
        batch_size: int = MAX_BATCH,
        places: int = 64,
        check: ImageCheck | None = None,
        sign: Sign | None = None,
    ):
        """`check` sees every image and preview before anybody else, `sign` every file."""
        self.pipeline, self.queue, self.metrics = pipeline, Queue(places), Metrics()
        self._check, self._sign = check, sign
        self.metrics.watch_queue(self.queue)
        self.sizes = batch_sizes(batch_size, pipeline.mesh.size if pipeline.mesh else 1)
        self.running: list[QueuedImage] = []
        self._preparing: Job | None = None
        self.warm: list[dict[str, Any]] = []
        self.is_ready = self.is_draining = False
        self._seconds_per_image = 1.0
        self._batch_seconds: dict[Hashable, dict[int, float]] = {}
        """Those of the last batch by its key and size, of the programs that the warm-up has compiled."""
        self._timed_batches = 0
        self._device = ThreadPoolExecutor(1, "device")
        self._encodings: set[asyncio.Task[None]] = set()

    def submit(self, job: Job) -> None:
        """Puts a job into the queue; ApiError as `check_room`."""
        self.check_room(job.client)
        self.queue.add(job)

    def check_room(self, client: str) -> None:
        """ApiError 429 where the queue has no place for a job of this client, 503 where the server is about to end."""
        if self.is_draining:
            raise ApiError(503, "the server is about to end", code="server_stopping", headers={"Retry-After": "10"})
        try:
            self.queue.check_room(client)
        except QueueFull as full:
            seconds = min(max(math.ceil(self.seconds_for(len(self.queue) + len(self.running))), 1), MOST_RETRY_SECONDS)
            headers = {"Retry-After": str(seconds)}
            raise ApiError(429, f"{full}: try again in {seconds} s", headers=headers) from None

    def cancel(self, job: Job) -> None:
        """Ends a job: what waits of it is dropped now, what runs within one piece of the sampling loop."""
        self.queue.remove(job)
        job.finish("cancelled", ApiError(499, "the job was cancelled", code="cancelled"))

    def drain(self) -> None:
        """Takes in nothing from now on, and refuses the jobs that wait; those that have begun are finished."""
        self.is_draining = True
        self._refuse([job for job in self.queue.jobs() if job.status == "queued"])

    def _abandon_queue(self) -> None:
        """Takes in nothing from now on, and refuses every job of which anything waits, begun or not."""
        self.is_draining = True
        self._refuse(self.queue.jobs())

    def _refuse(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.queue.remove(job)
            job.finish("failed", ApiError(503, "the server is about to end", code="server_stopping"))

    def seconds_for(self, images: int | float) -> float:
        """About how long so many images take, as batches went lately."""
        return images * self._seconds_per_image

    async def run(self, warm_up: Sequence[Request] = ()) -> None:
        """Compiles the programs of the `warm_up` requests at each size of batch, then makes what comes, for ever.

        Where it cannot go on, nobody is left waiting: what waits is refused.
        """
        try:
            for request in warm_up:
                await self._warm_up(request)
            self.is_ready = True
            while True:
                await self.queue.wait()
                await self._run_next()
        except Exception:
            self._abandon_queue()
            raise

    async def stop(self) -> None:
        """Waits for what runs, and lets go of the thread."""
        while self.running or self._preparing or len(self.queue):
            await asyncio.sleep(0.01)
        await asyncio.gather(*self._encodings)
        self._device.shutdown(cancel_futures=True)

    async def _run_next(self) -> None:
        """Makes what comes next; a method, so that nothing of it is held while the engine waits for more."""
        seconds = self._batch_seconds.get(self.queue.first.batch_key)
        most = self.sizes[-1] if seconds is None else fill_batch(self.queue.count_next(), self.sizes, seconds)
        batch = self.queue.take(most)
        await (self._prepare(batch) if isinstance(batch, Preparation) else self._run_batch(batch))

    async def _warm_up(self, request: Request) -> None:
        """Compiles the programs of a request; what does not fit into the device is not used from then on."""

        async def make_batch(size: int) -> None:
            await self._compute(functools.partial(run_batch, self.pipeline, [request], size, ignore_step))

        times = self._batch_seconds[Job([request]).images[0].batch_key] = dict[int, float]()
        async for size, first_seconds, seconds in time_sizes(make_batch, self.sizes):
            times[size], self._seconds_per_image = seconds, seconds / size
            shown = {"size": format_size(request.size), "steps": request.sampling.steps}
            self.warm.append({**shown, "batch_size": size, "seconds": round(first_seconds, 3)})
        self.sizes = tuple(times)

    async def _compute(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._device, work)

    async def _prepare(self, preparation: Preparation) -> None:
        """Computes of what the images of a job are made, and lets them wait; what goes wrong is the job's answer."""
        self._preparing = job = preparation.job
        job.status = "running"
        job.publish(Update("progress"))
        try:
            requests = await self._compute(preparation.compute)
        except Exception as error:
            self._fail([preparation], error)
        else:
            if not job.finished.is_set():
                job.begin_images(requests)
                self.queue.add_prepared(job)
        finally:
            self._preparing = None

    async def _run_batch(self, batch: list[QueuedImage]) -> None:
        """Makes the images of a batch; what goes wrong is the answer of its jobs alone."""
        self.running, started = batch, time.monotonic()
        for image in batch:
            image.started = started
            if image.job.status == "queued":
                image.job.status = "running"
                image.job.publish(Update("progress", image))
        size = batch[0].job.batch_size or min(one for one in self.sizes if one >= len(batch))
        loop, compilations = asyncio.get_running_loop(), list[bool]()
        progress = functools.partial(self._report_step, loop, batch, {})

        def report_compilation(begins: bool) -> None:
            compilations.append(begins)
            loop.call_soon_threadsafe(publish_compilation, batch, begins)

        def work() -> list[GeneratedImage]:
            with watch_compilations(report_compilation):
                return run_batch(self.pipeline, [image.request for image in batch], size, progress)

        try:
            made = await self._compute(work)
        except BatchAbandoned:
            self.metrics.abandoned.inc()
        except Exception as error:
            self._fail(batch, error)
        else:
            self._count_batch(batch, size, time.monotonic() - started, compiled=bool(compilations))
            for image, one in zip(batch, made, strict=True):
                task = asyncio.create_task(self._finish(image, one))
                self._encodings.add(task)
                task.add_done_callback(self._encodings.discard)
        finally:
            self.running = []

    def _count_batch(self, batch: list[QueuedImage], size: int, seconds: float, *, compiled: bool) -> None:
        """Learns how long an image takes, and a batch of this size, from batches that had nothing to compile."""
        self.metrics.count_batch(len(batch), seconds)
        if not compiled:
            self._seconds_per_image += (seconds / len(batch) - self._seconds_per_image) / 2
            self._timed_batches += 1
            if self._timed_batches % TIMED_BATCHES == 0:
                for times in self._batch_seconds.values():
                    times.clear()
            if (times := self._batch_seconds.get(batch[0].batch_key)) is not None:
                times[size] = seconds

    def _report_step(
        self, loop: asyncio.AbstractEventLoop, batch: list[QueuedImage], counts: dict[int, int], step: int, x0: Any
    ) -> None:
        """Called on the device's thread after each piece of the loop; `counts` are the previews by row."""
        if all(image.job.finished.is_set() for image in batch):
            raise BatchAbandoned
        rows = [row for row, image in enumerate(batch) if wants_preview(image, step, counts.get(row, 0))]
        previews: dict[int, Image.Image | None] = {}
        if rows:  # by the VAE alone, whatever decoder makes the image itself, in the windows that fit into the memory
            windows = Decoding(tile=batch[0].request.decoding.tile)
            pixels = to_pixels(gather_rows(self.pipeline.codec.decode(x0, windows), self.pipeline.mesh))
            images = {row: Image.fromarray(pixels[row]) for row in rows}
            previews = {row: None if self._check and self._check(image) else image for row, image in images.items()}
        counts |= {row: counts.get(row, 0) + 1 for row in rows}
        loop.call_soon_threadsafe(publish_step, batch, step, previews, dict(counts))

    async def _finish(self, image: QueuedImage, made: GeneratedImage) -> None:
        """Writes the image's file, on another thread."""
        job = image.job
        if job.finished.is_set():
            return
        try:
            content = await asyncio.to_thread(self._write_file, job, made)
            if job.finished.is_set():
                return
            image.content, image.metadata, image.preview = content, made.metadata, None
            if job.on_image is not None:
                job.on_image(image)
        except Exception as error:
            image.content, image.metadata = None, {}
            return self._fail([image], error)
        job.publish(Update("image", image))
        self.metrics.images.inc()
        if all(one.is_done for one in job.images):
            job.finish("completed")

    def _write_file(self, job: Job, made: GeneratedImage) -> bytes:
        """The file of an image; ImageWithheld for one that is not to be shown."""
        if self._check is not None and (seen := self._check(made.image)):
            raise ImageWithheld(" and ".join(seen))
        content = encode_image(made.image, made.texts, job.suffix, job.quality, made.source_type)
        return content if self._sign is None else self._sign(content, MEDIA_TYPES[job.suffix], made.source_type)

    def _fail(self, batch: Sequence[QueuedImage | Preparation], error: Exception) -> None:
        """Ends the jobs of these images, and logs and counts what is no fault of theirs."""
        answer = answer_failure(error)
        if isinstance(error, ImageWithheld):
            self.metrics.withheld.inc()
        elif answer.status >= 500:
            LOGGER.error("a batch of %d failed", len(batch), exc_info=error)
            self.metrics.failures.inc()
        for job in dict.fromkeys(image.job for image in batch):
            self.queue.remove(job)
            job.finish("failed", answer)


def answer_failure(error: Exception) -> ApiError:
    """The answer to the clients of a batch or a preparation that failed so."""
    if isinstance(error, ApiError):
        return error.copy()
    if isinstance(error, ImageWithheld):
        return ApiError(400, f"this image is withheld: it shows {error}", code="content_policy_violation")
    if isinstance(error, FloatingPointError):
        return ApiError(500, "the image holds no finite numbers: lower guidance_scale", param="guidance_scale")
    if explanation := explain_device_error(error, "ask for fewer or smaller images"):
        return ApiError(503, explanation[0], code="out_of_memory", headers={"x-should-retry": "false"})
    return ApiError(500, "the server had an error while it computed this; its log says more")


def ignore_step(step: int, x0: Any) -> None:
    """The progress of a batch that nobody watches: the loop in pieces is another program than in one."""
