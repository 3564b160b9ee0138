"""The log of requests: counts, and the latest arrivals, whether a request was answered or met a fault.

The log only records; other modules decide what to answer.
"""

from collections import Counter, OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs


@attrs.frozen(kw_only=True)
class Arrival:
    """A request as it arrived.

    Attributes:
        at: The loop time of its arrival, in seconds.
        method: The HTTP method.
        path: The path with its query, as sent.
        job_id: The job that the path names, or None.
        headers: The headers, with case-insensitive lookup.
        status: The status of the response; None if there was none, or not yet.
        body: The body of a POST once it has been read; empty if it was too long.
    """

    at: float
    method: str
    path: str
    job_id: UUID | None
    headers: Mapping[str, str] = attrs.field(repr=False)  # contains the key
    status: int | None = None
    body: bytes = attrs.field(default=b"", repr=False)  # contains the text to speak


@attrs.frozen(kw_only=True)
class EmulatorStats:
    """Counts of requests since the emulator was created, or since `reset_stats()`.

    Attributes:
        requests: The number of requests that arrived.
        by_status: The number of responses with each status. Requests that hang or are reset have no response.
        in_flight: The number of requests in progress.
        most_in_flight: The highest number of requests that were in progress at once.
    """

    requests: int
    by_status: Mapping[int, int]
    in_flight: int
    most_in_flight: int

    @property
    def throttled(self) -> int:
        """The number of responses with status 429."""
        return self.by_status.get(429, 0)


class RequestLog:
    """Counts requests and keeps the latest arrivals.

    Args:
        history: How many arrivals to keep. The counts are not limited.
    """

    def __init__(self, history: int) -> None:
        self._history = history
        self._serial = 0
        self._in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything except the requests in progress."""
        # By serial number, so that a response finds its arrival however many requests came since.
        self._arrivals: OrderedDict[int, Arrival] = OrderedDict()
        self._by_status: Counter[int] = Counter()
        self._by_job: Counter[UUID] = Counter()
        self._requests = self._in_flight
        self._most_in_flight = self._in_flight

    def on_arrival(self, arrival: Arrival) -> int:
        """Record a request and return its serial number."""
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
        """Record the body of a request."""
        self._update(serial, body=body)

    def on_end(self, serial: int, status: int | None) -> None:
        """Record the end of a request and the status of its response (None: there was none)."""
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
        """A snapshot of the counts."""
        return EmulatorStats(
            requests=self._requests,
            by_status=MappingProxyType(dict(self._by_status)),
            in_flight=self._in_flight,
            most_in_flight=self._most_in_flight,
        )

    def requests_of(self, job_id: UUID) -> int:
        """Return the number of requests that named a job, whether the job exists or not."""
        return self._by_job[job_id]
