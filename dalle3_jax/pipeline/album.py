"""A folder of pictures that several runs can fill: a file a picture, named for its job, and a manifest of all."""

import json
import os
import re
import string
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dalle3_jax.pipeline.png import GeneratedImage, read_metadata
from dalle3_jax.pipeline.request import Request, request_from_metadata

__all__ = ["Album", "expand_names", "slug"]

MANIFEST = "manifest.jsonl"


class Album:
    """Pictures by the identity of their jobs; what is there already is known by its content, not by its name alone."""

    def __init__(
        self,
        folder: str | Path,
        writes_manifest: bool = True,
        names: Mapping[str, str] | None = None,
        suffix: str = ".png",
    ):
        """Opens or makes the folder; ValueError when nothing can be written there.

        `names` are the files' own by the identities of the jobs (see `expand_names`). Of several hosts that fill one
        folder, one alone `writes_manifest` pictures: the others' are listed when it asks for them.
        """
        self.folder, self.writes_manifest = Path(folder), writes_manifest
        self.names, self.suffix = names or {}, suffix
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                file.write(b"writable")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise ValueError(f"cannot write to the folder {str(folder)!r}: {error}; give another --outdir") from None
        self.listed_files = self._read_manifest()

    def path(self, request: Request, checkpoint: str) -> Path:
        """The picture's file: words of the prompt for people, seed, and enough of the job's identity to be alone."""
        identity = request.identity(checkpoint)
        name = self.names.get(identity) or f"{slug(request.prompt)}-{request.seed}-{identity[:10]}"
        return self.folder / f"{name}{self.suffix}"

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


def expand_names(template: str, requests: Sequence[Request], checkpoint: str) -> dict[str, str]:
    """The file name, without suffix, of each request's identity, as a template such as "{n:04d}" names them.

    {n} counts from 1, {seed} is the image's, {prompt} words of it, {id} the beginning of the job's identity. Raises
    ValueError for another field, names that two images would share, and names that are none of a file.
    """
    try:
        used = {field for _, field, _, _ in string.Formatter().parse(template) if field is not None}
        if unknown := used - {"n", "seed", "prompt", "id"}:
            raise ValueError(f"it has the field {{{sorted(unknown)[0]}}}")
        names = {}
        for number, request in enumerate(requests, start=1):
            identity = request.identity(checkpoint)
            words = {"prompt": slug(request.prompt), "id": identity[:10]}
            names[identity] = template.format(n=number, seed=request.seed, **words)
    except (ValueError, IndexError) as error:
        fields = "its fields are {n}, {seed}, {prompt} and {id}"
        raise ValueError(f"--name {template!r}: {error}; {fields}") from None
    for name in names.values():
        if not re.fullmatch(r"[^/\\\0.][^/\\\0]{0,199}", name):
            raise ValueError(f"--name {template!r}: {name!r} is no name of a file in the folder")
    if len(set(names.values())) < len(names):
        raise ValueError(f"--name {template!r} gives several images one name: put {{n}} or {{id}} into it")
    return names


def slug(prompt: str, length: int = 48) -> str:
    """Words of the prompt as a file name that is safe everywhere: a-z, 0-9 and single hyphens."""
    plain = unicodedata.normalize("NFKD", prompt[: 4 * length]).encode("ascii", "ignore").decode().lower()
    return re.sub("[^a-z0-9]+", "-", plain)[:length].strip("-") or "picture"
