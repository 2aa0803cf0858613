"""A dataset of which a known part is bad: what skipping and counting are tried on.

    python scripts/make_bad_records.py FOLDER [--count 2000] [--share 0.05] [--form tars] [--size 64x64 --size 64x112]

Writes tars in img2dataset's form, or a folder with metadata.jsonl, and FOLDER/bad.json beside them: for every bad
record its index and the reason that dalle3_jax.data.records.BadRecord must give. Every reason is as frequent as the
others. The same arguments give the same dataset.
"""

import argparse
import io
import itertools
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from dalle3_jax.data.records import REASONS

PER_TAR = 500
FORMS = ("tars", "folder")


class RecordFiles(NamedTuple):
    """What stands in the files of a record; None: there is no picture."""

    picture: bytes | None
    text: bytes
    json: bytes


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000, help="records, bad ones included")
    parser.add_argument("--share", type=float, default=0.05, help="of them that are bad")
    parser.add_argument("--form", choices=FORMS, default="tars")
    parser.add_argument("--size", action="append", metavar="HEIGHTxWIDTH", help="of pictures, in turn (default: 64x64)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    sizes = [(int(height), int(width)) for height, width in (size.split("x") for size in given.size or ["64x64"])]
    bad = write_dataset(given.folder, given.count, given.share, given.form, sizes, given.seed)
    print(f"{given.folder}: {given.count} records, {len(bad)} of them bad")
    return 0


def write_dataset(
    folder: Path,
    count: int,
    share: float = 0.05,
    form: str = "tars",
    sizes: Sequence[tuple[int, int]] = ((64, 64),),
    seed: int = 0,
    reasons: Sequence[str] = REASONS,
) -> dict[int, str]:
    """Writes the dataset and returns the reasons of the bad records by their index."""
    folder.mkdir(parents=True, exist_ok=True)
    places = np.random.default_rng(seed).permutation(count)[: round(count * share)]
    bad = {int(place): reasons[turn % len(reasons)] for turn, place in enumerate(sorted(places))}
    records = (make_record(index, sizes[index % len(sizes)], bad.get(index, ""), seed) for index in range(count))
    {"tars": write_tars, "folder": write_folder}[form](folder, records)
    (folder / "bad.json").write_text(json.dumps(bad, indent=1) + "\n")
    return bad


def make_record(index: int, size: tuple[int, int], reason: str, seed: int) -> RecordFiles:
    """A record with the fault that `reason` names, or without one."""
    height, width = size
    colours = np.random.default_rng((seed, index)).integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(colours).resize((width, height), Image.Resampling.BICUBIC)
    text = f"picture {index} of {width} by {height}".encode()
    said = json.dumps({"width": width, "height": height, "caption": text.decode(), "key": record_key(index)}).encode()
    good = RecordFiles(image_bytes(image, "JPEG", quality=90), text, said)
    match reason:
        case "truncated":
            return good._replace(picture=good.picture[: len(good.picture) // 2])
        case "bomb":
            return good._replace(picture=image_bytes(Image.new("1", (20_000, 10_000)), "PNG"))
        case "shape":
            return good._replace(picture=image_bytes(image.resize((40 * width, 8)), "JPEG"))
        case "depth":
            deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
            return good._replace(picture=image_bytes(deep, "PNG"))
        case "animated":
            return good._replace(picture=image_bytes(image, "WEBP", save_all=True, append_images=[image.rotate(90)]))
        case "empty":
            return good._replace(picture=b"")
        case "format":
            return good._replace(picture=image_bytes(image, "BMP"))
        case "missing":
            return good._replace(picture=None)
        case "encoding":
            return good._replace(text="ein schönes Bild".encode("latin-1"))
        case "caption":
            return good._replace(text=b"  ", json=json.dumps({"caption": "  "}).encode())
        case "length":
            return good._replace(text=b"a word " * 150_000)
        case "json":
            return good._replace(json=said[:-10])
    return good


def image_bytes(image: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of a picture file."""
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def record_key(index: int) -> str:
    """img2dataset's key: the number of the tar and the number in it."""
    return f"{index // PER_TAR:05d}{index % PER_TAR:04d}"


def write_tars(folder: Path, records: Iterator[RecordFiles]) -> None:
    """PER_TAR records a tar."""
    for number, group in itertools.groupby(enumerate(records), key=lambda row: row[0] // PER_TAR):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for index, record in group:
                for ending, content in zip(("jpg", "txt", "json"), record, strict=True):
                    if content is not None:
                        member = tarfile.TarInfo(f"{record_key(index)}.{ending}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))


def write_folder(folder: Path, records: Iterator[RecordFiles]) -> None:
    """Pictures and a metadata.jsonl, whose lines are the JSON with the text in it as `text`."""
    lines = []
    for index, record in enumerate(records):
        name = f"{record_key(index)}.jpg"
        if record.picture is not None:
            (folder / name).write_bytes(record.picture)
        lines.append(b'{"file_name": "' + name.encode() + b'", "text": "' + record.text + b'", "said": ' + record.json)
    (folder / "metadata.jsonl").write_bytes(b"".join(line + b"}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
