"""Passes hints between the sessions that share a quota: a hint given to any of them reaches the one that waits.

A hint may get lost, for example while Redis is away: then the job's poll comes when its turn comes. So nothing is
repeated or reported here. What a hint means is for the session to decide.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import OrderedDict, deque
from collections.abc import Callable

from playai_async._shared_quota import EXCHANGE_TIMEOUT, HintLink

__all__ = ["HintRelay"]

_MIN_INTERVAL = 1.0
"""Seconds between two hints about one job, at least. One that comes sooner is dropped."""

_RECONNECT_PAUSE = 1.0
"""Seconds from a lost connection to the next attempt."""

_MAX_UNSENT = 1_024
"""Hints that wait to be sent. Further ones are dropped."""


class HintRelay:
    """Sends and receives hints for one session; made and used in a running loop.

    Args:
        link: Where hints go and come from.
        on_hint: Called with each hint of another session.
    """

    def __init__(self, link: HintLink, on_hint: Callable[[str], object]) -> None:
        self._link = link
        self._on_hint = on_hint
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._sent_at: OrderedDict[str, float] = OrderedDict()
        self._unsent: deque[str] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._listener = asyncio.Task(self._listen(), loop=self._loop, context=self._context.copy())

    def send(self, hint: str) -> None:
        """Send a hint to the other sessions, unless the last one about the same job was sent within a second."""
        now = self._loop.time()
        while self._sent_at and next(iter(self._sent_at.values())) <= now - _MIN_INTERVAL:
            self._sent_at.popitem(last=False)
        if self._closing is not None or hint in self._sent_at or len(self._unsent) >= _MAX_UNSENT:
            return
        self._sent_at[hint] = now
        self._unsent.append(hint)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.Task(self._send_all(), loop=self._loop, context=self._context.copy())

    async def aclose(self) -> None:
        """Close the link. After a cancellation the closing goes on by itself; closing again waits for it."""
        if self._closing is None:
            self._closing = asyncio.Task(self._close(), loop=self._loop, context=self._context.copy())
        await asyncio.wait([self._closing])

    async def _close(self) -> None:
        tasks = [task for task in (self._listener, self._sender) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        with contextlib.suppress(Exception):  # of any library; there is nothing left to do
            async with asyncio.timeout(EXCHANGE_TIMEOUT):
                await self._link.aclose()

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # of any library; each means that the connection is lost
                async with contextlib.aclosing(self._link.hints()) as hints:
                    async for hint in hints:
                        self._on_hint(hint)
            await asyncio.sleep(_RECONNECT_PAUSE)

    async def _send_all(self) -> None:
        while self._unsent:
            try:
                async with asyncio.timeout(EXCHANGE_TIMEOUT):
                    await self._link.send(self._unsent.popleft())
            except Exception:  # noqa: BLE001 - of any library; when the link works again, these hints are too old
                self._unsent.clear()
