"""The parser of arguments, errors as exit codes, the pipeline of a checkpoint, a bar of steps: for all commands."""

import argparse
import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dalle3_jax.files import LOCAL_SCHEME, local_path
from dalle3_jax.pipeline.request import SETTINGS, Setting
from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, print_error

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.prompting.chat import Chat


Arguments = TypeVar("Arguments", bound=Sequence[str])

CHAT_MODEL, CHAT_SECONDS = "gpt-4o-mini", 30.0
CHAT_FLAGS = ("chat_url", "chat_model", "chat_timeout")


class CommandParser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, and takes any text for an option of metavar TEXT."""

    def __init__(
        self, prog: str, description: str | None = None, epilog: str | None = None, allow_abbrev: bool = False
    ):
        """Takes texts for the help, whose lines stay as they are."""
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(
            prog, description=description, epilog=epilog, formatter_class=layout, allow_abbrev=allow_abbrev
        )

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> Any:
        """As argparse does it; but what follows an option that takes a text is that text, "-night" too.

        A home folder is one in `--option=~/folder` too, where shells leave it alone; file:///folder is /folder.
        """
        joined = self._join_texts(sys.argv[1:] if args is None else args)
        return super().parse_known_args(list(self._with_local_paths(joined)), namespace)

    def _with_local_paths(self, arguments: Iterable[str]) -> Iterator[str]:
        """The arguments with paths of this machine as the system takes them, those that are texts as they are."""
        before = ""
        for argument in arguments:
            option, equals, value = argument.partition("=")
            if not argument.startswith("-"):
                option, equals, value = before, "", argument
            action = self._option_string_actions.get(option)
            is_path = (equals and action is not None) or LOCAL_SCHEME.match(value)
            if is_path and not (action is not None and action.metavar == "TEXT"):
                argument = f"{option}={local_path(value)}" if equals else local_path(value)
            yield argument
            before = argument

    def _join_texts(self, arguments: Iterable[str]) -> list[str]:
        """The arguments, a text that begins with a dash as OPTION=TEXT, unless it is an option of this command."""
        texts = {name for action in self._actions if action.metavar == "TEXT" for name in action.option_strings}
        joined, rest = [], list(arguments)
        while rest:
            argument = rest.pop(0)
            if argument in texts and rest and rest[0].startswith("-") and not self._is_option(rest[0]):
                argument = f"{argument}={rest.pop(0)}"
            joined.append(argument)
        return joined

    def _is_option(self, argument: str) -> bool:
        """Whether it is an option, alone, with =VALUE, or a short one with a number, as in -n4."""
        known = self._option_string_actions
        return (
            argument == "--"
            or argument.partition("=")[0] in known
            or (argument[:2] in known and argument[2:].isdecimal())
        )

    def error(self, message: str) -> NoReturn:
        """Print the line and leave with status 2."""
        raise SystemExit(print_error(f"{message}; --help says more", EXIT_BAD_INPUT))


class CommandError(Exception):
    """An error that ends a command: the message that is its one line, and the exit code."""

    def __init__(self, message: object, code: int = EXIT_BAD_INPUT):
        super().__init__(message)
        self.code = code


def add_setting_flags(
    group: argparse._ActionsContainer, settings: Iterable[Setting], remarks: Mapping[str, str] = {}, prefix: str = ""
) -> None:
    """A flag for each of the settings, None where it is left out; `remarks` by name are added to the help.

    A `prefix` of the flags, as "upscale-", goes where the command itself says it.
    """
    for setting in settings:
        flag = "--" + setting.flag.removeprefix("--").removeprefix(prefix)
        text = setting.help + remarks.get(setting.name, "")
        group.add_argument(flag, dest=setting.name, help=text, **setting.type.flag)


def flag_name(name: str) -> str:
    """The command line's name of an argument."""
    return "-n" if name == "n" else "--" + name.replace("_", "-")


def number_errors(arguments: argparse.Namespace, least: Mapping[str, int]) -> list[str]:
    """Errors of those of the arguments that are below the least number that each may be."""
    values = {name: getattr(arguments, name, None) for name in least}
    return [
        f"{flag_name(name)} {value} must be at least {least[name]}"
        for name, value in values.items()
        if value is not None and value < least[name]
    ]


def given_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given on the command line; ValueError for one that cannot be read."""
    given = {name: getattr(arguments, name, None) for name, setting in SETTINGS.items() if setting.has_flag}
    return {name: SETTINGS[name].read(value) for name, value in given.items() if value is not None}


def add_upsampling_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of prompt upsampling."""
    from dalle3_jax.pipeline import revision

    group = parser.add_argument_group("prompt upsampling (docs/prompts.md)")
    text = "rewrite prompts as the captions that models are trained on: template (offline) or chat (a language model)"
    default = "default: what the release asks for, else none"
    group.add_argument("--upsample", choices=revision.BACKENDS, help=f"{text}; {default}")
    text = f"a server with OpenAI's /chat/completions (default: ${revision.BASE}, else {revision.OFFICIAL}); "
    group.add_argument("--chat-url", metavar="URL", help=f"{text}its key is ${revision.KEY}")
    group.add_argument("--chat-model", metavar="NAME", help=f"(default {CHAT_MODEL})")
    text = f"seconds for each prompt, after which it is used as it is (default {CHAT_SECONDS:g})"
    group.add_argument("--chat-timeout", type=float, metavar="S", help=text)


def chat_from_flags(arguments: argparse.Namespace) -> "Chat | None":
    """The language model that revises prompts, where one does; ValueError for a server that cannot be one."""
    from dalle3_jax.pipeline import revision

    if arguments.upsample != "chat":
        given = [name for name in CHAT_FLAGS if getattr(arguments, name) is not None]
        if given:
            raise ValueError(f"{', '.join(map(flag_name, given))}: nobody is asked without --upsample chat")
        return None
    seconds = CHAT_SECONDS if arguments.chat_timeout is None else arguments.chat_timeout
    return revision.chat_backend(arguments.chat_url, arguments.chat_model or CHAT_MODEL, seconds)


@contextlib.contextmanager
def bad_input(*kinds: type[Exception]) -> Iterator[None]:
    """Errors within are bad input, and end the command with status 2: ValueError, or those of the `kinds`."""
    errors = kinds or (ValueError,)
    try:
        yield
    except errors as error:
        raise CommandError(error) from None


@contextlib.contextmanager
def failures(*kinds: type[Exception], remark: str) -> Iterator[None]:
    """Errors of the `kinds` within end the command with status 1; the remark tells what remains."""
    try:
        yield
    except kinds as error:
        raise CommandError(f"{error}; {remark}", EXIT_FAILED) from None


def print_command_errors(main: Callable[[Arguments], int]) -> Callable[[Arguments], int]:
    """The command, whose CommandError becomes one line and its exit code."""

    @functools.wraps(main)
    def run(argv: Arguments) -> int:
        try:
            return main(argv)
        except CommandError as error:
            return print_error(error, error.code)

    return run


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Prints a warning within as a line on standard error: what a folder says that is passed over, or replaced."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UserWarning)
        try:
            yield
        finally:
            for message in dict.fromkeys(str(one.message) for one in caught if one.category is UserWarning):
                print(f"note: {message}", file=sys.stderr)


def add_checkpoint_flags(group: argparse._ActionsContainer) -> None:
    """The flags of the checkpoint that makes images, which `pipeline_from_flags` opens."""
    text = "a release, a workdir, a folder of diffusers, an id of the hub (organisation/name), or demo (default)"
    group.add_argument("--checkpoint", default="demo", metavar="PATH", help=text)
    text = "a checkpoint whose decoder joins in: a release, a stage, or diffusers' ConsistencyDecoderVAE"
    group.add_argument("--decoder-checkpoint", action="append", default=[], metavar="PATH", help=text)
    text = "the .safetensors file of an IP-Adapter made for the checkpoint, which then takes --image-prompt"
    group.add_argument("--adapter", metavar="FILE", help=text)
    text = "the folder of the adapter's CLIP image encoder (default: image_encoder beside the file)"
    group.add_argument("--adapter-encoder", metavar="PATH", help=text)
    group.add_argument("--dtype", metavar="NAME", help="of parameters and computation: fp32 (default), bf16 or fp16")
    text = "take the checkpoint's files of this variant, as in model.fp16.safetensors"
    group.add_argument("--variant", metavar="NAME", help=text)


def pipeline_from_flags(arguments: argparse.Namespace, all_devices: bool = False) -> "Pipeline":
    """The pipeline of the checkpoint that the flags name."""
    decoders, how = arguments.decoder_checkpoint, (arguments.dtype, arguments.variant)
    adapter = (arguments.adapter, arguments.adapter_encoder)
    return open_pipeline(arguments.checkpoint, decoders, *how, all_devices=all_devices, adapter=adapter)


def open_pipeline(
    checkpoint: str,
    decoders: Sequence[str] = (),
    dtype: str | None = None,
    variant: str | None = None,
    all_devices: bool = False,
    adapter: tuple[str | None, str | None] = (None, None),
) -> "Pipeline":
    """The pipeline, of several hosts, or where asked, on all devices of each; `adapter` is a file and its encoder.

    Imported here: help and typing errors come at once.
    """
    import jax

    from dalle3_jax.checkpoints.weights import parse_dtype
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.runtime.distributed import enable_compilation_cache

    enable_compilation_cache()
    how = {"dtype": parse_dtype(dtype or "float32"), "variant": variant, "progress": sys.stderr.isatty()}
    if (all_devices or jax.process_count() > 1) and jax.local_device_count() > 1:
        how["mesh"] = jax.sharding.Mesh(jax.local_devices(), "data")
    with warnings_as_notes():
        return Pipeline.load(checkpoint, decoders=decoders, adapter=adapter[0], adapter_encoder=adapter[1], **how)
