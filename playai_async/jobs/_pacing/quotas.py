"""How many requests of one process may go, and how fast: a quota that is known, and one that is learned.

*The learned quota.* Nothing is known at first, so the rate starts low and grows with the most that a window has taken
without a 429. The first 429 shows that what was accepted in the last window is no less than the quota. From then on
the session keeps to a little less than that.

When the gate opens again, an edge between two of the service's windows lies between the last 429 and the first
accepted request. Edges come every window, so the `WindowClock` knows them from then on. With each edge, the requests
before it stop counting at once; and the requests accepted between an edge and a 429 are the quota itself, or our part
of it if others use the key.

The limit follows each 429 down, by half at most, since others may have spent the window. The limit rises by growing
steps after windows that were used and met no 429. Above the most that a window has ever
taken, requests go one at a time: an overshoot then costs one 429.
"""

from __future__ import annotations

import math
from typing import Protocol

from playai_async._settings import BURST_FRACTION, MAX_COUNT, RAMP_BURST, RAMP_GROWTH, RAMP_START
from playai_async.jobs._pacing.token_bucket import TokenBucket
from playai_async.jobs._pacing.windows import SlidingWindow, WindowClock

__all__ = ["KnownQuota", "LearnedQuota", "Quota", "burst_of"]

_SAFETY_FRACTION = 0.95
"""Of what a window took before its 429, what the session keeps to: others may use the key as well."""

_FEW_REQUESTS = 16
"""A 429 after fewer requests in a window may have many causes; others who use the key are the most likely one."""

_CONVINCING_REFUSALS = 3
"""After this many windows that ended in a 429, the limit is believed, however few the requests."""

_WARY_BURST = 2
"""Requests that may go back to back after a 429, while no window has taken more."""

_USED_FRACTION = 0.8
"""Of the limit, what a window must have used before the limit may rise."""

_FIRST_RISE = 0.05
"""The fraction by which the limit rises after one window without a 429; each further window doubles the rise."""


class Quota(Protocol):
    """How many requests may go, and how fast."""

    @property
    def limit(self) -> int | None:
        """The requests per window that are kept to, or None while unknown."""
        ...

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        ...

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if that depends on a request in flight or a permit.

        A hinted request does not wait for the even spacing.
        """
        ...

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go."""
        ...

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        ...

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent while `waiting` polls are scheduled, and whether it was hinted."""
        ...

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended without a verdict; the service may count it late."""
        ...

    def on_accepted(self, now: float) -> None:
        """Record an answer that is not a 429."""
        ...

    def on_throttled(self, now: float, *, first: bool) -> None:
        """Record a 429, and whether it closed the gate."""
        ...

    def on_reopened(self, now: float, *, refuted: bool) -> None:
        """Record that the service accepts requests again, and whether it does so within a window that was spent."""
        ...

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        ...


def burst_of(requests: float) -> int:
    """Return how many requests of a quota may go back to back."""
    return max(1, math.floor(requests * BURST_FRACTION + 1e-9))  # a twelfth of 60 is five, also in floats


class KnownQuota:
    """A quota that the caller knows. It is never exceeded over any span of one window.

    Args:
        requests: How many a window allows.
        window: Seconds.
    """

    def __init__(self, requests: int, window: float) -> None:
        self.limit: int | None = requests
        self._requests = requests
        self._spacing = window / requests
        self._burst = burst_of(requests)
        self._sliding = SlidingWindow(window)
        self._bucket = TokenBucket(window)

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._sliding.in_flight

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go."""
        if self._sliding.count(now) >= self._requests:
            return self._sliding.next_expiry() - now
        return (
            0.0 if hinted or self._bucket.sends_at_once(waited) else self._bucket.delay(now, self._spacing, self._burst)
        )

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: the quota holds for probes, too."""
        return self.delay(now, 0.0)

    def sends_at_once(self, waited: float) -> bool:
        """Return whether the rest of the quota should go at once."""
        return self._bucket.sends_at_once(waited)

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        self.on_sent(now, 0.0, 0)

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent."""
        self._sliding.count(now)  # forgets what no longer counts, where nobody asks for the delay
        self._sliding.on_sent()
        if self._bucket.sends_at_once(waited):
            self._bucket.on_sent_at_once(now)
        else:
            self._bucket.on_sent(now, self._spacing, self._burst, slow_start=waiting >= self._requests and not hinted)

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended."""
        self._sliding.on_ended(now, late=late)

    def on_accepted(self, now: float) -> None:
        """Record an answer that is not a 429."""
        self.on_ended(now)

    def on_throttled(self, now: float, *, first: bool) -> None:  # noqa: ARG002 - the caller knows the quota
        """Record a 429; the service may have counted the request all the same."""
        self.on_ended(now)

    def on_reopened(self, now: float, *, refuted: bool) -> None:
        """Do nothing: the quota is what the caller says."""

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._bucket.on_polled(found=found)


class LearnedQuota:
    """A quota that is learned from 429s.

    Args:
        window: Seconds.
        windows: Where the service's windows begin, once that is known.
        may_be_uncounted: Whether the service may limit something else than requests per window, such as jobs at once.
    """

    def __init__(self, window: float, windows: WindowClock, *, may_be_uncounted: bool = False) -> None:
        self._window = window
        self._windows = windows
        self._sliding = SlidingWindow(window)
        self._bucket = TokenBucket(window)
        self._limit: float | None = None
        self._proven = 0  # the most that one window has surely taken
        self._may_be_uncounted = may_be_uncounted
        self._uncounted = False  # the service does not count requests per window: the gate and the next bound pace
        self._allowed_in_flight = 1
        self._wary = False  # a 429 came, whatever the count
        self._refusals = 0  # windows that ended in a 429 after something was accepted
        self._counting = False  # a 429 came, and the requests sent before it have not all ended
        self._exact = False  # whether the limit comes from a single window
        self._review_at = math.nan
        self._accepted = self._quiet_windows = 0

    @property
    def limit(self) -> int | None:
        """The requests per window that are kept to, or None before the first convincing 429."""
        return None if self._limit is None else math.floor(self._limit)

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._sliding.in_flight

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if that depends on a request in flight."""
        self._review(now)
        limit = self.limit
        if self._uncounted:
            return 0.0 if self.in_flight < self._allowed_in_flight else math.inf
        if limit is None:
            return self._bucket.delay(now, self._spacing(now), self._burst)
        counted = self._counted(now)
        if counted >= limit:
            return self._next_free(now) - now
        if counted >= self._proven and self._sliding.in_flight:
            return math.inf
        if hinted or self._bucket.sends_at_once(waited):
            return 0.0
        return self._bucket.delay(now, self._spacing(now, counted), self._burst)

    def probe_delay(self, now: float) -> float:  # noqa: ARG002 - the signature of a quota
        """Return 0: a probe shows what the quota is."""
        return 0.0

    def on_probe_sent(self, now: float) -> None:  # noqa: ARG002 - `on_reopened` needs the counts as they are
        """Record that a probe was sent."""
        self._sliding.on_sent()

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent."""
        limit = self._limit
        spacing = self._spacing(now) if limit is None else self._spacing(now, self._counted(now))
        self._sliding.on_sent()
        if limit is not None and self._bucket.sends_at_once(waited):
            self._bucket.on_sent_at_once(now)
        else:
            slow_start = limit is not None and waiting >= limit and not hinted
            self._bucket.on_sent(now, spacing, self._burst, slow_start=slow_start)

    def on_ended(self, now: float, *, counted: bool = True, late: bool = False) -> None:
        """Record that a request ended, and whether the service may have counted it, or may count it late."""
        self._sliding.on_ended(now, counted=counted, late=late)
        if self._counting and not self._sliding.in_flight:
            self._counting = False
            self._lower(self._counted(now))

    def on_accepted(self, now: float) -> None:
        """Record an answer that is not a 429."""
        self.on_ended(now)
        self._accepted += 1
        self._allowed_in_flight += 1
        if self._limit is None:
            self._proven = max(self._proven, self._counted(now))

    def on_throttled(self, now: float, *, first: bool) -> None:
        """Record a 429; if the gate was closed before, it adds nothing."""
        self._counting = self._counting or first
        self.on_ended(now, counted=False)

    def on_reopened(self, now: float, *, refuted: bool) -> None:
        """Take the limit from the window before, if its edges have become known only now; or forget the limit."""
        self._uncounted = refuted and self._may_be_uncounted
        if self._uncounted:
            self._limit, self._refusals, self._allowed_in_flight = None, 0, 1
            return
        if self._limit is None or self._exact or not self._windows.known:
            return
        edge = self._windows.last_edge(now) - self._window
        most = self._sliding.ended_since(edge)
        least = self._sliding.ended_since(edge + self._windows.uncertainty())
        if not most:
            return
        self._limit = max(1.0, min(self._limit, _SAFETY_FRACTION * most))
        self._proven, self._exact = least, True

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._bucket.on_polled(found=found)

    def start_from(self, requests: int) -> None:
        """Start from what a window was seen to take, if it took anything."""
        if requests:
            self._limit, self._proven = float(requests), requests
            self._quiet_windows, self._review_at = 0, math.nan

    def _counted(self, now: float) -> int:
        return self._sliding.count(now, self._windows.last_edge(now))

    def _next_free(self, now: float) -> float:
        expiry, edge = self._sliding.next_expiry(), self._windows.next_edge(now)
        frees = expiry < edge - self._windows.uncertainty() + self._window
        return min(expiry, edge) if frees else expiry

    def _spacing(self, now: float, counted: int = 0) -> float:
        if self._limit is None:
            return self._window / RAMP_START / (1 + (self._proven / RAMP_GROWTH) ** 2)
        even = self._window / self._limit
        if not self._windows.known:
            return even
        # What is left of the quota is spread over what is left of the window.
        left = self._windows.next_edge(now) - self._windows.uncertainty() - now
        if left <= 0:  # the edge is about now, and requests count towards the next window as well
            left += self._window
        return min(even, left / max(1.0, self._limit - counted))

    @property
    def _burst(self) -> int:
        if self._limit is not None:
            return burst_of(int(self._limit))
        return max(_WARY_BURST, min(self._proven, RAMP_BURST)) if self._wary else RAMP_BURST

    def _lower(self, counted: int) -> None:
        """Take a new limit from what a window took before its 429."""
        self._quiet_windows, self._review_at = 0, math.nan
        self._wary = True
        if not counted or self._uncounted:
            return  # others spent the whole window, which says nothing about our part
        self._refusals += 1
        if counted < _FEW_REQUESTS and self._limit is None and self._refusals < _CONVINCING_REFUSALS:
            self._proven = counted
            return
        safe = _SAFETY_FRACTION * counted
        self._limit = max(1.0, safe if self._limit is None else max(min(self._limit, safe), self._limit / 2))
        # Without known edges, the counted requests may lie in two of the service's windows.
        self._exact = self._windows.known
        self._proven = counted if self._exact else counted // 2

    def _review(self, now: float) -> None:
        """Raise the limit after a window that was used and met no 429."""
        if self._limit is None or now < self._review_at:
            return
        if not math.isnan(self._review_at) and self._accepted >= _USED_FRACTION * math.floor(self._limit):
            self._proven = max(self._proven, self._accepted)
            rise = min(1.0, _FIRST_RISE * 2**self._quiet_windows)
            self._limit = min(float(MAX_COUNT), max(self._limit + 1, self._limit * (1 + rise)))
            self._quiet_windows += 1
        self._accepted = 0
        self._review_at = self._windows.next_edge(now) if self._windows.known else now + self._window
