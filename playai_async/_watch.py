"""Who waits: a job that somebody waits for, those who do, and calls that wait for their turn.

Plain objects that the poller moves about, each a few hundred bytes, since there are ten thousand of them. They hand
over what they are told and decide nothing: no loop of their own, no clock, no I/O.
"""

from __future__ import annotations

import asyncio
import math
from typing import TypeAlias
from uuid import UUID

import attrs

from playai_async._backoff import Backoff
from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import TtsJob
from playai_async._pacing import RESOLUTION
from playai_async._settings import Polling
from playai_async._timetable import Entry

__all__ = ["Call", "Follower", "Outcome", "Waiter", "Watch", "as_outcome", "job_of"]

Outcome: TypeAlias = TtsJob | PlayAIError
"""What a request or a wait brought. Errors travel as values: one set on a future that nobody awaits gets logged."""


def job_of(outcome: Outcome) -> TtsJob:
    """Return the job, or raise the error."""
    if isinstance(outcome, PlayAIError):
        raise outcome
    return outcome


def as_outcome(error: Exception, job_id: UUID) -> PlayAIError:
    """Give what must never happen a documented face: a bug in one job must end that wait, and no other."""
    if isinstance(error, PlayAIError):
        return error
    outcome = PlayAIError(f"Waiting for job {job_id} met a bug ({type(error).__name__}).", job_id=job_id)
    outcome.__cause__ = error
    return outcome


@attrs.define(eq=False)
class Call:
    """A direct call that waits for its turn, or for its answer."""

    job_id: UUID
    future: asyncio.Future[Outcome]
    worker: asyncio.Task[None] | None = None

    def end(self, outcome: Outcome) -> None:
        """Hand over what came, unless the caller has gone."""
        if not self.future.done():
            self.future.set_result(outcome)


@attrs.define(eq=False)
class Watch:
    """One job that somebody waits for."""

    job_id: UUID
    polling: Polling
    backoff: Backoff
    waiters: set[Waiter] = attrs.field(factory=set["Waiter"])
    due: float = 0.0
    last: bool = False
    asked: float = 0.0
    place: Entry | None = None
    worker: asyncio.Task[None] | None = None
    job: TtsJob | None = None
    last_error: PlayAIError | None = None
    failed_at: float = -math.inf
    polls: int = 0

    def due_after(self, now: float, pause: float) -> float:
        """Return when the next poll is due: after the pause, or earlier for those whose deadline that would overrun.

        No later than just before such a deadline; at once, if that moment passed while the last poll was under way.
        One last poll serves all whose own would follow within their lead: a hundred deadlines need no hundred polls.
        """
        asked = (
            self.asked + RESOLUTION
        )  # a timer may fire that early, and the poll it sends is the last one all the same
        last_calls = [
            max(now, waiter.last_call)
            for waiter in self.waiters
            if waiter.last_call > asked + (waiter.lead if self.last else 0.0)
        ]
        return min([now + pause, *last_calls])


@attrs.define(eq=False)
class Waiter:
    """One caller that waits for a job to be done."""

    future: asyncio.Future[Outcome]
    watch: Watch = attrs.field(init=False)
    since: float = 0.0
    polls_before: int = 0
    last_call: float = -math.inf  # none
    lead: float = 0.0
    deadline: Entry | None = None

    def tell(self, job: TtsJob) -> None:
        """Take note of a job that is not done."""

    def end(self, outcome: Outcome) -> None:
        """Take the outcome of the wait, unless the caller has gone."""
        if not self.future.done():
            self.future.set_result(outcome)

    def timed_out(self, now: float, *, paused_for: float) -> WaitTimeoutError:
        """Describe what the deadline ended, and what a 429 still had to do with it."""
        watch = self.watch
        elapsed, polls = now - self.since, watch.polls - self.polls_before
        state = "no answer yet" if watch.job is None else f"last seen {type(watch.job.output).__name__}"
        pause = f"; throttled for {paused_for:.0f} s more" if paused_for else ""
        # An error from before this wait joined is not one that it met.
        last_error = None if watch.last_error is None or watch.failed_at < self.since else watch.last_error
        return WaitTimeoutError(
            f"Job {watch.job_id} was not done after {elapsed:.1f} s (polls: {polls}; {state}{pause});"
            " it goes on and can be waited for again.",
            job=watch.job,
            last_error=None if last_error is None else last_error.for_job(watch.job_id),
            elapsed=elapsed,
            polls=polls,
            job_id=watch.job_id,
        )


@attrs.define(eq=False)
class Follower(Waiter):
    """One caller that wants each change of a job, and may be slow to ask for it."""

    seen: TtsJob | None = None
    news: list[Outcome] = attrs.field(factory=list[Outcome])

    def tell(self, job: TtsJob) -> None:
        """Keep a change until it is asked for."""
        if job != self.seen:
            self.seen = job
            self._add(job)

    def end(self, outcome: Outcome) -> None:
        """Keep the outcome until it is asked for."""
        self._add(outcome)

    def _add(self, outcome: Outcome) -> None:
        self.news.append(outcome)
        super().end(outcome)

    async def next(self) -> Outcome:
        """Wait for the next change, or the outcome."""
        if not self.news:
            self.future = self.future.get_loop().create_future()
            await self.future
        return self.news.pop(0)
