"""How soon a request may follow the one before: evenly, apart from a small burst.

Two things change the even spacing:

- Where more jobs are waited for than the quota has requests, requests start slowly after idleness. Jobs that are waited
  for together are all young, so early polls find nothing; the requests saved are there when the jobs finish.
- When most polls find their job finished while others have been due for long, nothing is worth saving: the rest of the
  quota may go at once.
"""

from __future__ import annotations

import math

from playai_async._settings import BURST_FRACTION

__all__ = ["OVERDUE_FRACTION", "TokenBucket", "burst_of"]

_SLOW_START_FRACTION = 1 / 6
"""Fraction of a window: the length of the slow start after idleness (10 s of 60)."""

_SLOW_START_COST = 6
"""Tokens that a request costs during the slow start. So early, a poll finds its job unfinished."""

OVERDUE_FRACTION = 1 / 3
"""Fraction of a window: a poll that has been due for longer (20 s of 60) waits because of the quota, not of jitter."""

_MOSTLY = 1 / 2
"""The fraction of polls that found their job finished above which most do."""

_MEMORY = 0.1
"""The weight of the latest poll in the fraction of polls that found their job finished: about ten polls count."""


class TokenBucket:
    """A token bucket: a request costs a token, and a token comes back with every spacing, up to a burst.

    Args:
        window: Seconds of the service's windows, which are the scale of all this.
        overdue: The fraction of a window after which a poll that is due counts as long overdue.
    """

    def __init__(self, window: float, overdue: float = OVERDUE_FRACTION) -> None:
        self._window = window
        self._overdue = window * overdue
        self._tokens = math.inf
        self._counted_at = self._busy_since = self._last_sent = -math.inf
        self._found = 0.0

    def delay(self, now: float, spacing: float, burst: int) -> float:
        """Return the seconds until a token is there."""
        return (1 - self._tokens_at(now, spacing, burst)) * spacing

    def sends_at_once(self, waited: float) -> bool:
        """Return whether most polls find finished jobs while others are long overdue."""
        return waited > self._overdue and self._found > _MOSTLY

    def on_sent(self, now: float, spacing: float, burst: int, *, slow_start: bool) -> None:
        """Take a token, or several during a slow start."""
        if now - self._last_sent > self._window:
            self._busy_since = now
        self._last_sent = now
        cost = 1.0
        start = self._window * _SLOW_START_FRACTION
        if slow_start and now - self._busy_since < start and self._found <= _MOSTLY:
            # At most what comes back in one slow start: else each request of a small quota would start slowly.
            cost = max(cost, min(_SLOW_START_COST, start / spacing))
        self._tokens = self._tokens_at(now, spacing, burst) - cost
        self._counted_at = now

    def on_sent_at_once(self, now: float) -> None:
        """Record a request that took no token."""
        self._last_sent = now

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._found += _MEMORY * (found - self._found)

    def _tokens_at(self, now: float, spacing: float, burst: int) -> float:
        tokens = self._tokens + (now - self._counted_at) / spacing
        return tokens if tokens < burst else burst


def burst_of(requests: float) -> int:
    """Return how many requests of a quota may go back to back."""
    return max(1, math.floor(requests * BURST_FRACTION + 1e-9))  # a twelfth of 60 is five, also in floats
