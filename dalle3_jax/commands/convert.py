"""`dalle3-jax convert`: public weights, or any checkpoint, as a release."""

from collections.abc import Sequence

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors, warnings_as_notes

EXAMPLES = """examples:
  dalle3-jax convert stable-diffusion-v1-5 release                 a folder of diffusers
  dalle3-jax convert org/name release --dtype bf16                 an id of the hub, only the files that are read
  dalle3-jax convert t5-v1_1-xxl encoder                           one network of transformers or diffusers
  dalle3-jax sample --checkpoint release --prompt "a panda on a beach"

SRC is what `dalle3-jax sample --checkpoint` takes: the folder of a Stable Diffusion 1.x, 2.x or SDXL pipeline (with its
model_index.json), of one T5, CLIP, VAE, UNet or consistency decoder (with its config.json), or a release. The weights
must be safetensors. DST says everything about itself in model.json, and is verified whenever it is loaded. What came
out of diffusers goes back into it by `dalle3-jax export DST FOLDER --format diffusers`."""


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one message and status 2."""
    parser = CommandParser("dalle3-jax convert", "Write public weights as a release.", EXAMPLES)
    parser.add_argument("source", metavar="SRC", help="a folder of diffusers or transformers, an id of the hub, ...")
    parser.add_argument("folder", metavar="DST", help="where the release goes; an older release there is replaced")
    text = "fp16, bf16, fp32, or int8 for matrices in 8 bits (default: as SRC has them, fp32 where it has several)"
    parser.add_argument("--dtype", metavar="NAME", help=text)
    text = "take SRC's files of this variant, as in model.fp16.safetensors"
    parser.add_argument("--variant", metavar="NAME", help=text)
    arguments = parser.parse_args(argv)
    with bad_input(), warnings_as_notes():
        print(convert_to_release(arguments.source, arguments.folder, arguments.dtype, arguments.variant))
    return 0


def convert_to_release(source: str, folder: str, dtype: str | None = None, variant: str | None = None) -> str:
    """Writes the release and returns a line about it; raises ValueError where a part of SRC cannot be had here."""
    from dalle3_jax.checkpoints.int8 import INT8
    from dalle3_jax.checkpoints.releases import check_target, save_release
    from dalle3_jax.checkpoints.weights import check_release_type, parse_dtype
    from dalle3_jax.loading.open import float_type, open_release, stored_dtype

    check_target(folder)
    stored = check_release_type(dtype or stored_dtype(source, variant))
    read = parse_dtype(float_type(source, variant)) if stored == INT8 else stored  # else rounded twice
    release = open_release(source, dtype=read, variant=variant, progress=True)
    save_release(folder, release, stored.name)
    return f"{folder}: {', '.join(release.modules)} as {stored.name}"
