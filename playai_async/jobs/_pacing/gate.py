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

_MAX_STRAGGLER_DELAY = 2.0
"""Seconds for which a probe waits for requests that were sent before the gate closed, and may hang."""

_MAX_GROWTH_STEPS = 100
"""By then a pause has reached its bound, and further steps would only overflow."""


class Gate:
    """Holds back all requests of one operation after a 429 or during an outage.

    Args:
        probe_interval: Seconds between probes after a 429 without a hint; also the longest pause of an outage.
        windows: Where the service's windows begin; the gate reports what it sees of them.
        first_probe: Seconds from a 429 without a hint to the first probe, whatever is known of windows; each further
            probe doubles the pause. None: there is no such first probe.

    Attributes:
        probing: Whether a probe is in flight.
        reason: Why the gate is closed, or None.
        refuted: Whether the service accepted the first probe after a 429, so that it does not count per window.
    """

    def __init__(self, probe_interval: float, windows: WindowClock, *, first_probe: float | None = None) -> None:
        self._probe_interval = probe_interval
        self._first_probe = first_probe
        self._refused_probes = 0
        self.refuted = False
        self._windows = windows
        self._closed_until = -math.inf
        self._refused_at = -math.inf  # send time of the latest request that got a 429
        self._probe_sent_at = -math.inf
        self._awaits_edge = False
        self.probing = False
        self.reason: PauseReason | None = None

    def closed_for(self, now: float) -> float:
        """Return the seconds for which the gate stays closed."""
        return 0.0 if self.reason is None else max(0.0, self._closed_until - now)

    def probe_delay(self, now: float, in_flight: int) -> float:
        """Return the seconds until a probe may go; infinite while one is in flight.

        Args:
            now: The time.
            in_flight: How many requests are in flight.
        """
        if self.probing:
            return math.inf
        stragglers = _MAX_STRAGGLER_DELAY if in_flight else 0.0
        return max(0.0, self._closed_until + stragglers - now)

    def on_sent(self, now: float) -> bool:
        """Record that a request was sent; return whether it is a probe."""
        self.probing = self.reason is not None
        if self.probing:
            self._probe_sent_at = now
        return self.probing

    def is_probe(self, sent: float) -> bool:
        """Return whether a request that was sent at this time is the probe in flight."""
        return self.probing and sent >= self._probe_sent_at

    def on_accepted(self, now: float, sent: float) -> bool:
        """Open the gate if the probe was accepted; return whether that ends a 429's pause."""
        if not self.is_probe(sent):
            return False
        throttled = self.reason == "throttled"
        if throttled:
            self._judge_windows(now)
        self.probing, self.reason, self._closed_until = False, None, -math.inf
        return throttled

    def on_throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        """Close the gate for a 429; return whether it was not closed for one before."""
        closes = self.reason != "throttled"  # an outage closes the gate for too short a time
        probe = self.is_probe(sent)
        if self.probing and not probe:  # a straggler: the probe in flight shows more
            self._closed_until = max(self._closed_until, now + self._stretched(retry_after or 0.0))
            return False
        if probe and self._awaits_edge:
            self._windows.forget()  # the edge should have passed by now
        self._refused_at = max(self._refused_at, sent)
        if retry_after is not None:
            self._close(now, "throttled", self._stretched(retry_after))
        elif closes or probe:
            self._close_without_hint(now, first=closes)
        return closes

    def on_failed(self, now: float, sent: float, outage: int, retry_after: float | None) -> bool:
        """Close the gate for a failed probe or an outage; return whether the gate was open.

        Args:
            now: The time.
            sent: When the request was sent.
            outage: How many failures the outage had before this one; negative if there is no outage.
            retry_after: Seconds that the server asked for, or None. Such a hint is an outage by itself.
        """
        probe, closes = self.is_probe(sent), self.reason is None
        hint = 0.0 if retry_after is None else self._stretched(retry_after)
        if self.reason == "throttled":
            if probe:
                self._close(now, "throttled", max(hint, self._stretched(self._probe_interval)))
        elif (outage >= 0 or hint) and (probe or closes):
            pause = OUTAGE_PAUSE * OUTAGE_GROWTH ** min(max(outage, 0), _MAX_GROWTH_STEPS)
            self._close(now, "outage", max(hint, min(pause, self._probe_interval)))
            return closes
        elif hint:
            self._closed_until = max(self._closed_until, now + hint)
        elif probe:
            self.probing, self.reason = False, None
        return False

    def hold(self, now: float, pause: float) -> bool:
        """Close the gate for a 429 that another process met; return whether it was not closed for one before."""
        if self.probing:
            return False  # our own probe will show
        closes = self.reason != "throttled"
        self._close(now, "throttled", pause)
        return closes

    def on_abandoned(self, sent: float) -> None:
        """Allow another probe if this was one, since a cancelled probe shows nothing."""
        if self.is_probe(sent):
            self.probing = False

    def _judge_windows(self, now: float) -> None:
        """Learn from an accepted probe where the service's windows begin, or that they do not."""
        # A window hardly ever ends just between a 429 and the first probe.
        self.refuted = self._first_probe is not None and not self._refused_probes
        if self.refuted:
            self._windows.forget()
        else:
            self._windows.on_edge_between(self._refused_at, now)

    def _close_without_hint(self, now: float, *, first: bool) -> None:
        self._refused_probes = 0 if first else self._refused_probes + 1
        known = self._windows.known
        if self._first_probe is not None and (first or not known):
            pause = min(self._first_probe * 2.0 ** min(self._refused_probes, _MAX_GROWTH_STEPS), self._probe_interval)
            self._close(now, "throttled", self._stretched(pause))
        elif known:
            self._close(now, "throttled", self._windows.next_edge(now) - now, awaits_edge=True)
        else:
            self._close(now, "throttled", self._stretched(self._probe_interval))

    def _close(self, now: float, reason: PauseReason, pause: float, *, awaits_edge: bool = False) -> None:
        self._closed_until = max(self._closed_until, now + pause)
        self.probing, self.reason, self._awaits_edge = False, reason, awaits_edge

    @staticmethod
    def _stretched(pause: float) -> float:
        return pause + random.uniform(0, min(pause * _STRETCH_FRACTION, _MAX_STRETCH))  # noqa: S311 - spreads load
