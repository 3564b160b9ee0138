"""Decides whether a wait of the soak ended correctly, from the plan, the documented promises, and the service's faults.

Pure functions over values. A result is checked when it arrives. An error is checked at the end, when the service
reports its faults.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import attrs

from playai_async import (
    APIStatusError,
    Completed,
    Failed,
    JobFailedError,
    PlayAIError,
    SessionClosedError,
    TtsJob,
    WaitTimeoutError,
)
from tests.soak.plan import REQUEST_TIMEOUT, Soak, job_of, number_of

TOLERANCE = 1.0
"""Seconds by which a deadline, a cancellation or a close may be late, if the machine was not late itself."""

NOTICE_TIMEOUT = 8.0
"""Seconds after the faults stopped, within which a session without queued polls must notice every finished job.

This is more than the longest pause between two polls, 6 s.
"""

CLOCK_ERROR = 0.01
"""Seconds by which the clocks of two processes, or two readings of one clock, may differ."""

OUTCOMES: Mapping[str, str] = {
    "finished": "its job completed, or its call succeeded",
    "failed": "its job failed",
    "errors": "it raised an error, which is checked against the faults of the service",
    "timed out": "its deadline passed",
    "cancelled": "its caller cancelled it",
    "closed": "its session was closed",
}
"""How a wait may end, and what that means."""

STATUS_WAYS = {"wait", "watch", "as_completed", "wait_for_all", "unknown"}
"""Ways that poll: they continue after a 429 and after some failures."""

ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "create_job": ("create",),
    "download": ("status", "audio"),
    "speak": ("create", "status", "audio"),
}
"""The endpoints that a way uses; all other ways use the status endpoint only."""

LAST_POLL = REQUEST_TIMEOUT + 1.0
"""Seconds from the last poll of a wait to its deadline, including the time of the request."""

PROMPT = 0.1
"""Seconds after a deadline within which a waiting caller usually receives the timeout."""

_DELAYED = ("; throttled", "; outage", "waited for its turn")
_TRANSIENT = {"TransportError", "InvalidResponseError", "UnexpectedServiceError"}
_SILENT = ("Hang", "Slow", "Reset", "Reset midway")


@attrs.define(eq=False)
class Wait:
    """One wait, from its opening to its end.

    Attributes:
        caller: The number of the caller.
        way: How it waits.
        job_id: The job; None: a job that the call creates.
        timeout: Seconds, or None.
        max_failures: How many failures in a row it tolerates.
        began: When it was opened, in seconds since the beginning.
        asked: When its caller last asked for a result; infinity while the caller processes one.
    """

    caller: int
    way: str
    job_id: UUID | None
    timeout: float | None
    max_failures: int
    began: float
    asked: float

    @property
    def deadline(self) -> float | None:
        """When it must have ended."""
        return None if self.timeout is None else self.began + self.timeout

    def __str__(self) -> str:
        return (
            f"caller {self.caller} ({self.way}, job {self.job_id}, timeout {self.timeout},"
            f" max_failures {self.max_failures}, since {self.began:.3f} s)"
        )


def outcome_of(result: TtsJob | PlayAIError) -> str:
    """Return the outcome that a result counts as."""
    match result:
        case TtsJob():
            return "failed" if isinstance(result.output, Failed) else "finished"
        case WaitTimeoutError():
            return "timed out"
        case SessionClosedError():
            return "closed"
        case JobFailedError():
            return "failed"
        case _:
            return "errors"


def problems_of_end(soak: Soak, wait: Wait, job: TtsJob, now: float) -> Iterator[str]:
    """Yield what is wrong with the job that a wait ended with."""
    if wait.way != "get_job" and not job.done:
        yield f"ended with an unfinished job: {job}"
    yield from problems_of_state(soak, wait, job, now)


def problems_of_state(soak: Soak, wait: Wait, job: TtsJob, now: float) -> Iterator[str]:
    """Yield what is wrong with a state that a wait received."""
    if wait.job_id is not None and job.id != wait.job_id:
        yield f"received another job: {job.id}"
    number = number_of(job.id)
    if number is None:
        if isinstance(job.output, Failed):
            yield "received FAILED for a created job"
        return
    planned = job_of(soak, number)
    if dict(job.input) != planned.input:
        yield f"received the input of another job: {dict(job.input)}"
    if job.done and now < planned.finishes - CLOCK_ERROR:
        yield f"received the end at {now:.3f} s, but the job finishes at {planned.finishes:.3f} s"
    if job.done and isinstance(job.output, Completed) is planned.fails:
        yield f"received the wrong output {type(job.output).__name__}"
    if wait.way == "get_job" and not job.done and planned.finishes < wait.began - CLOCK_ERROR:
        yield f"received an unfinished job, but the job finished at {planned.finishes:.3f} s"


def problems_of_error(soak: Soak, wait: Wait, error: PlayAIError, now: float, slack: float) -> Iterator[str]:
    """Yield what is wrong with an error, as far as the wait itself shows.

    Args:
        soak: The parameters of the soak.
        wait: The wait.
        error: The error.
        now: When it was raised, in seconds since the beginning.
        slack: How late the machine was in the last seconds.
    """
    if wait.job_id is not None and error.job_id != wait.job_id:
        yield f"its error names job {error.job_id}: {error!r}"
    if isinstance(error, JobFailedError):
        yield from problems_of_state(soak, wait, error.job, now)
    if not isinstance(error, WaitTimeoutError):
        return
    if wait.deadline is None:
        yield f"timed out without a deadline: {error!r}"
        return
    if now < wait.deadline - CLOCK_ERROR:
        yield f"timed out {wait.deadline - now:.3f} s early"
    late = now - max(wait.deadline, wait.asked)
    if late > TOLERANCE + slack:
        yield f"timed out {late:.3f} s late at {now:.3f} s, while the machine was {slack:.3f} s late: {error}"
    if error.job is not None and error.job.done and wait.way != "speak":
        yield f"timed out although it knew the end: {error.job}"


def is_suspicious(soak: Soak, wait: Wait, error: PlayAIError, now: float) -> bool:
    """Return whether a wait timed out although its last poll must have found its job finished.

    It is not suspicious if that poll met a fault, which the service knows; if the poll was still queued, which the
    error says; or if it may have been in flight, which is unknown if the caller was busy and received the timeout late.
    """
    if not isinstance(error, WaitTimeoutError) or wait.deadline is None or wait.way not in STATUS_WAYS:
        return False
    number = None if wait.job_id is None else number_of(wait.job_id)
    if number is None or now > wait.began + error.elapsed + PROMPT or any(words in str(error) for words in _DELAYED):
        return False
    return job_of(soak, number).finishes < wait.deadline - LAST_POLL


def lost(soak: Soak, waits: Sequence[Wait], now: float, calm_since: float, *, queues: bool) -> dict[Wait, str]:
    """Return which of a caller's open waits should have ended since the faults stopped, and why.

    Args:
        soak: The parameters of the soak.
        waits: All open waits of the caller.
        now: Seconds since the beginning.
        calm_since: When the faults stopped.
        queues: Whether the session has queued polls, so that it may not know the end of a job yet.
    """
    reasons = {}
    for wait in waits:
        why = _overdue(wait, now) or (None if queues else _known(soak, wait, now, calm_since))
        if why is not None:
            reasons[wait] = why
    # wait_for_all returns all results together, when the last wait has ended.
    return {} if waits[0].way == "wait_for_all" and len(reasons) < len(waits) else reasons


def _overdue(wait: Wait, now: float) -> str | None:
    if wait.deadline is None or now <= max(wait.deadline, wait.asked) + TOLERANCE:
        return None
    return f"its deadline passed {now - wait.deadline:.3f} s ago"


def _known(soak: Soak, wait: Wait, now: float, calm_since: float) -> str | None:
    number = None if wait.job_id is None else number_of(wait.job_id)
    if number is None or now <= max(wait.asked, calm_since) + NOTICE_TIMEOUT:
        return None
    job = job_of(soak, number)
    return f"its job finished at {job.finishes:.3f} s" if job.finishes < calm_since else None


@attrs.frozen(kw_only=True)
class RecordedError:
    """An error that a wait ended with; times are in seconds since the beginning."""

    caller: int
    way: str
    job_id: str | None
    kind: str
    status: int | None
    text: str
    max_failures: int
    began: float
    ended: float

    @classmethod
    def of(cls, wait: Wait, error: PlayAIError, now: float) -> RecordedError:
        """Record an error."""
        return cls(
            caller=wait.caller,
            way=wait.way,
            job_id=None if error.job_id is None else str(error.job_id),
            kind=type(error).__name__,
            status=error.status if isinstance(error, APIStatusError) else None,
            text=f"{error!r} from {error.__cause__!r}",
            max_failures=wait.max_failures,
            began=wait.began,
            ended=now,
        )


class History:
    """The faults of the service, arranged to explain errors.

    Args:
        faults: Time, endpoint, job and name of each fault.
        spans: When the service did not respond: from, to.
        quotas: Quota changes: time, quota of status requests, quota of creations.
    """

    def __init__(
        self,
        faults: Sequence[tuple[float, str, str | None, str]] = (),
        spans: Sequence[tuple[float, float]] = (),
        quotas: Sequence[tuple[float, int | None, int | None]] = (),
    ) -> None:
        self._spans = spans
        self._quotas = quotas
        self._faults: dict[tuple[str, str | None], list[tuple[float, str]]] = defaultdict(list)
        for at, endpoint, job_id, name in faults:
            self._faults[endpoint, None if endpoint == "create" else job_id].append((at, name))

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> History:
        """Read the report of the service."""
        return cls(report["faults"], report["spans"], report["quotas"])

    def unexplained(self, error: RecordedError) -> str | None:
        """Return why no fault explains an error; None if one does."""
        if error.way == "unknown" and error.kind == "NotFoundError":
            return None
        if error.kind == "WaitTimeoutError":
            return self._without_last_poll(error)
        since, until = error.began - REQUEST_TIMEOUT - 0.5, error.ended + 0.1
        names = self._names(error, since, until)
        if error.kind == "RateLimitedError" and error.way in STATUS_WAYS:
            return "a 429 never ends a wait"
        explained = {
            "RateLimitedError": "Status 429" in names or self._limited(since, until),
            "TransportError": self._down(since, until) or any(name in _SILENT for name in names),
            "InvalidResponseError": any(name.startswith("Malformed") for name in names),
            "DownloadError": self._down(since, until) or bool(names),
        }
        if not explained.get(error.kind, f"Status {error.status}" in names):
            return f"no request met this fault; faults met: {sorted(set(names)) or 'none'}"
        return self._too_few_failures(error) if error.kind in _TRANSIENT else None

    def _without_last_poll(self, error: RecordedError) -> str | None:
        """Return a message if a wait timed out although its job had finished and its last poll met no fault."""
        since = error.ended - LAST_POLL - 2 * TOLERANCE
        if self._down(since, error.ended) or self._names(error, since, error.ended):
            return None
        return "its job had finished, but it timed out without a last poll"

    def _down(self, since: float, until: float) -> bool:
        """Return whether the service was down at any time in the interval."""
        return any(start < until and end > since for start, end in self._spans)

    def _names(self, error: RecordedError, since: float, until: float) -> list[str]:
        endpoints = ENDPOINTS.get(error.way, ("status",))
        keys = [(endpoint, None if endpoint == "create" else error.job_id) for endpoint in endpoints]
        return [name for key in keys for at, name in self._faults.get(key, ()) if since <= at <= until]

    def _limited(self, since: float, until: float) -> bool:
        """Return whether there was a quota at any time in the interval."""
        earlier = [quotas for at, *quotas in self._quotas if at < since][-1:]
        during = [quotas for at, *quotas in self._quotas if since <= at <= until]
        return any(quota is not None for quotas in earlier + during for quota in quotas)

    def _too_few_failures(self, error: RecordedError) -> str | None:
        """Return a message if a wait gave up after fewer failures than it tolerates."""
        if error.way not in STATUS_WAYS or any(
            start < error.ended for start, end in self._spans if end > error.ended - 60
        ):
            return None
        transient = [
            at
            for at, name in self._faults.get(("status", error.job_id), ())
            if at <= error.ended and (name in _SILENT or name.startswith(("Malformed", "Status 5")))
        ]
        if len(transient) < error.max_failures:
            return f"gave up after {len(transient)} failures instead of {error.max_failures}"
        return None
