"""What the emulator was asked: every request, answered or not, faulted or not.

It only writes down; what to answer is decided elsewhere.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs


@attrs.frozen(kw_only=True)
class Arrival:
    """One request as it arrived.

    Attributes:
        at: The loop time of its arrival.
        method: The HTTP method.
        path: The path with its query, as sent.
        job_id: The job it asks for; None if the path names none.
        headers: Its headers, looked up in any case.
        status: What it was answered with; None if it was not answered, or not yet.
        body: A POST's body, once it has been read; empty if it was too long.
    """

    at: float
    method: str
    path: str
    job_id: UUID | None
    headers: Mapping[str, str] = attrs.field(repr=False)  # they hold the key
    status: int | None = None
    body: bytes = attrs.field(default=b"", repr=False)  # it holds the text to speak


@attrs.frozen(kw_only=True)
class EmulatorStats:
    """What the emulator was asked since it was built, or since `reset_stats()`.

    Attributes:
        requests: How many requests arrived.
        by_status: How many were answered with each status; resets and hangs are in none.
        in_flight: How many are under way now.
        most_in_flight: How many were under way at once, at most.
    """

    requests: int
    by_status: Mapping[int, int]
    in_flight: int
    most_in_flight: int

    @property
    def throttled(self) -> int:
        """How many were answered with 429."""
        return self.by_status.get(429, 0)


class RequestLog:
    """Counts requests, and keeps the latest of them.

    Args:
        history: How many arrivals to keep; the counts go on without bound.
    """

    def __init__(self, history: int) -> None:
        self._history = history
        self._serial = 0
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget all but what is under way."""
        # By serial number, so that an answer finds its arrival, however many came since.
        self._arrivals: OrderedDict[int, Arrival] = OrderedDict()
        self._by_status: Counter[int] = Counter()
        self._by_job: Counter[UUID] = Counter()
        self._requests = self._in_flight
        self._most_in_flight = self._in_flight

    def on_arrival(self, arrival: Arrival) -> int:
        """Write down a request and return its serial number."""
        self._serial += 1
        self._requests += 1
        self._in_flight += 1
        self._most_in_flight = max(self._most_in_flight, self._in_flight)
        if arrival.job_id is not None:
            self._by_job[arrival.job_id] += 1
        self._arrivals[self._serial] = arrival
        if len(self._arrivals) > self._history:
            self._arrivals.popitem(last=False)
        return self._serial

    def on_body(self, serial: int, body: bytes) -> None:
        """Write down the body of a request."""
        self._update(serial, body=body)

    def on_end(self, serial: int, status: int | None) -> None:
        """Write down that a request is over, and what it was answered with (None: nothing)."""
        self._in_flight -= 1
        if status is None:
            return
        self._by_status[status] += 1
        self._update(serial, status=status)

    def _update(self, serial: int, **changes: Any) -> None:
        arrival = self._arrivals.get(serial)
        if arrival is not None:
            self._arrivals[serial] = attrs.evolve(arrival, **changes)

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """The latest arrivals, oldest first."""
        return tuple(self._arrivals.values())

    @property
    def stats(self) -> EmulatorStats:
        """The counts as they are now."""
        return EmulatorStats(
            requests=self._requests,
            by_status=MappingProxyType(dict(self._by_status)),
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
        )

    def requests_of(self, job_id: UUID) -> int:
        """Return how many requests asked for a job, known or not."""
        return self._by_job[job_id]
