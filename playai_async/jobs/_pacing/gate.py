"""The gate: open, or closed until a time after which one probe at a time may go."""

from __future__ import annotations

import math
import random

from playai_async._settings import OUTAGE_GROWTH, OUTAGE_PAUSE
from playai_async._telemetry.events import PauseReason
from playai_async.jobs._pacing.windows import WindowClock

__all__ = ["Gate"]

_STRETCH_FRACTION = 0.05
"""A pause is lengthened by at most this fraction, so that the processes behind one key do not return all at once."""

_MAX_STRETCH = 1.0
"""Seconds. After a long hint, more would delay the session by more than spreading gains."""

_MAX_GROWTH_STEPS = 100
"""By then a pause has reached its bound, and further steps would only overflow."""


class Gate:
    """Holds back all requests of one operation after a 429 or during an outage.

    Args:
        probe_interval: Seconds between probes after a 429 without a hint; also the longest pause of an outage.
        windows: Where the service's windows begin; the gate reports what it sees of them.
    """

    def __init__(self, probe_interval: float, windows: WindowClock) -> None:
        self._probe_interval = probe_interval
        self._windows = windows
        self._closed_until = -math.inf
        self._refused_at = -math.inf  # send time of the latest request that got a 429
        self._awaits_edge = False
        self.probing = False
        self.reason: PauseReason | None = None

    def closed_for(self, now: float) -> float:
        """Return the seconds for which the gate stays closed."""
        return 0.0 if self.reason is None else max(0.0, self._closed_until - now)

    def on_sent(self) -> bool:
        """Record that a request was sent; return whether it is a probe."""
        self.probing = self.reason is not None
        return self.probing

    def on_accepted(self, now: float) -> bool:
        """Open the gate if the probe was accepted; return whether that ends a 429's pause."""
        if not self.probing:
            return False
        throttled = self.reason == "throttled"
        if throttled:
            self._windows.on_edge_between(self._refused_at, now)
        self.probing, self.reason, self._closed_until = False, None, -math.inf
        return throttled

    def on_throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        """Close the gate for a 429; return whether it was not closed for one before."""
        closes = self.reason != "throttled"  # an outage closes the gate for too short a time
        if self.probing and self._awaits_edge:
            self._windows.forget()  # the edge should have passed by now
        self._refused_at = max(self._refused_at, sent)
        if closes or self.probing:
            if retry_after is not None:
                self._close(now, "throttled", self._stretched(retry_after))
            elif self._windows.known:
                self._close(now, "throttled", self._windows.next_edge(now) - now, awaits_edge=True)
            else:
                self._close(now, "throttled", self._stretched(self._probe_interval))
        elif retry_after is not None:
            self._close(now, "throttled", self._stretched(retry_after))
        return closes

    def on_failed(self, now: float, outage: int) -> bool:
        """Close the gate for a failed probe or an outage; return whether the gate was open.

        Args:
            now: The time.
            outage: How many failures the outage had before this one; negative where there is no outage.
        """
        if self.probing and self.reason == "throttled":
            self._close(now, "throttled", self._stretched(self._probe_interval))
        elif outage >= 0 and (self.probing or self.reason is None):
            closes = self.reason is None
            pause = OUTAGE_PAUSE * OUTAGE_GROWTH ** min(outage, _MAX_GROWTH_STEPS)
            self._close(now, "outage", min(pause, self._probe_interval))
            return closes
        elif self.probing:
            self.probing, self.reason = False, None
        return False

    def hold(self, now: float, pause: float) -> bool:
        """Close the gate for a 429 that another process met; return whether it was not closed for one before."""
        if self.probing:
            return False  # our own probe will show
        closes = self.reason != "throttled"
        self._close(now, "throttled", pause)
        return closes

    def on_abandoned(self) -> None:
        """Allow another probe, since a cancelled one shows nothing."""
        self.probing = False

    def _close(self, now: float, reason: PauseReason, pause: float, *, awaits_edge: bool = False) -> None:
        self._closed_until = max(self._closed_until, now + pause)
        self.probing, self.reason, self._awaits_edge = False, reason, awaits_edge

    @staticmethod
    def _stretched(pause: float) -> float:
        return pause + random.uniform(0, min(pause * _STRETCH_FRACTION, _MAX_STRETCH))  # noqa: S311 - spreads load
