"""An album that one host fills, or several, each with its share of the images."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from dalle3_jax.pipeline.album import Album, expand_names
from dalle3_jax.pipeline.batching import default_batch_size, generate_images
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.revision import size_notices
from dalle3_jax.runtime import processes

if TYPE_CHECKING:
    from dalle3_jax.pipeline.pipeline import Pipeline

__all__ = ["fill_album", "open_album"]


def open_album(
    folder: str,
    requests: Sequence[Request],
    digest: str,
    *,
    template: str | None = None,
    suffix: str = ".png",
    overwrite: bool = False,
) -> Album:
    """The album of these images of a release; several hosts must share it and want the same, which the first one lists.

    `template` names the files, as `album.expand_names` does it: ValueError where another image has one of the names,
    unless it may be overwritten.
    """
    names = None if template is None else expand_names(template, requests, digest)
    processes.check_agreement(Path(folder), {"pictures": [request.identity(digest) for request in requests]})
    album = Album(folder, jax.process_index() == 0, names, suffix)
    if names and not overwrite:
        check_free_names(album, requests, digest)
    return album


def check_free_names(album: Album, requests: Sequence[Request], digest: str) -> None:
    """ValueError where the name that an image is to have is that of another one."""
    for request in requests:
        if (path := album.path(request, digest)).exists() and not album.has(request, digest):
            raise ValueError(f"{path} is there and is another picture: give another --outdir or --name, or --overwrite")


def fill_album(
    album: Album,
    pipeline: "Pipeline",
    requests: Sequence[Request],
    *,
    batch_size: int | None = None,
    overwrite: bool = False,
    drop_text_encoder: bool = False,
) -> None:
    """Makes what the album lacks (of several hosts: of this one's share), saving each image as its batch is done.

    The paths of all images are printed. OSError where those of other hosts cannot be seen.
    """
    mine, digest = requests[jax.process_index() :: jax.process_count()], pipeline.release.digest
    for notice in pipeline.request_notices(mine) + size_notices(mine, pipeline.capabilities.sizes):
        print(f"note: {notice}", file=sys.stderr)
    present = [request for request in mine if not overwrite and album.has(request, digest)]
    there = set(present)
    missing = [request for request in mine if request not in there]
    if present:
        print(f"note: {len(present)} of {len(mine)} pictures are there already", file=sys.stderr)
    for request in present:
        print(album.path(request, digest))
    with progress_bar() as (bar, progress):
        # Sized by all that is wanted: a run that goes on makes the same bits as one that was never stopped.
        size = batch_size or default_batch_size(requests, pipeline.mesh.size if pipeline.mesh else 1)
        if drop_text_encoder:
            pipeline.drop_text_encoder([text for request in missing for text in request.texts], size)
        for _, picture in generate_images(pipeline, missing, size, progress):
            bar.write(str(album.add(picture)), file=sys.stdout)
    if jax.process_count() > 1:
        list_other_hosts(album, requests, digest)


def list_other_hosts(album: Album, requests: Sequence[Request], digest: str) -> None:
    """Wait for the other hosts, whose images the first one lists; OSError where one of them is not there."""
    processes.announce_waiting()
    processes.barrier("pictures are made")
    if album.writes_manifest and (lacking := [request for request in requests if not album.has(request, digest)]):
        raise OSError(f"{len(lacking)} pictures of other hosts cannot be seen in {album.folder}")
