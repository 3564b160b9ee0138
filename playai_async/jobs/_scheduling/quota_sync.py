"""Keeps a `LeasedQuota` in step with the shared quota: asks for permits and reports, one exchange at a time.

A task runs for each exchange and no longer; between exchanges there is a timer. What to ask, and what an answer means,
is decided in `jobs/_pacing/leased_quota`.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast

from playai_async._settings import MAX_RETRY_AFTER, RESOLUTION
from playai_async._shared_quota import EXCHANGE_TIMEOUT, Answer, Ask, QuotaLink
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import SharedQuotaLost, SharedQuotaRegained
from playai_async.jobs._pacing.leased_quota import LeasedQuota
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._scheduling.timers import Timer

__all__ = ["QuotaSync", "Sender"]

_RETRY_PAUSE = 1.0
"""Seconds from a failed exchange to the next, while there is anything to send."""

_MIN_INTERVAL = 0.001
"""Seconds from an exchange that changed nothing to the next, at least."""

_T = TypeVar("_T")


class Sender(Protocol):
    """The dispatcher that the permits are for."""

    def demand(self) -> tuple[int, float]:
        """Return how many requests could go now, and the seconds for which the first in the queue has been due."""
        ...

    def pump(self) -> None:
        """Send what may go."""
        ...

    def on_held(self, now: float) -> None:
        """Record that a 429 of another process closed the gate."""
        ...


class QuotaSync:
    """The exchanges with a shared quota, for one operation; made and used in a running loop.

    Args:
        link: Where to ask.
        quota: What to ask and to report.
        pacer: Its gate closes for a 429 that another process met.
        sender: The dispatcher that needs permits.
        emitter: Reports that the quota is lost and regained.
    """

    def __init__(self, link: QuotaLink, quota: LeasedQuota, pacer: Pacer, sender: Sender, emitter: Emitter) -> None:
        self._link = link
        self._quota = quota
        self._pacer = pacer
        self._sender = sender
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.Context()
        self._timer = Timer(self._loop, self._context, self.wake)
        self._ask_at = -math.inf  # for permits
        self._rest_until = -math.inf  # no exchange starts before
        self._exchanging: tuple[asyncio.Task[None], Ask] | None = None
        self._closing: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Start an exchange if there is something to ask or report, now or when its time has come."""
        if self._closing is not None or self._exchanging is not None:
            return
        now = self._loop.time()
        wanted, waited = self._sender.demand()
        wanted = self._pacer.allowed(now, wanted)
        reports = self._quota.has_report(wanted) and not self._quota.away
        start_at = self._rest_until if reports else max(self._rest_until, self._ask_at)
        if now + RESOLUTION < start_at:
            if wanted or reports:
                self._timer.set(start_at)
            return
        ask = self._quota.ask(now, wanted, waited, self._pacer.paused_for(now))
        if ask is not None:
            # Only an answer makes it shorter: whatever fails or raises, there is one exchange in this time.
            self._rest_until = now + _RETRY_PAUSE
            task = asyncio.Task(self._exchange(ask, now), loop=self._loop, context=self._context.copy())
            self._exchanging = task, ask
            task.add_done_callback(self._on_exchanged, context=self._context)

    async def aclose(self) -> None:
        """Report what is left, if that takes at most a second, and close the link.

        After a cancellation the closing goes on by itself; closing again waits for it.
        """
        if self._closing is None:
            self._timer.cancel()
            self._closing = asyncio.Task(self._close(), loop=self._loop, context=self._context.copy())
        await asyncio.wait([self._closing])

    async def _close(self) -> None:
        try:
            if self._exchanging is not None:
                await asyncio.wait([self._exchanging[0]])
            last = None if self._quota.away else self._quota.ask(self._loop.time(), 0, 0.0, 0.0)
            if last is not None:
                await _attempt(self._link.exchange(last))
        finally:
            await _attempt(self._link.aclose())

    async def _exchange(self, ask: Ask, asked: float) -> None:
        answer = await _attempt(self._link.exchange(ask))
        if isinstance(answer, Exception):
            self._on_lost(ask, answer)
        else:
            self._on_answer(ask, asked, answer)

    def _on_exchanged(self, task: asyncio.Task[None]) -> None:
        _, ask = cast("tuple[object, Ask]", self._exchanging)
        self._exchanging = None
        # Cancelled not by us, but by a framework that cancels every task it finds; or an answer that cannot be used.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._on_lost(ask, error)
        if self._closing is None:
            self._sender.pump()  # which calls `wake` again

    def _on_answer(self, ask: Ask, asked: float, answer: Answer) -> None:
        now = self._loop.time()
        was_away = self._quota.away
        self._quota.on_answer(now, asked, ask, answer)
        pause = None if answer.pause is None else min(answer.pause, MAX_RETRY_AFTER)
        longest = max(self._quota.windows.window, pause or 0.0)
        self._ask_at = now if answer.granted else now + min(max(answer.wait, _MIN_INTERVAL), longest)
        if was_away:
            self._emitter.emit(SharedQuotaRegained())
        if pause is not None and self._pacer.hold(now, pause):
            self._sender.on_held(now)
        # A permit may be asked for, given back, and asked for again; but not in a busy loop.
        self._rest_until = now + _MIN_INTERVAL if ask.unused and answer.granted else now

    def _on_lost(self, ask: Ask, error: BaseException) -> None:
        now = self._loop.time()
        was_away = self._quota.away
        self._quota.on_lost(now, ask)
        self._rest_until = now + _RETRY_PAUSE
        if not was_away:
            self._emitter.emit(SharedQuotaLost(type(error).__name__))  # its message may show a password


async def _attempt(attempt: Awaitable[_T]) -> _T | Exception:
    """Return the result of an attempt, within a second, or the exception that it raised."""
    try:
        async with asyncio.timeout(EXCHANGE_TIMEOUT):
            return await attempt
    except Exception as error:  # noqa: BLE001 - of any library; each means that nobody answers
        return error
