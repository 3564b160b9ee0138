"""When may the next request of a session go out? A pure state machine: no tasks, no I/O, no clock of its own.

Theory of operation
-------------------
Whoever sends asks `delay(now)` and, when that is 0, says `sent(now)`. For each `sent` it then reports one ending:
`accepted`, `throttled` (a 429), `failed` (a 5xx or no answer) or `abandoned` (cancelled). Two rules hold requests back:
the quota, known or learned, whose rules are told in `_quota`, or shared with other processes, as `_permits` has it; and
the gate.

*The gate.* It is open at first. A 429 closes it for the whole session, since the quota it speaks of is shared:

    open ──throttled──▶ closed until t ──t passes, nothing under way──▶ one probe
      ▲                      ▲                                             │
      └──────accepted────────┼─────────────────────────────────────────────┤
                             └──────────throttled, failed──────────────────┘

`t` is the server's hint, lengthened a little and never shortened; or else the next edge of the service's windows, if
one was seen; or else the time of the next of a few probes a window. The probe waits until all that was sent before
the gate closed has ended. So, from the first 429 on, at most one request is under way; and while a probe is out, every
ending is the probe's. An ending of an earlier request can only put `t` off: an acceptance among them was counted
before the quota was spent, and says nothing about now. An abandoned probe says nothing either, and the next may go at
once.

*Elsewhere.* Where the quota is shared, a 429 of another process closes the gate, too (`held`), for as long as that
process was told; the probe after it takes a permit, so that one process alone sends it.

*Outages.* Transient failures in a row close the gate in the same way, for ever longer pauses: a hundred waits do not
send a hundred requests to a service that is down, and none of them uses up its patience alone.
"""

from __future__ import annotations

import math
import random
from typing import Literal, TypeAlias

from playai_async._settings import OUTAGE_FAILURES, OUTAGE_GROWTH, OUTAGE_PAUSE, PROBES_PER_WINDOW, RESOLUTION, Pacing
from playai_async.jobs._pacing.leased_quota import Permits
from playai_async.jobs._pacing.quotas import KnownQuota, LearnedQuota
from playai_async.jobs._pacing.windows import Grid

__all__ = ["Pacer", "PauseReason"]

PauseReason: TypeAlias = Literal["throttled", "outage"]
"""Why a session sends nothing: a 429, or transient failures in a row."""

_HINT_STRETCH = 0.05
"""The share by which a pause is stretched at most, so that the processes behind one key do not come back as one."""

_LONGEST_STRETCH = 1.0
"""Seconds. More would cost a session with a long hint more than spreading gains."""

_MOST_GROWTH = 100
"""Steps after which a pause has long reached its bound, and further ones would only overflow."""


class Pacer:
    """Spends one quota among all requests of a session that draw on it.

    Args:
        pacing: What is known of the quota.
        probes: How many times a window to ask, after a 429 that does not say when to come back.
        permits: A quota that other processes share, or None.
    """

    def __init__(self, pacing: Pacing, *, probes: int = PROBES_PER_WINDOW, permits: Permits | None = None) -> None:
        grid = Grid(pacing.window) if permits is None else permits.grid
        self._in_flight = self._failures = 0
        self._gate = _Gate(pacing.window / probes, grid)
        self._quota: KnownQuota | LearnedQuota | Permits
        if permits is not None:
            self._quota = permits
        elif pacing.requests_per_window is None:
            self._quota = LearnedQuota(pacing.window, grid)
        else:
            self._quota = KnownQuota(pacing.requests_per_window, pacing.window)

    @property
    def quota(self) -> int | None:
        """The requests a window that the session keeps to, or None where none are known."""
        return self._quota.limit

    @property
    def pause_reason(self) -> PauseReason | None:
        """What has closed the gate, or None where it is open."""
        return self._gate.reason

    def delay(self, now: float, waited: float = 0.0) -> float:
        """Return the seconds until a request may go; infinite where that hangs on one under way.

        Args:
            now: The time.
            waited: Seconds for which the first in the queue has been due.
        """
        if self._gate.reason is None:
            delay = self._quota.delay(now, waited)
        elif self._in_flight:
            delay = math.inf
        else:
            closed, probe = self._gate.closed_for(now), self._quota.probe_delay(now)
            # The permit for a probe is only asked for when the gate lets one through.
            delay = closed if closed >= RESOLUTION and probe == math.inf else max(closed, probe)
        return 0.0 if delay < RESOLUTION else delay

    def paused_for(self, now: float) -> float:
        """Return the seconds for which the gate is still closed."""
        return self._gate.closed_for(now)

    def sent(self, now: float, waited: float = 0.0, waiting: int = 0) -> None:
        """Take note that a request goes out.

        Args:
            now: The time.
            waited: Seconds for which the first in the queue has been due.
            waiting: How many more polls there are, due now or later.
        """
        self._in_flight += 1
        if self._gate.sent():
            self._quota.probe_sent(now)
        else:
            self._quota.sent(now, waited, waiting)

    def accepted(self, now: float, *, found: bool | None = None) -> None:
        """Take note of an answer that is no 429.

        Args:
            now: The time.
            found: Whether a poll found its wait over; None for a direct call.
        """
        self._in_flight -= 1
        self._failures = 0
        if self._gate.accepted(now):
            self._quota.reopened(now)
        self._quota.accepted(now)
        if found is not None:
            self._quota.polled(found=found)

    def throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        """Take note of a 429.

        Args:
            now: The time.
            sent: When the request was sent.
            retry_after: Seconds that the server asked for, or None.

        Returns:
            Whether this closed the gate, rather than finding it closed.
        """
        self._in_flight -= 1
        self._failures = 0
        closed = self._gate.throttled(now, sent, retry_after)
        self._quota.throttled(now, news=closed)
        return closed

    def failed(self, now: float, *, shared: bool) -> bool:
        """Take note of a request that brought no verdict on the quota.

        Args:
            now: The time.
            shared: Whether several jobs are waited for; a single wait's own pauses are enough.

        Returns:
            Whether this closed the gate.
        """
        self._in_flight -= 1
        if self._gate.reason is None or self._gate.probing:  # else sent before the gate closed, and no news
            self._failures += 1
        self._quota.ended(now, late=True)
        outage = self._failures - OUTAGE_FAILURES if shared else -1
        return self._gate.failed(now, outage)

    def abandoned(self, now: float) -> None:
        """Take note of a request that was cancelled."""
        self._in_flight -= 1
        self._quota.ended(now, late=True)
        self._gate.abandoned()

    def lets(self, now: float, requests: int) -> int:
        """Return how many of so many requests the gate lets through, whatever the quota says."""
        if self._gate.reason is None:
            return requests
        return 0 if self._in_flight or self._gate.closed_for(now) >= RESOLUTION else min(requests, 1)

    def held(self, now: float, pause: float) -> bool:
        """Take note that another process met a 429, and how long it holds all; return whether this closed the gate."""
        return self._gate.held(now, pause)


class _Gate:
    """Open, or closed until a time; closed, it lets one probe at a time through."""

    def __init__(self, probe_interval: float, grid: Grid) -> None:
        self._probe_interval = probe_interval
        self._grid = grid
        self._closed_until = -math.inf
        self._refused_at = -math.inf  # when the last request was sent that met a 429
        self._awaits_edge = False
        self.probing = False
        self.reason: PauseReason | None = None

    def closed_for(self, now: float) -> float:
        return 0.0 if self.reason is None else max(0.0, self._closed_until - now)

    def sent(self) -> bool:
        """Take note that a request goes out; return whether it is a probe."""
        self.probing = self.reason is not None
        return self.probing

    def accepted(self, now: float) -> bool:
        """Open the gate if it was the probe; return whether a 429 is over with that."""
        if not self.probing:
            return False
        throttled = self.reason == "throttled"
        if throttled:
            self._grid.seen(self._refused_at, now)
        self.probing, self.reason, self._closed_until = False, None, -math.inf
        return throttled

    def throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        closes = self.reason != "throttled"  # an outage's gate is closed for too short, and its 429 is news
        if self.probing and self._awaits_edge:
            self._grid.forget()  # the edge was to be behind us
        self._refused_at = max(self._refused_at, sent)
        if closes or self.probing:
            if retry_after is not None:
                self._close(now, "throttled", self._stretched(retry_after))
            elif self._grid.known:
                self._close(now, "throttled", self._grid.next(now) - now, awaits_edge=True)
            else:
                self._close(now, "throttled", self._stretched(self._probe_interval))
        elif retry_after is not None:
            self._close(now, "throttled", self._stretched(retry_after))
        return closes

    def failed(self, now: float, outage: int) -> bool:
        """Close the gate for a probe that failed, or after an outage's first failure (0) or a further one."""
        if self.probing and self.reason == "throttled":
            self._close(now, "throttled", self._stretched(self._probe_interval))
        elif outage >= 0 and (self.probing or self.reason is None):
            closes = self.reason is None
            pause = OUTAGE_PAUSE * OUTAGE_GROWTH ** min(outage, _MOST_GROWTH)
            self._close(now, "outage", min(pause, self._probe_interval))
            return closes
        elif self.probing:
            self.probing, self.reason = False, None
        return False

    def held(self, now: float, pause: float) -> bool:
        """Close the gate for a 429 of another process; return whether it was not closed for one before."""
        if self.probing:
            return False  # ours will tell
        closes = self.reason != "throttled"
        self._close(now, "throttled", pause)
        return closes

    def abandoned(self) -> None:
        self.probing = False

    def _close(self, now: float, reason: PauseReason, pause: float, *, awaits_edge: bool = False) -> None:
        self._closed_until = max(self._closed_until, now + pause)
        self.probing, self.reason, self._awaits_edge = False, reason, awaits_edge

    @staticmethod
    def _stretched(pause: float) -> float:
        return pause + random.uniform(0, min(pause * _HINT_STRETCH, _LONGEST_STRETCH))  # noqa: S311 - spreads load
