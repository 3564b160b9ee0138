"""What a client did so far, and what it is doing: a snapshot."""

from __future__ import annotations

import attrs

from playai_async._telemetry.events import PauseReason

__all__ = ["SessionStats"]


@attrs.frozen
class SessionStats:
    """What a session did so far, and what it is doing: a snapshot.

    Attributes:
        requests: Requests sent.
        throttled: Requests that were answered with 429.
        transient_failures: Requests that met a 5xx, a broken reply, or no answer.
        open_waits: Callers that wait for a job.
        distinct_jobs: Jobs that they wait for.
        in_flight: Requests that were sent and not answered yet.
        paused_for: Seconds until a 429 or an outage lets the session send its next request; 0 while a probe is in
            flight.
        quota: The requests per window that the session keeps to, known or learned; None while unknown.
        queued: Calls and polls that are due and wait for the quota, a pause or a connection.
        pause_reason: Why the session sends nothing, or one request at a time: "throttled" after a 429, "outage" after
            transient failures in a row; None if it is not paused.
        hints_followed: Hints for which `hint` returned True: the poll of the job went first.
        hints_ignored: Hints of unfinished jobs that were ignored: nobody waited, or the last hints were false.
    """

    requests: int
    throttled: int
    transient_failures: int
    open_waits: int
    distinct_jobs: int
    in_flight: int
    paused_for: float
    quota: int | None
    queued: int = 0
    pause_reason: PauseReason | None = None
    hints_followed: int = 0
    hints_ignored: int = 0

    @classmethod
    def before_use(cls, quota: int | None) -> SessionStats:
        """Return the snapshot of a client that has not been used."""
        return cls(0, 0, 0, 0, 0, 0, 0.0, quota)
