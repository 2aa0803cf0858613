"""`dalle3-jax scenes`: a contact sheet of the embedded dataset, or the dataset written as TFDS.

dalle3-jax scenes --out sheet.png --rows 4 --columns 6
dalle3-jax scenes --world '{"words": 0}' --size 64x64 --out sheet.png
dalle3-jax scenes --tfds folder --count 10000 --split held_out
"""

import argparse
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import SPLITS, WORLDS
from dalle3_jax.data.scenes.worlds import parse_scene_size, parse_world
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet

FONT = 12


@print_command_errors
def main(argv: list[str]) -> int:
    """Runs the command; 2 where the arguments make no sense or the output cannot be written."""
    with bad_input(OSError, ValueError):
        run(build_parser().parse_args(argv))
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    result = CommandParser("dalle3-jax scenes", "Looks at the embedded dataset, or writes it.", allow_abbrev=True)
    output = result.add_mutually_exclusive_group(required=True)
    output.add_argument("--out", type=Path, help="the contact sheet to write, a PNG")
    output.add_argument("--tfds", type=Path, help="the folder to write a TFDS dataset to (ArrayRecord)")
    result.add_argument("--count", type=int, default=1000, help="records of the TFDS dataset (default 1000)")
    result.add_argument("--rows", type=int, default=4, help="rows of the sheet (default 4)")
    result.add_argument("--columns", type=int, default=6, help="columns of the sheet (default 6)")
    result.add_argument("--caption", default="descriptive", choices=("alt", "short", "descriptive"))
    result.add_argument("--size", default="128x128", help="WIDTHxHEIGHT of a picture (default 128x128)")
    result.add_argument("--split", default="train", choices=SPLITS)
    result.add_argument(
        "--world", default="first", help=f"{', '.join(WORLDS)}, or a part of one: JSON, or its .json file"
    )
    result.add_argument("--seed", type=int, default=0)
    return result


def run(arguments: argparse.Namespace) -> None:
    """Writes what was asked for and says where."""
    width, height = parse_scene_size(arguments.size)
    if min(arguments.rows, arguments.columns, arguments.count) < 1:
        raise ValueError("--rows, --columns and --count must be at least 1")
    source = ScenesSource(parse_world(arguments.world), arguments.seed, height, width, split=arguments.split)
    if arguments.tfds:
        from dalle3_jax.data.scenes.tfds_builder import write_dataset

        print(write_dataset(arguments.tfds, source, arguments.count))
        return
    records = [source[index] for index in range(arguments.rows * arguments.columns)]
    if arguments.out.suffix.lower() != ".png":
        raise ValueError(f"{arguments.out}: the contact sheet is a PNG, name it .png")
    encoded = BytesIO()  # not by encode_png, which says that a model made the image
    scene_sheet(records, arguments.columns, arguments.caption).save(encoded, "PNG", optimize=True)
    write_whole(arguments.out, encoded.getvalue())
    print(arguments.out)


def scene_sheet(records: list[Record], columns: int, caption: str) -> Image.Image:
    """The pictures in rows, each above its caption, which needs room under a small one."""
    cells = [
        SheetCell(Image.fromarray(np.asarray(record.image)), (SheetLine(record.captions[caption]),))
        for record in records
    ]
    return draw_sheet(cells, columns=columns, width=max(records[0].width, 128), font_size=FONT)
