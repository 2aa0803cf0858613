"""`dalle3-jax captions report`: how the captions of any source are written."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dalle3_jax.commands.cli import CommandParser, bad_input, number_errors, print_command_errors
from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.captions import style_plots
from dalle3_jax.evaluation.captions.caption_texts import (
    merge_versions,
    origins_note,
    read_captions,
    read_texts,
    select_versions,
)
from dalle3_jax.evaluation.captions.style import measure_style
from dalle3_jax.evaluation.captions.style_distance import prompt_distance
from dalle3_jax.evaluation.captions.style_report import styles_as_json, styles_markdown, write_style_report
from dalle3_jax.stages.context import named_tokenizer

EXAMPLES = """examples:
  dalle3-jax captions report scenes --count 2000
  dalle3-jax captions report DATA CAPTIONS --prompts prompts.txt --out report     # a dataset, and what recaption wrote
  dalle3-jax captions report captions.txt --tokenizer t5-v1_1-xxl --length 256

A SOURCE is scenes or scenes:WORLD (a name, JSON that describes a part, or its .json file), a folder of data, a folder
that `recaption` wrote, a .txt with a caption a line, or a .jsonl with a "prompt", "caption" or "text" a line."""


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax captions report",
        "Say how captions are written: first words, case, ends, lengths, duplicates, vocabulary.",
        EXAMPLES,
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


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    arguments = build_parser().parse_args(argv)
    with bad_input(OSError, ValueError):
        return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Reads, reports, and with --out writes."""
    check_report_arguments(arguments)
    tokenizer = named_tokenizer(arguments.tokenizer)
    prompts = read_texts(Path(arguments.prompts), arguments.count) if arguments.prompts else []
    sources = {source: read_captions(source, arguments.count) for source in arguments.source}
    captions = select_versions(merge_versions(sources), arguments.versions)
    styles = {name: measure_style(texts, tokenizer.count, arguments.length) for name, texts in captions.items()}
    distances = {name: prompt_distance(texts, prompts) for name, texts in captions.items()} if prompts else {}
    text = styles_markdown(styles, distances) + origins_note(sources)
    print(text)
    if arguments.out:
        figure = style_plots.caption_style_figure(captions, styles, tokenizer.count)
        write_style_report(Path(arguments.out), text, styles_as_json(styles, distances), figure)
        print(f"wrote {Path(arguments.out)}/report.md, report.json and report.png")
    return 0


def check_report_arguments(arguments: argparse.Namespace) -> None:
    """ValueError where the arguments make no sense, all of it at once."""
    errors = number_errors(arguments, {"count": 1, "length": 1})
    if double := sorted({name for name in arguments.source if arguments.source.count(name) > 1}):
        errors.append(f"{', '.join(double)} is given twice: leave it out once")
    if arguments.out and not plots.has_matplotlib():
        errors.append('--out draws with matplotlib: pip install "dalle3_jax[eval]"')
    if arguments.out and Path(arguments.out).exists() and not Path(arguments.out).is_dir():
        errors.append(f"--out {arguments.out} is a file: name a folder")
    if errors:
        raise ValueError("; ".join(errors))
