"""Which request goes out next, and who carries it.

The `Dispatcher` gives each turn to a worker as soon as the pacer and `max_in_flight` allow, tells the pacer how the
request ended, and hands what came to whoever asked. Workers are a few tasks, which end when nothing is due; what waits
for its turn is none.

This module must not know HTTP or JSON (it is given a function that asks for a job), who waits (`_poller`), whose turn
it is (`_turns`) or how fast to send (`_pacing`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, cast
from uuid import UUID

from playai_async._backoff import TRANSIENT
from playai_async._exceptions import PlayAIError, RateLimitedError, TransportError
from playai_async._loop import Alarm
from playai_async._models import TtsJob
from playai_async._pacing import Pacer
from playai_async._settings import Pacing
from playai_async._turns import Turns
from playai_async._watch import Call, Outcome, Watch, as_outcome
from playai_async._windows import RESOLUTION

__all__ = ["Dispatcher", "Fetch", "Settle"]

logger = logging.getLogger("playai_async")

Fetch: TypeAlias = Callable[[UUID], Awaitable[TtsJob]]


class Settle(Protocol):
    """Takes what a poll brought, and whether the wait must end with it."""

    def __call__(self, watch: Watch, outcome: Outcome, *, final: bool) -> None:
        """Do so."""


class Dispatcher:
    """Sends every status request of a session.

    Args:
        fetch: Makes one status request and returns the job, or raises a `PlayAIError`.
        turns: What is to be sent.
        pacing: What is known of the quota.
        max_in_flight: Requests under way at once, at most.
        settle: Takes what a poll brought, and whether the wait must end with it. Not called where nobody waits.
        context: What requests are made in.
    """

    def __init__(
        self,
        fetch: Fetch,
        turns: Turns,
        pacing: Pacing,
        *,
        max_in_flight: int,
        settle: Settle,
        context: contextvars.Context,
    ) -> None:
        self._fetch = fetch
        self._turns = turns
        self._max_in_flight = max_in_flight
        self._settle = settle
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, context, self.pump)
        self._under_way: dict[asyncio.Task[None], Watch | Call] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._held_until = -math.inf
        self._closed = False
        self.pacer = Pacer(pacing)
        self.requests = self.throttled = self.transient_failures = 0

    @property
    def in_flight(self) -> int:
        """Count the requests under way."""
        return len(self._under_way)

    def pump(self) -> None:
        """Send what is due and allowed, and see that this is done again when it may be worth while."""
        now = self._loop.time()
        while (errand := self._next(now)) is not None:
            worker = asyncio.Task(
                self._work(errand), loop=self._loop, context=self._context.copy(), name="playai_async"
            )
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended, context=self._context)
            self._carry(worker, errand)
        if self._closed or len(self._under_way) >= self._max_in_flight:
            self._held_until = math.inf  # or until a request ends, which comes here again
        elif (when := self._turns.when(now)) > now + RESOLUTION:
            self._held_until = -math.inf
            self._alarm.set(when)  # which asks the pacer then
        else:
            self._held_until = now + self.pacer.delay(now, self._turns.waited(now))
            self._alarm.set(self._held_until)

    def nudge(self) -> None:
        """Send what was just put down, if nothing is known to hold it back; where much is, that takes no time."""
        if self._loop.time() < self._held_until:
            self._alarm.set(self._held_until)
        else:
            self.pump()

    def calls_under_way(self) -> list[Call]:
        """List the direct calls whose requests are under way."""
        return [errand for errand in self._under_way.values() if isinstance(errand, Call)]

    def stop(self) -> None:
        """Send nothing any more."""
        self._closed = True
        self._alarm.cancel()

    async def workers_gone(self) -> None:
        """See the workers off, once all they carry was given up."""
        if self._workers:
            await asyncio.wait(self._workers)

    def _next(self, now: float) -> Watch | Call | None:
        """Take the next turn, if there is one now."""
        if self._closed or len(self._under_way) >= self._max_in_flight or self._turns.when(now) > now + RESOLUTION:
            return None
        waited = self._turns.waited(now)
        if self.pacer.delay(now, waited) > 0:
            return None
        errand = cast("Watch | Call", self._turns.next(now + RESOLUTION))  # there is one: something is due
        self.pacer.sent(now, waited, self._turns.polls)
        self.requests += 1
        errand.asked = now
        if isinstance(errand, Watch):
            errand.polls += 1
        return errand

    def _carry(self, worker: asyncio.Task[None], errand: Watch | Call) -> None:
        self._under_way[worker] = errand
        errand.worker = worker

    async def _work(self, errand: Watch | Call | None) -> None:
        """Carry requests for as long as something is due."""
        worker = cast("asyncio.Task[None]", asyncio.current_task())
        while errand is not None:
            outcome = await self._request(errand)
            errand.worker = None
            if isinstance(errand, Call):
                errand.end(outcome)
            elif errand.waiters:  # none: let go of meanwhile, by a cancellation that something below has swallowed
                self._settle(errand, outcome, final=False)
            del self._under_way[worker]
            # Whoever cancelled waits for this worker to end.
            errand = None if worker.cancelling() else self._next(self._loop.time())
            if errand is not None:
                self._carry(worker, errand)
            self.pump()  # what came may let more than one go, and this worker may be held up by the next

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        # Not in a `finally` of the worker: one that is cancelled before its first step never gets there.
        self._workers.discard(worker)
        errand = self._under_way.pop(worker, None)
        if errand is None:
            return  # it has come to its end by itself, and has seen to what follows
        if errand.worker is not None:
            self.pacer.abandoned(self._loop.time())
            errand.worker = None
        # If anybody still waits, it was not us who cancelled: a framework that cancels every task it finds, say.
        lost = TransportError(f"The request for job {errand.job_id} was cut short.", job_id=errand.job_id)
        if isinstance(errand, Call):
            errand.end(lost)
        elif errand.waiters:
            self._settle(errand, lost, final=True)
        self.pump()

    async def _request(self, errand: Watch | Call) -> Outcome:
        outcome: Outcome
        try:
            outcome = await self._fetch(errand.job_id)
        except Exception as error:  # noqa: BLE001 - see `as_outcome`
            outcome = as_outcome(error, errand.job_id)
        now = self._loop.time()
        if isinstance(outcome, RateLimitedError):
            self.throttled += 1
            if self.pacer.throttled(now, errand.asked, outcome.retry_after):
                logger.info("Throttled: this session sends nothing for %.1f s.", self.pacer.paused_for(now))
        elif isinstance(outcome, TRANSIENT):
            self.transient_failures += 1
            logger.debug("Job %s: transient failure (%s).", errand.job_id, type(outcome).__name__)
            if self.pacer.failed(now, shared=bool(self._turns) or len(self._under_way) > 1):
                logger.info("Failing in a row: this session sends one request at a time.")
        else:
            done = isinstance(outcome, PlayAIError) or outcome.done
            self.pacer.accepted(now, found=done if isinstance(errand, Watch) else None)
        return outcome
