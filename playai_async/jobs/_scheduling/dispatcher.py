"""Which request goes out next, and who carries it.

The `Dispatcher` gives each turn to a worker as soon as the pacer and a free slot allow, tells the pacer how the request
ended, and hands what came to whoever asked. Workers are a few tasks, which end when nothing is due; what waits for its
turn is none. There is one dispatcher for each operation of the service, since each has a quota of its own.

This module must not know HTTP or JSON (an errand knows how it is sent), who waits (`_poller`), whose turn it is
(`_turns`), how fast to send (`_pacing`) or how a quota is shared (`_exchange`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Iterator
from typing import cast
from uuid import UUID

from playai_async._exceptions import TRANSIENT, PlayAIError, RateLimitedError, SessionClosedError, TransportError, about
from playai_async._models import SessionStats, TtsJob
from playai_async._settings import RESOLUTION
from playai_async._shared_quota import QuotaLink
from playai_async._telemetry.pauses import Pauses
from playai_async.jobs._pacing.leased_quota import Permits
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._polling.watch import Call, Errand, Outcome, Send, Watch, as_outcome, job_of
from playai_async.jobs._scheduling.in_flight import Slots
from playai_async.jobs._scheduling.quota_sync import Exchange
from playai_async.jobs._scheduling.request_queue import Turns
from playai_async.jobs._scheduling.timers import Alarm

__all__ = ["Dispatcher", "Worker", "give_up", "gone"]

logger = logging.getLogger("playai_async")

Worker = asyncio.Task[None]


class Dispatcher:
    """Sends the requests of one operation of a session.

    Args:
        turns: What is to be sent.
        pacer: Says when the next may go.
        pauses: Tells of it where none may.
        slots: How many requests may be under way.
        context: What requests are made in.
        share: The quota that other processes share: the way to it, and what it has granted; or None.
    """

    def __init__(
        self,
        turns: Turns,
        pacer: Pacer,
        pauses: Pauses,
        slots: Slots,
        *,
        context: contextvars.Context,
        share: tuple[QuotaLink, Permits] | None = None,
    ) -> None:
        self._turns = turns
        self._slots = slots
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, context, self.pump)
        self._under_way: dict[Worker, Errand] = {}
        self._workers: set[Worker] = set()
        self._held_until = -math.inf
        self._closed = False
        self.pacer = pacer
        self._pauses = pauses
        self._exchange = None if share is None else Exchange(*share, pacer, self)
        self._requests = self._throttled = self._failures = 0

    def stats(self) -> SessionStats:
        """Return a snapshot of what was sent and is to be sent."""
        now = self._loop.time()
        return SessionStats(
            requests=self._requests,
            throttled=self._throttled,
            transient_failures=self._failures,
            open_waits=0,
            distinct_jobs=0,
            in_flight=len(self._under_way),
            paused_for=self.pacer.paused_for(now),
            quota=self.pacer.quota,
            queued=self._turns.queued(now),
            pause_reason=self.pacer.pause_reason,
        )

    async def call(self, send: Send, job_id: UUID | None, rank: float) -> TtsJob:
        """Make one request, ahead of every poll.

        Args:
            send: Makes it.
            job_id: The job that it is about, or None for one that is to be created.
            rank: Its place among calls: the lowest goes first.

        Raises:
            SessionClosedError: Nothing is sent any more.
            PlayAIError: What the request met.

        A cancellation gives the turn back, or ends the request.
        """
        self.check_open(job_id)
        call = Call(send, job_id, rank, self._loop.create_future())
        self._turns.add_call(call)
        self.pump()
        try:
            outcome = await call.future
        except asyncio.CancelledError:
            self._turns.drop_call(call)
            await gone(give_up(call))
            raise
        return job_of(outcome)

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
        if self._closed:
            self._held_until = math.inf
        elif self._slots.full:
            self._held_until = math.inf  # or until a slot is free: asked then, or after a request of its own
            self._slots.wait(self.pump)  # also with nothing to send: what is put down later counts on it
        elif (when := self._turns.when(now)) > now + RESOLUTION:
            self._held_until = -math.inf
            self._alarm.set(when)  # which asks the pacer then
        else:
            self._held_until = now + self.pacer.delay(now, self._turns.waited(now))
            self._alarm.set(self._held_until)
        if self._exchange is not None:
            self._exchange.stir()

    def wanted(self) -> tuple[int, float]:
        """Return how many requests might go now, and the seconds for which the first in the queue has been due."""
        now = self._loop.time()
        free = 0 if self._closed else self._slots.free
        return self._turns.due_up_to(free, now + RESOLUTION), self._turns.waited(now)

    def held(self, now: float) -> None:
        """Tell that a 429 of another process holds all."""
        self._pauses.began("throttled", now, self.pacer.paused_for(now))

    def nudge(self) -> None:
        """Send what was just put down, if nothing is known to hold it back; where much is, that takes no time."""
        if self._loop.time() < self._held_until:
            self._alarm.set(self._held_until)
        else:
            self.pump()

    def ending_calls(self) -> Iterator[None]:
        """End every call, one a step, since the session is closed."""
        under_way = [errand for errand in self._under_way.values() if isinstance(errand, Call)]
        for call in [*self._turns.take_calls(), *under_way]:
            call.take(SessionClosedError("The session was closed.", job_id=call.job_id), final=True)
            give_up(call)
            yield

    def stop(self) -> None:
        """Send nothing any more."""
        self._closed = True
        self._alarm.cancel()
        self._pauses.ended(self._loop.time())

    def check_open(self, job_id: UUID | None) -> None:
        """Refuse what would never be sent.

        Raises:
            SessionClosedError: Nothing is sent any more.
        """
        if self._closed:
            raise SessionClosedError("The session was closed.", job_id=job_id)

    async def workers_gone(self) -> None:
        """See the workers off, once all they carry was given up."""
        try:
            if self._workers:
                await asyncio.wait(self._workers)
        finally:
            if self._exchange is not None:
                await self._exchange.aclose()

    def _next(self, now: float) -> Errand | None:
        """Take the next turn, if there is one now."""
        if self._closed or self._slots.full or self._turns.when(now) > now + RESOLUTION:
            return None
        waited = self._turns.waited(now)
        if self.pacer.delay(now, waited) > 0:
            return None
        errand = cast("Errand", self._turns.next(now + RESOLUTION))  # there is one: something is due
        self.pacer.sent(now, waited, self._turns.polls)
        self._requests += 1
        errand.sent(now)
        return errand

    def _carry(self, worker: Worker, errand: Errand) -> None:
        self._slots.take()
        self._under_way[worker] = errand
        errand.worker = worker

    async def _work(self, errand: Errand | None) -> None:
        """Carry requests for as long as something is due."""
        worker = cast("Worker", asyncio.current_task())
        while errand is not None:
            outcome = await self._request(errand)
            errand.worker = None
            if errand.wanted:  # or else let go of meanwhile, by a cancellation that something below has swallowed
                errand.take(outcome, final=False)
            del self._under_way[worker]
            self._slots.give(self.pump)
            # Whoever cancelled waits for this worker to end.
            errand = None if worker.cancelling() else self._next(self._loop.time())
            if errand is not None:
                self._carry(worker, errand)
            self.pump()  # what came may let more than one go, and this worker may be held up by the next

    def _worker_ended(self, worker: Worker) -> None:
        # Not in a `finally` of the worker: one that is cancelled before its first step never gets there.
        self._workers.discard(worker)
        errand = self._under_way.pop(worker, None)
        if errand is None:
            return  # it has come to its end by itself, and has seen to what follows
        self._slots.give(self.pump)
        if errand.worker is not None:
            self.pacer.abandoned(self._loop.time())
            errand.worker = None
        if errand.wanted:  # then it was not us who cancelled: a framework that cancels every task it finds, say
            lost = TransportError(f"The request {about(errand.job_id)} was cut short.", job_id=errand.job_id)
            errand.take(lost, final=True)
        self.pump()

    async def _request(self, errand: Errand) -> Outcome:
        outcome: Outcome
        try:
            outcome = await errand.send()
        except Exception as error:  # noqa: BLE001 - see `as_outcome`
            outcome = as_outcome(error, errand.job_id)
        now = self._loop.time()
        if isinstance(outcome, RateLimitedError):
            self._throttled += 1
            if self.pacer.throttled(now, errand.asked, outcome.retry_after):
                self._pauses.began("throttled", now, self.pacer.paused_for(now))
        elif isinstance(outcome, TRANSIENT):
            self._failures += 1
            self._log_failure(errand, outcome)
            if self.pacer.failed(now, shared=bool(self._turns) or len(self._under_way) > 1):
                self._pauses.began("outage", now, self.pacer.paused_for(now))
        else:
            done = isinstance(outcome, PlayAIError) or outcome.done
            self.pacer.accepted(now, found=done if isinstance(errand, Watch) else None)
        if self.pacer.pause_reason is None:
            self._pauses.ended(now)
        return outcome

    @staticmethod
    def _log_failure(errand: Errand, error: PlayAIError) -> None:
        name = type(error).__name__
        job_id = None if errand.job_id is None else str(errand.job_id)
        fields = {"playai_event": "request_failed", "playai_job_id": job_id, "playai_error": name}
        logger.debug("A request %s failed (%s).", about(errand.job_id), name, extra=fields)


def give_up(errand: Errand) -> Worker | None:
    """Cancel the request under way, if there is one, and return its worker."""
    if errand.worker is not None:
        errand.worker.cancel()
    return errand.worker


async def gone(worker: Worker | None) -> None:
    """See a cancelled worker off, so that whoever lets go leaves nothing running."""
    if worker is not None:
        await asyncio.wait([worker])
