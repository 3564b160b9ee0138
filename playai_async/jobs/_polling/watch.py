"""Who waits: a job that somebody waits for, those who do, and calls that wait for their turn.

Plain objects that the poller moves about, each a few hundred bytes, since there are ten thousand of them. They hand
over what they are told and decide nothing: no loop of their own, no clock, no I/O.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

import attrs

from playai_async._exceptions import PlayAIError, WaitTimeoutError
from playai_async._models import TtsJob
from playai_async._settings import RESOLUTION, Polling
from playai_async.jobs._polling.backoff import Backoff
from playai_async.jobs._scheduling.delay_queue import Entry

__all__ = [
    "Call",
    "Caller",
    "Errand",
    "Fetch",
    "Follower",
    "Home",
    "Member",
    "News",
    "Outcome",
    "Send",
    "Waiter",
    "Watch",
    "Watches",
    "as_outcome",
    "job_of",
]

_Item = TypeVar("_Item")

Outcome: TypeAlias = TtsJob | PlayAIError
"""What a request or a wait brought. Errors travel as values: one set on a future that nobody awaits gets logged."""

Fetch: TypeAlias = Callable[[UUID], Awaitable[TtsJob]]
"""Asks for a job once, and returns it or raises a `PlayAIError`."""

Send: TypeAlias = Callable[[], Awaitable[TtsJob]]
"""Makes one request, and returns the job or raises a `PlayAIError`."""


def job_of(outcome: Outcome) -> TtsJob:
    """Return the job, or raise the error."""
    if isinstance(outcome, PlayAIError):
        raise outcome
    return outcome


def as_outcome(error: Exception, job_id: UUID | None) -> PlayAIError:
    """Give what must never happen a documented face: a bug in one job must end that wait, and no other."""
    if isinstance(error, PlayAIError):
        return error
    what = "Creating a job" if job_id is None else f"Waiting for job {job_id}"
    outcome = PlayAIError(f"{what} met a bug ({type(error).__name__}).", job_id=job_id)
    outcome.__cause__ = error
    return outcome


@attrs.define(eq=False)
class Call:
    """A direct call that waits for its turn, or for its answer: one request, and one who awaits it."""

    send: Send
    job_id: UUID | None  # None: it is to create one
    rank: float  # the lower goes first
    future: asyncio.Future[Outcome]
    place: Entry | None = None
    asked: float = 0.0
    worker: asyncio.Task[None] | None = None

    @property
    def wanted(self) -> bool:
        """Whether the caller is still there."""
        return not self.future.done()

    def sent(self, now: float) -> None:
        """Take note that the request goes out."""
        self.asked = now

    def take(self, outcome: Outcome, *, final: bool) -> None:  # noqa: ARG002 - as it is after one request
        """Hand over what came, unless the caller has gone."""
        if self.wanted:
            self.future.set_result(outcome)


class Home(Protocol):
    """Where a watch belongs."""

    fetch: Fetch
    """Asks for a job once."""

    def settle(self, watch: Watch, outcome: Outcome, *, final: bool) -> None:
        """Decide what follows from what a poll brought, and whether the wait must end with it."""
        ...


@attrs.define(eq=False)
class Watch:
    """One job that somebody waits for."""

    job_id: UUID
    polling: Polling
    backoff: Backoff
    home: Home
    waiters: set[Waiter] = attrs.field(factory=set["Waiter"])
    due: float = 0.0
    last: bool = False
    asked: float = 0.0
    back: float = 0.0  # when the last poll came back, or when the watch was opened
    answered: bool = False  # by anything but a 429
    over: bool = False
    place: Entry | None = None
    worker: asyncio.Task[None] | None = None
    job: TtsJob | None = None
    last_error: PlayAIError | None = None
    failed_at: float = -math.inf
    polls: int = 0
    throttled: int = 0
    _queued: float = 0.0
    _queued_at_end: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return bool(self.waiters)

    def sent(self, now: float) -> None:
        """Take note that a poll goes out."""
        self._queued = self.queued_for(now)
        self.asked = now
        self.polls += 1

    def send(self) -> Awaitable[TtsJob]:
        """Poll."""
        return self.home.fetch(self.job_id)

    def stop(self, now: float) -> None:
        """Take note that nothing is polled any more; those who wait may be told later, with the poll given up."""
        self._queued, self._queued_at_end = self.queued_for(now), self.queued_at(now)
        self.over = True

    def take(self, outcome: Outcome, *, final: bool) -> None:
        """Take what a poll brought."""
        self.home.settle(self, outcome, final=final)

    def queued_at(self, now: float) -> bool:
        """Say whether a poll waits, or waited when it was taken off, for nothing but its turn."""
        if self.over:
            return self._queued_at_end
        return self.worker is None and (self.due <= now or not self.answered)

    def queued_for(self, now: float) -> float:
        """Return the seconds for which polls have waited for nothing but their turn, up to now."""
        if self.over or not self.queued_at(now):
            return self._queued
        since = max(self.back, self.due) if self.answered else self.back
        return self._queued + max(0.0, now - since)

    def due_after(self, now: float, pause: float) -> float:
        """Return when the next poll is due: after the pause, or earlier for those whose deadline that would overrun.

        No later than just before such a deadline; at once, if that moment passed while the last poll was under way.
        One last poll serves all whose own would follow within their lead: a hundred deadlines need no hundred polls.
        """
        # A timer may fire that early, and the poll it sends is the last one all the same.
        asked = self.asked + RESOLUTION
        last_calls = [
            max(now, waiter.last_call)
            for waiter in self.waiters
            if waiter.last_call > asked + (waiter.lead if self.last else 0.0)
        ]
        return min([now + pause, *last_calls])


Errand: TypeAlias = Watch | Call
"""What one request is for."""


class Watches:
    """What is waited for, by job and settings."""

    def __init__(self) -> None:
        # Of jobs waited for under several settings there are few, and hashing settings costs more than comparing them.
        self._by_job: dict[UUID, tuple[Watch, ...]] = {}

    def __len__(self) -> int:
        """Count the jobs."""
        return len(self._by_job)

    def __iter__(self) -> Iterator[Watch]:
        """Go through what is waited for now, whatever is added or removed meanwhile."""
        return itertools.chain.from_iterable(list(self._by_job.values()))

    def find(self, job_id: UUID, polling: Polling) -> Watch | None:
        """Return the watch of a job under equal settings, if there is one."""
        for watch in self._by_job.get(job_id, ()):
            if watch.polling is polling or watch.polling == polling:
                return watch
        return None

    def add(self, watch: Watch) -> None:
        """Add what was not found."""
        self._by_job[watch.job_id] = (*self._by_job.get(watch.job_id, ()), watch)

    def remove(self, watch: Watch) -> None:
        """Remove what was added."""
        rest = tuple(other for other in self._by_job[watch.job_id] if other is not watch)
        if rest:
            self._by_job[watch.job_id] = rest
        else:
            del self._by_job[watch.job_id]


@attrs.define(eq=False)
class Waiter:
    """One who waits for a job to be done; how they are told is up to those below."""

    watch: Watch = attrs.field(init=False)
    since: float = attrs.field(default=0.0, init=False)
    polls_before: int = attrs.field(default=0, init=False)
    last_call: float = attrs.field(default=-math.inf, init=False)  # none
    lead: float = attrs.field(default=0.0, init=False)
    deadline: Entry | None = attrs.field(default=None, init=False)

    def tell(self, job: TtsJob) -> None:
        """Take note of a job that is not done."""

    def end(self, outcome: Outcome) -> None:
        """Take the outcome of the wait; nobody may be there any more."""
        raise NotImplementedError

    def timed_out(self, now: float, *, why: str) -> WaitTimeoutError:
        """Describe what the deadline ended, and why it was not asked for more often, if there is a reason."""
        watch = self.watch
        elapsed, polls = now - self.since, watch.polls - self.polls_before
        state = "no answer yet" if watch.job is None else f"last seen {type(watch.job.output).__name__}"
        # An error from before this wait joined is not one that it met.
        last_error = None if watch.last_error is None or watch.failed_at < self.since else watch.last_error
        return WaitTimeoutError(
            f"Job {watch.job_id} was not done after {elapsed:.1f} s (polls: {polls}; {state}{why});"
            " it goes on and can be waited for again.",
            job=watch.job,
            last_error=None if last_error is None else last_error.for_job(watch.job_id),
            elapsed=elapsed,
            polls=polls,
            job_id=watch.job_id,
        )


@attrs.define(eq=False)
class Caller(Waiter):
    """One caller who awaits the end of one job."""

    future: asyncio.Future[Outcome]

    def end(self, outcome: Outcome) -> None:
        """Hand over the outcome, unless the caller has gone."""
        if not self.future.done():
            self.future.set_result(outcome)


@attrs.define(eq=False)
class Follower(Waiter):
    """One caller that wants each change of a job, and may be slow to ask for it."""

    news: News[Outcome]
    seen: TtsJob | None = None

    def tell(self, job: TtsJob) -> None:
        """Keep a change until it is asked for."""
        if job is not self.seen and job != self.seen:  # a reply that is the last one over again is the same job
            self.seen = job
            self.news.add(job)

    def end(self, outcome: Outcome) -> None:
        """Keep the outcome until it is asked for."""
        self.news.add(outcome)


@attrs.define(eq=False)
class Member(Waiter):
    """One job of several whose ends one caller wants as they come."""

    news: News[tuple[int, Outcome]]
    index: int

    def end(self, outcome: Outcome) -> None:
        """Keep the outcome until it is asked for."""
        self.news.add((self.index, outcome))


class News(Generic[_Item]):
    """What one caller is to be told, in order, until they ask for it."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._awaited: asyncio.Future[None] | None = None

    def add(self, item: _Item) -> None:
        """Keep an item, and wake whoever awaits it."""
        self._items.append(item)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    async def next(self) -> _Item:
        """Wait for the next item; for one caller at a time, who may be cancelled and ask again."""
        if not self._items:
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        return self._items.popleft()
