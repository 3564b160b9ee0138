"""What waiting asks of the event loop: one timer for many times, and long work in slices.

Callbacks run in a context of their own. They serve all callers, so they must neither run in the context of the current
caller nor keep it alive.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Callable, Iterator

__all__ = ["TimeSlicer", "Timer"]

_SLICE = 200
"""Steps in one iteration of the loop, at most. Each step wakes a caller: a few milliseconds in all."""

_MAX_SLICE_SECONDS = 0.01
"""Seconds after which a slice ends all the same, because a step may run a slow listener."""


class Timer:
    """Calls back at a time, or earlier where that is simpler; the callback looks at the clock.

    Args:
        loop: The event loop.
        context: The context to call back in.
        callback: What to call.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: contextvars.Context, callback: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._context = context
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None
        self._when = math.inf  # kept here, because uvloop's handle of a timer that is due at once does not know it

    def set(self, when: float) -> None:
        """Call back by that time, or at an earlier time that was set before."""
        if self._handle is not None:
            if self._when <= when:
                return  # an early callback is cheap, and setting the timer anew for each poll is not
            self._handle.cancel()
            self._handle = None
        if when < math.inf:
            self._when = when
            self._handle = self._loop.call_at(when, self._on_time, context=self._context)

    def cancel(self) -> None:
        """Do not call back."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_time(self) -> None:
        self._handle = None
        self._callback()


class TimeSlicer:
    """Does long work in slices, one per iteration of the loop.

    So ten thousand waits that end at once do not block the loop.

    Args:
        loop: The event loop.
        context: The context to work in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._unfinished: deque[Iterator[None]] = deque()

    def run(self, work: Iterator[None]) -> None:
        """Run work after all that was started before: short work at once, longer work slice by slice."""
        if self._unfinished:
            self._unfinished.append(work)
        elif not self._finished(work):
            self._unfinished.append(work)
            self._loop.call_soon(self._continue, context=self._context)

    async def join(self) -> None:
        """Wait until all work is finished."""
        while self._unfinished:  # noqa: ASYNC110 - a few iterations of the loop, and many slices may end at once
            await asyncio.sleep(0)

    def _continue(self) -> None:
        # A longer backlog gets more steps; otherwise it would grow, and delay deadlines.
        steps = _SLICE - 1 + len(self._unfinished)
        ends = self._loop.time() + _MAX_SLICE_SECONDS
        try:
            while steps > 0 and self._unfinished and self._loop.time() < ends:
                steps -= 1
                try:
                    next(self._unfinished[0])
                except StopIteration:
                    self._unfinished.popleft()
        except BaseException:
            self._unfinished.popleft()  # work that raises must not hold up the rest
            raise
        finally:
            if self._unfinished:
                self._loop.call_soon(self._continue, context=self._context)

    def _finished(self, work: Iterator[None]) -> bool:
        ends = self._loop.time() + _MAX_SLICE_SECONDS
        for _ in range(_SLICE):
            try:
                next(work)
            except StopIteration:
                return True
            if self._loop.time() >= ends:
                return False
        return False
