"""What waiting asks of the event loop: one alarm for many times, and long work in slices.

Callbacks run in a context of their own: they serve whoever waits, and must neither run in nor keep alive the context of
the caller at hand.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from collections.abc import Callable, Iterator

__all__ = ["Alarm", "Slices"]

_SLICE = 200
"""Steps in one round of the loop, at most. Each wakes a caller, who has work of their own: some milliseconds in all."""

_ROUND = 0.01
"""Seconds after which a round ends all the same: a step may tell of a wait to whoever listens, and they may be slow."""


class Alarm:
    """Calls back at a time, or earlier where that is simpler; whoever is called looks at the clock.

    Args:
        loop: The event loop.
        context: What to call back in.
        ring: What to call.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, context: contextvars.Context, ring: Callable[[], object]
    ) -> None:
        self._loop = loop
        self._context = context
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._when = math.inf  # kept here, since uvloop's handle of what is due at once does not know it

    def set(self, when: float) -> None:
        """Be called by that time; infinite: it does not matter."""
        if self._timer is not None:
            if self._when <= when:
                return  # an early alarm is cheap, and setting it anew at each poll is not
            self._timer.cancel()
            self._timer = None
        if when < math.inf:
            self._when = when
            self._timer = self._loop.call_at(when, self._go_off, context=self._context)

    def cancel(self) -> None:
        """Be called no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_off(self) -> None:
        self._timer = None
        self._ring()


class Slices:
    """Does long work a slice in each round of the loop, so that ten thousand waits that end at once block nobody.

    Args:
        loop: The event loop.
        context: What to work in.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._loop = loop
        self._context = context
        self._unfinished: deque[Iterator[None]] = deque()

    def do(self, work: Iterator[None]) -> None:
        """Do it after all that was begun before: the first slice now if that is nothing, the rest by itself."""
        if self._unfinished:
            self._unfinished.append(work)
        elif not self._finished(work):
            self._unfinished.append(work)
            self._loop.call_soon(self._go_on, context=self._context)

    async def done(self) -> None:
        """Wait until nothing is left to do."""
        while self._unfinished:  # noqa: ASYNC110 - a few rounds of the loop, and many slices may end at once
            await asyncio.sleep(0)

    def _go_on(self) -> None:
        # A step more for each work: what is begun faster than it is done would pile up, and deadlines with it.
        steps = _SLICE - 1 + len(self._unfinished)
        ends = self._loop.time() + _ROUND
        try:
            while steps > 0 and self._unfinished and self._loop.time() < ends:
                steps -= 1
                try:
                    next(self._unfinished[0])
                except StopIteration:
                    self._unfinished.popleft()
        except BaseException:
            self._unfinished.popleft()  # one that raises must not hold up the others
            raise
        finally:
            if self._unfinished:
                self._loop.call_soon(self._go_on, context=self._context)

    def _finished(self, work: Iterator[None]) -> bool:
        ends = self._loop.time() + _ROUND
        for _ in range(_SLICE):
            try:
                next(work)
            except StopIteration:
                return True
            if self._loop.time() >= ends:
                return False
        return False
