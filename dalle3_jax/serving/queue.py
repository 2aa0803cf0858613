"""The queue for the device: jobs of several images, taken in turn from each client, in batches of one program."""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from PIL import Image

from dalle3_jax.pipeline.batching import program_key
from dalle3_jax.pipeline.edit_settings import begin_step, canvas_size
from dalle3_jax.pipeline.request import Request
from dalle3_jax.serving.errors import ApiError

__all__ = ["Job", "Preparation", "Queue", "QueueFull", "QueuedImage", "Update", "output_size"]


BEAT_SECONDS = 10
"""So often those who listen hear something: what lies between them and a client closes silent connections."""


class QueueFull(Exception):
    """There is no place for a job; the message says whose places are taken."""


@dataclass(eq=False)
class QueuedImage:
    """One image of a job: how far it is, its last preview, and in the end its file and how it was made."""

    job: "Job"
    index: int
    request: Request
    step: int = 0
    started: float | None = None
    preview: Image.Image | None = None
    content: bytes | None = None
    file: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """The steps that it takes: of a loop that begins with an image, the last ones."""
        steps = self.request.sampling.steps
        return steps - begin_step(self.request.edit, steps)

    @property
    def batch_key(self) -> Hashable:
        """Equal for images that one batch may hold."""
        return program_key(self.request), self.job.batch_size

    @property
    def is_done(self) -> bool:
        """Whether its file is there, or was."""
        return bool(self.metadata)


def output_size(request: Request) -> tuple[int, int]:
    """Height and width of the image that a request makes: enlarged, or that of the image of which a part stays."""
    if request.edit.kind == "mask":
        return canvas_size(request.edit)
    height, width = (side * max(request.upscaling.factor, 1) for side in request.size)
    return height, width


def forget_inputs(request: Request) -> Request:
    """The request without the pixels of the images that it begins with, which its job may outlive by long."""
    inputs = {name: getattr(request.edit, name) for name in ("image", "mask", "prompt_image")}
    known = {name: replace(image, read=None, metadata={}) for name, image in inputs.items() if image is not None}
    return replace(request, edit=replace(request.edit, **known)) if known else request


class Update(NamedTuple):
    """News of a job: `kind` is progress, preview or image (one is done), what became of the job, or waiting (none).

    Progress without an image is that of its preparation.
    """

    kind: str
    image: QueuedImage | None = None
    preview: Image.Image | None = None
    number: int = 0


class Job:
    """The images that one call asks for.

    `status` is queued, running, completed, failed (`error` says why; a copy of it is raised) or cancelled. `batch_size`
    asks for a batch of just this size, for the same bits as in an earlier one of it; None takes any.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        client: str = "",
        *,
        partial_images: int = 0,
        batch_size: int | None = None,
        suffix: str = ".png",
        quality: int = 95,
    ):
        self.id, self.created = secrets.token_hex(16), int(time.time())
        self.client, self.partial_images, self.batch_size = client, partial_images, batch_size
        self.suffix, self.quality = suffix, quality
        self.images = [QueuedImage(self, index, request) for index, request in enumerate(requests)]
        self.status, self.error = "queued", None
        self.finished = asyncio.Event()
        self.on_image: Callable[[QueuedImage], object] | None = None
        """Called with each image that is done, before anybody else hears of it."""
        self.on_finish: Callable[[], object] | None = None
        """Called when it has ended."""
        self.label = ""
        """Which part of the API it is of, where that counts."""
        self.preparation: Preparation | None = None
        """What comes before its images, whose requests it replaces."""
        self.is_compiling = False
        """Whether a program is compiled for it now, which no other image had needed yet."""
        self.wants_preview = False
        """Set by whoever wants to see the images as they are, once."""
        self._listeners: list[asyncio.Queue[Update]] = []

    @property
    def progress(self) -> float:
        """The part of all steps that is done, 0 to 1."""
        done = sum(image.steps if image.is_done else image.step for image in self.images)
        return done / sum(image.steps for image in self.images)

    def publish(self, update: Update) -> None:
        """Tells all who listen."""
        for listener in self._listeners:
            listener.put_nowait(update)

    def begin_images(self, requests: Sequence[Request]) -> None:
        """Replaces the requests of its images by those that its preparation has computed."""
        self.preparation = None
        for image, request in zip(self.images, requests, strict=True):
            image.request = request
        self.publish(Update("progress"))

    def finish(self, status: str, error: ApiError | None = None) -> None:
        """Ends the job, unless it has ended."""
        if self.finished.is_set():
            return
        self.status, self.error, self.is_compiling, self.preparation = status, error, False, None
        for image in self.images:
            image.preview, image.request = None, forget_inputs(image.request)
        self.finished.set()
        self.publish(Update(status))
        if self.on_finish is not None:
            self.on_finish()

    async def updates(self) -> AsyncGenerator[Update, None]:
        """Updates of a job: all so far in short, then each as it happens, to the end of the job."""
        listener: asyncio.Queue[Update] = asyncio.Queue()
        for image in self.images:
            if image.is_done or image.preview:
                listener.put_nowait(Update("image" if image.is_done else "preview", image, image.preview))
        if self.finished.is_set():
            listener.put_nowait(Update(self.status))
        self._listeners.append(listener)
        try:
            while True:
                try:
                    update = await asyncio.wait_for(listener.get(), BEAT_SECONDS)
                except TimeoutError:
                    update = Update("waiting")
                yield update
                if update.image is None and update.kind == self.status and self.finished.is_set():
                    return
        finally:
            self._listeners.remove(listener)


@dataclass(eq=False)
class Preparation:
    """The computation of the requests of a job's images, before these: by the description of an image, say."""

    job: Job
    compute: Callable[[], Sequence[Request]]

    @property
    def batch_key(self) -> Hashable:
        """Equal to no other's: it shares no batch."""
        return id(self)


class Queue:
    """The images and preparations that wait, by client, first in first out; the clients take turns.

    It has places for `places` jobs that have not begun, of which one client takes at most half.
    """

    def __init__(self, places: int):
        self.places = places
        self._waiting: dict[str, deque[QueuedImage | Preparation]] = {}
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """The number of images."""
        return sum(map(len, self._waiting.values()))

    def check_room(self, client: str) -> None:
        """QueueFull where there is no place for a job of this client."""
        own = len({image.job for image in self._waiting.get(client, ())})
        if own >= max(self.places // 2, 1):
            raise QueueFull(f"{own} of your requests are waiting already")
        if len(self.jobs()) >= self.places:
            raise QueueFull(f"all {self.places} places of the queue are taken")

    def add(self, job: Job) -> None:
        """Takes a job in, its preparation or its images; QueueFull where there is no place."""
        self.check_room(job.client)
        self._waiting.setdefault(job.client, deque()).extend([job.preparation] if job.preparation else job.images)
        self._filled.set()

    def add_prepared(self, job: Job) -> None:
        """Takes the images of a job in whose preparation has been computed, before all else of its client."""
        self._waiting.setdefault(job.client, deque()).extendleft(reversed(job.images))
        self._filled.set()

    def jobs(self) -> list[Job]:
        """The jobs of which an image waits."""
        return [*dict.fromkeys(image.job for images in self._waiting.values() for image in images)]

    def remove(self, job: Job) -> None:
        """Takes out what waits of a job; its client keeps its turn while anything else of it waits."""
        rest = deque(image for image in self._waiting.get(job.client, ()) if image.job is not job)
        if rest:
            self._waiting[job.client] = rest
        else:
            self._waiting.pop(job.client, None)

    def count_before(self, job: Job) -> int:
        """The number of images before the first that waits of this job, at most: each client gives one a round."""
        own = [image.job for image in self._waiting.get(job.client, ())]
        if job not in own:
            return 0
        rounds = own.index(job)
        others = (len(images) for client, images in self._waiting.items() if client != job.client)
        return rounds + sum(min(count, rounds + 1) for count in others)

    async def wait(self) -> None:
        """Returns when something waits."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()

    @property
    def first(self) -> QueuedImage | Preparation:
        """The first that waits of the client whose turn it is; something must wait."""
        return next(iter(self._waiting.values()))[0]

    def count_next(self) -> int:
        """The number of images of which the next batch may be, if it is of any size: all of the first one's program."""
        first = self.first
        return sum(image.batch_key == first.batch_key for images in self._waiting.values() for image in images)

    def take(self, most: int) -> list[QueuedImage] | Preparation:
        """Takes out the next batch: the first image of the client whose turn it is, and others of the same program.

        Of each client in turn one image, until there are `most`, or as many as the batch size that they ask for. A
        preparation whose turn it is comes alone.
        """
        first = self.first
        most, batch = first.job.batch_size or most, []
        clients = deque(self._waiting)
        while clients and len(batch) < most:
            client = clients.popleft()
            if (image := self._take_one(client, first.batch_key)) is None:
                continue
            if isinstance(image, Preparation):
                return image
            batch.append(image)
            if client in self._waiting:
                clients.append(client)
        return batch

    def _take_one(self, client: str, key: Hashable) -> QueuedImage | Preparation | None:
        """Takes out a client's first image of this program, and moves the client to the end of the row."""
        images = self._waiting[client]
        image = next((image for image in images if image.batch_key == key), None)
        if image is None:
            return None
        images.remove(image)
        del self._waiting[client]
        if images:
            self._waiting[client] = images
        return image
