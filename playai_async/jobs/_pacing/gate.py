"""The gate: open, or closed until a time after which one probe at a time may go."""

from __future__ import annotations

import math
import random
from typing import Literal, TypeAlias

import attrs

from playai_async._settings import OUTAGE_GROWTH, OUTAGE_PAUSE
from playai_async._telemetry.events import PauseReason
from playai_async.jobs._pacing.windows import WindowClock

__all__ = ["Gate", "Reopening"]

_STRETCH_FRACTION = 0.05
"""A pause is lengthened by at most this fraction, so that the processes behind one key do not return all at once."""

_MAX_STRETCH = 1.0
"""Seconds. After a long `Retry-After`, more would delay the session by more than spreading gains."""

_MAX_STRAGGLER_DELAY = 2.0
"""Seconds for which a probe waits for requests that were sent before the gate closed, and may hang."""

_PAUSE_FACTOR = 2.0
"""A refused probe makes the next pause longer by this factor. Where the service does not count per window, the pause
before the first probe is learned: it gets shorter by this factor each time that the first probe was accepted."""

_LONGEST_PAUSE = 1.25
"""Probe intervals: the longest pause between probes until every probe of two windows was refused."""

_REFUSED_WINDOWS = 2
"""After this number of windows of refused probes, the gate closes for a whole window once: the service may start
its window anew at each request that it refuses."""

_FEWER_REFUSED_WINDOWS = 0.5
"""The number of these windows if the probe after that pause was accepted the last time. It may have been by chance, as
at the end of an outage: then a probe is accepted sooner, and shows that no such pause is needed."""

_SILENT_FRACTION = 1.005
"""Fraction of a window: the pause of a whole window."""

_LONG_PAUSE_FACTOR = 1.25
"""After the pause of a whole window, a refused probe makes the next pause longer by this factor."""

_LONGEST_FRACTION = 0.205
"""Fraction of a window: the longest pause between probes after the pause of a whole window (12.3 s of 60). The service
may count what it refuses; probes as rare as that do not use up a quota of five requests per window."""

_SHORTEST_FRACTION = 1 / 16
"""Fraction of the probe interval: the shortest pause that is learned (0.3 s of 5 s)."""

_RETEST_EVERY = 4
"""At every fourth 429 where the gate would wait long for a known edge, a probe goes early. Otherwise a session that
spends its quota at each edge, and then waits for the next, would never see that the service has no edges."""

_TESTED_FRACTION = 1 / 4
"""Fraction of a window: a pause that is long enough for such a test."""

_MAX_GROWTH_STEPS = 100
"""By then a pause has reached its bound, and further steps would only overflow."""

_ECHO = 1.0
"""Seconds. The keeper of a shared quota returns our own pause to us, later by the time of an exchange."""

_Until: TypeAlias = Literal["edge", "retry_after", "pause", "silence", "other"]
"""What the gate is closed for: an edge between windows, a `Retry-After`, a learned pause, a whole window, or else."""


@attrs.frozen
class Reopening:
    """How a pause after a 429 ended.

    Attributes:
        seconds: From the 429 to the accepted probe.
        refused: Whether the service refused an earlier probe.
    """

    seconds: float
    refused: bool


class Gate:
    """Holds back all requests of one operation after a 429 or during an outage.

    Args:
        probe_interval: Seconds to the first probe after a 429 without a `Retry-After`; the longest pause of an outage.
        windows: Where the service's windows begin; the gate reports what it sees of them.
        first_pause: Seconds from such a 429 to the first probe; None: the probe interval.

    Attributes:
        probing: Whether a probe is in flight.
        reason: Why the gate is closed, or None.
    """

    def __init__(self, probe_interval: float, windows: WindowClock, *, first_pause: float | None = None) -> None:
        self._probe_interval = probe_interval
        self._first_pause = self._pause = probe_interval if first_pause is None else first_pause
        self._windows = windows
        self._closed_until = -math.inf
        self._throttled_at = -math.inf
        self._refused_at = -math.inf  # send time of the latest request that got a 429
        self._untested = 0  # long pauses since the last regular test
        self._refused_probes = 0  # since `_throttled_at`
        self._needs_silence = False  # whether a pause of a whole window ended the last refusals
        self._was_silent = False  # whether there was such a pause since `_throttled_at`
        self._probe_sent_at = -math.inf
        self._spent = False
        self._waits_for: _Until = "other"
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

    def on_accepted(self, now: float, sent: float) -> Reopening | None:
        """Open the gate if the probe was accepted; return how that ends a 429's pause, if it does."""
        if not self.is_probe(sent):
            return None
        reopening = self._judge(now) if self.reason == "throttled" else None
        self.probing, self.reason, self._closed_until = False, None, -math.inf
        return reopening

    def on_throttled(self, now: float, sent: float, retry_after: float | None, *, spent: bool) -> bool:
        """Close the gate for a 429; return whether it was not closed for one before.

        Args:
            now: The time.
            sent: When the request was sent.
            retry_after: Seconds that the server asked for, or None.
            spent: Whether a window may have been spent, as far as its requests show.
        """
        closes = self.reason != "throttled"  # an outage closes the gate for too short a time
        probe = self.is_probe(sent)
        if self.probing and not probe:  # a straggler: the probe in flight shows more
            self._closed_until = max(self._closed_until, now + self._stretched(retry_after or 0.0))
            return False
        if probe and self._waits_for == "edge":
            self._windows.forget()  # the edge should have passed by now
        self._refused_at = max(self._refused_at, sent)
        if closes:
            self._throttled_at, self._refused_probes, self._was_silent, self._spent = now, 0, False, spent
        elif probe:
            self._refused_probes += 1
        if retry_after is not None:
            self._close(now, "throttled", self._stretched(retry_after), until="retry_after")
        elif closes or probe:
            self._close_without_retry_after(now)
        return closes

    def on_failed(self, now: float, sent: float, outage: int, retry_after: float | None) -> bool:
        """Close the gate for a failed probe or an outage; return whether the gate was open.

        Args:
            now: The time.
            sent: When the request was sent.
            outage: How many failures the outage had before this one; negative if there is no outage.
            retry_after: Seconds that the server asked for, or None. If it asked, that is an outage by itself.
        """
        probe, closes = self.is_probe(sent), self.reason is None
        asked = 0.0 if retry_after is None else self._stretched(retry_after)
        if self.reason == "throttled":
            if probe:
                self._close(now, "throttled", max(asked, self._stretched(self._probe_interval)))
        elif (outage >= 0 or asked) and (probe or closes):
            pause = OUTAGE_PAUSE * OUTAGE_GROWTH ** min(max(outage, 0), _MAX_GROWTH_STEPS)
            self._close(now, "outage", max(asked, min(pause, self._probe_interval)))
            return closes
        elif asked:
            self._closed_until = max(self._closed_until, now + asked)
        elif probe:
            self.probing, self.reason = False, None
        return False

    def hold(self, now: float, pause: float) -> bool:
        """Close the gate for a 429 that another process met; return whether it was not closed for one before."""
        if self.probing:
            return False  # our own probe will show
        closes = self.reason != "throttled"
        if closes:  # when the refused request was sent is not known, so the answer to the probe shows no edge
            self._throttled_at, self._refused_at, self._refused_probes, self._was_silent = now, -math.inf, 0, False
        elif now + pause <= self._closed_until + _ECHO:
            self._closed_until = max(self._closed_until, now + pause)
            return False
        self._close(now, "throttled", pause)
        return closes

    def on_abandoned(self, sent: float) -> None:
        """Allow another probe if this was one, since a cancelled probe shows nothing."""
        if self.is_probe(sent):
            self.probing = False

    def _judge(self, now: float) -> Reopening:
        """Learn from an accepted probe where the service's windows begin, or that it has none."""
        refused = self._refused_probes > 0
        self._needs_silence = self._waits_for == "silence"
        self._windows.on_reopened(
            self._refused_at,
            now,
            refused=refused,
            predicted=self._waits_for in ("edge", "retry_after"),
            spent=self._spent,
        )
        if not refused and self._waits_for == "pause":
            self._pause = max(self._pause / _PAUSE_FACTOR, self._probe_interval * _SHORTEST_FRACTION)
        return Reopening(now - self._throttled_at, refused)

    def _close_without_retry_after(self, now: float) -> None:
        windows = self._windows
        to_edge = windows.next_edge(now) - now
        if windows.known and not self._tests_edges(to_edge):
            self._close(now, "throttled", to_edge, until="edge")
            return
        window = windows.window
        refused_windows = (now - self._throttled_at) / window
        long = refused_windows > _REFUSED_WINDOWS
        silent = long or (self._needs_silence and refused_windows > _FEWER_REFUSED_WINDOWS)
        if silent and not self._was_silent:
            self._was_silent = True
            self._close(now, "throttled", self._stretched(_SILENT_FRACTION * window), until="silence")
            return
        if self._refused_probes:
            longest = _LONGEST_FRACTION * window if long else _LONGEST_PAUSE * self._probe_interval
            self._pause = min(self._pause * (_LONG_PAUSE_FACTOR if long else _PAUSE_FACTOR), longest)
        elif not windows.refuted:
            self._pause = self._first_pause
        self._close(now, "throttled", self._stretched(self._pause), until="pause")

    def _tests_edges(self, to_edge: float) -> bool:
        """Return whether an early probe shall show whether the service has edges at all."""
        if self._refused_probes or to_edge < _TESTED_FRACTION * self._windows.window:
            return False
        self._untested = self._untested % _RETEST_EVERY + 1
        return not self._windows.trusted or self._untested == _RETEST_EVERY

    def _close(self, now: float, reason: PauseReason, pause: float, *, until: _Until = "other") -> None:
        self._closed_until = max(self._closed_until, now + pause)
        self.probing, self.reason, self._waits_for = False, reason, until

    @staticmethod
    def _stretched(pause: float) -> float:
        return pause + random.uniform(0, min(pause * _STRETCH_FRACTION, _MAX_STRETCH))  # noqa: S311 - spreads load
