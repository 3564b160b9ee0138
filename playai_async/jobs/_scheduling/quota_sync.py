"""Asks a shared quota for permits, and tells it what became of them, one exchange at a time.

A task runs for each exchange and no longer: what waits for its turn waits on an alarm. Decides nothing: what to ask and
what follows from an answer is `_permits`' affair, and what is sent is `_dispatch`'s.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast

from playai_async._settings import RESOLUTION
from playai_async._shared_quota import Answer, Ask, QuotaLink
from playai_async.jobs._pacing.leased_quota import Permits
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._scheduling.timers import Alarm

__all__ = ["Exchange", "Queue"]

logger = logging.getLogger("playai_async")

_PATIENCE = 1.0
"""Seconds for one exchange: a quota that takes longer to answer is out of reach, and holds nobody up meanwhile."""

_AGAIN = 1.0
"""Seconds from an exchange that failed to the next, while there is anything to send."""

_BREATH = 0.001
"""Seconds from an answer without a permit to the next ask, at least."""

_T = TypeVar("_T")


class Queue(Protocol):
    """Those who send."""

    def wanted(self) -> tuple[int, float]:
        """Return how many requests might go now, and the seconds for which the first in the queue has been due."""
        ...

    def pump(self) -> None:
        """Send what may go."""
        ...

    def held(self, now: float) -> None:
        """Take note that a 429 of another process holds all."""
        ...


class Exchange:
    """One operation's way to a quota that other processes share; to be made and used in a running loop.

    Args:
        link: Where to ask.
        permits: What to ask and to tell.
        pacer: Whose gate a 429 of another process closes.
        queue: Whom the permits are for.
    """

    def __init__(self, link: QuotaLink, permits: Permits, pacer: Pacer, queue: Queue) -> None:
        self._link = link
        self._permits = permits
        self._pacer = pacer
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._alarm = Alarm(self._loop, self._context, self.stir)
        self._ask_at = -math.inf
        self._under_way: tuple[asyncio.Task[None], Ask] | None = None
        self._closing: asyncio.Task[None] | None = None

    def stir(self) -> None:
        """Ask and tell what there is to ask and to tell, now or when its time has come."""
        if self._closing is not None or self._under_way is not None:
            return
        now = self._loop.time()
        wanted, waited = self._queue.wanted()
        wanted = self._pacer.lets(now, wanted)
        early = now + RESOLUTION < self._ask_at
        if wanted and early:
            self._alarm.set(self._ask_at)
        if early and (self._permits.away or not self._permits.has_news(wanted)):
            return
        ask = self._permits.ask(now, wanted, waited, self._pacer.paused_for(now))
        if ask is not None:
            task = asyncio.Task(self._exchange(ask, now), loop=self._loop, context=self._context.copy())
            self._under_way = task, ask
            task.add_done_callback(self._done, context=self._context)

    async def aclose(self) -> None:
        """Tell what is left to tell, if that takes no more than a moment, and let go of the link.

        A cancellation leaves that to go on by itself; who closes again waits for it.
        """
        if self._closing is None:
            self._alarm.cancel()
            self._closing = asyncio.Task(self._close(), loop=self._loop, context=self._context.copy())
        await asyncio.wait([self._closing])

    async def _close(self) -> None:
        try:
            if self._under_way is not None:
                await asyncio.wait([self._under_way[0]])
            last = None if self._permits.away else self._permits.ask(self._loop.time(), 0, 0.0, 0.0)
            if last is not None:
                await _tried(self._link.exchange(last))
        finally:
            await _tried(self._link.aclose())

    async def _exchange(self, ask: Ask, asked: float) -> None:
        answer = await _tried(self._link.exchange(ask))
        if isinstance(answer, Exception):
            self._lost(ask, answer)
        else:
            self._take(ask, asked, answer)

    def _done(self, task: asyncio.Task[None]) -> None:
        _, ask = cast("tuple[object, Ask]", self._under_way)
        self._under_way = None
        if task.cancelled():  # not by us: by a framework that cancels every task it finds, say
            self._lost(ask, asyncio.CancelledError())
        if self._closing is None:
            self._queue.pump()  # which stirs again

    def _take(self, ask: Ask, asked: float, answer: Answer) -> None:
        now = self._loop.time()
        if self._permits.away:
            logger.info("The shared quota is back.", extra={"playai_event": "shared_quota_back"})
        self._permits.answered(now, asked, ask, answer)
        self._ask_at = now if answer.granted else now + max(answer.wait, _BREATH)
        if answer.pause is not None and self._pacer.held(now, answer.pause):
            self._queue.held(now)

    def _lost(self, ask: Ask, error: BaseException) -> None:
        now = self._loop.time()
        if not self._permits.away:
            name = type(error).__name__  # not its words, which may show a password
            fields = {"playai_event": "shared_quota_away", "playai_error": name}
            logger.warning("The shared quota is out of reach (%s): this process paces alone.", name, extra=fields)
        self._permits.lost(now, ask)
        self._ask_at = now + _AGAIN


async def _tried(attempt: Awaitable[_T]) -> _T | Exception:
    """Return what an attempt brings, within a moment, or what it raises."""
    try:
        async with asyncio.timeout(_PATIENCE):
            return await attempt
    except Exception as error:  # noqa: BLE001 - of whichever library; all mean that nobody answers
        return error
