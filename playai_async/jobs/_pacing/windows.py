"""The service's windows, as a client can know them: where they begin, and how many requests count in the last one."""

from __future__ import annotations

import heapq
import math

from playai_async._settings import LATE_FRACTION, RESOLUTION

__all__ = ["SlidingWindow", "WindowClock"]


class WindowClock:
    """Where the service's fixed windows begin, as far as 429s and the answers after them have shown.

    An edge is known as an interval: it passed at some moment between two times.

    Args:
        window: Seconds from one edge to the next.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._early: float = math.nan
        self._late: float = math.nan

    @property
    def known(self) -> bool:
        """Whether any edge was seen."""
        return not math.isnan(self._late)

    def on_edge_between(self, after: float, before: float) -> None:
        """Record that an edge passed between two moments; moments too far apart are ignored."""
        if before - after > self._window / 2:
            return
        if self.known:
            whole = round((before - self._late) / self._window) * self._window
            early, late = max(after, self._early + whole), min(before, self._late + whole)
            if early < late:
                after, before = early, late
        self._early, self._late = after, before

    def forget(self) -> None:
        """Forget the edges, since they turned out to be elsewhere."""
        self._early = self._late = math.nan

    def last_edge(self, now: float) -> float:
        """Return the earliest moment of the last edge that has surely passed; minus infinity if none is known."""
        return self._early + self._count(now) * self._window if self.known else -math.inf

    def next_edge(self, now: float) -> float:
        """Return the time by which the next edge has surely passed; infinity if none is known."""
        return self._late + (self._count(now) + 1) * self._window if self.known else math.inf

    def uncertainty(self) -> float:
        """Return the length of the interval in which each edge lies, in seconds."""
        return self._late - self._early

    def _count(self, now: float) -> int:
        return math.floor((now - self._late + RESOLUTION) / self._window)


class SlidingWindow:
    """The requests that may count towards the current window, and those in flight.

    The service counts a request at some moment between its start and its end. So a request counts from its start until
    one window after its end: then it is out of every window in which a new request can be counted. A request that was
    cut off or cancelled may still reach the service a little later, and counts for longer.

    Args:
        window: Seconds.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._late_margin = window * LATE_FRACTION
        self._expiries: list[float] = []
        self.in_flight = 0

    def count(self, now: float, last_edge: float = -math.inf) -> int:
        """Count the requests that count now.

        Args:
            now: The time.
            last_edge: A moment before the last edge of the service's windows, if one is known.
        """
        until = max(now, last_edge + self._window) + RESOLUTION
        while self._expiries and self._expiries[0] < until:
            heapq.heappop(self._expiries)
        return self.in_flight + len(self._expiries)

    def ended_since(self, moment: float) -> int:
        """Count the requests that ended after a moment of the last window, and still count."""
        return sum(expiry >= moment + self._window for expiry in self._expiries)

    def next_expiry(self) -> float:
        """Return when the next ended request stops counting; infinity if none has ended."""
        return self._expiries[0] if self._expiries else math.inf

    def on_sent(self) -> None:
        """Count a request that starts now."""
        self.in_flight += 1

    def on_ended(self, now: float, *, counted: bool = True, late: bool = False) -> None:
        """Record the end of a request.

        Args:
            now: The time.
            counted: Whether the service may have counted the request.
            late: Whether the service may count the request a little later.
        """
        self.in_flight -= 1
        if counted:
            margin = self._late_margin if late else 2 * RESOLUTION
            heapq.heappush(self._expiries, now + self._window + margin)
