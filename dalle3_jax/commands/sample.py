"""`dalle3-jax sample`: prompts to pictures, in batches, into a folder that a later run completes."""

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dalle3_jax.commands import MEMORY_REMEDIES
from dalle3_jax.commands.cli import (
    CHAT_FLAGS,
    CommandParser,
    add_checkpoint_flags,
    add_setting_flags,
    add_upsampling_flags,
    bad_input,
    chat_from_flags,
    failures,
    flag_name,
    given_settings,
    number_errors,
    pipeline_from_flags,
    print_command_errors,
)
from dalle3_jax.pipeline import auto_size, editing, revision
from dalle3_jax.pipeline.album import Album
from dalle3_jax.pipeline.edit_settings import INPUTS, check_edit
from dalle3_jax.pipeline.image_formats import FORMATS
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.jobs import (
    AUTO,
    PromptLine,
    check_shared_settings,
    make_requests,
    parse_size_or_auto,
    read_prompt_lines,
)
from dalle3_jax.pipeline.png import jpeg_errors
from dalle3_jax.pipeline.request import SETTINGS, Request, ordered_settings, shorten
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.runtime.cluster import add_host_flags, find_hosts

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax sample --prompt "a panda on a beach"
  dalle3-jax sample --prompt "a red apple" --prompt "two cats" -n 4 --seed 7 --grid
  dalle3-jax sample --prompts-file prompts.txt --checkpoint runs/demo --size 128x128 --batch-size 8
  dalle3-jax sample --prompts-file prompts.jsonl --outdir pictures
  dalle3-jax sample --prompt "a panda" --upsample none
  dalle3-jax sample --repeat pictures/a-panda-on-a-beach-0-1f2e3d4c5b.png
  dalle3-jax sample --image photo.png --prompt "a fox in the snow" --strength 0.6
  dalle3-jax sample --image photo.png --mask mask.png --prompt "a fox and an owl in the snow"
  dalle3-jax sample --image photo.png --outpaint 16:9 --prompt "a fox in the snow"
  dalle3-jax sample --image pictures/a-panda-on-a-beach-0-1f2e3d4c5b.png --edit "put it on a meadow"
  dalle3-jax sample --variations pictures/a-panda-on-a-beach-0-1f2e3d4c5b.png -n 4

Prompts files are .txt (one a line, # begins a comment), .json, .csv, .tsv (a line of names first) or .jsonl, a line of
which is one prompt with settings of its own:
  {"prompt": "a panda", "negative_prompt": "snow", "seed": 3, "size": "128x128", "n": 2, "steps": 30,
   "sampler": "dpmsolver++", "guidance_scale": 2.5}

Picture i of all has seed + i; the n pictures of the first prompt come first. Every file says how it was made, and
OUTDIR/manifest.jsonl lists them all. Started again after it was stopped, the same command makes what is missing and
nothing twice. Run on several hosts, with an OUTDIR that they share, each makes its share: every Nth picture."""

MAX_GRID = 400


def build_parser() -> CommandParser:
    """The command's arguments; what is left at None is the release's own default."""
    parser = CommandParser("dalle3-jax sample", "Turn prompts into pictures.", EXAMPLES)
    what = parser.add_argument_group("what to make")
    what.add_argument("--prompt", action="append", metavar="TEXT", help="a prompt; may be given several times")
    text = "prompts by the line, or with settings; - is standard input (see below)"
    what.add_argument("--prompts-file", metavar="FILE", help=text)
    what.add_argument("--repeat", metavar="PNG", help="make a picture again from what it says of itself, and compare")
    what.add_argument("-n", type=int, metavar="N", help="pictures per prompt (default 1)")
    auto = {"size": "; auto chooses one from each prompt"}
    add_setting_flags(what, [SETTINGS["seed"], SETTINGS["size"]], auto)
    text = "a size head for --size auto, which chooses among its own sizes: the stage size_head's folder, or a release"
    what.add_argument("--size-head", metavar="PATH", help=f"{text} (default: the demo's, for the demo)")
    add_edit_flags(parser)
    how = parser.add_argument_group("how to make it (defaults come from the release)")
    add_checkpoint_flags(how)
    rest = [one for one in ordered_settings() if one.has_flag and one.part not in ("", "edit")]
    add_setting_flags(how, [SETTINGS["negative_prompt"], *rest])
    how.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    text = "encode all prompts first and free the text encoder's memory"
    how.add_argument("--drop-text-encoder", action="store_true", help=text)
    where = parser.add_argument_group("where it goes")
    where.add_argument("--outdir", default="samples", metavar="DIR", help="folder for pictures (default samples)")
    where.add_argument("--format", choices=tuple(FORMATS), help="of the files (default png)")
    text = "names of the files, as in '{n:04d}': {n} counts them from 1, {seed}, {prompt} and {id} are theirs"
    where.add_argument("--name", metavar="TEMPLATE", help=f"{text} (default '{{prompt}}-{{seed}}-{{id}}')")
    where.add_argument("--grid", action="store_true", help="also one sheet of all pictures with their prompts")
    where.add_argument("--overwrite", action="store_true", help="make pictures again that are there already")
    add_upsampling_flags(parser)
    add_host_flags(parser)
    return parser


def add_edit_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of images that are edited."""
    group = parser.add_argument_group("an image to begin with (docs/editing.md)")
    add_setting_flags(group, [one for one in ordered_settings() if one.part == "edit"])
    text = "what to change in --image, in place of a prompt: it is done to the prompt that the image carries"
    group.add_argument("--edit", metavar="TEXT", help=text)
    text = "an image of which to make -n others, by the prompt that it carries and new seeds, --strength away from it"
    group.add_argument("--variations", metavar="FILE", help=text)
    text = "a release or a stage with a captioner, for an image that carries no prompt (the demo: its scene reader)"
    group.add_argument("--captioner", metavar="PATH", help=text)


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before anything is computed."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        if find_hosts(arguments).is_distributed:
            if arguments.upsample == "chat":
                raise ValueError("--upsample chat on several hosts: revise the prompts on one, then give prompts.jsonl")
            return sample_share(arguments)
        job = prepare_repeat(arguments) if arguments.repeat is not None else prepare_sampling(arguments)
    with failures(OSError, FloatingPointError, remark="what is done is kept, the same command goes on from there"):
        return job()


def sample_share(arguments: argparse.Namespace) -> int:
    """Make this host's share of the pictures, beside the other hosts that make theirs."""
    from dalle3_jax.runtime.distributed import initialize_distributed, run_job

    if arguments.repeat is not None:
        raise ValueError("--repeat makes one picture: run it on one host, with --processes 1")

    def job() -> int:
        initialize_distributed(find_hosts(arguments))
        return prepare_sampling(arguments)()

    return run_job(job, MEMORY_REMEDIES["sample"])


def prepare_sampling(arguments: argparse.Namespace) -> Callable[[], int]:
    """Checks everything; returns what makes the pictures."""
    check_edit_flags(arguments)
    described = arguments.edit is not None or arguments.variations is not None
    lines = [] if described else read_prompt_lines(arguments.prompt or [], arguments.prompts_file)
    chat = chat_from_flags(arguments)
    size = parse_size_or_auto(arguments.size) if arguments.size else None
    if size == AUTO:
        arguments.size = None  # each line has its own
    options = given_settings(arguments)
    image = take_image(arguments, options)
    if "image" in options:
        check_edit(options)
    if errors := number_errors(arguments, {"batch_size": 1}):
        raise ValueError("; ".join(errors))
    pipeline = pipeline_from_flags(arguments)
    if described and image is not None:
        lines = [describe_line(arguments, image, options, pipeline, chat)]
    check_shared_settings(pipeline, options)
    sized = auto_size.size_assigner(lines, pipeline, size, arguments.size_head, chat)
    training = pipeline.release.training
    for note in revision.unknown_notes([line.settings["prompt"] for line in lines], training):
        print(f"note: {note}", file=sys.stderr)
    if not described and (arguments.upsample or pipeline.upsample) != "none":
        lines = revision.revise_lines(lines, chat, Path(arguments.outdir), training, pipeline.can_read)
    lines = sized(lines)
    seed, n = options.pop("seed", 0), 1 if arguments.n is None else arguments.n
    make = functools.partial(pipeline.request, **options)
    wanted = list(dict.fromkeys(make_requests(lines, make, seed=seed, n=n)))
    check_requests(arguments, pipeline, wanted)
    from dalle3_jax.pipeline.shared_album import open_album  # which brings jax

    album = open_album(
        arguments.outdir,
        wanted,
        pipeline.release.digest,
        template=arguments.name,
        suffix=f".{arguments.format or 'png'}",
        overwrite=arguments.overwrite,
    )
    return functools.partial(make_images, album, pipeline, wanted, arguments)


def check_requests(arguments: argparse.Namespace, pipeline: "Pipeline", requests: Sequence[Request]) -> None:
    """ValueError for requests that do not go with other flags; a note where a flag has no effect."""
    if arguments.grid and len(requests) > MAX_GRID:
        raise ValueError(f"--grid takes at most {MAX_GRID} pictures, these are {len(requests)}")
    if arguments.format == "jpeg" and (errors := jpeg_errors(requests)):
        raise ValueError(f"--format jpeg: {errors[0]}")
    if arguments.decoder_checkpoint and all(request.decoding.decoder == "vae" for request in requests):
        others = " or ".join(pipeline.codec.decoders[1:])
        note = f"--decoder-checkpoint has no effect while the decoder is vae: give --decoder {others}"
        print(f"note: {note}", file=sys.stderr)
    if arguments.drop_text_encoder and pipeline.samples_layouts:
        note = "--drop-text-encoder has no effect: this model reads the text anew for every image"
        print(f"note: {note}", file=sys.stderr)


def make_images(album: Album, pipeline: "Pipeline", requests: list[Request], arguments: argparse.Namespace) -> int:
    """Fills the album, and makes the sheet that is asked for."""
    from dalle3_jax.pipeline.shared_album import fill_album

    fill_album(
        album,
        pipeline,
        requests,
        batch_size=arguments.batch_size,
        overwrite=arguments.overwrite,
        drop_text_encoder=arguments.drop_text_encoder,
    )
    if arguments.grid and album.writes_manifest:
        from dalle3_jax.pipeline.contact_sheet import save_album_sheet

        print(save_album_sheet(album, requests, pipeline.release.digest))
    return 0


def check_edit_flags(arguments: argparse.Namespace) -> None:
    """ValueError for flags of edits that do not go together."""
    names = ["prompt", "prompts_file", "edit", "image", "mask", "outpaint", "feather", "source_prompt"]
    if arguments.variations is None:
        names = names[:2] if arguments.edit is not None else []
    if clash := [flag_name(name) for name in names if getattr(arguments, name) is not None]:
        own = "--edit" if arguments.variations is None else "--variations"
        raise ValueError(f"{own} takes its prompt and image from the image: leave out {', '.join(clash)}")
    if arguments.edit is not None and arguments.image is None:
        raise ValueError("--edit changes an image: give --image FILE")
    if arguments.captioner is not None and arguments.edit is None and arguments.variations is None:
        raise ValueError("--captioner describes an image for --edit or --variations: give one of them")


def take_image(arguments: argparse.Namespace, options: dict[str, Any]) -> InputImage | None:
    """The image that --edit or --variations is about; that of variations joins the `options`.

    At a strength of 1 it does not: there they begin with noise.
    """
    if arguments.variations is None:
        return options.get("image")
    image = SETTINGS["image"].read(arguments.variations)
    if options.get("strength") == 1:
        del options["strength"]
    else:
        options["image"] = image
    return image


def find_describer(arguments: argparse.Namespace, image: InputImage, pipeline: "Pipeline") -> editing.Describe | None:
    """The function that describes the image's pixels, and prints that, where there is one."""
    from dalle3_jax.captioning.describer import image_describer

    describe = image_describer(pipeline.release.training, arguments.captioner)

    def describe_aloud(pixels: np.ndarray) -> str:
        description = describe(pixels).strip() if describe else ""
        if description:
            print(f"{image!r} shows: {description}", file=sys.stderr)
        return description

    return describe and describe_aloud


def describe_line(
    arguments: argparse.Namespace,
    image: InputImage,
    options: dict[str, Any],
    pipeline: "Pipeline",
    chat: Chat | None,
) -> PromptLine:
    """The prompt of an edit in words, or of variations, said to the user; `options` get the seed and the strength."""
    describe = None if editing.carried_prompt(image) else find_describer(arguments, image, pipeline)
    if arguments.variations is not None:
        options.setdefault("seed", editing.carried_seed(image) + 1)
        return PromptLine("--variations", {"prompt": editing.describe_image(image, describe)})
    reads = pipeline.release.training, pipeline.can_read
    settings = editing.instructed_settings(arguments.edit, image, options, *reads, describe, chat)
    own = {name: settings.pop(name) for name in ("prompt", "original_prompt")}
    options.update(settings)
    print(f"{shorten(arguments.edit)} -> {own['prompt']}", file=sys.stderr)
    return PromptLine("--edit", own)


def prepare_repeat(arguments: argparse.Namespace) -> Callable[[], int]:
    """Checks the picture and that the release is the one that made it; returns what makes it again."""
    from dalle3_jax.pipeline.repetition import check_release, read_repetition, repeat_image

    others = ["prompt", "prompts_file", "n", "batch_size", "size_head", "name", "format", "upsample", *CHAT_FLAGS]
    others += ["edit", "variations", "captioner"]
    others += [setting.name for setting in ordered_settings() if setting.has_flag and setting.name not in INPUTS]
    clash = [name for name in others if getattr(arguments, name) is not None]
    if clash := clash + [name for name in ("grid", "overwrite") if getattr(arguments, name)]:
        raise ValueError(f"--repeat takes its settings from the picture; leave out {', '.join(map(flag_name, clash))}")
    repetition = read_repetition(arguments.repeat, given_settings(arguments))
    pipeline = pipeline_from_flags(arguments)
    check_release(repetition, pipeline, arguments.checkpoint)
    album = Album(arguments.outdir)

    def job() -> int:
        print(*repeat_image(album, pipeline, repetition, arguments.drop_text_encoder), sep="\n")
        return 0

    return job
