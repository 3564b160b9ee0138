"""The limits of the service: how many requests of each API key are admitted, by five kinds of limiter.

The service itself counts in fixed windows. The other kinds are those of other services and of the proxies in front of
them. Pure: the caller passes the time in.
"""

import abc
import math
from collections import deque
from typing import Final, Generic, Literal, TypeAlias, TypeVar, assert_never

import attrs

from playai_async.emulator._service.clock import CLOCK_TOLERANCE

LimiterKind: TypeAlias = Literal["fixed", "sliding", "leaky", "bucket", "concurrency"]

UNKNOWN_END: Final = 1.0
"""Seconds in `Retry-After` where nobody knows when a running request or job will end."""

_State = TypeVar("_State")


@attrs.define(eq=False)
class Grant:
    """An admitted request, which may count as running for some time; that matters to a limit on concurrency only.

    Args:
        until: The loop time until which the request counts as running.
    """

    until: float = math.inf
    _has_job: bool = False

    def job_ends(self, at: float) -> None:
        """Let the request run until its job finishes, however soon it is answered."""
        self.until = at
        self._has_job = True

    def answered(self, now: float) -> None:
        """End a request without a job at loop time `now`."""
        if not self._has_job:
            self.until = now


class Limiter(abc.ABC):
    """Admits or refuses the requests of each key.

    A refused request spends nothing. So raising the quota at run time lets exactly the difference through.

    Args:
        quota: How many requests each key may send; None: unlimited. Can be set at any time.
    """

    def __init__(self, quota: int | None) -> None:
        self.quota = quota

    def start(self, now: float) -> None:  # noqa: B027 - only fixed windows begin at a certain time
        """Start counting at loop time `now`; later calls change nothing."""

    @abc.abstractmethod
    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request of the key at loop time `now`; None if it is refused."""

    @abc.abstractmethod
    def seconds_left(self, key: str, now: float) -> float:
        """Return the seconds until the next request of the key can be admitted, if the limiter knows."""

    def retry_after(self, key: str, now: float) -> int:
        """Return the value for `Retry-After`: whole seconds, rounded up, so a client that waits is late enough."""
        return max(1, math.ceil(self.seconds_left(key, now) - CLOCK_TOLERANCE))


class FixedWindowLimiter(Limiter):
    """Admits `quota` requests in each window; the windows follow each other without regard to the requests.

    A client may spend two full quotas within moments, one on each side of the edge between two windows; the service is
    documented to work this way.

    Args:
        quota: How many requests each key may send in a window; None: unlimited.
        window: The length of a window in seconds.
        phase: Seconds of the first window that have passed when counting starts.
    """

    def __init__(self, quota: int | None, window: float, phase: float = 0.0) -> None:
        super().__init__(quota)
        self._window = window
        self._phase = phase
        self._origin = -phase
        self._started = False
        self._index = 0
        # Only the current window is kept, so memory does not grow with the number of keys ever seen.
        self._spent: dict[str, int] = {}

    def start(self, now: float) -> None:
        """Place the windows so that `phase` seconds of one have passed now; later calls change nothing."""
        if not self._started:
            self._origin = now - self._phase
            self._started = True

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if some of the quota of this window is left."""
        index, _ = self._window_at(now)
        if index != self._index:
            self._index = index
            self._spent.clear()
        spent = self._spent.get(key, 0)
        if self.quota is not None and spent >= self.quota:
            return None
        self._spent[key] = spent + 1
        return Grant()

    def seconds_left(self, key: str, now: float) -> float:  # noqa: ARG002 - all keys share the windows
        """Return the seconds until the current window ends."""
        _, end = self._window_at(now)
        return end - now

    def _window_at(self, now: float) -> tuple[int, float]:
        """Return the number of the current window and the time when it ends."""
        if now < self._origin:
            # The loop's clock went back: virtual time often begins, at zero, between a test's fixtures and the test.
            self._origin = -self._phase
            self._spent.clear()
        index = math.floor((now - self._origin + CLOCK_TOLERANCE) / self._window)
        return index, self._origin + (index + 1) * self._window


class _LimiterWithStates(Limiter, Generic[_State]):
    """A limiter that keeps a state for each key, and forgets those that no longer matter."""

    def __init__(self, quota: int | None, window: float) -> None:
        super().__init__(quota)
        self._window = window
        self._states: dict[str, _State] = {}
        self._swept_at = -math.inf
        self._latest = -math.inf

    @abc.abstractmethod
    def _is_idle(self, state: _State, now: float) -> bool:
        """Return whether a key with this state is treated like a key that was never seen."""

    def _state(self, key: str, now: float) -> _State | None:
        if now < self._latest:
            self._states.clear()  # the loop's clock went back, as in FixedWindowLimiter
            self._swept_at = now
        self._latest = now
        if now >= self._swept_at + self._window:
            self._states = {key: state for key, state in self._states.items() if not self._is_idle(state, now)}
            self._swept_at = now
        return self._states.get(key)


class SlidingLogLimiter(_LimiterWithStates[deque[float]]):
    """Admits at most `quota` requests in any span of `window` seconds: it keeps the time of each one.

    Args:
        quota: How many requests each key may send in a span; None: unlimited.
        window: The length of the span in seconds.
    """

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if fewer than `quota` were admitted in the `window` seconds before it."""
        log = self._log(key, now)
        if self.quota is not None and len(log) >= self.quota:
            return None
        log.append(now)
        self._states[key] = log
        return Grant()

    def seconds_left(self, key: str, now: float) -> float:
        """Return the seconds until the oldest request that fills the quota leaves the span."""
        log = self._log(key, now)
        if not self.quota:
            return self._window
        return log[-self.quota] + self._window - now if len(log) >= self.quota else 0.0

    def _log(self, key: str, now: float) -> deque[float]:
        log = self._state(key, now) or deque[float]()
        while log and log[0] <= now - self._window + CLOCK_TOLERANCE:
            log.popleft()
        return log

    def _is_idle(self, state: deque[float], now: float) -> bool:
        return not state or state[-1] <= now - self._window + CLOCK_TOLERANCE


@attrs.frozen
class _Bucket:
    tokens: float
    at: float


class TokenBucketLimiter(_LimiterWithStates[_Bucket]):
    """Admits a request for a token; `quota` tokens are added in `window` seconds, one by one, up to `burst`.

    A bucket is full at first. With `burst=1` this is a leaky bucket like nginx's `limit_req` without a burst: one
    request per `window / quota` seconds.

    Args:
        quota: How many tokens each key gets in a window; None: unlimited.
        window: The length of the window in seconds.
        burst: How many tokens a bucket can hold; None: as many as the quota.
    """

    def __init__(self, quota: int | None, window: float, burst: int | None) -> None:
        super().__init__(quota, window)
        self._burst = burst

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if there is a token left."""
        tokens = self._tokens(self._state(key, now), now)
        if self.quota is None:
            return Grant()
        if not self.quota or tokens < 1.0 - CLOCK_TOLERANCE * self._rate:
            return None
        # Possibly a little below zero: the tolerance is paid back and does not add up.
        self._states[key] = _Bucket(tokens - 1.0, now)
        return Grant()

    def seconds_left(self, key: str, now: float) -> float:
        """Return the seconds until the next token is added."""
        if not self.quota:
            return self._window
        return (1.0 - self._tokens(self._state(key, now), now)) / self._rate

    @property
    def _rate(self) -> float:
        return (self.quota or 0) / self._window

    def _tokens(self, bucket: _Bucket | None, now: float) -> float:
        capacity = float(self._burst or self.quota or 0)
        return capacity if bucket is None else min(capacity, bucket.tokens + (now - bucket.at) * self._rate)

    def _is_idle(self, state: _Bucket, now: float) -> bool:
        # Without a rate the capacity is unknown, so "full" would mean nothing.
        return bool(self._rate) and self._tokens(state, now) >= self._tokens(None, now)


class ConcurrencyLimiter(_LimiterWithStates[list[Grant]]):
    """Admits a request while fewer than `quota` are running; a request runs until its grant ends.

    Args:
        quota: How many requests of each key may run at the same time; None: unlimited.
        window: Seconds after which the states of idle keys are dropped.
    """

    def admit(self, key: str, now: float) -> Grant | None:
        """Admit a request if fewer than `quota` are running."""
        running = self._running(key, now)
        if self.quota is not None and len(running) >= self.quota:
            return None
        grant = Grant()
        self._states[key] = [*running, grant]
        return grant

    def seconds_left(self, key: str, now: float) -> float:
        """Return the seconds until the first running request ends, if that is known."""
        left = min((grant.until - now for grant in self._running(key, now)), default=UNKNOWN_END)
        return left if math.isfinite(left) else UNKNOWN_END

    def _running(self, key: str, now: float) -> list[Grant]:
        return [grant for grant in self._state(key, now) or () if now < grant.until - CLOCK_TOLERANCE]

    def _is_idle(self, state: list[Grant], now: float) -> bool:
        return all(now >= grant.until - CLOCK_TOLERANCE for grant in state)


def make_limiter(
    kind: LimiterKind, *, quota: int | None, window: float, phase: float = 0.0, burst: int | None = None
) -> Limiter:
    """Return a new limiter; `phase` is for fixed windows, `burst` for the token bucket."""
    match kind:
        case "fixed":
            return FixedWindowLimiter(quota, window, phase)
        case "sliding":
            return SlidingLogLimiter(quota, window)
        case "leaky":
            return TokenBucketLimiter(quota, window, burst=1)
        case "bucket":
            return TokenBucketLimiter(quota, window, burst)
        case "concurrency":
            return ConcurrencyLimiter(quota, window)
        case _:
            assert_never(kind)
