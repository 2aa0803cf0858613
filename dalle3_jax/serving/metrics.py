"""Counts and times of a server, in Prometheus's text format."""

from collections.abc import Sized

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

SIZES = (1, 2, 4, 8, 16, 32, 64)
SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """The numbers of one server, in a registry of its own."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "Answers, by route and status.", "route", "status")
        self.images = self._counter("images", "Images that were made.")
        self.abandoned = self._counter("abandoned_batches", "Batches that were stopped since nobody waited.")
        self.failures = self._counter("failed_batches", "Batches that ended with an error.")
        self.withheld = self._counter("withheld_images", "Images that the check of what they show withheld.")
        self._waiting = Gauge("dalle3_jax_images_waiting", "Images in the queue.", registry=self.registry)
        self._sizes = Histogram("dalle3_jax_batch_images", "Images a batch.", registry=self.registry, buckets=SIZES)
        self._seconds = Histogram(
            "dalle3_jax_batch_seconds", "Seconds a batch took.", registry=self.registry, buckets=SECONDS
        )

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(f"dalle3_jax_{name}", documentation, labels, registry=self.registry)

    def watch_queue(self, queue: Sized) -> None:
        """Shows from now on how much waits there."""
        self._waiting.set_function(lambda: len(queue))

    def count_batch(self, images: int, seconds: float) -> None:
        """Counts one batch."""
        self._sizes.observe(images)
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
