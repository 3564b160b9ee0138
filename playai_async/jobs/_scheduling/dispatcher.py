"""Which request goes next, and which task sends it; `__init__` in this folder tells the whole way of a request."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Iterator
from typing import Protocol, cast

from playai_async._settings import RESOLUTION
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import PauseReason, RequestFailed
from playai_async._telemetry.pauses import PauseReporter
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from playai_async.jobs._scheduling.request import (
    Classify,
    DirectRequest,
    Errors,
    Failure,
    JobId,
    Outcome,
    Request,
    Send,
    Success,
    Throttled,
    Transient,
    Worker,
    cancel_worker,
    check_verdict,
    join_worker,
    unwrap,
)
from playai_async.jobs._scheduling.request_queue import RequestQueue
from playai_async.jobs._scheduling.timers import Timer

__all__ = ["Dispatcher"]


class Sync(Protocol):
    """What keeps a shared quota in step."""

    def wake(self) -> None:
        """Look whether there is anything to ask or to report."""
        ...

    async def aclose(self) -> None:
        """Close the link to the shared quota."""
        ...


class Dispatcher:
    """Sends the requests of one operation; made and used in a running loop.

    Args:
        queue: What is to be sent.
        pacer: When the next request may go.
        in_flight: How many requests may be in flight.
        lifecycle: Whether anything may be sent at all.
        classify: What an exception of a request means.
        errors: The exceptions to raise.
        pauses: Reports the pauses of this operation.
        emitter: Reports failed requests.
        context: The context that requests are made in.
    """

    def __init__(
        self,
        queue: RequestQueue,
        pacer: Pacer,
        in_flight: InFlightLimiter,
        *,
        lifecycle: Lifecycle,
        classify: Classify,
        errors: Errors,
        pauses: PauseReporter,
        emitter: Emitter,
        context: contextvars.Context,
    ) -> None:
        self.queue = queue
        self.pacer = pacer
        self.sync: Sync | None = None
        self._in_flight = in_flight
        self._lifecycle = lifecycle
        self._classify = classify
        self._errors = errors
        self._pauses = pauses
        self._emitter = emitter
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._timer = Timer(self._loop, context, self.pump)
        self._workers: dict[Worker, Request | None] = {}
        self._blocked_until = -math.inf
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
            in_flight=self.pacer.in_flight,
            paused_for=self.pacer.paused_for(now),
            quota=self.pacer.quota,
            queued=self.queue.queued(now),
            pause_reason=self.pacer.pause_reason,
        )

    async def call(self, send: Send, job_id: JobId | None, rank: float) -> object:
        """Make one request, ahead of every poll, and return what it brought; the arguments are those of `request`.

        Raises:
            Exception: What the request raised, or the error of a closed client.
        """
        return unwrap(await self.request(send, job_id, rank))

    async def request(self, send: Send, job_id: JobId | None, rank: float) -> Outcome:
        """Make one request, ahead of every poll, and return its outcome.

        Args:
            send: Makes the request.
            job_id: The job that it is about; None for a request that creates one.
            rank: Its rank among direct requests: the lowest goes first.

        Raises:
            Exception: The client is closed.

        A cancellation takes the request off the queue, or cancels it in flight.
        """
        self._lifecycle.check_open(job_id)
        request = DirectRequest(send, job_id, rank, self._loop.create_future())
        self.queue.add_direct(request)
        self.pump()
        try:
            return await request.future
        except asyncio.CancelledError:
            self.queue.remove_direct(request)
            await join_worker(cancel_worker(request))
            raise

    def pump(self) -> None:
        """Send what is due and allowed, and set a timer for the next time at which something may go."""
        now = self._loop.time()
        while (request := self._take_next(now)) is not None:
            worker = asyncio.Task(
                self._work(request), loop=self._loop, context=self._context.copy(), name="playai_async"
            )
            worker.add_done_callback(self._on_worker_done, context=self._context)
            self._assign(worker, request)
        if self.sync is not None:
            self.sync.wake()

    def nudge(self) -> None:
        """Send what was just queued, unless a known pause holds it back: then this takes no time."""
        if self._loop.time() < self._blocked_until:
            self._timer.set(self._blocked_until)
        else:
            self.pump()

    def demand(self) -> tuple[int, float]:
        """Return how many requests could go now, and the seconds for which the first in the queue has been due."""
        now = self._loop.time()
        free = 0 if self._lifecycle.closed else self._in_flight.free
        waited = max(0.0, now - self.queue.look(now).first_due)
        return self.queue.due_up_to(free, now + RESOLUTION), waited

    def on_held(self, now: float) -> None:
        """Record that a 429 of another process closed the gate."""
        self._start_pause("throttled", now)

    def stop(self) -> None:
        """Send nothing any more."""
        self._timer.cancel()
        self._pauses.end(self._loop.time())

    def closing_calls(self) -> Iterator[None]:
        """End every direct request, one per step, because the client is closed."""
        in_flight = [request for request in self._workers.values() if isinstance(request, DirectRequest)]
        for request in [*self.queue.take_all_direct(), *in_flight]:
            request.deliver(Failure(self._errors.closed(request.job_id)))
            cancel_worker(request)
            yield

    async def join(self) -> None:
        """Wait until the workers have ended, after all requests were cancelled; then close the shared quota."""
        try:
            if self._workers:
                await asyncio.wait(self._workers)
        finally:
            if self.sync is not None:
                await self.sync.aclose()

    def _take_next(self, now: float) -> Request | None:
        """Take the next request if it may go now; else set a timer for when to look again, and return None."""
        if self._lifecycle.closed:
            self._blocked_until = math.inf
            return None
        if self._waits_for_slot():
            return None
        turn = self.queue.look(now + RESOLUTION)
        if turn.line is None:
            self._blocked_until = -math.inf
            self._timer.set(turn.due)
            return None
        waited = now - turn.first_due if now > turn.first_due else 0.0
        delay = self.pacer.delay(now, waited, hinted=turn.skips_spacing)
        if delay > 0:
            self._blocked_until = now + delay
            self._timer.set(self._blocked_until)
            return None
        request = cast("Request", self.queue.take(turn))  # there is one: nothing has changed since the look
        self._requests += 1
        # A request that a forecast planned does not start slowly: its job is likely to be finished.
        waiting = 0 if request.planned else self.queue.polls
        request.on_sent(self.pacer.on_sent(now, waited, waiting, hinted=turn.skips_spacing))
        return request

    def _waits_for_slot(self) -> bool:
        """Return whether as many requests are in flight as may be; if so, the end of one calls `pump`."""
        if not self._in_flight.full:
            return False
        self._blocked_until = math.inf
        self._in_flight.call_when_free(self.pump)
        return True

    def _assign(self, worker: Worker, request: Request) -> None:
        self._in_flight.acquire()
        self._workers[worker] = request
        request.worker = worker

    async def _work(self, first: Request) -> None:
        """Send requests for as long as something is due."""
        worker = cast("Worker", asyncio.current_task())
        request: Request | None = first
        while request is not None:
            outcome: Outcome
            try:
                job = await request.send()
            except Exception as error:  # noqa: BLE001 - of any client
                outcome = self._failure(request, error)
            else:
                outcome = self._success(request, job)
            self._end(worker, request, outcome)
            if worker.cancelling():  # the caller that cancelled waits for this worker to end
                self.pump()
                return
            request = self._take_next(self._loop.time())
            if request is not None:
                self._assign(worker, request)
            if request is not None and not self._waits_for_slot():
                self.pump()  # the outcome may let more than one request go
            elif self.sync is not None:
                self.sync.wake()

    def _end(self, worker: Worker, request: Request, outcome: Outcome) -> None:
        """End a request: first the pacer, then the caller, then the next request."""
        self._pace(request, outcome)
        request.worker = None
        if request.wanted:  # else its caller left, and something below swallowed the cancellation
            request.deliver(outcome)
        self._workers[worker] = None
        self._in_flight.release(self.pump)

    def _on_worker_done(self, worker: Worker) -> None:
        # Not in a `finally` of the worker: a task that is cancelled before its first step never gets there.
        request = self._workers.pop(worker)
        if request is None:
            return  # its last request ended before it
        if request.worker is not None:
            request.worker = None
            self.pacer.on_abandoned(self._loop.time(), request.sent_at)
        self._in_flight.release(self.pump)
        if request.wanted:  # something outside cancelled the task, as a framework does that cancels every task
            request.deliver(Failure(self._errors.cut_short(request.job_id)))
        self.pump()

    def _success(self, request: Request, job: object) -> Outcome:
        try:
            return Success(job, bool(request.is_done(job)))
        except Exception as error:  # noqa: BLE001 - an `is_done` of the caller's ends the waits of this job, and no others
            return Failure(self._errors.wrap(error, request.job_id), answered=True)

    def _failure(self, request: Request, error: Exception) -> Failure:
        answered = self._errors.is_answer(error)
        try:
            verdict = self._classify(error)
            check_verdict(verdict)
        except Exception as broken:  # noqa: BLE001 - a `classify` of the caller's
            error, verdict = broken, None
        return Failure(self._errors.wrap(error, request.job_id), verdict, answered)

    def _start_pause(self, reason: PauseReason, now: float) -> None:
        if not self._lifecycle.closed:  # else nothing would end it
            self._pauses.start(reason, now, self.pacer.paused_for(now))

    def _pace(self, request: Request, outcome: Outcome) -> None:
        """Tell the pacer how a request ended, and report it."""
        now = self._loop.time()
        match outcome:
            case Success(done=done):
                self.pacer.on_accepted(now, request.sent_at, found=done if request.is_poll else None)
            case Failure(verdict=Throttled(retry_after=retry_after)):
                self._throttled += 1
                if self.pacer.on_throttled(now, request.sent_at, retry_after):
                    self._start_pause("throttled", now)
            case Failure(error=error, verdict=Transient(retry_after=retry_after)):
                self._failures += 1
                several = bool(self.queue) or self.pacer.in_flight > 1
                closed = self.pacer.on_failed(now, request.sent_at, several=several, retry_after=retry_after)
                self._emitter.emit(RequestFailed(request.job_id, type(error).__name__))
                if closed:
                    self._start_pause("outage", now)
            case Failure(answered=False):  # a mistake in the settings or a bug: nothing may have been sent
                self.pacer.on_abandoned(now, request.sent_at)
            case _:
                self.pacer.on_accepted(now, request.sent_at, found=True if request.is_poll else None)
        if self.pacer.pause_reason is None:
            self._pauses.end(now)
