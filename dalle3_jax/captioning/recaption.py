"""A captioner joined to sidecars: captions made and guarded, and the metadata of their folder."""

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from tqdm import tqdm

from dalle3_jax.captioning import CaptionDecoding, guards
from dalle3_jax.captioning.species import General, generalise_species, names_digest
from dalle3_jax.data import files
from dalle3_jax.data.batches import open_source
from dalle3_jax.data.caches import sidecar_writer, sidecars
from dalle3_jax.data.image_files import WHITE
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ENDLESS, ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.reading import ocr
from dalle3_jax.runtime import processes
from dalle3_jax.runtime.distributed import enable_compilation_cache
from dalle3_jax.runtime.versions import versions

__all__ = ["Guards", "RecaptionResult", "captions_metadata", "make_captioning", "recaption", "recaption_dataset"]

LOOKED_AT = 100
"""Records among which the first good one shows what versions of captions there are."""


@dataclass(frozen=True)
class Guards:
    """The limits of what captions say.

    `words`: quoted ones that the OCR or the alternative text has, that the alternative text has, or all. `names`:
    species that only the alternative text may name, and the general words for them.
    """

    words: Literal["ocr", "alt", "keep"] = "ocr"
    names: Mapping[str, General] = field(default_factory=dict)

    @functools.cached_property
    def ocr_reader(self) -> ocr.Ocr | None:
        """The OCR; ValueError where it is asked for and there is none."""
        reader = ocr.find_ocr() if self.words == "ocr" else None
        if self.words == "ocr" and reader is None:
            raise ValueError(f"{ocr.INSTALL}; or give --words alt, which believes alternative texts alone")
        return reader

    @property
    def metadata(self) -> dict[str, str]:
        """The guards as the metadata of a folder."""
        words = self.ocr_reader.name if self.ocr_reader else self.words
        return {"words": words, "species": names_digest(self.names) if self.names else ""}

    def __call__(self, source: Source, index: int, alt: str, text: str) -> tuple[str, tuple[str, ...]]:
        """The guarded text about the record at `index`, and a flag for each change.

        The OCR looks at the picture as the source has it, and only where the alternative text does not decide.
        """
        caption, flags = guards.clean_caption(text)
        if self.words != "keep" and guards.doubtful_quotes(caption, alt):
            seen = self.ocr_reader.read(decode_image(source[index].image)) if self.ocr_reader else ()
            caption, more = guards.drop_doubtful_quotes(caption, alt, seen)
            flags += more
        if self.names:
            caption, more = generalise_species(caption, alt, self.names)
            flags += more
        return caption, flags


@dataclass(frozen=True)
class RecaptionResult:
    """A finished folder: what its captions.json says, how many records this process wrote now, and in what time."""

    record: Mapping[str, Any]
    written: int
    seconds: float

    def summary(self, folder: str) -> str:
        """A line on the folder: its records, the pace, and what was changed or left out."""
        pace = f"{self.written / self.seconds:.1f} records/s" if self.written else "nothing was left to do"
        flags, bad = (
            ", ".join(f"{n} {name}" for name, n in self.record[part].items()) or "none" for part in ("flags", "bad")
        )
        counts = f"{self.record['count']} records, captions {self.record['version']!r}; {pace}"
        return f"{folder}: {counts}; guards: {flags}; left out: {bad}"


def captions_metadata(
    source: Source, version: str, captioner: Any, decoding: CaptionDecoding, guards: Guards
) -> dict[str, Any]:
    """All that captions are made from; another value of it, but of the date and the software, is another folder."""
    made = {"captioner": captioner.digest, "decoding": asdict(decoding), "guards": guards.metadata}
    if isinstance(source, ScenesSource):
        made["drawn"] = [source.height, source.width]
    made |= {"date": datetime.now(UTC).isoformat(timespec="seconds"), "software": versions()}
    same = {"format": sidecars.FORMAT, "version": version, "source": sidecars.sizeless_fingerprint(source.fingerprint)}
    return {**same, "chunk": sidecars.CHUNK, "made": made}


def make_captioning(
    source: Source,
    captioner: Any,
    decoding: CaptionDecoding,
    guards: Guards,
    batch_size: int = 64,
    threads: int = 4,
    background: Sequence[int] = WHITE,
) -> sidecar_writer.CaptionFunctions:
    """The captioner and the guards as functions; what `top_p` draws hangs on a record's place alone."""

    def captions(pictures: list[np.ndarray], places: list[int]) -> list[str]:
        return captioner.captions(pictures, decoding, seeds=places, batch_size=batch_size)

    size = tuple(captioner.module.image_size)
    return sidecar_writer.CaptionFunctions(captions, functools.partial(guards, source), size, threads, background)


def check_new_version(source: Source, version: str) -> None:
    """ValueError where the records have captions of that version already."""
    for index in range(min(LOOKED_AT, len(source))):
        try:
            known = source[index].captions
        except BadRecord:
            continue
        if version in known:
            raise ValueError(f"the records have captions {version!r} already: give another --version")
        return


def recaption_dataset(
    folder: str,
    data: Mapping[str, Any],
    captioner: Any,
    version: str,
    decoding: CaptionDecoding,
    guards: Guards,
    count: int = 0,
    batch_size: int = 64,
) -> RecaptionResult:
    """Writes new captions of the records of a data section (`data.settings`), or what is missing of them.

    `count` records, 0: all of them.
    """
    source = open_source(data)
    if not count and len(source) == ENDLESS:
        raise ValueError("scenes have no end: say by --count how many records are to be captioned")
    metadata = captions_metadata(source, version, captioner, decoding, guards)
    reading = data["threads"], data["background"]
    captioning = make_captioning(source, captioner, decoding, guards, batch_size, *reading)
    return recaption(folder, source, metadata, captioning, count or len(source), most_bad=data["max_bad"])


def recaption(
    folder: str,
    source: Source,
    metadata: Mapping[str, Any],
    captioning: sidecar_writer.CaptionFunctions,
    count: int,
    *,
    most_bad: float = 0.01,
) -> RecaptionResult:
    """Writes what is missing of the captions of the first `count` records, by all processes together."""
    if not 0 < count <= len(source):
        raise ValueError(f"{count} records are to be captioned and the source has {len(source)}")
    check_new_version(source, metadata["version"])
    enable_compilation_cache()
    if not files.is_remote(folder):
        processes.check_agreement(Path(files.local_path(folder)), sidecar_writer.comparable_metadata(metadata))
    if jax.process_index() == 0:
        sidecar_writer.start_sidecars(folder, metadata)
    processes.barrier("the captions are begun")
    mine = sidecar_writer.chunks_of_process(count, jax.process_index(), jax.process_count())
    missing = sidecar_writer.missing_chunks(folder, mine)
    began = time.monotonic()
    with caption_bar(mine, missing) as bar:
        sidecar_writer.write_chunks(folder, source, captioning, missing, max_bad=most_bad, progress=bar.update)
    seconds = time.monotonic() - began
    processes.barrier("all captions are written")
    if jax.process_index() == 0:
        sidecar_writer.finish_sidecars(folder, count)
    processes.barrier("the captions are whole")
    return RecaptionResult(sidecars.Sidecars.open(folder).manifest, count_records(missing), seconds)


def caption_bar(chunks: Sequence[sidecar_writer.Chunk], missing: Sequence[sidecar_writer.Chunk]) -> tqdm:
    """A bar over a process's records, begun where it goes on; the first process's is seen."""
    total = count_records(chunks)
    how = {"desc": "captioning", "unit": "image", "dynamic_ncols": True, "disable": jax.process_index() > 0}
    return tqdm(total=total, initial=total - count_records(missing), **how)


def count_records(chunks: Sequence[sidecar_writer.Chunk]) -> int:
    """The number of records in the chunks."""
    return sum(chunk.records for chunk in chunks)
