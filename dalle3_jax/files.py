"""Files that are there complete or not at all."""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside `path`, waits for the disk, and renames; OSError when the folder cannot be written."""
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.absolute().parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp lets only its owner read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
