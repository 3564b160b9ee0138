"""The service's windows, as a client can know them: where they begin, and how many requests count in the one at hand.

Pure: told the time, and what was sent and what came of it; what follows from that is `_quota`'s affair.
"""

from __future__ import annotations

import heapq
import math

from playai_async._settings import PROBES_PER_WINDOW, RESOLUTION

__all__ = ["Grid", "Places"]


class Grid:
    """Where the service's windows begin, as far as 429s and what followed them have told.

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

    def seen(self, after: float, before: float) -> None:
        """Take note that an edge lay between two moments; too far apart, they tell nothing."""
        if before - after > self._window / 2:
            return
        if self.known:
            whole = round((before - self._late) / self._window) * self._window
            early, late = max(after, self._early + whole), min(before, self._late + whole)
            if early < late:
                after, before = early, late
        self._early, self._late = after, before

    def forget(self) -> None:
        """Take note that the edges are elsewhere."""
        self._early = self._late = math.nan

    def passed(self, now: float) -> float:
        """Return a moment before the last edge that has passed for sure; minus infinity where none is known."""
        return self._early + self._count(now) * self._window if self.known else -math.inf

    def next(self, now: float) -> float:
        """Return the time by which the next edge has passed for sure; infinity where none is known."""
        return self._late + (self._count(now) + 1) * self._window if self.known else math.inf

    def span(self) -> float:
        """Return the seconds within which each edge is known."""
        return self._late - self._early

    def _count(self, now: float) -> int:
        return math.floor((now - self._late + RESOLUTION) / self._window)


class Places:
    """The requests that may count towards the window at hand."""

    def __init__(self, window: float) -> None:
        self._window = window
        self._slack = window / PROBES_PER_WINDOW
        self._free_at: list[float] = []
        self.under_way = 0

    def taken(self, now: float, edge: float = -math.inf) -> int:
        """Count the places taken now, given a moment before the last edge."""
        until = max(now, edge + self._window) + RESOLUTION
        while self._free_at and self._free_at[0] < until:
            heapq.heappop(self._free_at)
        return self.under_way + len(self._free_at)

    def ended_since(self, moment: float) -> int:
        """Count the requests that ended after a moment of the last window, and were not forgotten since."""
        return sum(free_at >= moment + self._window for free_at in self._free_at)

    def next_free(self) -> float:
        """Return when the next place is free by itself; infinity where all are under way."""
        return self._free_at[0] if self._free_at else math.inf

    def sent(self) -> None:
        """Take a place."""
        self.under_way += 1

    def ended(self, now: float, *, counted: bool = True, late: bool = False) -> None:
        """Hold a place for another window, if the service may have counted the request; a little longer if late."""
        self.under_way -= 1
        if counted:
            slack = self._slack if late else 2 * RESOLUTION
            heapq.heappush(self._free_at, now + self._window + slack)
