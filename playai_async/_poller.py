"""Who waits for which job, and which request goes out next.

A `Watch` is one job that somebody waits for: when it is due, and who waits. The `Poller` keeps them in one heap by due
time, sends the longest due as soon as the pacer and `max_in_flight` allow, and tells its waiters what came. A
waiting job is a small object and a future: no task, no connection and no timer of its own. Requests are carried by a
few worker tasks, which end when nothing is due.

This module must not know HTTP or JSON (it is given a function that asks for a job), nor decide how long to pause
(`_backoff`) or how fast to send (`_pacing`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast
from uuid import UUID
from weakref import WeakValueDictionary

from tenacity import AsyncRetrying

from playai_async._backoff import TRANSIENT, Backoff, retrying_for
from playai_async._exceptions import PlayAIError, RateLimitedError, SessionClosedError, TransportError
from playai_async._models import Completed, Failed, SessionStats, TtsJob
from playai_async._pacing import RESOLUTION, Pacer
from playai_async._settings import LAST_POLL_LEAD, LAST_POLL_SHARE, Pacing, Polling
from playai_async._timetable import Timetable
from playai_async._watch import Call, Follower, Outcome, Waiter, Watch, as_outcome, job_of

__all__ = ["Poller"]

logger = logging.getLogger("playai_async")

Fetch: TypeAlias = Callable[[UUID], Awaitable[TtsJob]]


class Poller:
    """Sends every status request of a session; to be made and used in a running loop.

    Args:
        fetch: Makes one status request and returns the job, or raises a `PlayAIError`.
        pacing: What is known of the quota.
        max_in_flight: Requests under way at once, at most.
    """

    def __init__(self, fetch: Fetch, pacing: Pacing, *, max_in_flight: int) -> None:
        self._fetch = fetch
        self._quota = pacing.requests_per_window
        self._max_in_flight = max_in_flight
        self._pacer = Pacer(pacing)
        self._loop = asyncio.get_running_loop()
        # Requests serve whoever waits: they must neither run in nor keep alive the context of the caller at hand.
        self._context = contextvars.Context()
        self._watches: dict[tuple[UUID, Polling], Watch] = {}
        self._rules: WeakValueDictionary[Polling, AsyncRetrying] = WeakValueDictionary()
        self._due: Timetable[Watch] = Timetable()
        self._deadlines: Timetable[Waiter] = Timetable()
        self._calls: OrderedDict[Call, None] = OrderedDict()
        self._under_way: dict[asyncio.Task[None], Watch | Call] = {}
        self._workers: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._requests = self._throttled = self._transient_failures = 0

    async def call(self, job_id: UUID) -> TtsJob:
        """Ask for a job once, ahead of every poll.

        Raises:
            PlayAIError: What the request met.

        A cancellation gives the turn back, or ends the request.
        """
        call = Call(job_id, self._loop.create_future())
        self._calls[call] = None
        self._pump()
        try:
            outcome = await call.future
        except asyncio.CancelledError:
            self._calls.pop(call, None)
            await _ended(_give_up(call))
            raise
        return job_of(outcome)

    async def completion(self, job_id: UUID, polling: Polling, timeout: float | None) -> TtsJob[Completed | Failed]:
        """Wait until a job is done.

        Raises:
            PlayAIError: What ended the wait instead.

        A cancellation ends this wait at once, and the polling too if nobody else waits for the job.
        """
        waiter = Waiter(self._loop.create_future())
        self._join(waiter, job_id, polling, timeout)
        try:
            outcome = await waiter.future
        except asyncio.CancelledError:
            await _ended(self._leave(waiter))
            raise
        return cast("TtsJob[Completed | Failed]", job_of(outcome))

    def follow(self, job_id: UUID, polling: Polling, timeout: float | None) -> Follower:
        """Begin to note a job's changes, until `let_go`."""
        follower = Follower(self._loop.create_future())
        self._join(follower, job_id, polling, timeout)
        return follower

    async def let_go(self, follower: Follower) -> None:
        """End what `follow` began, and see off the request that nobody needs any more."""
        await _ended(self._leave(follower))

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return SessionStats(
            requests=self._requests,
            throttled=self._throttled,
            transient_failures=self._transient_failures,
            open_waits=sum(len(watch.waiters) for watch in self._watches.values()),
            distinct_jobs=len({job_id for job_id, _ in self._watches}),
            in_flight=len(self._under_way),
            paused_for=self._pacer.paused_for(self._loop.time()),
            quota=self._quota,
        )

    async def close(self) -> None:
        """End every wait and every call with `SessionClosedError`, and see the workers off."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in [
            *self._calls,
            *(errand for errand in self._under_way.values() if isinstance(errand, Call)),
        ]:
            call.end(SessionClosedError("The session was closed.", job_id=call.job_id))
            _give_up(call)
        self._calls.clear()
        for watch in list(self._watches.values()):
            self._end(watch, SessionClosedError("The session was closed.", job_id=watch.job_id))
        if self._workers:
            await asyncio.wait(self._workers)

    def _join(self, waiter: Waiter, job_id: UUID, polling: Polling, timeout: float | None) -> None:
        now = self._loop.time()
        key = job_id, polling
        watch = self._watches.get(key)
        if watch is None:
            rule = self._rules.get(polling)
            if rule is None:
                rule = self._rules[polling] = retrying_for(polling)
            watch = self._watches[key] = Watch(job_id, polling, Backoff(rule, polling.max_failures))
            self._put_down(watch, now)
        watch.waiters.add(waiter)
        waiter.watch, waiter.since, waiter.polls_before = watch, now, watch.polls
        if timeout is not None:
            waiter.lead = min(LAST_POLL_LEAD, LAST_POLL_SHARE * timeout)
            waiter.last_call = now + timeout - waiter.lead
            waiter.deadline = self._deadlines.add(now + timeout, waiter)
            if watch.place is not None and now < waiter.last_call < watch.due:
                self._put_down(watch, waiter.last_call, last=True)
        if watch.job is not None:
            waiter.tell(watch.job)
        self._pump()

    def _leave(self, waiter: Waiter) -> asyncio.Task[None] | None:
        """Let a waiter go; return the worker whose request nobody needs any more, already cancelled."""
        watch = waiter.watch
        if waiter not in watch.waiters:
            return None
        watch.waiters.remove(waiter)
        if waiter.deadline is not None:
            self._deadlines.discard(waiter.deadline)
        return None if watch.waiters else self._drop(watch)

    def _drop(self, watch: Watch) -> asyncio.Task[None] | None:
        del self._watches[watch.job_id, watch.polling]
        if watch.place is not None:
            self._due.discard(watch.place)
            watch.place = None
        return _give_up(watch)

    def _end(self, watch: Watch, outcome: Outcome) -> None:
        """Tell all who wait for a job how it ended."""
        for waiter in list(watch.waiters):
            # A raised exception grows the traceback of its raiser: no two waiters get the same.
            ending = outcome.for_job(watch.job_id) if isinstance(outcome, PlayAIError) else outcome
            self._leave(waiter)
            waiter.end(ending)

    def _expire(self, now: float) -> None:
        while (waiter := self._deadlines.take(now + RESOLUTION)) is not None:
            self._leave(waiter)
            waiter.end(waiter.timed_out(now, paused_for=self._pacer.paused_for(now)))

    def _pump(self) -> None:
        """Send what is due and allowed, and set the timer for what comes next."""
        now = self._loop.time()
        while (errand := self._next(now)) is not None:
            worker = asyncio.Task(
                self._work(errand), loop=self._loop, context=self._context.copy(), name="playai_async"
            )
            self._workers.add(worker)
            worker.add_done_callback(self._worker_ended, context=self._context)
            self._carry(worker, errand)
        self._set_timer(now)

    def _next(self, now: float) -> Watch | Call | None:
        """Take the next turn, if there is one now: direct calls first, then the poll that has been due longest."""
        if self._closed or len(self._under_way) >= self._max_in_flight or self._pacer.delay(now) > 0:
            return None
        errand = self._next_call() or self._next_poll(now)
        if errand is not None:
            self._pacer.sent(now)
            self._requests += 1
        return errand

    def _next_call(self) -> Call | None:
        return self._calls.popitem(last=False)[0] if self._calls else None

    def _next_poll(self, now: float) -> Watch | None:
        watch = self._due.take(now + RESOLUTION)
        if watch is not None:
            watch.place = None
            watch.asked = now
            watch.polls += 1
        return watch

    def _set_timer(self, now: float) -> None:
        wake = self._deadlines.first()
        if len(self._under_way) < self._max_in_flight:
            due = now if self._calls else self._due.first()
            wake = min(wake, max(due, now + self._pacer.delay(now)))
        if self._timer is not None:
            if self._timer.when() <= wake:
                return  # an early alarm is cheap, and setting it anew at each poll is not
            self._timer.cancel()
            self._timer = None
        if wake < math.inf and not self._closed:
            self._timer = self._loop.call_at(wake, self._on_timer, context=self._context)

    def _on_timer(self) -> None:
        self._timer = None
        self._expire(self._loop.time())
        self._pump()

    def _put_down(self, watch: Watch, due: float, *, last: bool = False) -> None:
        if watch.place is not None:
            self._due.discard(watch.place)
        watch.due, watch.last = due, last
        watch.place = self._due.add(due, watch)

    async def _work(self, errand: Watch | Call | None) -> None:
        """Carry requests for as long as something is due."""
        worker = cast("asyncio.Task[None]", asyncio.current_task())
        while errand is not None:
            outcome = await self._request(errand.job_id)
            errand.worker = None
            if isinstance(errand, Call):
                errand.end(outcome)
            elif errand.waiters:  # none: let go of meanwhile, by a cancellation that something below has swallowed
                try:
                    self._settle(errand, outcome)
                except Exception as error:  # noqa: BLE001 - see `as_outcome`
                    self._end(errand, as_outcome(error, errand.job_id))
            del self._under_way[worker]
            if worker.cancelling():
                return  # whoever cancelled waits for this worker to end
            errand = self._next(self._loop.time())
            if errand is not None:
                self._carry(worker, errand)
            self._pump()  # what came may let more than one go, and this worker may be held up by the next

    def _carry(self, worker: asyncio.Task[None], errand: Watch | Call) -> None:
        self._under_way[worker] = errand
        errand.worker = worker

    def _worker_ended(self, worker: asyncio.Task[None]) -> None:
        # Not in a `finally` of the worker: one that is cancelled before its first step never gets there.
        self._workers.discard(worker)
        errand = self._under_way.pop(worker, None)
        if errand is not None:
            if errand.worker is not None:
                self._pacer.abandoned(self._loop.time())
                errand.worker = None
            # If anybody still waits, it was not us who cancelled: a framework that cancels every task it finds, say.
            lost = TransportError(f"The request for job {errand.job_id} was cut short.", job_id=errand.job_id)
            if isinstance(errand, Call):
                errand.end(lost)
            else:
                self._end(errand, lost)
        self._pump()

    async def _request(self, job_id: UUID) -> Outcome:
        outcome: Outcome
        try:
            outcome = await self._fetch(job_id)
        except Exception as error:  # noqa: BLE001 - see `as_outcome`
            outcome = as_outcome(error, job_id)
        now = self._loop.time()
        if isinstance(outcome, RateLimitedError):
            self._throttled += 1
            if self._pacer.throttled(now, outcome.retry_after):
                logger.info("Throttled: this session sends nothing for %.1f s.", self._pacer.paused_for(now))
        elif isinstance(outcome, TRANSIENT):
            self._transient_failures += 1
            self._pacer.failed(now)
            logger.debug("Job %s: transient failure (%s).", job_id, type(outcome).__name__)
        else:
            self._pacer.accepted(now)
        return outcome

    def _settle(self, watch: Watch, outcome: Outcome) -> None:
        """Take in what a poll brought: end the wait, or put it down for the next poll."""
        now = self._loop.time()
        if isinstance(outcome, PlayAIError):
            watch.last_error, watch.failed_at = outcome, now
        else:
            watch.job = outcome
        if isinstance(outcome, RateLimitedError):
            self._put_down(
                watch, watch.due, last=watch.last
            )  # still owed its poll: the first to go when the gate opens
            return
        pause = watch.backoff.pause_after(outcome)
        if pause is None:
            self._end(watch, outcome)
            return
        due = watch.due_after(now, pause)
        self._put_down(watch, due, last=due < now + pause)
        if isinstance(outcome, TtsJob):
            for waiter in list(watch.waiters):
                waiter.tell(outcome)


def _give_up(errand: Watch | Call) -> asyncio.Task[None] | None:
    """Cancel the request under way, if there is one, and return its worker."""
    if errand.worker is not None:
        errand.worker.cancel()
    return errand.worker


async def _ended(worker: asyncio.Task[None] | None) -> None:
    """See a cancelled worker off, so that whoever lets go leaves nothing running."""
    if worker is not None:
        await asyncio.wait([worker])
