"""`dalle3-jax captions report`: how the captions of any source are written."""

import argparse
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path

from dalle3_jax.commands.cli import CommandParser, bad_input, parse_world, print_command_errors
from dalle3_jax.data import files
from dalle3_jax.data.caches.sidecars import Sidecars, sizeless_fingerprint
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import Source, open_folder_source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.captions import style_plots
from dalle3_jax.evaluation.captions.style import measure_style
from dalle3_jax.evaluation.captions.style_distance import prompt_distance
from dalle3_jax.evaluation.captions.style_report import styles_as_json, styles_markdown
from dalle3_jax.files import write_whole
from dalle3_jax.stages.context import EMBEDDED
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer

EXAMPLES = """examples:
  dalle3-jax captions report scenes --count 2000
  dalle3-jax captions report DATA CAPTIONS --prompts prompts.txt --out report     # a dataset, and what recaption wrote
  dalle3-jax captions report captions.txt --tokenizer t5-v1_1-xxl --length 256

A SOURCE is scenes or scenes:WORLD (a name, JSON that describes a part, or its .json file), a folder of data, a folder
that `recaption` wrote, a .txt with a caption a line, or a .jsonl with a "prompt", "caption" or "text" a line."""

FIELDS = ("prompt", "caption", "text")


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax captions report",
        description="Say how captions are written: first words, case, ends, lengths, duplicates, vocabulary.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("source", nargs="+", help="where captions are; all versions of all sources are compared")
    parser.add_argument("--versions", metavar="A,B", help="only these versions")
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="captions of each (default 2000)")
    text = "scenes (default), whole, a tokenizer.json, or a folder with one"
    parser.add_argument("--tokenizer", default="scenes", metavar="NAME", help=text)
    parser.add_argument("--length", type=int, default=64, metavar="N", help="tokens that a model reads (default 64)")
    parser.add_argument("--prompts", metavar="FILE", help="prompts of users, .txt or .jsonl, to measure distances to")
    parser.add_argument("--out", metavar="DIR", help="folder for report.md, report.json and report.png")
    return parser


@dataclass(frozen=True)
class SourceCaptions:
    """The captions of one source: of which pictures, where that is known, and version -> texts."""

    origin: str
    versions: Mapping[str, Sequence[str]]


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    arguments = build_parser().parse_args(argv)
    with bad_input(OSError, ValueError):
        return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Reads, reports, and with --out writes."""
    check_report_arguments(arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    prompts = read_texts(Path(arguments.prompts), arguments.count) if arguments.prompts else []
    sources = {source: read_captions(source, arguments.count) for source in arguments.source}
    captions = select_versions(merge_versions(sources), arguments.versions)
    styles = {name: measure_style(texts, tokenizer.count, arguments.length) for name, texts in captions.items()}
    distances = {name: prompt_distance(texts, prompts) for name, texts in captions.items()} if prompts else {}
    text = styles_markdown(styles, distances) + origins_note(sources)
    print(text)
    if arguments.out:
        folder = Path(arguments.out)
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "report.md", text.encode())
        write_whole(folder / "report.json", (json.dumps(styles_as_json(styles, distances), indent=1) + "\n").encode())
        write_whole(folder / "report.png", style_plots.caption_style_figure(captions, styles, tokenizer.count))
        print(f"wrote {folder}/report.md, report.json and report.png")
    return 0


def check_report_arguments(arguments: argparse.Namespace) -> None:
    """ValueError where the arguments make no sense, all of it at once."""
    said = [
        f"--{name} {value} must be at least 1" for name in ("count", "length") if (value := vars(arguments)[name]) < 1
    ]
    if double := sorted({name for name in arguments.source if arguments.source.count(name) > 1}):
        said.append(f"{', '.join(double)} is given twice: leave it out once")
    if arguments.out and not plots.has_matplotlib():
        said.append('--out draws with matplotlib: pip install "dalle3_jax[eval]"')
    if arguments.out and Path(arguments.out).exists() and not Path(arguments.out).is_dir():
        said.append(f"--out {arguments.out} is a file: name a folder")
    if said:
        raise ValueError("; ".join(said))


def load_tokenizer(name: str) -> Tokenizer:
    """An embedded tokenizer, or one of a file or a folder."""
    if name in EMBEDDED:
        return Tokenizer.from_json((resources("dalle3_jax.data.scenes") / EMBEDDED[name]).read_text(encoding="utf-8"))
    return Tokenizer.from_json(read_folder_tokenizer(name), name) if Path(name).is_dir() else Tokenizer.load(name)


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
