"""What is to be sent, in order: direct requests, then polls that follow a hint, then the poll due for longest.

The queue takes the time as an argument. It neither knows whether anything may be sent nor sends anything. A cancelled
request leaves no hole: the next one goes in its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from playai_async._settings import FIRST_POLL_FRACTION
from playai_async.jobs._scheduling.delay_queue import DelayQueue
from playai_async.jobs._scheduling.request import DirectRequest, Poll

__all__ = ["RequestQueue"]


class RequestQueue:
    """The requests of one operation that wait to be sent.

    A wait's first poll may go at once, but counts as due a little later. So it lets polls of older jobs pass, which are
    more likely to be finished. From then on it is as old as any other poll, and cannot starve.

    Args:
        window: Seconds of the service's windows, which are the scale of that delay.

    Attributes:
        trusts_hints: Whether polls that follow a hint skip the even spacing.
    """

    def __init__(self, window: float) -> None:
        self.trusts_hints = True
        self._first_poll_delay = window * FIRST_POLL_FRACTION
        self._direct: DelayQueue[DirectRequest] = DelayQueue()
        self._hinted: DelayQueue[Poll] = DelayQueue()
        self._first_polls: DelayQueue[Poll] = DelayQueue()
        self._polls: DelayQueue[Poll] = DelayQueue()

    def __len__(self) -> int:
        """Count all requests, due or not."""
        return len(self._direct) + self.polls

    @property
    def polls(self) -> int:
        """The number of polls, due or not."""
        return len(self._hinted) + len(self._first_polls) + len(self._polls)

    def queued(self, now: float) -> int:
        """Count the requests that only wait for their turn: direct ones, and polls that are due."""
        hinted = self._hinted.count(now) if self._hinted else 0
        return len(self._direct) + hinted + len(self._first_polls) + self._polls.count(now)

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
        while (request := self._take_direct()) is not None:
            requests.append(request)
        return requests

    def add_first(self, poll: Poll, now: float) -> None:
        """Add the first poll of a wait that begins now."""
        self.schedule(poll, now + self._first_poll_delay)

    def schedule(self, poll: Poll, due: float) -> None:
        """Add a poll, in place of its earlier entry if it has one.

        Args:
            poll: The poll. Once it is due, it goes first if it follows a hint. Until it was answered it is a first
                poll, which may go before it is due.
            due: When it is due, or counts as due.
        """
        self.remove(poll)
        poll.due = due
        poll.entry = self._queue_of(poll).add(due, poll)

    def remove(self, poll: Poll) -> None:
        """Remove a poll, if it is queued."""
        if poll.entry is not None:
            self._queue_of(poll).discard(poll.entry)
            poll.entry = None

    def put_first(self, poll: Poll, due: float) -> None:
        """Let a queued poll go ahead of other polls from a time on, because of a hint."""
        self.remove(poll)
        poll.hinted, poll.regular_due = True, poll.due
        self.schedule(poll, due)

    def forgetting_hints(self) -> Iterator[None]:
        """Put the polls that follow a hint back to where they were, one per step."""
        while (poll := self._hinted.take(math.inf)) is not None:
            poll.entry, poll.hinted = None, False
            self.schedule(poll, poll.regular_due)
            yield

    def take(self, now: float) -> DirectRequest | Poll | None:
        """Remove and return the next request, or return None if nothing is due."""
        if self._direct:
            return self._take_direct()
        poll = (self._hinted.take(now) if self._hinted else None) or self._take_longest_due(now)
        if poll is not None:
            poll.entry = None
        return poll

    def skips_spacing(self, now: float) -> bool:
        """Return whether the next request is a poll that follows a hint, and hints are trusted."""
        return self.trusts_hints and bool(self._hinted) and not self._direct and self._hinted.first_due() <= now

    def next_due(self, now: float) -> float:
        """Return the time from which something is due; infinity if the queue is empty."""
        if self._direct or self._first_polls:
            return now
        due = self._polls.first_due()
        return min(due, self._hinted.first_due()) if self._hinted else due

    def waited(self, now: float) -> float:
        """Return the seconds for which the first poll has been due."""
        due = min(self._polls.first_due(), self._first_polls.first_due())
        return max(0.0, now - (min(due, self._hinted.first_due()) if self._hinted else due))

    def _queue_of(self, poll: Poll) -> DelayQueue[Poll]:
        if poll.hinted:
            return self._hinted
        return self._polls if poll.answered else self._first_polls

    def _take_longest_due(self, now: float) -> Poll | None:
        due, first = self._polls.first_due(), self._first_polls.first_due()
        return self._polls.take(now) if due <= min(now, first) else self._first_polls.take(first)

    def _take_direct(self) -> DirectRequest | None:
        request = self._direct.take(math.inf)
        if request is not None:
            request.entry = None
        return request
