"""Who waits for which job, until when, and what becomes of them.

A `Watch` is one job that somebody waits for: when it is due, and who waits. The `Poller` opens and closes them, keeps
the deadlines, and decides what a poll's answer means for those who wait; its `Dispatcher` sends the polls. A waiting
job is a small object and a future: no task, no connection and no timer of its own.

This module must not know HTTP or JSON, nor decide how long to pause (`_backoff`), whose turn it is (`_turns`) or how
fast to send (`_pacing`).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Iterable, Iterator
from functools import partial
from typing import cast
from uuid import UUID
from weakref import WeakValueDictionary

import attrs
from tenacity import AsyncRetrying

from playai_async._exceptions import PlayAIError, RateLimitedError, SessionClosedError
from playai_async._models import Completed, Failed, SessionStats, TtsJob, Unknown
from playai_async._settings import LAST_POLL_FRACTION, LAST_POLL_LEAD, RESOLUTION, Pacing, Polling
from playai_async._shared_quota import QuotaLink
from playai_async._telemetry.events import Telemetry
from playai_async._telemetry.pauses import Pauses
from playai_async.jobs._pacing.leased_quota import Permits
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._polling.backoff import Backoff, retrying_for
from playai_async.jobs._polling.watch import Caller, Fetch, Outcome, Waiter, Watch, Watches, as_outcome, job_of
from playai_async.jobs._scheduling.delay_queue import Timetable
from playai_async.jobs._scheduling.dispatcher import Dispatcher, Worker, give_up, gone
from playai_async.jobs._scheduling.in_flight import Slots
from playai_async.jobs._scheduling.request_queue import Turns
from playai_async.jobs._scheduling.timers import Alarm, Slices

__all__ = ["Poller"]

logger = logging.getLogger("playai_async")


class Poller:
    """Waits for jobs; to be made and used in a running loop.

    Args:
        fetch: Makes one status request and returns the job, or raises a `PlayAIError`.
        pacing: What is known of the quota.
        slots: How many requests may be under way.
        telemetry: What is told of waits and pauses.
        share: The quota that other processes share: the way to it, and what it has granted; or None.
    """

    def __init__(
        self,
        fetch: Fetch,
        pacing: Pacing,
        slots: Slots,
        telemetry: Telemetry,
        *,
        share: tuple[QuotaLink, Permits] | None = None,
    ) -> None:
        self.fetch = fetch
        self._loop = asyncio.get_running_loop()
        context = contextvars.Context()
        self._slices = Slices(self._loop, context)
        self._alarm = Alarm(self._loop, context, self._expire)
        self._turns = Turns(pacing.window)
        self._telemetry = telemetry
        pauses = Pauses("status requests", "GET", telemetry)
        pacer = Pacer(pacing, permits=None if share is None else share[1])
        self._dispatcher = Dispatcher(self._turns, pacer, pauses, slots, context=context, share=share)
        self._watches = Watches()
        self._open_waits = 0
        self._deadlines: Timetable[Waiter] = Timetable()
        self._rules: WeakValueDictionary[Polling, AsyncRetrying] = WeakValueDictionary()

    async def call(self, job_id: UUID) -> TtsJob:
        """Ask for a job once, ahead of every poll.

        Raises:
            PlayAIError: What the request met.

        A cancellation gives the turn back, or ends the request.
        """
        return await self._dispatcher.call(partial(self.fetch, job_id), job_id, self._loop.time())

    async def completion(self, job_id: UUID, polling: Polling, timeout: float | None) -> TtsJob[Completed | Failed]:
        """Wait until a job is done.

        Raises:
            PlayAIError: What ended the wait instead.

        A cancellation ends this wait at once, and the polling too if nobody else waits for the job.
        """
        caller = Caller(self._loop.create_future())
        self.join(caller, job_id, polling, timeout)
        try:
            outcome = await caller.future
        except asyncio.CancelledError:
            await gone(give_up(caller.watch) if self._let_go(caller) else None)
            raise
        return cast("TtsJob[Completed | Failed]", job_of(outcome))

    def join(self, waiter: Waiter, job_id: UUID, polling: Polling, timeout: float | None) -> None:
        """Begin to tell a waiter of a job, until its end or `let_go`.

        Raises:
            SessionClosedError: The poller has ended all.
        """
        self._dispatcher.check_open(job_id)
        now = self._loop.time()
        watch = self._watches.find(job_id, polling)
        if watch is None:
            watch = Watch(job_id, polling, Backoff(self._rule_for(polling), polling.max_failures), self, back=now)
            self._watches.add(watch)
            self._turns.put_first(watch, now)
        watch.waiters.add(waiter)
        self._open_waits += 1
        waiter.watch, waiter.since, waiter.polls_before = watch, now, watch.polls
        if timeout is not None:
            waiter.lead = min(LAST_POLL_LEAD, LAST_POLL_FRACTION * timeout)
            waiter.last_call = now + timeout - waiter.lead
            waiter.deadline = self._deadlines.add(now + timeout, waiter)
            if watch.place is not None and now < waiter.last_call < watch.due:
                watch.last = watch.answered
                self._turns.put(watch, waiter.last_call)
            self._alarm.set(now + timeout)
        self._telemetry.wait_began(waiter)
        if watch.job is not None:
            waiter.tell(watch.job)
        self._dispatcher.nudge()

    async def let_go(self, waiters: Iterable[Waiter]) -> None:
        """End what `join` began, and see off the requests that nobody needs any more.

        A cancellation passes through at once; the waiters are let go all the same.
        """
        waiters = [waiter for waiter in waiters if waiter in waiter.watch.waiters]
        if not waiters:
            return  # told already; there is nothing to wait for, least of all for those who are told later
        workers: list[Worker] = []
        self._slices.do(self._leaving(waiters, workers))
        await self._slices.done()
        if workers:
            await asyncio.wait(workers)

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return attrs.evolve(self._dispatcher.stats(), open_waits=self._open_waits, distinct_jobs=len(self._watches))

    def end_all(self) -> None:
        """End every wait and every call with `SessionClosedError`, as whatever begins from now on."""
        self._dispatcher.stop()
        self._alarm.cancel()
        self._slices.do(self._closing())

    async def gone(self) -> None:
        """See the workers off, once all has ended."""
        await self._slices.done()
        await self._dispatcher.workers_gone()

    def _rule_for(self, polling: Polling) -> AsyncRetrying:
        """Return the retry rule of some settings, shared by all waits under them."""
        rule = self._rules.get(polling)
        if rule is None:
            rule = self._rules[polling] = retrying_for(polling)
        return rule

    def _closing(self) -> Iterator[None]:
        self._alarm.cancel()  # once more: an expiry that was still being told of has set it again
        yield from self._dispatcher.ending_calls()
        for watch in self._watches:
            yield from self._ending(watch, SessionClosedError("The session was closed.", job_id=watch.job_id))

    def _leaving(self, waiters: Iterable[Waiter], workers: list[Worker]) -> Iterator[None]:
        stopped: list[Watch] = []
        for waiter in waiters:
            if self._let_go(waiter):
                stopped.append(waiter.watch)
            yield
        workers += filter(None, map(give_up, stopped))  # only now: their slots are not for those that left last

    def _let_go(self, waiter: Waiter) -> bool:
        """Let go of a waiter that wants to wait no more, if it still does; otherwise as `_leave`."""
        if waiter in waiter.watch.waiters:
            self._telemetry.wait_ended(waiter, None, self._loop.time())
        return self._leave(waiter)

    def _leave(self, waiter: Waiter) -> bool:
        """Let a waiter go; return whether that stopped its watch, whose request nobody needs any more."""
        watch = waiter.watch
        if waiter not in watch.waiters:
            return False
        watch.waiters.remove(waiter)
        self._removed(waiter)
        return not watch.waiters and self._stop(watch)

    def _removed(self, waiter: Waiter) -> None:
        self._open_waits -= 1
        if waiter.deadline is not None:
            self._deadlines.discard(waiter.deadline)

    def _stop(self, watch: Watch) -> bool:
        """Poll for a job no more, unless that is so already; whoever comes now opens a watch of their own."""
        if watch.over:
            return False
        watch.stop(self._loop.time())
        self._watches.remove(watch)
        self._turns.drop(watch)
        return True

    def _ending(self, watch: Watch, outcome: Outcome) -> Iterator[None]:
        """Tell all who wait for a job how it ended."""
        if self._stop(watch):
            give_up(watch)
        while watch.waiters:
            waiter = watch.waiters.pop()  # the first that is found would be behind the places of all found before
            # A raised exception grows the traceback of its raiser: no two waiters get the same.
            ending = outcome.for_job(watch.job_id) if isinstance(outcome, PlayAIError) else outcome
            self._removed(waiter)
            self._end(waiter, ending)
            yield

    def _end(self, waiter: Waiter, outcome: Outcome) -> None:
        self._telemetry.wait_ended(waiter, outcome, self._loop.time())
        waiter.end(outcome)

    def _expire(self) -> None:
        self._slices.do(self._expiring(self._loop.time()))

    def _expiring(self, now: float) -> Iterator[None]:
        expired: list[Waiter] = []
        stopped: list[Watch] = []
        while (waiter := self._deadlines.take(now + RESOLUTION)) is not None:
            expired.append(waiter)
            if self._leave(waiter):
                stopped.append(waiter.watch)
            yield
        for watch in stopped:
            give_up(watch)
        for waiter in expired:
            self._end(waiter, waiter.timed_out(now, why=self._why_late(waiter.watch, now)))
            yield
        self._alarm.set(self._deadlines.first())

    def _why_late(self, watch: Watch, now: float) -> str:
        pacer = self._dispatcher.pacer
        if pacer.pause_reason is not None:
            return f"; {pacer.pause_reason} for {pacer.paused_for(now):.0f} s more"
        return "; its poll was due and waited for its turn" if watch.queued_at(now) else ""

    def settle(self, watch: Watch, outcome: Outcome, *, final: bool) -> None:
        """Take in what a poll brought: end the wait, or put it down for the next poll."""
        watch.back = self._loop.time()
        try:
            over = final or not self._goes_on(watch, outcome)
        except Exception as error:  # noqa: BLE001 - see `as_outcome`
            outcome, over = as_outcome(error, watch.job_id), True
        if over:
            self._slices.do(self._ending(watch, outcome))

    def _goes_on(self, watch: Watch, outcome: Outcome) -> bool:
        now = self._loop.time()
        known = watch.job
        if isinstance(outcome, PlayAIError):
            watch.last_error, watch.failed_at = outcome, now
        else:
            watch.job = outcome
        if isinstance(outcome, RateLimitedError):
            watch.throttled += 1
            self._turns.put(watch, watch.due)  # still owed its poll: the first to go when the gate opens
            return True
        watch.answered, watch.due = True, math.inf  # until it is put down again
        if isinstance(outcome, TtsJob) and outcome is not known:
            _log_state(outcome, known)
        pause = watch.backoff.pause_after(outcome)
        if pause is None:
            return False
        due = watch.due_after(now, pause)
        watch.last = due < now + pause
        self._turns.put(watch, due)
        if isinstance(outcome, TtsJob) and outcome is not known:
            self._slices.do(_telling(list(watch.waiters), outcome))
        return True


def _log_state(job: TtsJob, known: TtsJob | None) -> None:
    """Tell the log of a state that was not seen before."""
    if not logger.isEnabledFor(logging.DEBUG) or (known is not None and known.output == job.output):
        return
    # An unknown state's name is the service's own words, which `_service` makes fit to be shown.
    status = "UNKNOWN" if isinstance(job.output, Unknown) else job.output.status
    fields = {"playai_event": "job_state", "playai_job_id": str(job.id), "playai_status": status}
    logger.debug("Job %s is %s.", job.id, status, extra=fields)


def _telling(waiters: list[Waiter], job: TtsJob) -> Iterator[None]:
    for waiter in waiters:  # of that moment: who came later was told at once, and maybe of a later state
        waiter.tell(job)
        yield
