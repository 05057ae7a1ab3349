"""An event loop whose time stands still while anything can run, and then leaps to the next timer.

A day of waiting costs nothing, and nothing depends on how fast the machine is: what runs when follows from the program.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any


class NothingLeft(RuntimeError):
    """Every task waits for something that no timer and no task will bring."""


class _Leap(selectors.BaseSelector):
    """A selector without files: waiting moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise NothingLeft("all tasks wait, and no timer is set")
        self.now += max(timeout, 0.0)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        raise KeyError(fileobj)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Tasks run in the order in which they became ready; `time` is seconds since the loop was made."""

    def __init__(self) -> None:
        self._leap = _Leap()
        super().__init__(self._leap)

    def time(self) -> float:
        return self._leap.now
