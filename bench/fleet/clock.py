"""Virtual time for a service and a client that share an event loop, so that the load of the machine changes nothing.

The loop's `time()` stands still while anything runs or arrives, and jumps to the next timer when nothing does. So every
client keeps its own defaults, a run takes only the processor time that it needs, and processor time takes no time of
the run. A request takes the latency that the service adds, and nothing else.

Some libraries read other clocks. This does not distort the results:

- playai_async, tenacity without a stop condition, and the pauses and timeouts of all SDKs use the clock of the loop.
- The aiohttp client and httpcore (below httpx) close idle connections by the machine's clock. Their pools keep
  connections longer than usual, so they connect less often.
- azure-core limits its retries to one week of wall-clock time.
- openai would limit a poll by the machine's clock, and replicate would compare a date in `Retry-After` with the wall
  clock. Neither happens in these runs.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

GRACE = 0.001
"""Real seconds without an event, after which the time jumps: what was sent on loopback has nearly always arrived."""

STEP = 0.25
"""Seconds of the longest jump, so that a machine that delivers later than that changes little."""


class VirtualSelector(selectors.DefaultSelector):
    """A selector that does not wait for timers, but counts the time for which it should have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the events that are there; if there are none, let the timeout pass, or a part of it."""
        if timeout is None:
            return super().select(None)
        step = min(timeout, STEP)
        events = super().select(0) or super().select(min(step, GRACE))
        if not events:
            self.waited += step
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self._virtual = VirtualSelector()
        super().__init__(self._virtual)
        # The loop calls everything that is due within the resolution of its clock. Without this, rounding could leave a
        # timer due a moment later, repeatedly.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        """Return the seconds for which the loop has had nothing to do."""
        return self._virtual.waited


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in virtual time, like `asyncio.run`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())
