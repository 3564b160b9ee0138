"""A quota that the caller knows."""

from __future__ import annotations

from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.learned_quota import LearnedQuota
from playai_async.jobs._pacing.token_bucket import OVERDUE_FRACTION, TokenBucket, burst_of
from playai_async.jobs._pacing.windows import SlidingWindow, WindowClock

__all__ = ["KnownQuota"]

_SPENT_FRACTION = 0.8
"""Fraction of the quota: after this many requests in the last window, a 429 needs no other cause."""

_OVERDUE_FRACTION = 1 / 6
"""Fraction of a window: in fixed windows, what is left of the quota at their end is lost, so a poll waits less long for
the rest to go at once (10 s of 60)."""

_MIN_AT_ONCE = 4
"""Requests that may be in flight where the rest of a quota goes at once, also if its burst is smaller."""


class KnownQuota:
    """A quota that the caller knows. It is never exceeded over any span of one window.

    If the caller knows that the service counts in fixed windows, the quota is spent once per window instead. The first
    429 shows where the windows begin. Until then, a span of one window has at most twice the quota: more cannot be
    accepted.

    If the service refuses requests although the quota has some left, it allows less, or counts in another way. From
    then on, what it allows is learned as well.

    Args:
        requests: How many a window allows.
        window: Seconds.
        windows: Where the service's windows begin, once that is known.
        fixed: Whether the service surely counts in fixed windows.
    """

    def __init__(self, requests: int, window: float, windows: WindowClock, *, fixed: bool = False) -> None:
        self._requests = requests
        self._window = window
        self._windows = windows
        self._fixed = fixed
        self._even_spacing = window / requests
        self._burst = burst_of(requests)
        self._sliding = SlidingWindow(window)
        self._bucket = TokenBucket(window, overdue=_OVERDUE_FRACTION if fixed else OVERDUE_FRACTION)
        self._learned: LearnedQuota | None = None

    def change(self, requests: int) -> None:
        """Keep to another number of requests from now on; what was sent counts, what was learned does not."""
        self._requests = requests
        self._even_spacing = self._window / requests
        self._burst = burst_of(requests)
        self._learned = None

    @property
    def limit(self) -> int:
        """The requests per window that are kept to: the quota, or less if the service allows less."""
        learned = None if self._learned is None else self._learned.limit
        return self._requests if learned is None else min(self._requests, learned)

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._sliding.in_flight

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go."""
        learned = self._learned
        if (full_for := self._full_for(now)) > 0:
            if learned is not None:
                learned.on_held()
            return full_for
        if learned is not None:
            if not learned.allows(self._requests):
                return learned.delay(now, waited, hinted=hinted)
            self._learned = None
        # Few at a time: if the service counts in another way after all, few are refused.
        if hinted or (self._bucket.sends_at_once(waited) and self.in_flight < max(self._burst, _MIN_AT_ONCE)):
            return 0.0
        return self._bucket.delay(now, self._spacing(now), self._burst)

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: the quota holds for probes, too."""
        if self._fixed:
            return 0.0
        return self._full_for(now) or self._bucket.delay(now, self._spacing(now), self._burst)

    def spent(self, now: float) -> bool:
        """Return whether a window may have been spent, if the service refuses a request now."""
        return self._counted(now) >= _SPENT_FRACTION * self._requests

    def sends_at_once(self, waited: float) -> bool:
        """Return whether the rest of the quota should go at once."""
        return self._bucket.sends_at_once(waited)

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        if self._learned is not None:
            self._learned.on_probe_sent(now)
        else:
            self.on_sent(now, 0.0, 0)

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent."""
        if self._learned is not None:
            self._learned.on_sent(now, waited, waiting, hinted=hinted)
            return
        self._sliding.count(now)  # forgets what no longer counts, where nobody asks for the delay
        self._sliding.on_sent()
        if self._bucket.sends_at_once(waited):
            self._bucket.on_sent_at_once(now)
        else:
            slow_start = waiting >= self._requests and not hinted
            self._bucket.on_sent(now, self._spacing(now), self._burst, slow_start=slow_start)

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended."""
        if self._learned is not None:
            self._learned.on_ended(now, late=late)
        else:
            self._sliding.on_ended(now, late=late)

    def on_accepted(self, now: float, others: int | None = 0) -> None:
        """Record an answer that is not a 429."""
        if self._learned is not None:
            self._learned.on_accepted(now, others)
        else:
            self._sliding.on_ended(now)

    def on_throttled(self, now: float, others: int = 0, *, first: bool) -> None:
        """Record a 429, and learn what the service allows. It may have counted the request all the same."""
        if self._learned is None and self._fixed and (not first or self.spent(now)):
            self._sliding.on_ended(now, counted=False)
            return
        if self._learned is None:
            self._learned = LearnedQuota(
                self._window, self._windows, sliding=self._sliding, bucket=self._bucket, known=self._requests
            )
        self._learned.on_throttled(now, others, first=first)

    def on_reopened(self, now: float, reopening: Reopening) -> None:
        """Record that the service accepts requests again."""
        if self._learned is not None:
            self._learned.on_reopened(now, reopening)

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._bucket.on_polled(found=found)

    def _full_for(self, now: float) -> float:
        """Return the seconds for which the quota is spent; 0 if some of it is left."""
        counted = self._counted(now)
        if counted < self._requests:
            return 0.0
        if not self._fixed:
            return self._sliding.next_expiry() - now
        if not self._windows.known:  # a 429 is to show where they begin; two quotas may go around an edge
            return 0.0 if counted < 2 * self._requests else self._sliding.next_expiry() - now
        expiry = self._sliding.next_expiry(self._windows.last_edge(now))
        return min(expiry, self._windows.next_edge(now)) - now

    def _counted(self, now: float) -> int:
        return self._sliding.count(now, self._windows.last_edge(now)) if self._fixed else self._sliding.count(now)

    def _spacing(self, now: float) -> float:
        even = self._even_spacing
        if not self._fixed or not self._windows.known:
            return even
        # What is left of the quota is spread over what is left of the window.
        left = self._windows.next_edge(now) - self._windows.uncertainty() - now
        return even if left <= 0 else min(even, left / max(1, self._requests - self._counted(now)))
