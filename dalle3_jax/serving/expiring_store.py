"""Values that are kept for a while, under names that nobody can guess: jobs, and files that URLs lead to."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["ExpiringStore"]

Value = TypeVar("Value")


class ExpiringStore(Generic[Value]):
    """Values by name, for `seconds` each, of at most `capacity` in all, in memory: the oldest make room.

    What is to stay unknown to others needs a name of 128 random bits.
    """

    def __init__(self, seconds: int | float, capacity: int, clock: Callable[[], float] = time.monotonic):
        """`capacity` is in the unit of the sizes that values are given: bytes, or values."""
        self._seconds, self._capacity, self._clock = seconds, capacity, clock
        self._values: OrderedDict[str, tuple[float, int, Value]] = OrderedDict()
        self._held: dict[str, tuple[int, Value]] = {}
        self.size = 0

    def hold(self, name: str, value: Value, size: int = 1) -> None:
        """Keeps a value until its expiry is begun or it is removed; it takes no room."""
        self.remove(name)
        self._held[name] = size, value

    def put(self, name: str, value: Value, size: int = 1) -> None:
        """Keeps a value for its time, from now on."""
        self.hold(name, value, size)
        self.begin_expiry(name)

    def begin_expiry(self, name: str) -> None:
        """Keeps what is held under this name, if anything is, for its time from now on."""
        if (entry := self._held.pop(name, None)) is None:
            return
        size, value = entry
        self._values[name] = self._clock() + self._seconds, size, value
        self.size += size
        self._drop_expired()
        while self.size > self._capacity and len(self._values) > 1:
            self.remove(next(iter(self._values)))

    def get(self, name: str) -> Value | None:
        """The value of this name; None where there is none, or no more."""
        self._drop_expired()
        entry = self._held.get(name) or self._values.get(name)
        return None if entry is None else entry[-1]

    def remove(self, name: str) -> None:
        """Lets go of a value, if it is there."""
        self._held.pop(name, None)
        if entry := self._values.pop(name, None):
            self.size -= entry[1]

    def _drop_expired(self) -> None:
        while self._values and next(iter(self._values.values()))[0] <= self._clock():
            self.remove(next(iter(self._values)))
