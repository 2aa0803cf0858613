"""diffusers, untyped: its constructors are wrapped by a decorator that hides their signatures."""

from typing import Any

def __getattr__(name: str) -> Any: ...
