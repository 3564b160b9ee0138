"""Models of the rate limiters that services and proxies have, for tests and benchmarks in virtual time.

`playai_async.emulator` has the common ones. Here are those that it does not have, and a table of all kinds. Each model
counts all keys together. Pure: the caller passes the time in.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Mapping

import attrs

from playai_async.emulator._service.clock import CLOCK_TOLERANCE
from playai_async.emulator._service.limiters import (
    ConcurrencyLimiter,
    FixedWindowLimiter,
    Grant,
    Limiter,
    SlidingLogLimiter,
    TokenBucketLimiter,
)

__all__ = [
    "CONCURRENT",
    "KINDS",
    "SERVICE_FRACTION",
    "CountingSlidingLogLimiter",
    "FirstRequestLimiter",
    "Kind",
    "Setting",
    "SharedLimiter",
    "SlidingCounterLimiter",
    "TieredLimiter",
]


class SlidingCounterLimiter(Limiter):
    """Approximates a sliding window from the counts of two fixed ones, as Cloudflare and `limits` do.

    The previous window counts in proportion to the part of it that lies in the last `window` seconds.

    Args:
        quota: How many requests may be sent in a window.
        window: The length of a window in seconds.
        phase: Seconds of the first window that have passed at time 0.
        counts_refused: Whether refused requests count like admitted ones.
    """

    def __init__(self, quota: int, window: float, phase: float = 0.0, *, counts_refused: bool = False) -> None:
        super().__init__(quota)
        self._window = window
        self._phase = phase
        self._counts_refused = counts_refused
        self._index = 0
        self._previous = self._current = 0

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if the weighted count is below the quota."""
        admitted = self.seconds_left(key, now) <= CLOCK_TOLERANCE
        if admitted or self._counts_refused:
            self._current += 1
        return Grant() if admitted else None

    def seconds_left(self, key: str, now: float) -> float:  # noqa: ARG002 - counts all keys together
        """Return the seconds until the weighted count leaves room for a request, or the window ends."""
        assert self.quota is not None
        index, passed = divmod(now + self._phase + CLOCK_TOLERANCE, self._window)
        if index != self._index:
            self._previous = self._current if index == self._index + 1 else 0
            self._index, self._current = int(index), 0
        room = self.quota - self._current - 1
        if room < 0:
            # After the end of this window its own count decreases in the same way.
            weight = (self.quota - 1) / self._current
            return (2 - weight) * self._window - passed
        weight = room / self._previous if self._previous else 1.0
        return max(0.0, (1 - weight) * self._window - passed)


class CountingSlidingLogLimiter(SlidingLogLimiter):
    """A sliding log that also counts the requests that it refuses: who keeps hammering stays refused."""

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if fewer than `quota` came in the `window` seconds before it."""
        grant = super().admit(key, now)
        if grant is None:
            log: deque[float] = self._states[key]
            log.append(now)
        return grant


class FirstRequestLimiter(Limiter):
    """Fixed windows, each of which begins with the first request after the one before, as those of express-rate-limit.

    Args:
        quota: How many requests may be sent in a window.
        window: The length of a window in seconds.
        renews: Whether each refused request begins the window anew, as a counter does whose expiry is always set.
    """

    def __init__(self, quota: int, window: float, *, renews: bool = False) -> None:
        super().__init__(quota)
        self._window = window
        self._renews = renews
        self._ends = -math.inf
        self._spent = 0

    def admit(self, key: str, now: float) -> Grant | None:  # noqa: ARG002 - counts all keys together
        """Admit a request if some of the quota of this window is left."""
        assert self.quota is not None
        if now >= self._ends - CLOCK_TOLERANCE:
            self._ends, self._spent = now + self._window, 0
        if self._spent >= self.quota:
            if self._renews:
                self._ends = now + self._window
            return None
        self._spent += 1
        return Grant()

    def seconds_left(self, key: str, now: float) -> float:  # noqa: ARG002 - counts all keys together
        """Return the seconds until the current window ends."""
        return max(0.0, self._ends - now)


class TieredLimiter(Limiter):
    """Several sliding logs at once: a request must fit into all of them, or counts in none.

    Args:
        tiers: The quota and the window of each.
    """

    def __init__(self, *tiers: tuple[int, float]) -> None:
        super().__init__(None)
        self._tiers = tiers
        self._log: deque[float] = deque(maxlen=max(quota for quota, _ in tiers))

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if every tier has room."""
        if self.seconds_left(key, now) > CLOCK_TOLERANCE:
            return None
        self._log.append(now)
        return Grant()

    def seconds_left(self, key: str, now: float) -> float:  # noqa: ARG002 - counts all keys together
        """Return the seconds until every tier has room."""
        return max(
            self._log[-quota] + window - now if len(self._log) >= quota else 0.0 for quota, window in self._tiers
        )


class SharedLimiter(Limiter):
    """A limiter whose quota strangers use, too, at random times.

    Args:
        limiter: The limiter.
        every: Seconds from one request of the strangers to the next, on average.
        rng: Decides the times.
    """

    def __init__(self, limiter: Limiter, every: float, rng: random.Random) -> None:
        super().__init__(limiter.quota)
        self._limiter = limiter
        self._every = every
        self._rng = rng
        self._next = rng.expovariate(1 / every)

    def admit(self, key: str, now: float) -> Grant | None:
        """Let the strangers' requests in, which came before, and then this one."""
        while self._next <= now:
            self._limiter.admit(key, self._next)
            self._next += self._rng.expovariate(1 / self._every)
        return self._limiter.admit(key, now)

    def seconds_left(self, key: str, now: float) -> float:
        """Return what the limiter says."""
        return self._limiter.seconds_left(key, now)


@attrs.frozen
class Setting:
    """What a limiter is made for.

    Attributes:
        quota: Requests per window.
        window: Seconds.
        phase: Seconds of the first window that have passed at time 0, where windows do not begin with a request.
        rng: Decides what strangers do.
    """

    quota: int
    window: float
    phase: float
    rng: random.Random


@attrs.frozen
class Kind:
    """A kind of limiter.

    Attributes:
        make: Makes one.
        hints: Whether services with such a limiter also exist that send `Retry-After`.
        takes: The fraction of a window that the service works on a request.
        has_quota: Whether it counts requests per window at all.
    """

    make: Callable[[Setting], Limiter]
    hints: bool = True
    takes: float = 0.0
    has_quota: bool = True


CONCURRENT = 4
"""Requests that a limit on concurrency admits at the same time."""

SERVICE_FRACTION = 1 / 30
"""Of a window, how long a request runs where concurrency is limited: 2 s of 60, which allows two requests a second."""


def _fixed(to: Setting) -> Limiter:
    return FixedWindowLimiter(to.quota, to.window, to.phase)


def _counter(to: Setting, *, counts_refused: bool) -> Limiter:
    return SlidingCounterLimiter(to.quota, to.window, to.phase, counts_refused=counts_refused)


def _bucket(to: Setting, burst_fraction: float) -> Limiter:
    return TokenBucketLimiter(to.quota, to.window, max(1, int(to.quota * burst_fraction)))


def _tiers(to: Setting) -> Limiter:
    """Limit a sixtieth of a window, too: 5 requests per second beside 60 per minute."""
    return TieredLimiter((max(1, to.quota // 12), to.window / 60), (to.quota, to.window))


KINDS: Mapping[str, Kind] = {
    "fixed": Kind(_fixed),
    "first": Kind(lambda to: FirstRequestLimiter(to.quota, to.window)),
    "sliding": Kind(lambda to: SlidingLogLimiter(to.quota, to.window)),
    "counter": Kind(lambda to: _counter(to, counts_refused=False)),
    "leaky": Kind(lambda to: TokenBucketLimiter(to.quota, to.window, 1), hints=False),
    "leaky-20": Kind(lambda to: _bucket(to, 1 / 3), hints=False),
    "gcra-10": Kind(lambda to: _bucket(to, 1 / 6)),
    "tiers": Kind(_tiers),
    "concurrency": Kind(lambda to: ConcurrencyLimiter(CONCURRENT, to.window), takes=SERVICE_FRACTION, has_quota=False),
    "sliding-refused": Kind(lambda to: CountingSlidingLogLimiter(to.quota, to.window)),
    "counter-refused": Kind(lambda to: _counter(to, counts_refused=True)),
    "renewing": Kind(lambda to: FirstRequestLimiter(to.quota, to.window, renews=True)),
    "shared": Kind(lambda to: SharedLimiter(_fixed(to), 2 * to.window / to.quota, to.rng)),
    "none": Kind(lambda to: FixedWindowLimiter(None, to.window), hints=False, has_quota=False),
}
"""All kinds. A fixed window that counts refused requests admits the same as one that does not.

The numbers in their names are the burst that belongs to 60 requests per window.
"""
