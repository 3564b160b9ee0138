"""How many requests are in flight at once: one limit for all operations of a client.

A session limits them to the size of its connection pool, so that no request waits for a connection: that wait would
count towards the request timeout. A caller that finds the limit reached waits in line, and is called in that order.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeAlias

__all__ = ["InFlightLimiter"]

_Callback: TypeAlias = Callable[[], object]


class InFlightLimiter:
    """Limits the requests in flight.

    Args:
        limit: How many requests may be in flight.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._in_flight = 0
        self._waiting: dict[_Callback, None] = {}

    @property
    def full(self) -> bool:
        """Whether no further request may go."""
        return self._in_flight >= self.limit

    @property
    def free(self) -> int:
        """How many further requests may go."""
        return max(0, self.limit - self._in_flight)

    def acquire(self) -> None:
        """Count a request; the limit must not be reached."""
        self._in_flight += 1

    def release(self, skip: _Callback | None = None) -> None:
        """Stop counting a request, and call those who wait.

        Args:
            skip: A callback that is not called, because the caller checks by itself.
        """
        self._in_flight -= 1
        if not self._waiting:
            return
        for callback in list(self._waiting):
            if self._in_flight >= self.limit:
                return
            if callback != skip:
                self._waiting.pop(callback, None)
                callback()

    def call_when_free(self, callback: _Callback) -> None:
        """Call back once when a request may go; if the callback sends nothing, the next in line is called."""
        self._waiting[callback] = None

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """Wait until a request may go, and count it for as long as the block runs."""
        if self.full:
            await self._handed_over()
        else:
            self.acquire()
        try:
            yield
        finally:
            self.release()

    async def _handed_over(self) -> None:
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def acquire() -> None:
            if not free.done():
                self.acquire()
                free.set_result(None)

        self.call_when_free(acquire)
        try:
            await free
        except asyncio.CancelledError:
            self._waiting.pop(acquire, None)
            if not free.cancelled():  # acquired, and then cancelled
                self.release()
            raise
