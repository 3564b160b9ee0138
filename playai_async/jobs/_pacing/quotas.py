"""How much of one process's quota is left, and how fast to spend it. Pure state machines: no tasks, no I/O, no clock.

A quota that processes share is `_permits`' affair, which falls back on both of these while it is out of reach.

Theory of operation
-------------------
The service counts requests in fixed windows and refuses what is past the quota until the window is over.

*Places.* A request is counted by the service at some moment between its start and its ending. It takes a place from
its start until one window after its ending: then it is out of every window that a new request can be counted in. One
that was cut off or cancelled may still reach the service, and be counted, a little later: its place is held longer.

*The known quota.* There are as many places as the quota has requests, so it holds over any span as long as a window,
whatever the phase of the service's windows.

*The learned quota.* Nothing is known at first, so the rate starts low and grows with the most that a window has
taken without a 429. The first 429 tells that what was accepted in the last window is no less than the quota: from
then on the session keeps to a little less than that. When the gate of `_pacing` opens again, an edge between two of
the service's windows lies between the last 429 and the first acceptance; edges come every window, so the *grid* is
known from then on, within the time between probes. With every edge the places taken before it are free at once, and
what is accepted between an edge and a 429 is the quota itself, or our share of it where the key is shared. The limit
follows down at every 429, by half at most, since a window may have been spent by others; and it rises by ever larger
steps after windows that were used and met no 429. What no window has taken yet is sent one request at a time, so that
reaching too far costs one 429.

*The tempo.* Requests are spaced evenly, a small burst aside, so that a quota is not gone in a window's first second
and a job that finishes later need not wait for the next. Two things change that. Where more jobs are waited for than
the quota has requests, a session starts more slowly after idleness, since jobs that are waited for together are all
young: the requests saved are there when the jobs are done. And when most polls find their job done while others have
been due for long, there is nothing to save for: what is left goes out at once.
"""

from __future__ import annotations

import math

from playai_async._settings import (
    MAX_COUNT,
    QUOTA_BURST_SHARE,
    RAMP_BURST,
    RAMP_GROWTH,
    RAMP_START,
)
from playai_async.jobs._pacing.windows import Grid, Places

__all__ = ["KnownQuota", "LearnedQuota"]

_SAFETY = 0.95
"""The share of what a window took before its 429 that the session keeps to: others may use the key as well."""

_FEW = 16
"""A 429 after fewer requests than that in a window may have many reasons: others who use the key, most likely."""

_CONVINCING = 3
"""So many windows that ended in a 429 are no accident, however few the requests."""

_WARY_BURST = 2
"""Requests that may go out back to back once a 429 has come, while no window has taken more."""

_USED = 0.8
"""The share of the limit that a window must have used before it says that more might be had."""

_FIRST_RISE = 0.05
"""The share by which the limit rises after one quiet window; each further one doubles the rise."""

_GENTLE_STARTS = 6
"""One in so many parts of a window is the gentle start after idleness: 10 s of 60."""

_GENTLE_COST = 6
"""What a request then costs of what is to be had evenly. So early, it finds a job in the making."""

_LATE = 3
"""One in so many parts of a window: polls that have been due for longer (20 s of 60) are more than jitter."""

_MEMORY = 0.1
"""The weight of the latest poll in the share of polls that found their job done: some ten polls count."""


class _Tempo:
    """How soon a request may follow those before it: evenly but for a small burst, gently at first, or at once."""

    def __init__(self, window: float) -> None:
        self._window = window
        # A token bucket: a request costs a token, one comes back with every spacing, and there are at most a burst.
        self._tokens = math.inf
        self._counted_at = self._began = self._last = -math.inf
        self._found = 0.0

    def delay(self, now: float, spacing: float, burst: int) -> float:
        return (1 - self._tokens_at(now, spacing, burst)) * spacing

    def pays(self, waited: float) -> bool:
        """Say whether polls find jobs done that others have long been due to find."""
        return self._mostly_found and waited > self._window / _LATE

    def sent(self, now: float, spacing: float, burst: int, *, gentle: bool) -> None:
        if now - self._last > self._window:
            self._began = now
        self._last = now
        start = self._window / _GENTLE_STARTS
        gentle = gentle and now - self._began < start and not self._mostly_found
        # Of a small quota no more than the start has, or each request would be the first after idleness.
        cost = max(1.0, min(_GENTLE_COST, start / spacing)) if gentle else 1.0
        self._tokens = self._tokens_at(now, spacing, burst) - cost
        self._counted_at = now

    def sent_at_once(self, now: float) -> None:
        """Take note of a request that is not held to the tempo."""
        self._last = now

    def _tokens_at(self, now: float, spacing: float, burst: int) -> float:
        return min(burst, self._tokens + (now - self._counted_at) / spacing)

    def polled(self, *, found: bool) -> None:
        self._found += _MEMORY * (found - self._found)

    @property
    def _mostly_found(self) -> bool:
        return self._found > 1 / 2


class KnownQuota:
    """A quota that the caller knows, and that is never exceeded over any span as long as a window.

    Args:
        requests: How many a window allows.
        window: Seconds.
    """

    def __init__(self, requests: int, window: float) -> None:
        self.limit: int | None = requests
        self._requests = requests
        self._spacing = window / requests
        self._burst = max(1, requests // QUOTA_BURST_SHARE)
        self._places = Places(window)
        self._tempo = _Tempo(window)

    def delay(self, now: float, waited: float) -> float:
        """Return the seconds until a request may go, given how long the first in the queue has been due."""
        if self._places.taken(now) >= self._requests:
            return self._places.next_free() - now
        return 0.0 if self._tempo.pays(waited) else self._tempo.delay(now, self._spacing, self._burst)

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: the quota holds for it, too."""
        return self.delay(now, 0.0)

    def probe_sent(self, now: float) -> None:
        """Take note that a probe goes out."""
        self.sent(now, 0.0, 0)

    def sent(self, now: float, waited: float, waiting: int) -> None:
        """Take note that a request goes out, while so many polls are put down for now or later."""
        self._places.taken(now)  # forgets those that count no more, where nobody asks for the delay
        self._places.sent()
        if self._tempo.pays(waited):
            self._tempo.sent_at_once(now)
        else:
            self._tempo.sent(now, self._spacing, self._burst, gentle=waiting >= self._requests)

    def ended(self, now: float, *, late: bool = False) -> None:
        """Take note that a request ended, and may be counted late."""
        self._places.ended(now, late=late)

    def polled(self, *, found: bool) -> None:
        """Take note of whether a poll found its job done."""
        self._tempo.polled(found=found)

    def pays(self, waited: float) -> bool:
        """Say whether what is left had better go out at once."""
        return self._tempo.pays(waited)

    def accepted(self, now: float) -> None:
        """Take note of an answer that is no 429."""
        self.ended(now)

    def throttled(self, now: float, *, news: bool) -> None:  # noqa: ARG002 - the quota is what the caller says it is
        """Take note of a 429: it may have been counted all the same."""
        self.ended(now)

    def reopened(self, now: float) -> None:
        """Take note that the service accepts again."""


class LearnedQuota:
    """A quota that is learned from the 429s that it costs.

    Args:
        window: Seconds.
        grid: Where windows begin, once that is known.
    """

    def __init__(self, window: float, grid: Grid) -> None:
        self._window = window
        self._grid = grid
        self._places = Places(window)
        self._tempo = _Tempo(window)
        self._limit: float | None = None
        self._proven = 0  # the most that one window has surely taken
        self._wary = False  # a 429 came, whatever the count
        self._refusals = 0  # windows that ended in a 429 after something was accepted
        self._counting = False  # a 429 came, and what was sent before it has not all ended
        self._exact = False  # whether the limit was taken from one window alone
        self._review_at = math.nan
        self._accepted = self._quiet_windows = 0

    @property
    def limit(self) -> int | None:
        """The requests a window that the session keeps to, or None while no 429 has told."""
        return None if self._limit is None else math.floor(self._limit)

    def delay(self, now: float, waited: float) -> float:
        """Return the seconds until a request may go, given how long the first in the queue has been due."""
        self._review(now)
        limit = self.limit
        if limit is None:
            return self._tempo.delay(now, self._spacing(now), self._burst)
        taken = self._taken(now)
        if taken >= limit:
            return self._next_free(now) - now
        if taken >= self._proven and self._places.under_way:
            return math.inf
        if self._tempo.pays(waited):
            return 0.0
        return self._tempo.delay(now, self._spacing(now, taken), self._burst)

    def probe_delay(self, now: float) -> float:  # noqa: ARG002 - the shape of a quota
        """Return the seconds until a probe may go: none, since it is to tell what the quota is."""
        return 0.0

    def probe_sent(self, now: float) -> None:  # noqa: ARG002 - see `reopened`: the places taken are needed as they are
        """Take note that a probe goes out."""
        self._places.sent()

    def sent(self, now: float, waited: float, waiting: int) -> None:
        """Take note that a request goes out, while so many polls are put down for now or later."""
        limit = self._limit
        spacing = self._spacing(now) if limit is None else self._spacing(now, self._taken(now))
        self._places.sent()
        if limit is not None and self._tempo.pays(waited):
            self._tempo.sent_at_once(now)
        else:
            self._tempo.sent(now, spacing, self._burst, gentle=limit is not None and waiting >= limit)

    def ended(self, now: float, *, counted: bool = True, late: bool = False) -> None:
        """Take note that a request ended, and may be counted late."""
        self._places.ended(now, counted=counted, late=late)
        if self._counting and not self._places.under_way:
            self._counting = False
            self._lower(self._taken(now))

    def polled(self, *, found: bool) -> None:
        """Take note of whether a poll found its job done."""
        self._tempo.polled(found=found)

    def accepted(self, now: float) -> None:
        """Take note of an answer that is no 429."""
        self.ended(now)
        self._accepted += 1
        if self._limit is None:
            self._proven = max(self._proven, self._taken(now))

    def throttled(self, now: float, *, news: bool) -> None:
        """Take note of a 429, and whether it closed the gate; if not, it is about a window that was found spent."""
        self._counting = self._counting or news
        self.ended(now, counted=False)

    def reopened(self, now: float) -> None:
        """Take note that the service accepts again; if the grid is new, it tells what was in the window before."""
        if self._limit is None or self._exact or not self._grid.known:
            return
        edge = self._grid.passed(now) - self._window
        most, least = self._places.ended_since(edge), self._places.ended_since(edge + self._grid.span())
        if not most:
            return
        self._limit = max(1.0, min(self._limit, _SAFETY * most))
        self._proven, self._exact = least, True

    def keep_to(self, requests: int) -> None:
        """Begin with what a window was seen to take, if anything."""
        if requests:
            self._limit, self._proven = float(requests), requests
            self._quiet_windows, self._review_at = 0, math.nan

    def _taken(self, now: float) -> int:
        return self._places.taken(now, self._grid.passed(now))

    def _next_free(self, now: float) -> float:
        free, edge = self._places.next_free(), self._grid.next(now)
        frees = free < edge - self._grid.span() + self._window
        return min(free, edge) if frees else free

    def _spacing(self, now: float, taken: int = 0) -> float:
        if self._limit is None:
            return self._window / RAMP_START / (1 + (self._proven / RAMP_GROWTH) ** 2)
        even = self._window / self._limit
        if not self._grid.known:
            return even
        # Of what is left, an even share for the time left: it is gone with the window.
        left = self._grid.next(now) - self._grid.span() - now
        if left <= 0:  # about now; what is sent counts towards the next window as well
            left += self._window
        return min(even, left / max(1.0, self._limit - taken))

    @property
    def _burst(self) -> int:
        if self._limit is not None:
            return max(1, int(self._limit) // QUOTA_BURST_SHARE)
        return max(_WARY_BURST, min(self._proven, RAMP_BURST)) if self._wary else RAMP_BURST

    def _lower(self, counted: int) -> None:
        """Take a new limit from what a window took before its 429."""
        self._quiet_windows, self._review_at = 0, math.nan
        self._wary = True
        if not counted:
            return  # others spent it all; that tells nothing about our share
        self._refusals += 1
        if counted < _FEW and self._limit is None and self._refusals < _CONVINCING:
            self._proven = counted
            return
        share = _SAFETY * counted
        self._limit = max(1.0, share if self._limit is None else max(min(self._limit, share), self._limit / 2))
        # Without a grid, what was counted may lie in two of the service's windows.
        self._exact = self._grid.known
        self._proven = counted if self._exact else counted // 2

    def _review(self, now: float) -> None:
        """Raise the limit after a window that was used and met no 429."""
        if self._limit is None or now < self._review_at:
            return
        if not math.isnan(self._review_at) and self._accepted >= _USED * math.floor(self._limit):
            self._proven = max(self._proven, self._accepted)
            rise = min(1.0, _FIRST_RISE * 2**self._quiet_windows)
            self._limit = min(float(MAX_COUNT), max(self._limit + 1, self._limit * (1 + rise)))
            self._quiet_windows += 1
        self._accepted = 0
        self._review_at = self._grid.next(now) if self._grid.known else now + self._window
