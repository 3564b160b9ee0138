"""When the next request of one operation may go: the quota and the gate, put together.

`__init__` in this folder has the theory of operation.
"""

from __future__ import annotations

import math
from typing import Protocol

from playai_async._settings import OUTAGE_FAILURES, RESOLUTION
from playai_async._telemetry.events import PauseReason
from playai_async.jobs._pacing.gate import Gate, Reopening

__all__ = ["Pacer", "Quota"]


class Quota(Protocol):
    """How many requests may go, and how fast."""

    @property
    def limit(self) -> int | None:
        """The requests per window that are kept to, or None while unknown."""
        ...

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        ...

    def delay(self, now: float, waited: float, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if that depends on a request in flight or a permit.

        A hinted request does not wait for the even spacing.
        """
        ...

    def probe_delay(self, now: float) -> float:
        """Return the seconds until a probe may go."""
        ...

    def spent(self, now: float) -> bool:
        """Return whether a window may have been spent, if the service refuses a request now."""
        ...

    def on_probe_sent(self, now: float) -> None:
        """Record that a probe was sent."""
        ...

    def on_sent(self, now: float, waited: float, waiting: int, *, hinted: bool = False) -> None:
        """Record that a request was sent while `waiting` polls are scheduled, and whether it was hinted."""
        ...

    def on_ended(self, now: float, *, late: bool = False) -> None:
        """Record that a request ended without a verdict; the service may count it late."""
        ...

    def on_accepted(self, now: float, others: int | None = 0) -> None:
        """Record an answer that is not a 429, to a request that was sent while `others` were in flight.

        None: it was in flight when another request was refused.
        """
        ...

    def on_throttled(self, now: float, others: int = 0, *, first: bool) -> None:
        """Record a 429 to a request that was sent while `others` were in flight, and whether it closed the gate."""
        ...

    def on_reopened(self, now: float, reopening: Reopening) -> None:
        """Record that the service accepts requests again."""
        ...

    def on_polled(self, *, found: bool) -> None:
        """Record whether a poll found its job finished."""
        ...


class Pacer:
    """Spends one quota among all requests that draw on it.

    Args:
        quota: How many requests may go, and how fast.
        gate: Holds requests back after a 429 and during an outage.
    """

    def __init__(self, quota: Quota, gate: Gate) -> None:
        self._quota = quota
        self._gate = gate
        self._failures = 0
        self._sent_at = -math.inf
        self._others: dict[float, int] = {}  # in flight when a request was sent

    @property
    def in_flight(self) -> int:
        """The requests that were sent and have not ended."""
        return self._quota.in_flight

    @property
    def quota(self) -> int | None:
        """The requests per window that the pacer keeps to, or None while that is unknown."""
        return self._quota.limit

    @property
    def pause_reason(self) -> PauseReason | None:
        """Why the gate is closed, or None if it is open."""
        return self._gate.reason

    def delay(self, now: float, waited: float = 0.0, *, hinted: bool = False) -> float:
        """Return the seconds until a request may go; infinite if that depends on a request in flight.

        Args:
            now: The time.
            waited: Seconds for which the first request in the queue has been due.
            hinted: Whether the request follows a hint that is trusted: it skips the even spacing, never the quota.
        """
        if self._gate.reason is None:
            delay = self._quota.delay(now, waited, hinted=hinted)
        else:
            closed, probe = self._gate.probe_delay(now, self._quota.in_flight), self._quota.probe_delay(now)
            # The permit for a probe is asked for only once the gate lets the probe through.
            delay = closed if closed >= RESOLUTION and probe == math.inf else max(closed, probe)
        return 0.0 if delay < RESOLUTION else delay

    def paused_for(self, now: float) -> float:
        """Return the seconds for which the gate stays closed."""
        return self._gate.closed_for(now)

    def allowed(self, now: float, requests: int) -> int:
        """Return how many of these requests the gate lets through, whatever the quota says."""
        if self._gate.reason is None:
            return requests
        return 0 if self._gate.probe_delay(now, self._quota.in_flight) >= RESOLUTION else min(requests, 1)

    def on_sent(self, now: float, waited: float = 0.0, waiting: int = 0, *, hinted: bool = False) -> float:
        """Record that a request was sent.

        Args:
            now: The time.
            waited: Seconds for which the first request in the queue has been due.
            waiting: How many more polls are scheduled, due now or later.
            hinted: As for `delay`.

        Returns:
            When the request counts as sent: later than every request before it.
        """
        sent = self._sent_at = now if now > self._sent_at else math.nextafter(self._sent_at, math.inf)
        self._others[sent] = self._quota.in_flight
        if self._gate.on_sent(sent):
            self._quota.on_probe_sent(now)
        else:
            self._quota.on_sent(now, waited, waiting, hinted=hinted)
        return sent

    def on_accepted(self, now: float, sent: float = math.inf, *, found: bool | None = None) -> None:
        """Record an answer that is not a 429.

        Args:
            now: The time.
            sent: When the request was sent; left out, it is the latest one.
            found: Whether the poll was the last of its job; None for a direct call.
        """
        self._failures = 0
        others: int | None = self._others_of(sent)
        if self._gate.reason is not None:
            if self._gate.reason == "throttled" and not self._gate.is_probe(sent):
                others = None
            reopening = self._gate.on_accepted(now, sent)
            if reopening is not None:
                self._quota.on_reopened(now, reopening)
        self._quota.on_accepted(now, others)
        if found is not None:
            self._quota.on_polled(found=found)

    def on_throttled(self, now: float, sent: float, retry_after: float | None) -> bool:
        """Record a 429.

        Args:
            now: The time.
            sent: When the request was sent.
            retry_after: Seconds that the server asked for, or None.

        Returns:
            Whether this 429 closed the gate; False if the gate was closed for a 429 before.
        """
        self._failures = 0
        closed = self._gate.on_throttled(now, sent, retry_after, spent=self._quota.spent(now))
        self._quota.on_throttled(now, self._others_of(sent), first=closed)
        return closed

    def on_failed(self, now: float, sent: float = math.inf, *, several: bool, retry_after: float | None = None) -> bool:
        """Record a request that failed without a verdict on the quota.

        Args:
            now: The time.
            sent: When the request was sent; left out, it is the latest one.
            several: Whether other requests are queued or in flight; the backoff of a single wait is enough by itself.
            retry_after: Seconds that the server asked for, as a 503 does, or None.

        Returns:
            Whether this failure closed the gate.
        """
        if self._gate.reason is None or self._gate.is_probe(sent):  # else it was sent before the gate closed
            self._failures += 1
        self._others_of(sent)
        self._quota.on_ended(now, late=True)
        outage = self._failures - OUTAGE_FAILURES if several else -1
        return self._gate.on_failed(now, sent, outage, retry_after)

    def on_abandoned(self, now: float, sent: float = math.inf) -> None:
        """Record a request that was cancelled."""
        self._others_of(sent)
        self._quota.on_ended(now, late=True)
        self._gate.on_abandoned(sent)

    def hold(self, now: float, pause: float) -> bool:
        """Close the gate for a 429 that another process met.

        Args:
            now: The time.
            pause: Seconds for which all processes pause.

        Returns:
            Whether this closed the gate.
        """
        return self._gate.hold(now, pause)

    def _others_of(self, sent: float) -> int:
        """Return, and forget, how many requests were in flight when this one was sent."""
        return self._others.pop(min(sent, self._sent_at), 0)
