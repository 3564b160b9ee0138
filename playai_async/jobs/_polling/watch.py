"""Who waits: a job that somebody waits for, and its waiters.

Plain objects that the poller moves about, a few hundred bytes each, since there may be ten thousand of them. They pass
on what they get and decide nothing: no loop, no clock, no I/O.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import attrs

from playai_async._settings import RESOLUTION, Polling
from playai_async.jobs._polling.backoff import Backoff
from playai_async.jobs._scheduling.delay_queue import Entry
from playai_async.jobs._scheduling.request import JobId, Outcome, Worker

__all__ = [
    "ChangeWaiter",
    "Fetch",
    "FutureWaiter",
    "GroupWaiter",
    "IsDone",
    "Mailbox",
    "WaitSpec",
    "Waiter",
    "Watch",
    "WatchRegistry",
]

_Item = TypeVar("_Item")

Fetch: TypeAlias = Callable[[Any], Awaitable[object]]
"""Makes one status request for a job id, and returns the job or raises."""

IsDone: TypeAlias = Callable[[Any], bool]
"""Says whether a job is finished."""


@attrs.frozen
class WaitSpec:
    """One wait that a caller asks for.

    Attributes:
        job_id: The job.
        polling: How to poll.
        timeout: Seconds for the whole wait, or None for no deadline.
        finished: The job itself, if the caller has it and it is finished: then nothing is sent.
        known: The job itself, if the caller has it and a forecast may use it.
    """

    job_id: JobId
    polling: Polling
    timeout: float | None
    finished: object | None = None
    known: object | None = None


@attrs.define(eq=False)
class Watch:
    """One job that somebody waits for; a `Poll` that the dispatcher sends."""

    is_poll: ClassVar[bool] = True

    job_id: JobId
    polling: Polling
    backoff: Backoff
    fetch: Fetch
    is_done: IsDone
    on_result: Callable[[Watch, Outcome], None]
    waiters: set[Waiter] = attrs.field(factory=set["Waiter"])
    due: float = 0.0
    earliest: float = 0.0
    last_poll: bool = False  # whether the queued poll is the last before a deadline
    hint: bool | None = None  # whether the hint since the last poll was sent is followed; None: none came
    hinted: bool = False  # whether the poll that is queued or in flight follows a hint
    regular_due: float = math.inf  # when that poll would be due without the hint
    sent_at: float = 0.0
    returned_at: float = 0.0  # when the last poll came back, or when the watch was opened
    answered: bool = False  # by anything but a 429
    stopped: bool = False
    entry: Entry | None = None
    worker: Worker | None = None
    job: object | None = None
    last_error: Exception | None = None
    failed_at: float = -math.inf
    polls: int = 0
    throttled: int = 0
    # The next three are for forecasts only.
    began_at: float = 0.0  # when the job began, as far as is known: its creation, or the first wait
    unfinished_at: float = -math.inf  # when it was seen unfinished last
    first_pause: float = -1.0  # the first of tenacity's pauses: no poll is planned sooner; -1: not known yet
    _queued: float = 0.0
    _queued_at_end: bool = False

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits."""
        return bool(self.waiters)

    @property
    def goes_first(self) -> bool:
        """Whether the next poll goes ahead of others, because of a hint."""
        return bool(self.hint) if self.entry is None else self.hinted

    @property
    def planned(self) -> bool:
        """Whether a forecast says that the job is likely to be finished by the time of its next poll."""
        return self.earliest < self.due

    def send(self) -> Awaitable[object]:
        """Poll."""
        return self.fetch(self.job_id)

    def on_sent(self, now: float) -> None:
        """Record that a poll is sent now."""
        self._queued = self.queued_for(now)
        self.sent_at = now
        self.hint = None
        self.polls += 1

    def deliver(self, outcome: Outcome) -> None:
        """Take the outcome of a poll."""
        self.on_result(self, outcome)

    def stop(self, now: float) -> None:
        """Stop polling; the waiters may be told later, while the poll is cancelled."""
        self._queued, self._queued_at_end = self.queued_for(now), self.queued_at(now)
        self.stopped = True

    def queued_at(self, now: float) -> bool:
        """Return whether a poll is due but not sent, or was so when the watch was stopped."""
        if self.stopped:
            return self._queued_at_end
        return self.worker is None and (self.due <= now or not self.answered)

    def queued_for(self, now: float) -> float:
        """Return the seconds for which polls were due but not sent."""
        if self.stopped or not self.queued_at(now):
            return self._queued
        since = max(self.returned_at, self.due) if self.answered else self.returned_at
        return self._queued + now - since if now > since else self._queued

    def due_after(self, now: float, pause: float) -> float:
        """Return when the next poll is due: after the pause, or earlier for waiters whose deadline comes first.

        The last poll goes just before a deadline; or at once, if that moment passed while a poll was in flight. One
        last poll serves every waiter whose own last poll would come within its lead.
        """
        # A timer may fire this much early; the poll that it sends still counts as the last one.
        sent = self.sent_at + RESOLUTION
        due = now + pause
        for waiter in self.waiters:
            if sent + (waiter.lead if self.last_poll else 0.0) < waiter.last_poll_at < due:
                due = max(now, waiter.last_poll_at)
        return due


class WatchRegistry:
    """The open watches, by job and settings."""

    def __init__(self) -> None:
        # Few jobs are waited for under several settings, and hashing settings costs more than comparing them.
        self._by_job: dict[JobId, tuple[Watch, ...]] = {}

    def __len__(self) -> int:
        """Count the jobs."""
        return len(self._by_job)

    def __iter__(self) -> Iterator[Watch]:
        """Iterate over the watches of this moment, whatever is added or removed meanwhile."""
        return itertools.chain.from_iterable(list(self._by_job.values()))

    def find(self, job_id: JobId, polling: Polling) -> Watch | None:
        """Return the watch of a job under equal settings, or None."""
        for watch in self.find_all(job_id):
            if watch.polling is polling or watch.polling == polling:
                return watch
        return None

    def find_all(self, job_id: JobId) -> tuple[Watch, ...]:
        """Return the watches of a job."""
        return self._by_job.get(job_id, ())

    def add(self, watch: Watch) -> None:
        """Add a watch."""
        self._by_job[watch.job_id] = (*self.find_all(watch.job_id), watch)

    def remove(self, watch: Watch) -> None:
        """Remove a watch that was added."""
        rest = tuple(other for other in self._by_job[watch.job_id] if other is not watch)
        if rest:
            self._by_job[watch.job_id] = rest
        else:
            del self._by_job[watch.job_id]


@attrs.define(eq=False)
class Waiter:
    """One caller who waits for a job; the classes below pass on what comes."""

    wants_changes: ClassVar[bool] = False

    watch: Watch = attrs.field(init=False)
    started: float = attrs.field(default=0.0, init=False)
    polls_before: int = attrs.field(default=0, init=False)
    throttled_before: int = attrs.field(default=0, init=False)
    queued_before: float = attrs.field(default=0.0, init=False)
    last_poll_at: float = attrs.field(default=-math.inf, init=False)  # none
    lead: float = attrs.field(default=0.0, init=False)
    deadline: Entry | None = attrs.field(default=None, init=False)

    @property
    def polls(self) -> int:
        """The polls since this wait began."""
        return self.watch.polls - self.polls_before

    def join(self, watch: Watch, now: float) -> None:
        """Begin to wait."""
        self.watch, self.started = watch, now
        self.polls_before, self.throttled_before = watch.polls, watch.throttled
        self.queued_before = watch.queued_for(now)

    def on_change(self, job: object) -> None:
        """Take a job that is not finished."""

    def on_end(self, outcome: Outcome) -> None:
        """Take the outcome of the wait; the caller may have gone."""
        raise NotImplementedError


@attrs.define(eq=False)
class FutureWaiter(Waiter):
    """A caller who awaits the end of one job."""

    future: asyncio.Future[Outcome]

    def on_end(self, outcome: Outcome) -> None:
        """Hand over the outcome, unless the caller has gone."""
        if not self.future.done():
            self.future.set_result(outcome)


@attrs.define(eq=False)
class ChangeWaiter(Waiter):
    """A caller who wants each change of a job, and may be slow to take it."""

    wants_changes: ClassVar[bool] = True

    mailbox: Mailbox[tuple[bool, Outcome | object]]

    def on_change(self, job: object) -> None:
        """Keep a change until the caller takes it."""
        self.mailbox.add((False, job))

    def on_end(self, outcome: Outcome) -> None:
        """Keep the outcome until the caller takes it."""
        self.mailbox.add((True, outcome))


@attrs.define(eq=False)
class GroupWaiter(Waiter):
    """One job of several, for a caller who takes the outcomes as they come."""

    mailbox: Mailbox[tuple[int, Outcome]]
    index: int

    def on_end(self, outcome: Outcome) -> None:
        """Keep the outcome until the caller takes it."""
        self.mailbox.add((self.index, outcome))


class Mailbox(Generic[_Item]):
    """The items for one caller, in order, until the caller takes them."""

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._awaited: asyncio.Future[None] | None = None

    def add(self, item: _Item) -> None:
        """Add an item, and wake the caller."""
        self._items.append(item)
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    async def next(self) -> _Item:
        """Wait for the next item; for one caller at a time, who may be cancelled and call again."""
        if not self._items:
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited
        return self._items.popleft()
