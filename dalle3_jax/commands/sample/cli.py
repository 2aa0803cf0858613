"""The flags of `dalle3-jax sample`."""

import argparse

from dalle3_jax.commands.cli import CommandParser, add_checkpoint_flags, add_setting_flags, flag_name
from dalle3_jax.pipeline import revision
from dalle3_jax.pipeline.image_formats import FORMATS
from dalle3_jax.pipeline.request import SETTINGS, ordered_settings
from dalle3_jax.prompting.chat import Chat
from dalle3_jax.runtime.cluster import add_host_flags

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

CHAT_MODEL, CHAT_SECONDS = "gpt-4o-mini", 30.0
CHAT_FLAGS = ("chat_url", "chat_model", "chat_timeout")


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
