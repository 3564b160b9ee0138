"""A quota that the caller knows."""

from __future__ import annotations

from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.learned_quota import LearnedQuota
from playai_async.jobs._pacing.token_bucket import TokenBucket, burst_of
from playai_async.jobs._pacing.windows import SlidingWindow, WindowClock

__all__ = ["KnownQuota"]

_SPENT_FRACTION = 0.8
"""Of the quota, the requests in the last window from which a 429 needs no other cause."""

_MIN_AT_ONCE = 4
"""Requests that may be in flight where the rest of a quota goes at once, also if its burst is smaller."""


class KnownQuota:
    """A quota that the caller knows. It is never exceeded over any span of one window.

    If the service refuses requests all the same, it allows less, or counts in another way. From then on, what it allows
    is learned as well.

    Args:
        requests: How many a window allows.
        window: Seconds.
        windows: Where the service's windows begin, once that is known.
    """

    def __init__(self, requests: int, window: float, windows: WindowClock) -> None:
        self.limit: int | None = requests
        self._requests = requests
        self._window = window
        self._windows = windows
        self._spacing = window / requests
        self._burst = burst_of(requests)
        self._sliding = SlidingWindow(window)
        self._bucket = TokenBucket(window)
        self._learned: LearnedQuota | None = None

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._sliding.in_flight

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go."""
        learned = self._learned
        if self._sliding.count(now) >= self._requests:
            if learned is not None:
                learned.on_held()
            return self._sliding.next_expiry() - now
        if learned is not None:
            if not learned.allows(self._requests):
                return learned.delay(now, waited, hinted=hinted)
            self._learned = None
        # Few at a time: if the service counts in another way after all, few are refused.
        if hinted or (self._bucket.sends_at_once(waited) and self.in_flight < max(self._burst, _MIN_AT_ONCE)):
            return 0.0
        return self._bucket.delay(now, self._spacing, self._burst)

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go: the quota holds for probes, too."""
        if self._sliding.count(now) >= self._requests:
            return self._sliding.next_expiry() - now
        return self._bucket.delay(now, self._spacing, self._burst)

    def spent(self, now: float) -> bool:
        """Return whether a window may have been spent, if the service refuses a request now."""
        return self._sliding.count(now) >= _SPENT_FRACTION * self._requests

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
            self._bucket.on_sent(now, self._spacing, self._burst, slow_start=waiting >= self._requests and not hinted)

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended."""
        if self._learned is not None:
            self._learned.on_ended(now, late=late)
        else:
            self._sliding.on_ended(now, late=late)

    def on_accepted(self, now: float, others: int = 0) -> None:
        """Record an answer that is not a 429."""
        if self._learned is not None:
            self._learned.on_accepted(now, others)
        else:
            self._sliding.on_ended(now)

    def on_throttled(self, now: float, others: int = 0, *, first: bool) -> None:
        """Record a 429: from now on, learn what the service allows. It may have counted the request all the same."""
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
