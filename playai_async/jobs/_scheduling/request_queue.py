"""Whose turn is it: direct calls first, then the poll that has been due longest.

Pure: it is told the time, and neither knows whether anything may be sent nor sends it. What is taken off leaves no
hole: a cancelled wait's turn is the next one's.
"""

from __future__ import annotations

import math

from playai_async._settings import FIRST_POLL_YIELD
from playai_async.jobs._polling.watch import Call, Errand, Watch
from playai_async.jobs._scheduling.delay_queue import Timetable

__all__ = ["Turns"]


class Turns:
    """What is to be sent, in order.

    A wait's first poll may go at once, but counts as due a little later, so that among polls it gives way to those of
    jobs that are older and more likely to be done. From then on it is as old as any: it cannot be starved.

    Args:
        window: Seconds of the service's windows, which are the scale of that.
    """

    def __init__(self, window: float) -> None:
        self._yield = window / FIRST_POLL_YIELD
        self._calls: Timetable[Call] = Timetable()
        self._first_polls: Timetable[Watch] = Timetable()
        self._polls: Timetable[Watch] = Timetable()

    def __len__(self) -> int:
        """Count all that is put down, due or not."""
        return len(self._calls) + self.polls

    @property
    def polls(self) -> int:
        """Count the polls that are put down, due or not."""
        return len(self._first_polls) + len(self._polls)

    def queued(self, now: float) -> int:
        """Count what waits for its turn alone: calls, and polls that are due."""
        return len(self._calls) + len(self._first_polls) + self._polls.count(now)

    def due_up_to(self, most: int, now: float) -> int:
        """Count what might go now, as far as a number."""
        return min(most, len(self._calls) + len(self._first_polls) + self._polls.count_up_to(most, now))

    def add_call(self, call: Call) -> None:
        """Put down a direct call: the one of the lowest rank goes first."""
        call.place = self._calls.add(call.rank, call)

    def drop_call(self, call: Call) -> None:
        """Take off a call, if its turn has not come."""
        if call.place is not None:
            self._calls.discard(call.place)
            call.place = None

    def take_calls(self) -> list[Call]:
        """Take off all calls."""
        calls: list[Call] = []
        while (call := self._next_call()) is not None:
            calls.append(call)
        return calls

    def put_first(self, watch: Watch, now: float) -> None:
        """Put down the first poll of a wait that begins now."""
        self.put(watch, now + self._yield)

    def put(self, watch: Watch, due: float) -> None:
        """Put down a poll, in place of the one that may be put down already.

        Args:
            watch: The job to ask for; a first poll until it was answered, and never held back until it is due.
            due: When it is due, or counts as due.
        """
        self.drop(watch)
        watch.due = due
        watch.place = (self._polls if watch.answered else self._first_polls).add(due, watch)

    def drop(self, watch: Watch) -> None:
        """Take off a poll, if there is one."""
        if watch.place is not None:
            (self._polls if watch.answered else self._first_polls).discard(watch.place)
            watch.place = None

    def next(self, now: float) -> Errand | None:
        """Take the next turn, or return None where nothing is due."""
        if self._calls:
            return self._next_call()
        due, first = self._polls.first(), self._first_polls.first()
        watch = self._polls.take(now) if due <= min(now, first) else self._first_polls.take(first)
        if watch is not None:
            watch.place = None
        return watch

    def when(self, now: float) -> float:
        """Return the time from which something is due; infinite where nothing is put down."""
        return now if self._calls or self._first_polls else self._polls.first()

    def waited(self, now: float) -> float:
        """Return the seconds for which the first poll in the queue has been due."""
        return max(0.0, now - min(self._polls.first(), self._first_polls.first()))

    def _next_call(self) -> Call | None:
        call = self._calls.take(math.inf)
        if call is not None:
            call.place = None
        return call
