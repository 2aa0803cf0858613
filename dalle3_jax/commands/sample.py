"""`dalle3-jax sample`: prompts to pictures, in batches, into a folder that a later run completes."""

import argparse
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dalle3_jax.commands import MEMORY_REMEDIES
from dalle3_jax.commands.cli import (
    CommandParser,
    add_setting_flags,
    bad_input,
    failures,
    given_settings,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline import auto_size, editing, revision
from dalle3_jax.pipeline.album import Album, expand_names
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.edit_settings import check_edit, supply_inputs
from dalle3_jax.pipeline.image_formats import FORMATS, open_generated
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.jobs import AUTO, PromptLine, make_requests, parse_size_or_auto, read_prompt_lines
from dalle3_jax.pipeline.png import encode_png, jpeg_errors, read_metadata
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.request import SETTINGS, Request, ordered_settings, request_from_metadata, shorten
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.prompting.scene_description import PlacedThing, describe_scene
from dalle3_jax.prompting.scene_lexicon import training_lexicon
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
CHAT_MODEL, CHAT_SECONDS = "gpt-4o-mini", 30.0
CHAT_FLAGS = ("chat_url", "chat_model", "chat_timeout")
INPUTS = ("image", "mask")
"""The settings that are files, which a picture made of them names by their digests alone."""


def build_parser() -> CommandParser:
    """The command's arguments; what is left at None is the release's own default."""
    parser = CommandParser(
        "dalle3-jax sample",
        description="Turn prompts into pictures.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
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
    text = "a release, a workdir, a folder of diffusers, an id of the hub (organisation/name), or demo (default)"
    how.add_argument("--checkpoint", default="demo", metavar="PATH", help=text)
    rest = [one for one in ordered_settings() if one.has_flag and one.part not in ("", "edit")]
    add_setting_flags(how, [SETTINGS["negative_prompt"], *rest])
    text = "a checkpoint whose decoder joins in: a release, a stage, or diffusers' ConsistencyDecoderVAE"
    how.add_argument("--decoder-checkpoint", action="append", metavar="PATH", help=text)
    how.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    how.add_argument("--dtype", metavar="NAME", help="of parameters and computation: fp32 (default), bf16 or fp16")
    text = "take the checkpoint's files of this variant, as in model.fp16.safetensors"
    how.add_argument("--variant", metavar="NAME", help=text)
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


def add_upsampling_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of prompt upsampling."""
    group = parser.add_argument_group("prompt upsampling (docs/prompts.md)")
    text = "rewrite prompts as the captions that models are trained on: template (offline) or chat (a language model)"
    default = "default: what the release asks for, else none"
    group.add_argument("--upsample", choices=revision.BACKENDS, help=f"{text}; {default}")
    text = f"a server with OpenAI's /chat/completions (default: ${revision.BASE}, else {revision.OFFICIAL}); "
    group.add_argument("--chat-url", metavar="URL", help=f"{text}its key is ${revision.KEY}")
    group.add_argument("--chat-model", metavar="NAME", help=f"(default {CHAT_MODEL})")
    text = f"seconds for each prompt, after which it is used as it is (default {CHAT_SECONDS:g})"
    group.add_argument("--chat-timeout", type=float, metavar="S", help=text)


def chat_of(arguments: argparse.Namespace) -> Chat | None:
    """The language model that revises prompts, where one does; ValueError for a server that cannot be one."""
    if arguments.upsample != "chat":
        given = [name for name in CHAT_FLAGS if getattr(arguments, name) is not None]
        if given:
            raise ValueError(f"{', '.join(map(flag_name, given))}: nobody is asked without --upsample chat")
        return None
    seconds = CHAT_SECONDS if arguments.chat_timeout is None else arguments.chat_timeout
    return revision.chat_backend(arguments.chat_url, arguments.chat_model or CHAT_MODEL, seconds)


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
    chat = chat_of(arguments)
    size = parse_size_or_auto(arguments.size) if arguments.size else None
    if size == AUTO:
        arguments.size = None  # each line has its own
    options = given_settings(arguments)
    image = take_image(arguments, options)
    if "image" in options:
        check_edit(options)
    if arguments.batch_size is not None and arguments.batch_size < 1:
        raise ValueError(f"--batch-size {arguments.batch_size} must be at least 1")
    pipeline = open_pipeline(
        arguments.checkpoint, arguments.decoder_checkpoint or (), arguments.dtype, arguments.variant
    )
    if described and image is not None:
        lines = [describe_line(arguments, image, options, pipeline, chat)]
    check_options(pipeline, options)
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
    if arguments.grid and len(wanted) > MAX_GRID:
        raise ValueError(f"--grid takes at most {MAX_GRID} pictures, these are {len(wanted)}")
    if arguments.format == "jpeg" and (errors := jpeg_errors(wanted)):
        raise ValueError(f"--format jpeg: {errors[0]}")
    if arguments.decoder_checkpoint and all(request.decoding.decoder == "vae" for request in wanted):
        others = " or ".join(pipeline.codec.decoders[1:])
        print(
            f"note: --decoder-checkpoint has no effect while the decoder is vae: give --decoder {others}",
            file=sys.stderr,
        )
    digest = pipeline.release.digest
    names = expand_names(arguments.name, wanted, digest) if arguments.name is not None else None
    album = open_album(arguments, [request.identity(digest) for request in wanted], names)
    if arguments.name is not None and not arguments.overwrite:
        check_free_names(album, wanted, digest)
    return functools.partial(fill_album, album, pipeline, wanted, arguments)


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


def check_options(pipeline: "Pipeline", options: dict[str, Any]) -> None:
    """ValueError for what no line could change, before any prompt is revised; a line may bring the image."""
    if "image" in options:
        pipeline.request("", **options)
    elif not pipeline.capabilities.needs_mask:
        pipeline.request("", **{name: value for name, value in options.items() if SETTINGS[name].part != "edit"})


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


def image_describer(arguments: argparse.Namespace, pipeline: "Pipeline") -> editing.Describe | None:
    """The function that describes an image: the captioner, or for a model of scenes the shipped reader of them."""
    if arguments.captioner is not None:
        from dalle3_jax.captioning.model import CaptionModel

        captioner = CaptionModel.load(arguments.captioner)
        return lambda pixels: captioner.captions([pixels])[0]
    if (lexicon := training_lexicon(pipeline.release.training)) is None:
        return None
    from dalle3_jax.reading.scene_reader import Reader

    reader = Reader.load()

    def describe(pixels: np.ndarray) -> str:
        [reading] = reader.read(pixels[None])
        things = [PlacedThing(seen.concept, seen.tint, seen.x, seen.y) for seen in reading.objects]
        return describe_scene(things, reading.background, lexicon)

    return describe


def describe_line(
    arguments: argparse.Namespace,
    image: InputImage,
    options: dict[str, Any],
    pipeline: "Pipeline",
    chat: Chat | None,
) -> PromptLine:
    """The prompt of an edit in words, or of variations, said to the user; `options` get the seed and the strength."""
    carries = bool(editing.carried_prompt(image))
    described = editing.describe_image(image, None if carries else image_describer(arguments, pipeline))
    if not carries:
        print(f"{image!r} shows: {described}", file=sys.stderr)
    first = editing.carried_seed(image)
    if arguments.variations is not None:
        options.setdefault("seed", first + 1)
        return PromptLine("--variations", {"prompt": described})
    options.setdefault("seed", first)
    training, instruction = pipeline.release.training, arguments.edit
    if not carries:
        options.setdefault("source_prompt", described)
    prompt = editing.follow_instruction(instruction, described, training, pipeline.can_read, chat)
    print(f"{shorten(instruction)} -> {prompt}", file=sys.stderr)
    return PromptLine("--edit", {"prompt": prompt, "original_prompt": instruction})


def open_album(arguments: argparse.Namespace, identities: list[str], names: dict[str, str] | None) -> Album:
    """The folder; several hosts must share it and want the same pictures, which the first of them lists."""
    import jax

    folder = arguments.outdir

    if jax.process_count() > 1:
        from dalle3_jax.runtime import processes

        processes.check_agreement(Path(folder), {"pictures": identities})
    return Album(folder, jax.process_index() == 0, names, f".{arguments.format or 'png'}")


def check_free_names(album: Album, requests: list[Request], digest: str) -> None:
    """ValueError where the name that a picture is to have is that of another one."""
    for request in requests:
        if (path := album.path(request, digest)).exists() and not album.has(request, digest):
            raise ValueError(f"{path} is there and is another picture: give another --outdir or --name, or --overwrite")


def fill_album(album: Album, pipeline: "Pipeline", requests: list[Request], arguments: argparse.Namespace) -> int:
    """Makes what the album lacks (of several hosts: of this one's share), saving each picture as its batch is done."""
    import jax

    from dalle3_jax.pipeline.batching import default_batch_size, generate_images

    mine = requests[jax.process_index() :: jax.process_count()]
    for notice in pipeline.request_notices(mine) + revision.size_notices(mine, pipeline.capabilities.sizes):
        print(f"note: {notice}", file=sys.stderr)
    digest = pipeline.release.digest
    present = [request for request in mine if not arguments.overwrite and album.has(request, digest)]
    there = set(present)
    missing = [request for request in mine if request not in there]
    if present:
        print(f"note: {len(present)} of {len(mine)} pictures are there already", file=sys.stderr)
    for request in present:
        print(album.path(request, digest))
    with progress_bar() as (bar, progress):
        # Sized by all that is wanted: a run that goes on makes the same bits as one that was never stopped.
        size = arguments.batch_size or default_batch_size(requests, pipeline.mesh.size if pipeline.mesh else 1)
        if arguments.drop_text_encoder:
            texts = [text for request in missing for text in request.texts]
            pipeline.drop_text_encoder(texts, size)
        for _, picture in generate_images(pipeline, missing, size, progress):
            bar.write(str(album.add(picture)), file=sys.stdout)
    if jax.process_count() > 1:
        list_other_hosts(album, requests, digest)
    if arguments.grid and album.writes_manifest:
        print(save_grid(album, requests, digest))
    return 0


def list_other_hosts(album: Album, requests: list[Request], digest: str) -> None:
    """Wait for the other hosts, whose pictures the first one lists; OSError where one of them is not there."""
    from dalle3_jax.runtime import processes

    processes.announce_waiting()
    processes.barrier("pictures are made")
    if album.writes_manifest and (lacking := [request for request in requests if not album.has(request, digest)]):
        raise OSError(f"{len(lacking)} pictures of other hosts cannot be seen in {album.folder}")


def prepare_repeat(arguments: argparse.Namespace) -> Callable[[], int]:
    """Checks the picture and that the release is the one that made it; returns what makes it again."""
    others = ["prompt", "prompts_file", "n", "batch_size", "size_head", "name", "format", "upsample", *CHAT_FLAGS]
    others += ["edit", "variations", "captioner"]
    others += [setting.name for setting in ordered_settings() if setting.has_flag and setting.name not in INPUTS]
    clash = [name for name in others if getattr(arguments, name) is not None]
    if clash := clash + [name for name in ("grid", "overwrite") if getattr(arguments, name)]:
        raise ValueError(f"--repeat takes its settings from the picture; leave out {', '.join(map(flag_name, clash))}")
    made = read_metadata(arguments.repeat)
    request, size, digest = request_from_metadata(made), made.get("batch_size"), str(made.get("checkpoint"))
    request = replace(request, edit=supply_inputs(request.edit, given_settings(arguments)))
    if not isinstance(size, int) or not 1 <= size <= 4096:
        raise ValueError(f"the settings in {arguments.repeat} are damaged: a batch size of {size!r}")
    pipeline = open_pipeline(
        arguments.checkpoint, arguments.decoder_checkpoint or (), arguments.dtype, arguments.variant
    )
    pipeline.check_requests([request])
    if digest != pipeline.release.digest:
        raise ValueError(
            f"{arguments.repeat} was made with the release {digest[:10]}, and {arguments.checkpoint} is "
            f"{pipeline.release.digest[:10]}: give its own --checkpoint"
        )
    album = Album(arguments.outdir)
    return functools.partial(repeat_image, album, pipeline, request, size, arguments)


def repeat_image(
    album: Album, pipeline: "Pipeline", request: Request, batch_size: int, arguments: argparse.Namespace
) -> int:
    """Makes the picture in a batch of the same size, saves it beside others as NAME.repeat.png, and compares."""
    from dalle3_jax.pipeline.batching import generate_images

    with progress_bar() as (_, progress):
        if arguments.drop_text_encoder:
            pipeline.drop_text_encoder(request.texts, batch_size)
        [(_, picture)] = generate_images(pipeline, [request], batch_size, progress)
    path = album.path(request, picture.checkpoint).with_suffix(".repeat.png")  # whose pixels are exact
    picture.save(path)
    with open_generated(arguments.repeat) as image:
        before = np.asarray(image.convert("RGB"), np.int16)
    after = np.asarray(picture.image, np.int16)
    difference = np.abs(before - after) if before.shape == after.shape else None
    print(path)
    print(difference_text(difference))
    return 0


def difference_text(difference: np.ndarray | None) -> str:
    """The difference of a repeated picture, for people."""
    if difference is None:
        return "the picture was resized since it was made"
    if not difference.any():
        return "the same in every pixel"
    return f"differs by at most {difference.max()}/255, in {(difference > 0).mean():.2%} of the values"


def flag_name(name: str) -> str:
    """The command line's name of an argument."""
    return "-n" if name == "n" else "--" + name.replace("_", "-")


def printable_prompt_line(prompt: str) -> str:
    """The prompt as one line that can be drawn."""
    return "".join(letter if letter.isprintable() else " " for letter in shorten(prompt, 160))


def save_grid(album: Album, requests: list[Request], digest: str) -> Path:
    """One sheet of all pictures with their prompts, named for what it shows."""
    identities = "".join(request.identity(digest) for request in requests)
    path = album.folder / f"grid-{hashlib.sha256(identities.encode()).hexdigest()[:10]}.png"
    cells = []
    for request in requests:
        with open_generated(album.path(request, digest)) as image:
            cells.append(SheetCell(image.convert("RGB"), (SheetLine(printable_prompt_line(request.prompt)),)))
    width = max(256, min(max(cell.image.width for cell in cells), 512))
    write_whole(path, encode_png(draw_sheet(cells, columns=math.ceil(math.sqrt(len(cells))), width=width)))
    return path
