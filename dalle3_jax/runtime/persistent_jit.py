"""`jax.jit` whose traced programs later processes read from files: a second start neither traces nor compiles."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import SingleDeviceSharding

from dalle3_jax.runtime.persistent_files import describe_static, persistent_path, read_persistent, write_persistent

__all__ = ["PersistentProgram", "persistent_jit"]

PLATFORMS = ("cpu",)
"""Where this was measured."""
UNKEPT_SETTINGS = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs", "jax_no_tracing", "jax_default_device")
"""Settings of JAX under which programs are traced as usual, which they would not reach otherwise."""
UNREAD_SETTINGS = ("cache", "dump", "log")
"""Words in the names of settings that decide where things are kept or told, and not what a program computes."""


class PersistentProgram:
    """A jitted function whose StableHLO is kept in a file for every shape of its arguments, beside JAX's own cache.

    The file's name follows from all that decides the program, so that it is never out of date. It is exported once, and
    what runs is the exported program, in the process that traced it too: the same numbers at every start. Under a mesh,
    with arguments of another traced function, of trees that `jax.export` does not know, and on other devices than
    PLATFORMS' default it is `jax.jit`.
    """

    def __init__(self, function: Callable[..., Any], static_argnames: tuple[str, ...]):
        """Takes what `persistent_jit` takes."""
        functools.update_wrapper(self, function)
        self._jitted = jax.jit(function, static_argnames=static_argnames)
        self._name, self._static = function.__name__, static_argnames
        self._programs: dict[Any, Callable[..., Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the function; programs are read or made for arguments whose like was not seen before."""
        inputs = {name: value for name, value in kwargs.items() if name not in self._static}
        static = {name: value for name, value in kwargs.items() if name in self._static}
        leaves, tree = jax.tree.flatten((args, inputs))
        if not self._is_persistent(leaves):
            return self._jitted(*args, **kwargs)
        settings = tuple(jax.config.values.items())
        key = tuple(static.items()), tree, tuple(map(jax.typeof, leaves)), settings
        if key not in self._programs:
            path = self._path(static, tree, leaves)
            self._programs[key] = self._jitted if path is None else self._load(path, *args, **kwargs)
        program = self._programs[key]
        return program(*args, **kwargs) if program is self._jitted else program(*args, **inputs)

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        """The program for these arguments, as `jax.jit` lowers it."""
        return self._jitted.lower(*args, **kwargs)

    def _is_persistent(self, leaves: list[Any]) -> bool:
        """Whether the program is for one device of the default platform, and traced by no other."""
        if any(isinstance(leaf, Tracer) for leaf in leaves) or not jax.sharding.get_abstract_mesh().empty:
            return False
        if jax.default_backend() not in PLATFORMS or any(map(jax.config.values.get, UNKEPT_SETTINGS)):
            return False
        places = {leaf.sharding for leaf in leaves if isinstance(leaf, jax.Array)}
        if len(places) > 1 or not all(isinstance(place, SingleDeviceSharding) for place in places):
            return False
        return all(device.platform == jax.default_backend() for place in places for device in place.device_set)

    def _path(self, static: dict[str, Any], tree: Any, leaves: list[Any]) -> Path | None:
        """The file of the program for these arguments; None where a static one has no description."""
        try:
            described = describe_static(static)
        except TypeError:
            return None
        kinds = [(kind.shape, str(kind.dtype), kind.weak_type) for kind in map(jax.typeof, leaves)]
        settings = [
            f"{name}={value}"
            for name, value in jax.config.values.items()
            if not any(word in name for word in UNREAD_SETTINGS)
        ]
        device = jax.devices()[0]
        where = device.platform, device.device_kind, device.client.platform_version, *settings
        return persistent_path(self._name, self.__module__, described, str(tree), str(kinds), *where)

    def _load(self, path: Path, *args: Any, **kwargs: Any) -> Callable[..., Any]:
        """The program of the file, which is written where it is not there."""
        from jax import export

        if (content := read_persistent(path)) is None:
            try:
                content = bytes(export.export(self._jitted)(*args, **kwargs).serialize())
            except ValueError:  # of trees and operations that export does not know
                return self._jitted
            write_persistent(path, content)
        exported = export.deserialize(bytearray(content))

        def program(*args: Any, **inputs: Any) -> Any:
            return exported.call(*args, **inputs)

        program.__name__ = self._name
        return jax.jit(program)


def persistent_jit(static_argnames: tuple[str, ...]) -> Callable[[Callable[..., Any]], PersistentProgram]:
    """The decorator of a function that is jitted and kept; its static arguments are given by name.

    Records among the other arguments and the results must be known to `jax.export`.
    """

    def decorate(function: Callable[..., Any]) -> PersistentProgram:
        return PersistentProgram(function, static_argnames)

    return decorate
