"""When this thread compiles a program, as JAX itself tells."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import jax

__all__ = ["watch_compilations"]

STAGES = {
    "/jax/core/compile/jaxpr_to_mlir_module_duration": True,
    "/jax/core/compile/backend_compile_duration": False,
}
"""JAX's events after which a program is compiled, and after which it has been."""


@contextlib.contextmanager
def watch_compilations(tell: Callable[[bool], object]) -> Iterator[None]:
    """Within, `tell` is called when this thread begins to compile a program (True) and when it is compiled (False)."""
    thread = threading.get_ident()

    def listen(event: str, duration_secs: float, **details: str | int) -> None:
        if event in STAGES and threading.get_ident() == thread:
            tell(STAGES[event])

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
