"""What is to be sent, in order: direct requests, then polls that follow a hint, then the poll due for longest.

The queue takes the time as an argument. It neither knows whether anything may be sent nor sends anything. A cancelled
request leaves no hole: the next one goes in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from playai_async._settings import FIRST_POLL_FRACTION
from playai_async.jobs._scheduling.delay_queue import DelayQueue, Entry
from playai_async.jobs._scheduling.request import DirectRequest, Poll

__all__ = ["RequestQueue", "Turn"]


_PATIENCE = 2
"""The factor for the delay of a first poll that lets planned polls pass (12 s of 60)."""


class Turn(NamedTuple):
    """What a look at the queue finds; true until the queue changes.

    Attributes:
        line: Where the next request waits; None if nothing may go.
        due: From when something may go; infinity if the queue is empty.
        first_due: Since when, or from when, the first poll is due; infinity if there is none.
        skips_spacing: Whether the next request is a poll that follows a hint, and hints are trusted.
    """

    line: DelayQueue[DirectRequest] | DelayQueue[Poll] | None
    due: float
    first_due: float
    skips_spacing: bool = False


class RequestQueue:
    """The requests of one operation that wait to be sent.

    A wait's first poll may go at once, but counts as due a little later. So it lets polls of older jobs pass, which are
    more likely to be finished. From then on it is as old as any other poll, and cannot starve. A later poll may also go
    before it is due, from an earliest time on, if a forecast says so.

    Args:
        window: Seconds of the service's windows, which are the scale of that delay.

    Attributes:
        polls: The number of polls, due or not.
        trusts_hints: Whether polls that follow a hint skip the even spacing.
    """

    def __init__(self, window: float) -> None:
        self.trusts_hints = True
        self._first_poll_delay = window * FIRST_POLL_FRACTION
        self._direct: DelayQueue[DirectRequest] = DelayQueue()
        self._hinted: DelayQueue[Poll] = DelayQueue()
        self._free: DelayQueue[Poll] = DelayQueue()  # first polls and others that may go, by when they are due
        self._polls: DelayQueue[Poll] = DelayQueue()  # polls that may go when they are due
        self._planned: DelayQueue[Poll] = DelayQueue()  # polls that may go earlier, by the earliest time
        self._planned_from = math.inf  # no planned poll may go before
        self.polls = 0

    def __len__(self) -> int:
        """Count all requests, due or not."""
        return self._direct.size + self.polls

    def queued(self, now: float) -> int:
        """Count the requests that only wait for their turn: direct ones, and polls that may go."""
        if self._planned_from <= now:
            self._release(now)
        hinted = self._hinted.count(now) if self._hinted.size else 0
        return self._direct.size + hinted + self._free.size + self._polls.count(now)

    def due_up_to(self, most: int, now: float) -> int:
        """Count the requests that could go now, up to a number."""
        return min(most, self.queued(now))

    def add_direct(self, request: DirectRequest) -> None:
        """Add a direct request; the one of the lowest rank goes first."""
        request.entry = self._direct.add(request.rank, request)

    def remove_direct(self, request: DirectRequest) -> None:
        """Remove a direct request, if it was not taken yet."""
        if request.entry is not None:
            self._direct.discard(request.entry)
            request.entry = None

    def take_all_direct(self) -> list[DirectRequest]:
        """Remove and return all direct requests."""
        requests: list[DirectRequest] = []
        while (request := self._direct.take(math.inf)) is not None:
            request.entry = None
            requests.append(request)
        return requests

    def add_first(self, poll: Poll, now: float, *, patient: bool = False) -> None:
        """Add the first poll of a wait that begins now.

        Args:
            poll: The poll.
            now: The time.
            patient: Whether it lets more polls pass: those that a forecast planned are worth more.
        """
        self.schedule(poll, now + self._first_poll_delay * (_PATIENCE if patient else 1))

    def schedule(self, poll: Poll, due: float, earliest: float = math.inf) -> None:
        """Add a poll, in place of its earlier entry if it has one.

        Args:
            poll: The poll. Once it is due, it goes first if it follows a hint. Until it was answered it is a first
                poll, which may go at once.
            due: When it is due, or counts as due.
            earliest: When it may go; left out or later, it is when it is due.
        """
        self.remove(poll)
        self.polls += 1
        poll.due, poll.earliest = due, earliest if earliest < due else due
        if poll.hinted:
            poll.entry = self._hinted.add(due, poll)
        elif not poll.answered:
            poll.entry = self._free.add(due, poll)
        elif earliest < due:
            poll.entry = self._planned.add(earliest, poll)
            self._planned_from = min(self._planned_from, earliest)
        else:
            poll.entry = self._polls.add(due, poll)

    def remove(self, poll: Poll) -> None:
        """Remove a poll, if it is queued."""
        if poll.entry is not None:
            self._queue_of(poll, poll.entry).discard(poll.entry)
            poll.entry = None
            self.polls -= 1

    def put_first(self, poll: Poll, due: float) -> None:
        """Let a queued poll go ahead of other polls from a time on, because of a hint."""
        self.remove(poll)
        poll.hinted, poll.regular_due = True, poll.due
        self.schedule(poll, due)

    def forgetting_hints(self) -> Iterator[None]:
        """Put the polls that follow a hint back to where they were, one per step."""
        while (poll := self._hinted.take(math.inf)) is not None:
            poll.entry, poll.hinted = None, False
            self.polls -= 1
            self.schedule(poll, poll.regular_due)
            yield

    def look(self, now: float) -> Turn:
        """Look what is next."""
        if self._planned_from <= now:
            self._release(now)
        polls, first = self._polls.first_due(), self._free.first_due()
        hinted = self._hinted.first_due() if self._hinted.size else math.inf
        first_due = min(polls, first, hinted)
        if self._direct.size:
            return Turn(self._direct, now, first_due)
        if hinted <= now:
            return Turn(self._hinted, now, first_due, self.trusts_hints)
        if polls <= now and polls <= first:
            return Turn(self._polls, now, first_due)
        if self._free.size:
            return Turn(self._free, now, first_due)
        return Turn(None, min(polls, hinted, self._planned_from), first_due)

    def take(self, turn: Turn) -> DirectRequest | Poll | None:
        """Remove and return the request that a look has just found; None if nothing may go."""
        request = None if turn.line is None else turn.line.take(math.inf)
        if request is not None:
            request.entry = None
            if request.is_poll:
                self.polls -= 1
        return request

    def _release(self, now: float) -> None:
        """Let polls go whose earliest time has come; each keeps its place."""
        while (poll := self._planned.take(now)) is not None:
            poll.entry = self._free.add(poll.due, poll)
        self._planned_from = self._planned.first_due()

    def _queue_of(self, poll: Poll, entry: Entry) -> DelayQueue[Poll]:
        if poll.hinted:
            return self._hinted
        if poll.answered and poll.earliest == poll.due:
            return self._polls
        # A planned poll that may go has its place among the free ones, and no longer that of its earliest time.
        return self._planned if poll.answered and entry[0] == poll.earliest else self._free
