"""How many requests of one process may go, and how fast, if the quota must be learned from 429s.

Nothing is known at first, so the rate starts low and grows with the most that a window has taken without a 429. What
follows the first 429 depends on how the service seems to count:

*Fixed windows*, which are assumed until the evidence speaks against them. What was accepted in the last window before
the 429 is no less than the quota, and the session keeps to a little less than that. When the gate opens again, an edge
between two windows lies between the last 429 and the first accepted request. Edges come every window, so the
`WindowClock` knows them from then on. With each edge, the requests before it stop counting at once; and the requests
accepted between an edge and a 429 are the quota itself, or our part of it if others use the key.

The limit follows each 429 down, by half at most, since others may have spent the window. The limit rises by growing
steps after windows that were used and met no 429. Above the most that a window has ever taken, few requests are in
flight, mostly one: an overshoot then costs one 429.

*The last window at each moment*, if a `SlidingLog` fits what was refused and accepted. The limit is kept over any span
of a window.

*Neither*, as with a bucket that leaks: `RateControl` looks for the rate.

*The requests in flight*: see `ConcurrencyLimit`.
"""

from __future__ import annotations

import math

from playai_async._settings import BURST_FRACTION, LATE_FRACTION, MAX_COUNT, RAMP_BURST, RAMP_GROWTH, RAMP_START
from playai_async._shared_quota import Learning
from playai_async.jobs._pacing.congestion import ConcurrencyLimit, RateControl
from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.token_bucket import TokenBucket, burst_of
from playai_async.jobs._pacing.windows import SlidingLog, SlidingWindow, WindowClock

__all__ = ["LearnedQuota", "shared_learning"]

_SAFETY_FRACTION = 0.95
"""The limit is this fraction of what a window took before its 429: others may use the key as well."""

_FEW_REQUESTS = 16
"""A 429 after fewer requests in a window may have many causes; others who use the key are the most likely one."""

_CONVINCING_REFUSALS = 3
"""After this many windows that ended in a 429, the limit is believed, however few the requests."""

_WARY_BURST = 2
"""Requests that may go back to back after a 429, while no window has taken more."""

_WARY_IN_FLIGHT = 4
"""Requests in flight up to which the rest of a quota goes at once, while the windows were not tested."""

_USED_FRACTION = 0.8
"""Fraction of the limit: after a window used this much, the limit may rise, and a 429 needs no other cause."""

_SPRINT_FRACTION = 0.3
"""Fraction of the limit: the requests that go at once where the first probe after a 429 was accepted, and the probe is
the first of them. A new window accepts all of them, and any other limiter few."""

_UNPROVEN_FRACTION = 1 / 32
"""Above the most that a window has ever taken, this fraction of what is left of the limit may be in flight."""

_FIRST_RISE = 0.05
"""The fraction by which the limit rises after one window without a 429; each further window doubles the rise."""

_WARY_FRACTION = 1 / 60
"""Fraction of a limit that processes share: the requests that may go back to back after a 429 (1 of 60)."""


def shared_learning(window: float) -> Learning:
    """Return how processes learn a quota together: as `LearnedQuota` does where the service counts in windows."""
    return Learning(
        start=RAMP_START,
        growth=RAMP_GROWTH,
        safety=_SAFETY_FRACTION,
        used=_USED_FRACTION,
        few=_FEW_REQUESTS,
        convincing=_CONVINCING_REFUSALS,
        rise=_FIRST_RISE,
        burst=BURST_FRACTION,
        wary_burst=_WARY_FRACTION,
        late=window * LATE_FRACTION,
    )


class LearnedQuota:
    """A quota that is learned from 429s.

    Args:
        window: Seconds.
        windows: Where the service's windows begin, once that is known.
        sliding: The requests of the last window, if some were sent before.
        bucket: What spaces the requests, if some were sent before.
        known: The requests per window that the caller says the service allows; it allows less, or counts differently.
    """

    def __init__(
        self,
        window: float,
        windows: WindowClock,
        *,
        sliding: SlidingWindow | None = None,
        bucket: TokenBucket | None = None,
        known: int | None = None,
    ) -> None:
        self._window = window
        self._windows = windows
        self._sliding = SlidingWindow(window) if sliding is None else sliding
        self._bucket = TokenBucket(window) if bucket is None else bucket
        self._known = known
        self._limit: float | None = None
        self._proven = 0  # the most that one window has surely taken
        self._log = SlidingLog(self._sliding)
        self._rate: RateControl | None = None
        self._concurrency = ConcurrencyLimit()
        self._taken = 0  # what the last window had taken at the latest 429
        self._sprint = 0  # requests that are still to go at once, as a test
        self._crowded = False  # the latest 429 came because of the requests in flight
        self._wary = False  # a 429 came, whatever the count
        self._refusals = 0  # windows that ended in a 429 after something was accepted
        self._counting = False  # a 429 came, and the requests sent before it have not all ended
        self._counting_since = -math.inf  # the last edge before that 429
        self._least = 0  # the requests of its window that had ended by then
        self._exact = False  # whether the limit comes from a single window
        self._review_at = math.nan
        self._accepted = self._quiet_windows = 0
        if known is not None:
            self._limit, self._proven = float(known), known

    @property
    def limit(self) -> int | None:
        """The requests per window that are kept to, or None before the first convincing 429."""
        if self._rate is not None:
            return math.ceil(self._rate.rate)
        return None if self._limit is None else math.floor(self._limit)

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._sliding.in_flight

    def allows(self, requests: int) -> bool:
        """Return whether the service counts requests per window, and allows this many again."""
        return self._rate is None and self._limit is not None and self._limit >= requests

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if that depends on a request in flight."""
        if self.in_flight >= self._concurrency.limit:
            return math.inf
        if self._rate is not None:
            return self._rate.delay(now)
        if self._sprint:
            return 0.0 if self.in_flight < _WARY_IN_FLIGHT else math.inf
        self._review(now)
        limit = self.limit
        if limit is None:
            return self._bucket.delay(now, self._spacing(now), self._burst)
        return self._delay_within(limit, now, waited, hinted=hinted)

    def probe_delay(self, now: float) -> float:  # noqa: ARG002 - the signature of a quota
        """Return 0: a probe shows what the quota is."""
        return 0.0

    def spent(self, now: float) -> bool:
        """Return whether a window may have been spent, if the service refuses a request now."""
        return self._sliding.count(now) > max(_FEW_REQUESTS, _USED_FRACTION * (self.limit or 0))

    def on_held(self) -> None:
        """Record that something else held a request back, so that the rate may grow."""
        if self._rate is not None:
            self._rate.on_held()

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        if self._counting:  # requests that hang count as if they had been accepted
            self._counting = False
            self._lower(max(self._least, self._sliding.count(now, self._counting_since)))
        self._sliding.on_sent()  # without the counts: `on_reopened` needs them as they are
        if self._rate is not None:
            self._rate.on_sent(now)

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent."""
        limit = self._limit
        spacing = self._spacing(now) if limit is None else self._spacing(now, self._counted(now))
        self._sliding.on_sent()
        if self._rate is not None:
            self._rate.on_sent(now)
        elif limit is not None and self._sends_at_once(waited):
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

    def on_accepted(self, now: float, others: int | None = 0) -> None:
        """Record an answer that is not a 429."""
        self.on_ended(now)
        self._accepted += 1
        if others is None:
            self._concurrency.on_survived()
        else:
            self._concurrency.on_accepted(others)
        if self._sprint:
            self._sprint -= 1
            if not self._sprint:
                self._windows.confirm()
        if self._rate is not None:
            self._rate.on_accepted(now)
        if self._limit is None:
            self._proven = max(self._proven, self._counted(now))

    def on_throttled(self, now: float, others: int = 0, *, first: bool) -> None:
        """Record a 429, which teaches little if the gate was closed before it."""
        if first:
            self._log.on_throttled(now)
            self._taken = self._sliding.ended
            self._counting_since = self._windows.last_edge(now)
            self._least = self._counted(now) - self._sliding.in_flight
            self._counting = self._judge_refusal(now, others) or self._counting
        elif self._crowded and self._concurrency.on_also_throttled(others):
            self._crowded = False
            self._concurrency.forget()
            self._counting = self._rate is None
        # A service that counts in windows does not count what it refuses; another may.
        self.on_ended(now, counted=self._known is not None or (self._windows.refuted and self._log.believed))

    def on_reopened(self, now: float, reopening: Reopening) -> None:
        """Take the limit from how the service seems to count."""
        edge = self._windows.last_edge(now) - self._window
        most = self._sliding.ended_since(edge)  # before those that stop counting now are forgotten
        least = self._sliding.ended_since(edge + self._windows.uncertainty())
        if not self._crowded and self._rate is None:
            self._log.on_reopened(now, refused=reopening.refused)
        if self._windows.refuted and self._log.believed:
            self._limit = max(self._limit or 0.0, _SAFETY_FRACTION * self._log.requests)
        elif self._windows.refuted:
            if self._rate is None:
                self._rate = self._start_rate_control(now, reopening.seconds)
            elif reopening.refused and self._sliding.expired:  # else the last window is not whole
                self._rate.on_reopened(self._taken)
        elif self._windows.doubtful and self._limit is not None and self._rate is None:
            self._sprint = max(2, math.ceil(_SPRINT_FRACTION * self._limit))  # the probe is the first of them
        else:
            self._count_in_windows(most, least)

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        self._bucket.on_polled(found=found)

    def sends_at_once(self, waited: float) -> bool:
        """Return whether the rest of the quota should go at once."""
        return self._bucket.sends_at_once(waited)

    def restarted(self, requests: int) -> LearnedQuota:
        """Return a quota that starts from what a window may take, or from nothing; what was sent counts."""
        quota = LearnedQuota(self._window, self._windows, sliding=self._sliding, bucket=self._bucket)
        if requests:
            quota._limit, quota._proven = float(requests), requests
        return quota

    def _delay_within(self, limit: int, now: float, waited: float, *, hinted: bool) -> float:
        counted = self._counted(now)
        if counted >= limit:
            return self._next_free(now) - now
        if counted >= self._proven and self.in_flight >= max(1, _UNPROVEN_FRACTION * (limit - self._proven)):
            return math.inf
        if hinted or self._sends_at_once(waited):
            return 0.0
        return self._bucket.delay(now, self._spacing(now, counted), self._burst)

    def _judge_refusal(self, now: float, others: int) -> bool:
        """Judge why a request was refused; return whether the limit must follow what the window took."""
        self._crowded = self._concurrency.explains(others)
        if self._crowded:
            self._concurrency.on_throttled(others)
            return False
        self._concurrency.forget()
        if self._rate is not None:
            if self._taken:  # else others spent what the service allows
                self._rate.on_throttled(now)
            return False
        if self._sprint:
            self._sprint = 0
            self._windows.refute()
            return False
        if self._limit is None:
            return True
        if self._windows.refuted:
            if self._sliding.ended < _USED_FRACTION * self._limit:
                self._log.contradict()
        elif self._windows.known and self._counted(now) < _USED_FRACTION * self._limit and self._log.fits():
            self._windows.distrust()
        return True

    def _start_rate_control(self, now: float, pause: float) -> RateControl:
        rate = self._known or self._limit or max(RAMP_START, self._window / pause)
        return RateControl(now, self._window, rate, refused=self._known is not None)

    def _count_in_windows(self, most: int, least: int) -> None:
        """Lower the limit to what the last window took, if its 429 came before its edges were known.

        Args:
            most: The most requests that this window can have taken.
            least: The least.
        """
        if self._rate is not None:
            self._limit, self._rate = max(1.0, min(self._rate.rate, most)), None
        if self._limit is None or self._exact or not self._windows.known or most < self._limit / 2:
            return
        self._limit = max(1.0, min(self._limit, _SAFETY_FRACTION * most))
        self._proven, self._exact = least, True

    def _sends_at_once(self, waited: float) -> bool:
        return self._bucket.sends_at_once(waited) and (self._windows.trusted or self.in_flight < _WARY_IN_FLIGHT)

    def _counted(self, now: float) -> int:
        return self._sliding.count(now, self._windows.last_edge(now))

    def _next_free(self, now: float) -> float:
        expiry, edge = self._sliding.next_expiry(self._windows.last_edge(now)), self._windows.next_edge(now)
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
        if not counted:
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
        if not math.isnan(self._review_at):
            self._proven = max(self._proven, self._accepted)
            if self._accepted >= _USED_FRACTION * math.floor(self._limit):
                rise = min(1.0, _FIRST_RISE * 2**self._quiet_windows)
                self._limit = min(float(MAX_COUNT), max(self._limit + 1, self._limit * (1 + rise)))
                self._quiet_windows += 1
        self._accepted = 0
        self._review_at = self._windows.next_edge(now) if self._windows.known else now + self._window
