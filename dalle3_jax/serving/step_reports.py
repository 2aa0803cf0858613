"""News for the jobs of a batch while it is made: previews that are due, steps that are done, programs compiled."""

from collections.abc import Mapping

from PIL import Image

from dalle3_jax.serving.queue import QueuedImage, Update

__all__ = ["publish_compilation", "publish_step", "wants_preview"]


def wants_preview(image: QueuedImage, step: int, previews: int) -> bool:
    """Whether a preview is due after so many steps: the job's number of them, evenly over the steps, or one now.

    `previews` is how many it has had.
    """
    job, steps = image.job, image.steps
    if job.finished.is_set() or step >= steps:
        return False
    due = previews < job.partial_images and step * (job.partial_images + 1) >= (previews + 1) * steps
    return due or job.wants_preview


def publish_compilation(batch: list[QueuedImage], begins: bool) -> None:
    """Tells the jobs of a batch that a program is compiled for them, or has been."""
    for image in batch:
        if not image.job.finished.is_set():
            image.job.is_compiling = begins
            image.job.publish(Update("progress", image))


def publish_step(
    batch: list[QueuedImage], step: int, previews: Mapping[int, Image.Image | None], counts: Mapping[int, int]
) -> None:
    """Tells the jobs of a batch how far it is; a preview that is None is withheld, and not made again.

    `counts` are the previews of each row so far.
    """
    for row, image in enumerate(batch):
        if image.job.finished.is_set():
            continue
        image.step = step
        if row in previews:
            image.job.wants_preview = False
        if (preview := previews.get(row)) is None:
            image.job.publish(Update("progress", image))
        else:
            image.preview = preview
            image.job.publish(Update("preview", image, preview, counts[row] - 1))
