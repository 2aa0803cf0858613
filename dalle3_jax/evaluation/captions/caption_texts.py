"""The captions of any source by version: scenes, folders of data, sidecars, and files of lines."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dalle3_jax.data import files
from dalle3_jax.data.caches.sidecars import Sidecars, sizeless_fingerprint
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.scenes.worlds import parse_world
from dalle3_jax.data.sources import Source, open_folder_source
from dalle3_jax.data.sources.scenes import ScenesSource

__all__ = ["SourceCaptions", "merge_versions", "origins_note", "read_captions", "read_texts", "select_versions"]

FIELDS = ("prompt", "caption", "text")
"""The keys of a JSON object under which its text may stand."""


@dataclass(frozen=True)
class SourceCaptions:
    """The captions of one source: of which pictures, where that is known, and version -> texts."""

    origin: str
    versions: Mapping[str, Sequence[str]]


def merge_versions(sources: Mapping[str, SourceCaptions]) -> dict[str, Sequence[str]]:
    """All captions under their version, with their source where several have that version."""
    merged: dict[str, Sequence[str]] = {}
    for source, captions in sources.items():
        for version, texts in captions.versions.items():
            merged[version if version not in merged else f"{version} of {source}"] = texts
    return merged


def select_versions(captions: dict[str, Sequence[str]], versions: str | None) -> dict[str, Sequence[str]]:
    """Those of the versions that were asked for; ValueError where there is none of a name."""
    wanted = versions.split(",") if versions else list(captions)
    if missing := [version for version in wanted if version not in captions]:
        raise ValueError(f"--versions {', '.join(missing)}: there are {', '.join(captions)}")
    return {version: captions[version] for version in wanted}


def origins_note(sources: Mapping[str, SourceCaptions]) -> str:
    """A line for captions of different pictures: what repeats, and which words, then hangs on more than the writing."""
    origins = {source: captions.origin for source, captions in sources.items() if captions.origin}
    if len(set(origins.values())) < 2:
        return ""
    said = "; ".join(f"{source} of {origin}" for source, origin in origins.items())
    return f"\nNot of the same pictures, so duplicates and words are not to be compared: {said}\n"


def read_captions(source: str, count: int) -> SourceCaptions:
    """The first captions of a source; ValueError where there are none."""
    kind, _, world = source.partition(":")
    if kind == "scenes":
        return record_captions(ScenesSource(parse_world(world or "first"), length=count), count)
    if source.endswith((".txt", ".jsonl")):
        return SourceCaptions("", {Path(source).stem: read_texts(Path(source), count)})
    if files.find_file(files.join_path(source, "captions.json")) is not None:
        written = Sidecars.open(source)
        return SourceCaptions(written.manifest["source"], {written.version: list(sidecar_texts(written, count))})
    return record_captions(open_folder_source(source), count)


def sidecar_texts(folder: Sidecars, count: int) -> Iterator[str]:
    """The first captions of a folder of `recaption`; records without one are passed over."""
    for index in range(min(count, len(folder))):
        with contextlib.suppress(BadRecord):
            yield folder[index][1]


def record_captions(source: Source, count: int) -> SourceCaptions:
    """The captions of the first records; bad records are passed over."""
    captions: dict[str, list[str]] = {}
    for index in range(min(count, len(source))):
        with contextlib.suppress(BadRecord):
            for version, text in source[index].captions.items():
                captions.setdefault(version, []).append(text)
    if not captions:
        raise ValueError(f"{source.fingerprint} has no captions")
    return SourceCaptions(sizeless_fingerprint(source.fingerprint), captions)


def read_texts(path: Path, count: int) -> list[str]:
    """The captions or prompts of a file: one a line, or one JSON object a line."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()][:count]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from None
    if path.suffix == ".jsonl":
        lines = [parse_text(line, path) for line in lines]
    if not lines:
        raise ValueError(f"{path} holds no line")
    return lines


def parse_text(line: str, path: Path) -> str:
    """The text of a line of JSON."""
    try:
        row = json.loads(line)
        text = next(row[field] for field in FIELDS if field in row)
    except (ValueError, TypeError, StopIteration):
        text = None
    if not isinstance(text, str):
        raise ValueError(f"{path}: {line[:60]!r} must be a JSON object with a text as {', '.join(FIELDS)}")
    return text
