"""Where the service does not count requests per window: the rate that it accepts, and how many requests at once.

Both follow the evidence, as congestion control does in TCP: they fall with each refusal and grow while requests are
accepted. The growth of the rate is that of CUBIC (RFC 9438), which botocore's adaptive retry mode uses as well: fast at
first, slow around the rate that was refused last, and faster again after it.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import islice

from playai_async._settings import MAX_COUNT
from playai_async.jobs._pacing.token_bucket import TokenBucket

__all__ = ["ConcurrencyLimit", "RateControl"]

_DECREASE = 0.9
"""The factor for the rate after a 429. The service allows nearly as much: one request in some thirty is refused."""

_FURTHER_DECREASE = 0.7
"""The further factor if the 429 before came just now, since the service allows much less."""

_RECOVERY_REQUESTS = 30
"""After this many requests that waited for the rate, the rate is back at the rate that was refused."""

_SOON_FRACTION = 1 / 3
"""Fraction of the recovery: a 429 before this much of it is done came soon after the last one."""

_START_GROWTH = 1.5
"""The factor for the rate after each accepted request that waited for the rate, until the first 429."""

_HEADROOM = 2.0
"""The rate grows to at most this many times the measured rate: nothing shows that more would be accepted."""

_MEASURED = 30
"""The latest accepted requests, over which the actual rate is measured."""

_PEAK_MEASURED = 9
"""The latest accepted requests among which a burst is looked for."""

_FIRST_BURST = 4
"""Requests that may go back to back until a burst is refused, so that a stray 429 does not slow a few waits."""

_BURST_RATIO = 1.5
"""A request is one of a burst if the latest requests came this much faster than the rate."""

_BURST_PATIENCE = 60
"""Accepted requests after which one more may go back to back; doubled each time that a burst is refused."""

_AT_LIMIT_PATIENCE = 20
"""The limit grows by one after this many times the limit of accepted requests that filled it."""


class RateControl:
    """The rate at which a service accepts requests, and how many it accepts back to back.

    Args:
        now: The time.
        window: Seconds.
        rate: Requests per window, to begin with or at most.
        refused: Whether this rate was refused, and is the most that the service allows. If not, the rate grows fast
            until the first 429, and has no bound.
    """

    def __init__(self, now: float, window: float, rate: float, *, refused: bool) -> None:
        self.rate = rate * _DECREASE if refused else rate
        self._window = window
        self._ceiling = rate if refused else math.inf
        self._most = rate if refused else MAX_COUNT
        self._raised = 0
        self._throttled_at = now
        self._accepted_at: deque[float] = deque(maxlen=_MEASURED)
        self._bucket = TokenBucket(window)
        self._burst = _FIRST_BURST
        self._quiet = 0
        self._patience = _BURST_PATIENCE
        self._holds = self._held = False
        self.on_sent(now)

    def delay(self, now: float) -> float:
        """Return the seconds until a request may go."""
        delay = self._bucket.delay(now, self._window / self.rate, self._burst)
        self._holds = self._holds or delay > 0
        return delay

    def on_sent(self, now: float) -> None:
        """Record that a request was sent."""
        self._held, self._holds = self._holds, False
        self._bucket.on_sent(now, self._window / self.rate, self._burst, slow_start=False)

    def on_held(self) -> None:
        """Record that something else held a request back."""
        self._holds = True

    def on_accepted(self, now: float) -> None:
        """Record an answer that is not a 429; the rate grows if it held the request back."""
        self._accepted_at.append(now)
        self._quiet += 1
        if self._quiet >= self._patience:
            self._quiet = 0
            self._burst += 1
        if not self._held:
            return
        self._raised += 1
        if math.isinf(self._ceiling):
            self.rate = max(self.rate, min(self.rate * _START_GROWTH, _HEADROOM * self._mean_rate(), MAX_COUNT))
            return
        # A small rate need not wait for its requests: a window is enough.
        progress = max(self._raised / _RECOVERY_REQUESTS, (now - self._throttled_at) / self._window) - 1
        self.rate = min(self._ceiling * (1 + (1 - _DECREASE) * progress**3), self._most)

    def on_throttled(self, now: float) -> None:
        """If the 429 came after a burst, lower the burst; otherwise lower the rate."""
        self._quiet = 0
        if self._burst > 1 and self._peak_rate(now) > _BURST_RATIO * self.rate:
            self._patience *= 2
            self._burst = 1
            return
        if math.isinf(self._ceiling):
            self._ceiling = self.rate / _START_GROWTH
        else:
            soon = self._raised < _SOON_FRACTION * _RECOVERY_REQUESTS
            self._ceiling = self.rate * (_FURTHER_DECREASE if soon else 1.0)
        self._ceiling = max(1.0, self._ceiling)
        self._raised, self._throttled_at = 0, now
        self.rate = max(1.0, self._ceiling * _DECREASE)

    def on_reopened(self, taken: int) -> None:
        """Lower the rate to what the last window took, since the service refused a probe after that."""
        if taken < self.rate:
            self._ceiling = max(1.0, float(taken))
            self.rate = max(1.0, self._ceiling * _DECREASE)

    def _mean_rate(self) -> float:
        first, last = self._accepted_at[0], self._accepted_at[-1]
        return (len(self._accepted_at) - 1) * self._window / (last - first) if last > first else math.inf

    def _peak_rate(self, now: float) -> float:
        """Return the highest rate of the latest requests, up to now."""
        latest = enumerate(islice(reversed(self._accepted_at), _PEAK_MEASURED), start=1)
        return max((count * self._window / max(now - at, 1e-3) for count, at in latest), default=math.inf)


class ConcurrencyLimit:
    """How many requests may be in flight, if the service refuses a request because of the others.

    Such a request was sent beside a number of others, and no accepted request was sent beside more. The number may be
    equal: the client sees a request in flight a little longer than the service does.
    """

    def __init__(self) -> None:
        self.limit = MAX_COUNT
        self._most_others = self._refused_others = 0
        self._at_limit = 0
        self._survivors = 0  # accepted requests that were in flight when another was refused
        self._refused = 0  # since the limit was lowered
        self._was_limited = False  # before it was lowered

    def on_accepted(self, others: int) -> None:
        """Record an answer that is not a 429, to a request that was sent while `others` were in flight."""
        self._most_others = max(self._most_others, others)
        if others + 1 != self.limit:
            self.limit = max(self.limit, others + 1)
            return
        self._at_limit += 1
        if self._at_limit >= _AT_LIMIT_PATIENCE * self.limit:
            self._at_limit = 0
            self.limit += 1

    def on_survived(self) -> None:
        """Record an answer that is not a 429, to a request that was in flight when another was refused.

        All of them ran at once, whichever was sent first.
        """
        self._survivors += 1
        self.limit = max(self.limit, self._survivors)

    def explains(self, others: int) -> bool:
        """Return whether a 429 to a request beside `others` may come from their number."""
        return others > 0 and (others >= self._most_others or others + 1 >= self.limit)

    def on_throttled(self, others: int) -> None:
        """Lower the limit for a 429 that it explains."""
        self._refused_others, self._refused, self._was_limited = others, 1, self.limit < MAX_COUNT
        self.limit = min(others, self._most_others) or 1
        self._most_others = self.limit - 1
        self._at_limit = self._survivors = 0

    def on_also_throttled(self, others: int) -> bool:
        """Record a further 429 before another request is accepted; return whether it shows another cause.

        It does if the request was alone, or if many were refused although no more than the limit were in flight.
        """
        self._refused += 1
        return not others or (self._was_limited and self._refused > self.limit // 2)

    def forget(self) -> None:
        """Forget the limit: the service refused a request beside fewer, so that something else is limited."""
        self.limit = MAX_COUNT
        self._most_others = max(self._most_others, self._refused_others)
