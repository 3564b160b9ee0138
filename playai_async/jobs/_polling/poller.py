"""Opens and closes watches, keeps deadlines, and decides what the outcome of a poll means for those who wait."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable, Iterable, Iterator
from functools import partial
from weakref import WeakValueDictionary

import attrs
from tenacity import AsyncRetrying

from playai_async._settings import LAST_POLL_FRACTION, LAST_POLL_LEAD, RESOLUTION, Polling
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import JobChanged, PollPlanned, WaitEnded, WaitStarted
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._polling.forecast import Plan
from playai_async.jobs._polling.hints import HintGuard
from playai_async.jobs._polling.planner import Planner
from playai_async.jobs._polling.watch import Fetch, FutureWaiter, IsDone, Waiter, WaitSpec, Watch, WatchRegistry
from playai_async.jobs._scheduling.delay_queue import DelayQueue
from playai_async.jobs._scheduling.dispatcher import Dispatcher
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from playai_async.jobs._scheduling.request import (
    Errors,
    Failure,
    JobId,
    Outcome,
    Success,
    Throttled,
    Worker,
    cancel_worker,
    join_worker,
    unwrap,
)
from playai_async.jobs._scheduling.timers import Timer, TimeSlicer

__all__ = ["Poller"]


class Poller:
    """Waits for jobs; made and used in a running loop.

    Args:
        fetch: Makes one status request and returns the job, or raises.
        is_done: Says whether a job is finished.
        dispatcher: Sends the polls.
        planner: Plans polls by forecasts, for waits that want that.
        lifecycle: Whether new waits are accepted.
        errors: The exceptions to raise.
        emitter: Reports waits and changes of jobs.
        context: The context that callbacks run in.
    """

    def __init__(
        self,
        fetch: Fetch,
        is_done: IsDone,
        dispatcher: Dispatcher,
        planner: Planner,
        *,
        lifecycle: Lifecycle,
        errors: Errors,
        emitter: Emitter,
        context: contextvars.Context,
    ) -> None:
        self._fetch = fetch
        self._is_done = is_done
        self._dispatcher = dispatcher
        self._queue = dispatcher.queue
        self._planner = planner
        self._lifecycle = lifecycle
        self._errors = errors
        self._emitter = emitter
        self._loop = asyncio.get_running_loop()
        self._slicer = TimeSlicer(self._loop, context)
        self._timer = Timer(self._loop, context, self._expire)
        self._watches = WatchRegistry()
        self._open_waits = 0
        self._deadlines: DelayQueue[Waiter] = DelayQueue()
        self._guard = HintGuard()
        self._hints_followed = self._hints_ignored = 0
        self._rules: WeakValueDictionary[Polling, AsyncRetrying] = WeakValueDictionary()
        self._on_result = self.on_poll_result  # one bound method for all watches

    async def get(self, job_id: JobId, *, resend: bool) -> object:
        """Fetch a job once, ahead of every poll.

        Args:
            job_id: The job's id.
            resend: Whether a request that is throttled is sent again when its turn comes.

        Raises:
            Exception: What the request raised.

        A cancellation takes the request off the queue, or cancels it in flight.
        """
        send, rank = partial(self._fetch, job_id), self._loop.time()
        outcome = await self._dispatcher.request(send, job_id, rank)
        while resend and isinstance(outcome, Failure) and isinstance(outcome.verdict, Throttled):
            outcome = await self._dispatcher.request(send, job_id, rank)
        return unwrap(outcome)

    def begin(self, spec: WaitSpec) -> FutureWaiter:
        """Begin to wait for the end of a job. The caller awaits the waiter's future, and if that is cancelled, `leave`.

        Raises:
            Exception: The client is closed.
        """
        waiter = FutureWaiter(self._loop.create_future())
        if spec.finished is None:
            self.subscribe(waiter, spec)
        else:
            waiter.future.set_result(Success(spec.finished, done=True))
        return waiter

    def leave(self, waiter: Waiter) -> Awaitable[None]:
        """End a wait at once, and the polling too if nobody else waits for the job; await the end of its request."""
        return join_worker(cancel_worker(waiter.watch) if self._unsubscribe(waiter) else None)

    def subscribe(self, waiter: Waiter, spec: WaitSpec) -> None:
        """Begin a wait, until its end or `unsubscribe`.

        Raises:
            Exception: The client is closed.
        """
        self._lifecycle.check_open(spec.job_id)
        now = self._loop.time()
        watch = self._watches.find(spec.job_id, spec.polling)
        if watch is None:
            watch = self._open_watch(spec, now)
        if waiter.wants_changes and watch.job is None and watch.answered and not watch.polls:
            self._queue.schedule(watch, now)  # its first poll was planned for later
        watch.waiters.add(waiter)
        self._open_waits += 1
        waiter.join(watch, now)
        if spec.timeout is not None:
            self._set_deadline(waiter, now, spec.timeout)
        self._emitter.emit(WaitStarted(waiter, watch.job_id))
        if watch.job is not None:
            waiter.on_change(watch.job)
        self._dispatcher.nudge()

    async def unsubscribe(self, waiters: Iterable[Waiter]) -> None:
        """End waits that `subscribe` began, and wait for the requests that nobody needs any more.

        A cancellation passes through at once; the waits are ended all the same.
        """
        waiters = [waiter for waiter in waiters if waiter in waiter.watch.waiters]
        if not waiters:
            return  # all have ended; there is nothing to wait for
        workers: list[Worker] = []
        self._slicer.run(self._unsubscribing(waiters, workers))
        await self._slicer.join()
        if workers:
            await asyncio.wait(workers)

    def on_created(self, job_id: JobId, job: object) -> None:
        """Record that a job was created now, which forecasts need to know."""
        self._planner.on_created(job_id, job, self._loop.time())

    def waits_for(self, job_id: JobId) -> bool:
        """Return whether anybody waits for a job."""
        return bool(self._watches.find_all(job_id))

    def hint(self, job_id: JobId) -> bool:
        """Let the next poll of a job go first, because it may have finished; return whether that is done.

        A poll in flight may have been sent before the job finished, so one more follows it at once.
        """
        watches = self._watches.find_all(job_id)
        # A hint that was ignored is not judged again before the next poll: else every tenth repeat would be followed.
        trusted = self._guard.trusted
        fresh = [watch for watch in watches if not watch.goes_first and (trusted or watch.hint is None)]
        follows, now = bool(fresh) and self._guard.follows(), self._loop.time()
        for watch in fresh:
            watch.hint = follows
            if follows and watch.entry is not None:
                self._put_first(watch, now)
        followed = any(watch.goes_first for watch in watches)
        self._hints_followed += followed
        self._hints_ignored += not followed
        if follows:
            self._dispatcher.pump()
        return followed

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return attrs.evolve(
            self._dispatcher.stats(),
            open_waits=self._open_waits,
            distinct_jobs=len(self._watches),
            hints_followed=self._hints_followed,
            hints_ignored=self._hints_ignored,
        )

    def end_all(self) -> None:
        """End every wait and every call, since the client is closed."""
        self._dispatcher.stop()
        self._timer.cancel()
        self._slicer.run(self._closing())

    async def join(self) -> None:
        """Wait until nothing runs any more, after `end_all`."""
        await self._slicer.join()
        await self._dispatcher.join()

    def on_poll_result(self, watch: Watch, outcome: Outcome) -> None:
        """Decide what follows from the outcome of a poll: end the watch, or schedule the next poll."""
        if watch.stopped:
            return  # its waiters are being told already
        watch.returned_at = self._loop.time()
        try:
            over = not self._goes_on(watch, outcome)
        except Exception as error:  # noqa: BLE001 - a bug in one job must end its waits, and no other
            outcome, over = Failure(self._errors.wrap(error, watch.job_id)), True
        if over:
            self._stop(watch)  # at once: a caller who comes now opens a new watch
            self._slicer.run(self._ending(watch, outcome))

    def _goes_on(self, watch: Watch, outcome: Outcome) -> bool:
        now = watch.returned_at
        if isinstance(outcome, Failure):
            watch.last_error, watch.failed_at = self._kept(outcome.error, watch.job_id), now
            if isinstance(outcome.verdict, Throttled):
                watch.throttled += 1
                self._queue.schedule(watch, watch.due, watch.earliest)  # still due, for when the gate opens
                if watch.hint and not watch.hinted:
                    self._put_first(watch, now)
                return True
        if watch.hinted and isinstance(outcome, Success):
            self._judge_hints(found=outcome.done)
        watch.answered, watch.due = True, math.inf  # until it is scheduled again
        changed = isinstance(outcome, Success) and self._record_job(watch, outcome.job)
        pause = watch.backoff.pause_after(outcome)
        if pause is None:
            if watch.polling.forecast and isinstance(outcome, Success):
                self._planner.on_finished(watch, outcome.job, now)
            return False
        watch.hinted = False
        plan = self._planner.next_poll(watch, outcome, pause, now) if watch.polling.forecast else None
        if plan is None:
            due = watch.due_after(now, pause)
            watch.last_poll = due < now + pause
            self._queue.schedule(watch, due)
        else:
            self._follow(watch, plan, now)
        if watch.hint:
            self._put_first(watch, now)
        if changed:
            self._slicer.run(_changing(list(watch.waiters), watch.job))
        return True

    def _put_first(self, watch: Watch, now: float) -> None:
        """Let the queued poll of a watch go first: now, or after a failure when the pause is over."""
        # After a failure its pause is kept: otherwise hints would use up `max_failures` within seconds.
        due = watch.due if watch.backoff.failures else min(watch.due, now)
        watch.last_poll = watch.last_poll and due > now
        self._queue.put_first(watch, due)

    def _judge_hints(self, *, found: bool) -> None:
        trusted = self._guard.trusted
        self._guard.on_polled(found=found)
        self._queue.trusts_hints = self._guard.trusted
        if trusted and not self._guard.trusted:
            self._slicer.run(self._queue.forgetting_hints())

    def _follow(self, watch: Watch, plan: Plan, now: float) -> None:
        """Schedule a poll that was planned by a forecast, or the last poll before a deadline if that comes first."""
        earliest = watch.began_at + plan.earliest
        due = min(watch.began_at + plan.due, watch.due_after(now, math.inf))
        watch.last_poll = due < earliest
        self._queue.schedule(watch, due, earliest)
        if self._emitter.verbose:
            ages = (plan.expected, plan.earliest, plan.due)
            self._emitter.emit(PollPlanned(watch.job_id, *(watch.began_at + age - now for age in ages)))

    def _kept(self, error: Exception, job_id: JobId) -> Exception:
        """Return an error to keep for as long as a wait lasts: without a traceback, whose frames hold the reply."""
        return self._errors.for_waiter(error, job_id).with_traceback(None)

    def _record_job(self, watch: Watch, job: object) -> bool:
        """Record the job that a poll brought; return whether it changed."""
        previous, watch.job = watch.job, job
        if job is previous or job == previous:
            return False
        self._emitter.emit(JobChanged(watch.job_id, job, previous))
        return True

    def _open_watch(self, spec: WaitSpec, now: float) -> Watch:
        backoff = Backoff(self._rule_for(spec.polling), spec.polling.max_failures)
        watch = Watch(
            spec.job_id,
            spec.polling,
            backoff,
            fetch=self._fetch,
            is_done=self._is_done,
            on_result=self._on_result,
            returned_at=now,
        )
        self._watches.add(watch)
        plan = self._planner.first_poll(watch, spec.known, now) if spec.polling.forecast else None
        if plan is None:
            self._queue.add_first(watch, now, patient=spec.polling.forecast and self._planner.ready)
        else:
            watch.job, watch.answered = spec.known, True
            self._follow(watch, plan, now)
        return watch

    def _set_deadline(self, waiter: Waiter, now: float, timeout: float) -> None:
        watch = waiter.watch
        waiter.lead = min(LAST_POLL_LEAD, LAST_POLL_FRACTION * timeout)
        waiter.last_poll_at = now + timeout - waiter.lead
        waiter.deadline = self._deadlines.add(now + timeout, waiter)
        watch.regular_due = min(watch.regular_due, max(now, waiter.last_poll_at))
        if watch.entry is not None and now < waiter.last_poll_at < watch.due:
            watch.last_poll = watch.answered and waiter.last_poll_at < watch.earliest
            self._queue.schedule(watch, waiter.last_poll_at, watch.earliest)
        self._timer.set(now + timeout)

    def _rule_for(self, polling: Polling) -> AsyncRetrying:
        rule = self._rules.get(polling)
        if rule is None:
            rule = self._rules[polling] = poll_rule(polling)
        return rule

    def _closing(self) -> Iterator[None]:
        self._timer.cancel()  # once more: an expiry that was still running has set it again
        yield from self._dispatcher.closing_calls()
        for watch in self._watches:
            yield from self._ending(watch, Failure(self._errors.closed(watch.job_id)))

    def _unsubscribing(self, waiters: Iterable[Waiter], workers: list[Worker]) -> Iterator[None]:
        stopped: list[Watch] = []
        for waiter in waiters:
            if self._unsubscribe(waiter):
                stopped.append(waiter.watch)
            yield
        # Cancelled last, so that no freed connection goes to a poll that is about to be removed.
        workers += filter(None, map(cancel_worker, stopped))

    def _unsubscribe(self, waiter: Waiter) -> bool:
        """End a wait that its caller left, if it has not ended; return what `_remove` returns."""
        if waiter in waiter.watch.waiters:
            self._report_end(waiter, None)
        return self._remove(waiter)

    def _remove(self, waiter: Waiter) -> bool:
        """Remove a waiter; return whether that stopped its watch, whose request nobody needs any more."""
        watch = waiter.watch
        if waiter not in watch.waiters:
            return False
        watch.waiters.remove(waiter)
        self._on_removed(waiter)
        return not watch.waiters and self._stop(watch)

    def _on_removed(self, waiter: Waiter) -> None:
        self._open_waits -= 1
        if waiter.deadline is not None:
            self._deadlines.discard(waiter.deadline)

    def _stop(self, watch: Watch) -> bool:
        """Stop polling for a watch, unless it was stopped; later callers open a watch of their own."""
        if watch.stopped:
            return False
        watch.stop(self._loop.time())
        self._watches.remove(watch)
        self._queue.remove(watch)
        return True

    def _ending(self, watch: Watch, outcome: Outcome) -> Iterator[None]:
        """Hand the outcome to each waiter of a watch, one per step."""
        if self._stop(watch):
            cancel_worker(watch)
        while watch.waiters:
            waiter = watch.waiters.pop()
            ending = outcome
            if isinstance(outcome, Failure):
                ending = Failure(self._errors.for_waiter(outcome.error, watch.job_id))
            self._on_removed(waiter)
            self._end(waiter, ending)
            yield

    def _end(self, waiter: Waiter, outcome: Outcome) -> None:
        self._report_end(waiter, outcome)
        waiter.on_end(outcome)

    def _report_end(self, waiter: Waiter, outcome: Outcome | None) -> None:
        if WaitEnded not in self._emitter.kinds:
            return
        now, watch = self._loop.time(), waiter.watch
        self._emitter.emit(
            WaitEnded(
                waiter,
                started=waiter.started,
                ended=now,
                job=outcome.job if isinstance(outcome, Success) else None,
                error=outcome.error if isinstance(outcome, Failure) else None,
                polls=waiter.polls,
                throttled=watch.throttled - waiter.throttled_before,
                queued=watch.queued_for(now) - waiter.queued_before,
            )
        )

    def _expire(self) -> None:
        self._slicer.run(self._expiring(self._loop.time()))

    def _expiring(self, now: float) -> Iterator[None]:
        expired: list[Waiter] = []
        stopped: list[Watch] = []
        while (waiter := self._deadlines.take(now + RESOLUTION)) is not None:
            expired.append(waiter)
            if self._remove(waiter):
                stopped.append(waiter.watch)
            yield
        for watch in stopped:
            cancel_worker(watch)
        for waiter in expired:
            self._end(waiter, Failure(self._timed_out(waiter, now)))
            yield
        self._timer.set(self._deadlines.first_due())

    def _timed_out(self, waiter: Waiter, now: float) -> Exception:
        watch = waiter.watch
        # An error from before this wait began is not one that it met.
        last_error = None if watch.last_error is None or watch.failed_at < waiter.started else watch.last_error
        return self._errors.timed_out(
            watch.job_id,
            job=watch.job,
            last_error=None if last_error is None else self._errors.for_waiter(last_error, watch.job_id),
            elapsed=now - waiter.started,
            polls=waiter.polls,
            why=self._why_late(watch, now),
        )

    def _why_late(self, watch: Watch, now: float) -> str:
        pacer = self._dispatcher.pacer
        if pacer.pause_reason is not None:
            return f"; {pacer.pause_reason} for {pacer.paused_for(now):.0f} s more"
        return "; its poll was due and waited for its turn" if watch.queued_at(now) else ""


def _changing(waiters: list[Waiter], job: object) -> Iterator[None]:
    for waiter in waiters:  # of that moment: later callers got the job at once
        waiter.on_change(job)
        yield
