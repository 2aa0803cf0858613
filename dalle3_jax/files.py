"""Files and folders that are there complete or not at all, and the folder that keeps what may be made again."""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_OFFERED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM)
"""What file systems answer that do not sync: that a disk is full or broken is none of these."""

STRAYS = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "#recycle"),
    *("lost+found", "$recycle.bin", "system volume information"),
)

LOCAL_SCHEME = re.compile(r"^(?:(?:file|local)://(?:localhost(?=/))?|file:(?=/))", re.IGNORECASE)
"""What an address of this machine may begin with."""


def local_path(path: str | Path) -> str:
    """A path of this machine as the system takes it: without file://, and ~ is the home folder."""
    return os.path.expanduser(LOCAL_SCHEME.sub("", str(path)))


def is_stray(name: str) -> bool:
    """Whether a system, not a person, leaves such a file or folder beside others: ._x, .nfs0001, Thumbs.db, @eaDir."""
    return name.startswith(".") or name.lower() in STRAYS


def stand_in_kind(head: bytes) -> str:
    """The kind of a file that stands where another was to be downloaded, and the remedy; "" of any other beginning."""
    if head.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: run git lfs pull"
    return "a web page: fetch it again" if head.lstrip()[:5].lower() in (b"<!doc", b"<html", b"<?xml") else ""


def write_whole(path: Path, data: bytes, *, parents: bool = False) -> None:
    """Write the file through one beside it; OSError where that cannot be done, and then nothing has changed.

    `parents` makes the folders that it lies in. Several threads and processes may write the same file at once.
    """
    with atomic_file(path, parents=parents) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_file(path: Path, *, parents: bool = False) -> Iterator[Path]:
    """Yield an empty file beside `path` to be filled, which takes its place, on the disk, when the block ends well."""
    folder = path.absolute().parent
    if parents:
        folder.mkdir(parents=True, exist_ok=True)
    # The end of the name, so that the longest one still fits; the umask says who may read it, as of any new file.
    temporary = folder / f".{path.name[-48:]}.{secrets.token_hex(8)}.tmp"
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        wait_for_disk(temporary)
        os.replace(temporary, path)
        wait_for_disk(folder)
    finally:
        with contextlib.suppress(OSError):  # the block's own error says more
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `target` that takes its place when the block ends well.

    What stood at `target` before is kept as `NAME.previous` until the new one stands there. ValueError when nothing
    can be written there.
    """
    target = target.absolute()
    temporary = target.with_name(f".{target.name[-48:]}.{secrets.token_hex(8)}.tmp")
    try:
        temporary.mkdir(parents=True)  # the umask says who may read it: some mounts refuse any chmod
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}; give a folder that can be written") from None
    try:
        yield temporary
        _move_into_place(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _move_into_place(temporary: Path, target: Path) -> None:
    previous = target.with_name(f"{target.name}.previous")
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        if previous.exists():  # NFS keeps what somebody still reads
            previous = target.with_name(f"{target.name}.previous-{secrets.token_hex(4)}")
        target.rename(previous)
    temporary.rename(target)
    wait_for_disk(target.parent)
    shutil.rmtree(previous, ignore_errors=True)


def wait_for_disk(path: Path) -> None:
    """Wait until a file's content, or a folder's names, would outlast a power cut, where the file system offers that.

    OSError where the content could not be written.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


def user_cache_folder(name: str) -> Path | None:
    """The user's cache folder of this name, made and writable: $XDG_CACHE_HOME/dalle3_jax/NAME, else under ~/.cache.

    None where it cannot be had: there is no home, the user has no name, or the folder is another's or read-only.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"  # RuntimeError: a user without a home
        folder = Path(home) / "dalle3_jax" / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None
