"""When may the next request of a session go out? A pure state machine: no tasks, no I/O, no clock of its own.

Theory of operation
-------------------
Whoever sends asks `delay(now)` and, when that is 0, says `sent(now)`. For each `sent` it then reports one ending:
`accepted`, `throttled` (a 429), `failed` (a 5xx or no answer) or `abandoned` (cancelled). Two rules hold requests back.

*The gate.* It is open at first. A 429 closes it for the whole session, since the quota it speaks of is shared:

    open ──throttled──▶ closed until t ──t passes, nothing under way──▶ one probe
      ▲                      ▲                                             │
      └──────accepted────────┼─────────────────────────────────────────────┤
                             └──────────throttled, failed──────────────────┘

`t` is the server's hint, lengthened a little and never shortened, or the time of the next of a dozen probes a window.
The probe waits until all that was sent before the gate closed has ended. So, from the first 429 on, at most one
request is under way; and while a probe is out, every ending is the probe's. An ending of an earlier request can only
put `t` off: an acceptance among them was counted before the quota was spent, and says nothing about now.
An abandoned probe says nothing either, and the next may go at once.

*The known quota.* The service counts in windows whose phase is not known, so the quota must hold over any span as
long as a window. A request is counted by the service at some moment between `sent` and its ending; taking its place
from `sent` until one window after its ending is therefore enough, and `quota` places are all there are. One that was
cut off or cancelled may still reach the service, and be counted, a little later: its place is held longer. On top of
that requests are spaced evenly, a small burst aside, so that a full quota is not gone in a window's first second.
"""

from __future__ import annotations

import heapq
import math
import random

from playai_async._settings import PROBES_PER_WINDOW, QUOTA_BURST_SHARE, Pacing

__all__ = ["RESOLUTION", "Pacer"]

RESOLUTION = 1e-6
"""Seconds. A shorter delay is none: timers fire that much early, and asking again for so little would spin."""

_HINT_STRETCH = 0.05
"""The share by which a pause is stretched at most, so that the processes behind one key do not come back as one."""

_LONGEST_STRETCH = 1.0
"""Seconds. More would cost a session with a long hint more than spreading gains."""


class Pacer:
    """Spends one quota among all requests of a session that draw on it.

    Args:
        pacing: What is known of the quota.
    """

    def __init__(self, pacing: Pacing) -> None:
        self._window = pacing.window
        self._in_flight = 0
        self._gate = _Gate(pacing.window)
        self._quota = None
        if pacing.requests_per_window is not None:
            self._quota = _KnownQuota(pacing.requests_per_window, pacing.window)

    def delay(self, now: float) -> float:
        """Return the seconds until a request may go; infinite where that hangs on one under way."""
        delay = self._gate.delay(now, self._in_flight)
        if self._quota is not None:
            delay = max(delay, self._quota.delay(now, self._in_flight))
        return 0.0 if delay < RESOLUTION else delay

    def paused_for(self, now: float) -> float:
        """Return the seconds that a 429 still holds the session."""
        return self._gate.closed_for(now)

    def sent(self, now: float) -> None:
        """Take note that a request goes out."""
        self._in_flight += 1
        self._gate.sent()
        if self._quota is not None:
            self._quota.sent(now)

    def accepted(self, now: float) -> None:
        """Take note of an answer that is no 429."""
        self._ended(now)
        self._gate.accepted()

    def throttled(self, now: float, retry_after: float | None) -> bool:
        """Take note of a 429.

        Args:
            now: The time.
            retry_after: Seconds that the server asked for, or None.

        Returns:
            Whether this closed the gate, rather than finding it closed.
        """
        self._ended(now)
        return self._gate.throttled(now, retry_after)

    def failed(self, now: float) -> None:
        """Take note of a request that brought no verdict on the quota."""
        self._ended(now, late=True)
        self._gate.failed(now)

    def abandoned(self, now: float) -> None:
        """Take note of a request that was cancelled."""
        self._ended(now, late=True)
        self._gate.abandoned()

    def _ended(self, now: float, *, late: bool = False) -> None:
        self._in_flight -= 1
        if self._quota is not None:
            self._quota.ended(now, late=late)


class _Gate:
    """Open, or closed until a time; closed, it lets one probe at a time through."""

    def __init__(self, window: float) -> None:
        self._probe_interval = window / PROBES_PER_WINDOW
        self._closed_until: float | None = None
        self._probing = False

    def delay(self, now: float, in_flight: int) -> float:
        if self._closed_until is None:
            return 0.0
        return math.inf if in_flight else max(0.0, self._closed_until - now)

    def closed_for(self, now: float) -> float:
        return 0.0 if self._closed_until is None else max(0.0, self._closed_until - now)

    def sent(self) -> None:
        self._probing = self._closed_until is not None

    def accepted(self) -> None:
        if self._probing:
            self._probing = False
            self._closed_until = None

    def throttled(self, now: float, retry_after: float | None) -> bool:
        closes = self._closed_until is None
        if closes or self._probing:
            self._probing = False
            self._close(now, self._probe_interval if retry_after is None else retry_after)
        elif retry_after is not None:
            self._close(now, retry_after)
        return closes

    def failed(self, now: float) -> None:
        if self._probing:
            self._probing = False
            self._close(now, self._probe_interval)

    def abandoned(self) -> None:
        self._probing = False

    def _close(self, now: float, pause: float) -> None:
        stretch = min(pause * _HINT_STRETCH, _LONGEST_STRETCH)
        until = now + pause + random.uniform(0, stretch)  # noqa: S311 - spreads load, hides nothing
        self._closed_until = until if self._closed_until is None else max(until, self._closed_until)


class _KnownQuota:
    """A number of places, each held from a request's start until one window after its end; evenly spaced."""

    def __init__(self, requests: int, window: float) -> None:
        self._requests = requests
        self._window = window
        self._spacing = window / requests
        # "Virtual scheduling": the time that the next request would be due at, had all kept their even distance, and
        # how far ahead of it one may go.
        self._even = -math.inf
        self._ahead = (max(1, requests // QUOTA_BURST_SHARE) - 1) * self._spacing
        self._freed_at: list[float] = []

    def delay(self, now: float, in_flight: int) -> float:
        freed_at = self._freed_at
        while freed_at and freed_at[0] - now < RESOLUTION:
            heapq.heappop(freed_at)
        spacing = self._even - self._ahead - now
        if in_flight + len(freed_at) < self._requests:
            return max(0.0, spacing)
        return max(spacing, freed_at[0] - now) if freed_at else math.inf

    def sent(self, now: float) -> None:
        self._even = max(now, self._even) + self._spacing

    def ended(self, now: float, *, late: bool) -> None:
        slack = self._window / PROBES_PER_WINDOW if late else 2 * RESOLUTION
        heapq.heappush(self._freed_at, now + self._window + slack)
