"""`dalle3-jax export`: a release from the newest checkpoint of a training run, or folders that diffusers loads."""

from collections.abc import Sequence
from pathlib import Path

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors

DESCRIPTION = "Write the averaged weights of a run's newest good checkpoint as a release, or put decoders into one."
EXAMPLES = """examples:
  dalle3-jax export runs/demo/base release
  dalle3-jax export release complete --add runs/demo/distill --add runs/demo/distill_refiner --decoder consistency
  dalle3-jax export release folder --format diffusers      what transformers and diffusers can express of it
  dalle3-jax sample --checkpoint release --prompt "a panda on a beach\""""


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    parser = CommandParser("dalle3-jax export", DESCRIPTION, EXAMPLES)
    text = "the run's stage folder, for example runs/demo/base (runs/demo means its base), or a release as it is"
    parser.add_argument("workdir", help=text)
    parser.add_argument("folder", help="where the release goes; an older release there is replaced")
    text = "float16, bfloat16, float32, or int8 for matrices in 8 bits (default: a release's own, float16 for a run)"
    parser.add_argument("--dtype", metavar="NAME", help=text)
    text = "a release (default), or folders for transformers and diffusers"
    parser.add_argument("--format", choices=("release", "diffusers"), default="release", help=text)
    text = "a release or a finished stage whose decoder or upscaler joins in; may be given several times"
    parser.add_argument("--add", action="append", default=[], metavar="PATH", help=text)
    parser.add_argument(
        "--decoder", metavar="NAME", help="the decoder that pictures get by default: vae, consistency, ..."
    )
    arguments = parser.parse_args(argv)
    with bad_input():
        from dalle3_jax.stages.run_release import export_release

        given = Path(arguments.workdir), Path(arguments.folder), arguments.dtype, arguments.add, arguments.decoder
        for line in export_release(*given, format=arguments.format):
            print(line)
    return 0
