"""Reading a public config.json: options that are supported, and one error for all that are not."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

__all__ = [
    "TRAINING_OPTIONS",
    "are_sizes",
    "check_extent",
    "is_size",
    "raise_unsupported",
    "size_errors",
    "unsupported_options",
]

MOST = 1000

TRAINING_OPTIONS = (
    *("decay", "min_decay", "optimization_step", "update_after_step", "use_ema_warmup", "inv_gamma", "power"),
    *("cur_decay_value", "ema_step", "foreach", "use_ema", "gradient_checkpointing"),
    *("dtype", "torch_dtype", "transformers_version"),
)
"""Numbers that diffusers' EMAModel leaves in the config of the network that it averaged, and others of a training."""


def unsupported_options(
    config: Mapping[str, Any],
    supported: Mapping[str, Any],
    known: Collection[str] = (),
    ignored: Collection[str] = (),
) -> list[str]:
    """A text for each option that cannot be had here.

    `supported` gives the value that an option may have, or a list, set or tuple of them; an option that is not there
    has none to check. Where `known` (read elsewhere) or `ignored` (of no meaning to the network) are given, any
    further option must be None or False. Keys that begin with "_" are notes of the library that wrote them, and
    TRAINING_OPTIONS are passed over.
    """
    errors = []
    for name, allowed in supported.items():
        values = allowed if isinstance(allowed, list | tuple | set | frozenset) else (allowed,)
        if name in config and not any(_matches_exactly(config[name], value) for value in values):
            errors.append(f"{name}={config[name]!r} (supported: {', '.join(map(repr, values))})")
    if known or ignored:
        read = {*supported, *known, *ignored, *TRAINING_OPTIONS}
        others = {name: value for name, value in config.items() if name not in read and name[:1] != "_"}
        errors += [f"{name}={value!r} (unknown option)" for name, value in others.items() if value not in (None, False)]
    return errors


def raise_unsupported(what: str, errors: Sequence[str]) -> None:
    """Raises one ValueError with all that is unsupported in a config, if there are any."""
    if errors:
        raise ValueError(f"this {what} has options that are not supported: {'; '.join(errors)}")


def check_extent(config: Mapping[str, Any]) -> None:
    """Raises ValueError for more levels, or blocks of one, than any network has: they are counted one by one."""
    numbers = {name: value if isinstance(value, list) else [value] for name, value in config.items()}
    wrong = [name for name, values in numbers.items() if len(values) > MOST]
    wrong += [
        name
        for name, values in numbers.items()
        if name.endswith("layers_per_block") and any(isinstance(n, int) and n > MOST for n in values)
    ]
    if wrong:
        raise ValueError(f"its config asks for more than {MOST} of {', '.join(wrong)}: it is damaged")


def is_size(value: Any) -> bool:
    """Whether a value is a positive whole number, of those that an axis can have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def are_sizes(values: Any) -> bool:
    """Whether a value is a list of such numbers, and not an empty one."""
    return isinstance(values, list | tuple) and len(values) > 0 and all(map(is_size, values))


def size_errors(options: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A text for each of these options that is no size."""
    return [f"{name}={options[name]!r} (a positive whole number)" for name in names if not is_size(options[name])]


def _matches_exactly(value: Any, allowed: Any) -> bool:
    """Equal, lists and tuples alike, but True is not 1."""
    if isinstance(value, list) and isinstance(allowed, list | tuple):
        return len(value) == len(allowed) and all(map(_matches_exactly, value, allowed))
    return isinstance(value, bool) == isinstance(allowed, bool) and value == allowed
