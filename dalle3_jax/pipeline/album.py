"""A folder of pictures that several runs can fill: a file a picture, named for its job, and a manifest of all."""

import json
import os
import re
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from dalle3_jax.pipeline.png import GeneratedImage, read_metadata
from dalle3_jax.pipeline.request import Request, request_from_metadata

__all__ = ["Album", "slug"]

MANIFEST = "manifest.jsonl"


class Album:
    """Pictures by the identity of their jobs; what is there already is known by its content, not by its name alone."""

    def __init__(self, folder: str | Path, writes_manifest: bool = True):
        """Opens or makes the folder; ValueError when nothing can be written there.

        Of several hosts that fill one folder, one alone `writes_manifest` pictures: the others' are listed when it
        asks for them.
        """
        self.folder, self.writes_manifest = Path(folder), writes_manifest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"writable")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise ValueError(f"cannot write to the folder {str(folder)!r}: {error}; give another --outdir") from None
        self.listed_files = self._read_manifest()

    def path(self, request: Request, checkpoint: str) -> Path:
        """The picture's file: words of the prompt for people, seed, and enough of the job's identity to be alone."""
        name = f"{slug(request.prompt)}-{request.seed}-{request.identity(checkpoint)[:10]}.png"
        return self.folder / name

    def has(self, request: Request, checkpoint: str) -> bool:
        """Whether the picture is there; one that a killed run wrote but did not list is listed now."""
        path = self.path(request, checkpoint)
        try:
            made = read_metadata(path)
            same = request_from_metadata(made).identity(made.get("checkpoint", "")) == request.identity(checkpoint)
        except ValueError:  # not there, or not ours
            return False
        if same:
            self._append_to_manifest(path, made)
        return same

    def add(self, picture: GeneratedImage) -> Path:
        """Writes the picture, then its line in the manifest."""
        path = self.path(picture.request, picture.checkpoint)
        picture.save(path)
        self._append_to_manifest(path, picture.metadata)
        return path

    def _append_to_manifest(self, path: Path, settings: dict[str, Any]) -> None:
        if path.name in self.listed_files or not self.writes_manifest:
            return
        line = json.dumps({"file": path.name, **settings}) + "\n"
        with (self.folder / MANIFEST).open("ab") as file:
            if file.tell() and not self._ends_with_newline():
                line = "\n" + line  # a killed run left half a line
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
        self.listed_files.add(path.name)

    def _ends_with_newline(self) -> bool:
        with (self.folder / MANIFEST).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _read_manifest(self) -> set[str]:
        """The files that are listed; lines that a killed run left half written are passed over."""
        path, listed = self.folder / MANIFEST, set()
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                listed.add(json.loads(line)["file"])
            except (ValueError, KeyError, TypeError):
                continue
        return listed


def slug(prompt: str, length: int = 48) -> str:
    """Words of the prompt as a file name that is safe everywhere: a-z, 0-9 and single hyphens."""
    plain = unicodedata.normalize("NFKD", prompt[: 4 * length]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:length].strip("-") or "picture"
