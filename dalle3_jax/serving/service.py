"""The state that the routes of a server share: its engine, its files, its jobs, its names and its bounds."""

import functools
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dalle3_jax.pipeline.auto_size import candidate_sizes
from dalle3_jax.pipeline.editing import Describe
from dalle3_jax.pipeline.setting_values import format_size
from dalle3_jax.prompting.aspect import SizeScorer
from dalle3_jax.serving.bodies import MOST_JSON
from dalle3_jax.serving.engine import MEDIA_TYPES, Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.expiring_store import ExpiringStore
from dalle3_jax.serving.queue import Job, QueuedImage, output_size

__all__ = ["ALIASES", "Limits", "Plan", "Service", "StoredFile"]

ALIASES = ("dall-e-3", "dall-e-2", "gpt-image-1")
"""Names by which programs ask for a model that they know."""


class StoredFile(NamedTuple):
    """The file of an image."""

    content: bytes
    media_type: str


@dataclass
class Plan:
    """A job that may be submitted, and what its answer says besides the images.

    `keys` are what a datum holds: b64_json, url, or both.
    """

    job: Job
    quality: str
    keys: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)

    @property
    def output_format(self) -> str:
        """png, jpeg or webp."""
        return self.job.suffix[1:]

    @property
    def size(self) -> str:
        """The size of the files, WIDTHxHEIGHT."""
        return format_size(output_size(self.job.images[0].request))


@dataclass(frozen=True)
class Limits:
    """Bounds: bytes of a body, steps of an image, seconds that ended jobs and their files stay, bytes of such files."""

    body_bytes: int = 64 * 2**20
    steps: int = 200
    keep_seconds: int | float = 3600
    keep_bytes: int = 512 * 2**20
    body_seconds: int | float = 60


@dataclass
class Service:
    """A server's state; `name` is that of the release, `public_url` what the URLs of files begin with ("": Host).

    `describer` says what images show that carry no prompt.
    """

    engine: Engine
    name: str = "demo"
    limits: Limits = Limits()
    strict_models: bool = False
    public_url: str = ""
    size_head: SizeScorer | None = None
    logs_prompts: bool = False
    describer: Describe | None = None
    files: ExpiringStore[StoredFile] = field(init=False)
    jobs: ExpiringStore[Plan] = field(init=False)

    def __post_init__(self):
        self.files = ExpiringStore(self.limits.keep_seconds, self.limits.keep_bytes)
        self.jobs = ExpiringStore(self.limits.keep_seconds, 10_000)
        self.sizes = candidate_sizes(self.engine.pipeline)

    @property
    def most_json(self) -> int | None:
        """Bytes of a call's JSON: few where no call of this release has an image in it, else those of any body."""
        return None if self.engine.pipeline.capabilities.takes_image_prompts else MOST_JSON

    @property
    def model_names(self) -> tuple[str, ...]:
        """The names of the release, its own one first."""
        return tuple(dict.fromkeys((Path(self.name).name or self.name, *ALIASES)))

    def check_model(self, name: str | None) -> None:
        """ApiError 404 for another model, where the server is strict."""
        if self.strict_models and name is not None and name not in self.model_names:
            known = ", ".join(self.model_names)
            raise ApiError(404, f"no model {name!r}: use {known}", param="model", code="model_not_found")

    def store_file(self, image: QueuedImage) -> str:
        """Moves the image's file to where a URL leads to it, until its job ends and its time after; its name.

        Twice gives the same. Before the end only for a job that `hold_job` keeps.
        """
        if not image.file and image.content is not None:
            suffix = image.job.suffix
            image.file = f"{secrets.token_hex(16)}{suffix}"
            store = self.files.put if image.job.finished.is_set() else self.files.hold
            store(image.file, StoredFile(image.content, MEDIA_TYPES[suffix]), len(image.content))
            image.content = None
        return image.file

    def hold_job(self, plan: Plan) -> None:
        """Keeps a job that was submitted just now, and each file that it makes, until its end and their time after."""
        plan.job.on_image, plan.job.on_finish = self.store_file, functools.partial(self._begin_expiry, plan.job)
        self.jobs.hold(plan.job.id, plan)

    def _begin_expiry(self, job: Job) -> None:
        self.jobs.begin_expiry(job.id)
        for image in job.images:
            self.files.begin_expiry(image.file)

    def file_url(self, image: QueuedImage, base_url: str) -> str:
        """The absolute URL of the image's file."""
        return f"{(self.public_url or base_url).rstrip('/')}/files/{self.store_file(image)}"
