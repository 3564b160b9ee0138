"""Virtual time without sockets: an event loop that jumps to its next timer."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RESOLUTION = 1e-9
"""Seconds that count as now, against the rounding errors of floats."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that waits for no time at all: it moves the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing is scheduled: the run hangs"
        self.now += max(0.0, timeout)
        return []


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time; several times faster than one that also has sockets to look after."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)
        self._clock_resolution = RESOLUTION

    def time(self) -> float:
        """Return the virtual time."""
        return self._jumping.now


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in virtual time, like `asyncio.run`."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(main())
