"""`dalle3-jax captions report`: how the captions of any source are written."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files as resources
from pathlib import Path

from dalle3_jax.commands.inputs import EMBEDDED
from dalle3_jax.commands.sample import Parser
from dalle3_jax.commands.scenes import world_given
from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sidecars import Sidecars
from dalle3_jax.data.sources import ScenesSource, Source, opened
from dalle3_jax.evaluation import caption_plots, plots
from dalle3_jax.evaluation.caption_report import distance, markdown, plain, style
from dalle3_jax.pictures import write_whole
from dalle3_jax.text.tokenizers import Tokenizer, folder_tokenizer

EXAMPLES = """examples:
  dalle3-jax captions report scenes --count 2000
  dalle3-jax captions report DATA CAPTIONS --prompts prompts.txt --out report     # a dataset, and what recaption wrote
  dalle3-jax captions report captions.txt --tokenizer t5-v1_1-xxl --length 256

A SOURCE is scenes or scenes:WORLD, a folder of data, a folder that `recaption` wrote, a .txt with a caption a line, or
a .jsonl with a "prompt", "caption" or "text" a line."""

FIELDS = ("prompt", "caption", "text")


def parser() -> Parser:
    """The command's arguments."""
    found = Parser(
        "dalle3-jax captions report",
        description="Say how captions are written: first words, case, ends, lengths, duplicates, vocabulary.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("source", nargs="+", help="where captions are; all versions of all sources are compared")
    found.add_argument("--versions", metavar="A,B", help="only these versions")
    found.add_argument("--count", type=int, default=2000, metavar="N", help="captions of each (default 2000)")
    told = "scenes (default), whole, a tokenizer.json, or a folder with one"
    found.add_argument("--tokenizer", default="scenes", metavar="NAME", help=told)
    found.add_argument("--length", type=int, default=64, metavar="N", help="tokens that a model reads (default 64)")
    found.add_argument("--prompts", metavar="FILE", help="prompts of users, .txt or .jsonl, to measure distances to")
    found.add_argument("--out", metavar="DIR", help="folder for report.md, report.json and report.png")
    return found


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    arguments = parser().parse_args(argv)
    try:
        return run(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(arguments: argparse.Namespace) -> int:
    """Reads, reports, and with --out writes."""
    if arguments.count < 1 or arguments.length < 1:
        raise ValueError(f"--count {arguments.count}, --length {arguments.length}: both must be at least 1")
    if arguments.out and not plots.available():
        raise ValueError('the plot needs matplotlib: pip install "dalle3_jax[eval]"')
    tokenizer = tokenizer_of(arguments.tokenizer)
    captions: dict[str, list[str]] = {}
    for source in arguments.source:
        for version, texts in captions_in(source, arguments.count).items():
            name = version if version not in captions else f"{version} of {source}"
            captions[name] = texts
    if arguments.versions:
        wanted = arguments.versions.split(",")
        if missing := [version for version in wanted if version not in captions]:
            raise ValueError(f"--versions {', '.join(missing)}: there are {', '.join(captions)}")
        captions = {version: captions[version] for version in wanted}
    found = {name: style(texts, tokenizer.count, arguments.length) for name, texts in captions.items()}
    prompts = lines_of(Path(arguments.prompts), arguments.count) if arguments.prompts else []
    distances = {name: distance(texts, prompts) for name, texts in captions.items()} if prompts else {}
    text = markdown(found, distances)
    print(text)
    if arguments.out:
        folder = Path(arguments.out)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.md", text.encode())
        write_whole(folder / "report.json", (json.dumps(plain(found, distances), indent=1) + "\n").encode())
        write_whole(folder / "report.png", caption_plots.figure(captions, found, tokenizer.count))
        print(f"wrote {folder}/report.md, report.json and report.png")
    return 0


def tokenizer_of(name: str) -> Tokenizer:
    """An embedded tokenizer, or one of a file or a folder."""
    if name in EMBEDDED:
        return Tokenizer.from_json((resources("dalle3_jax.data.scenes") / EMBEDDED[name]).read_text(encoding="utf-8"))
    return Tokenizer.from_json(folder_tokenizer(name), name) if Path(name).is_dir() else Tokenizer.load(name)


def captions_in(source: str, count: int) -> dict[str, list[str]]:
    """Version -> the first captions of a source; ValueError where there are none."""
    kind, _, world = source.partition(":")
    if kind == "scenes":
        return of_records(ScenesSource(world_given(world or "first"), length=count), count)
    if source.endswith((".txt", ".jsonl")):
        return {Path(source).stem: lines_of(Path(source), count)}
    if files.entry(files.joined(source, "captions.json")) is not None:
        written = Sidecars.open(source)
        return {written.version: list(said(written, count))}
    return of_records(opened(source), count)


def said(written: Sidecars, count: int) -> Iterator[str]:
    """The first captions of a folder of `recaption`; records without one are passed over."""
    for index in range(min(count, len(written))):
        with contextlib.suppress(BadRecord):
            yield written[index][1]


def of_records(source: Source, count: int) -> dict[str, list[str]]:
    """Version -> captions of the first records; bad records are passed over."""
    found: dict[str, list[str]] = {}
    for index in range(min(count, len(source))):
        with contextlib.suppress(BadRecord):
            for version, text in source[index].captions.items():
                found.setdefault(version, []).append(text)
    if not found:
        raise ValueError("the source has no captions")
    return found


def lines_of(path: Path, count: int) -> list[str]:
    """The captions or prompts of a file: one a line, or one JSON object a line."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()][:count]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from None
    if path.suffix == ".jsonl":
        try:
            rows = [json.loads(line) for line in lines]
            lines = [next(row[field] for field in FIELDS if field in row) for row in rows]
        except (ValueError, TypeError, StopIteration):
            raise ValueError(f"{path}: each line must be a JSON object with {', '.join(FIELDS)}") from None
    if not lines:
        raise ValueError(f"{path} holds no line")
    return lines
