"""Whether a wait of the soak ended as it must: what was planned, what was promised, and what befell the service.

Pure functions over values. A result is judged when it comes; an error at the end, when the service has told what befell
it.
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

LATE = 1.0
"""Seconds by which a deadline, a cancellation or a close may be overrun, where the machine was not late itself."""

PATIENCE = 8.0
"""Seconds of calm after which a session that has nothing to catch up with must have noticed every end.

It is the longest pause between two polls, 6 s, and some.
"""

EARLY = 0.01
"""Seconds: what the clocks of two processes, or two readings of one, may differ by."""

OUTCOMES: Mapping[str, str] = {
    "finished": "its job completed, or its call brought what it was for",
    "failed": "its job failed",
    "errors": "it was told of an error, each of which is held against what befell the service",
    "timed out": "its deadline passed",
    "cancelled": "its caller let go of it",
    "closed": "its session was closed",
}
"""How a wait may end, and what that means."""

STATUS_WAYS = {"wait", "watch", "as_completed", "wait_for_all", "unknown"}
"""Ways that poll: these go on after a 429, and after some failures."""

ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "create_job": ("create",),
    "download": ("status", "audio"),
    "speak": ("create", "status", "audio"),
}
"""Which endpoints a way asks; all others the status alone."""

LAST_POLL = REQUEST_TIMEOUT + 1.0
"""Seconds before its deadline in which a wait's last poll is sent, with what it may take."""

PROMPT = 0.1
"""Seconds after a deadline in which a caller that asks is told of it, mostly."""

_HELD_UP = ("; throttled", "; outage", "waited for its turn")
_PASSING = {"TransportError", "InvalidResponseError", "UnexpectedServiceError"}
_SILENT = ("Hang", "Slow", "Reset", "Reset midway")


@attrs.define(eq=False)
class Wait:
    """One wait, from its opening to its one end.

    Attributes:
        caller: The number of who waits.
        way: How.
        job_id: For what; None: for a job that is to be created.
        timeout: Seconds, or None.
        patience: How many failures in a row it bears.
        began: When it was opened, in seconds from the beginning.
        asked: When its caller last asked for something, likewise; infinity: it is busy with what it was told.
    """

    caller: int
    way: str
    job_id: UUID | None
    timeout: float | None
    patience: int
    began: float
    asked: float

    @property
    def deadline(self) -> float | None:
        """When it must be over."""
        return None if self.timeout is None else self.began + self.timeout

    def __str__(self) -> str:
        return (
            f"caller {self.caller} ({self.way}, job {self.job_id}, timeout {self.timeout},"
            f" patience {self.patience}, since {self.began:.3f} s)"
        )


def outcome_of(result: TtsJob | PlayAIError) -> str:
    """Return what an account counts a result as."""
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
    """Say what is wrong with the job that a wait ended with."""
    if wait.way != "get_job" and not job.done:
        yield f"it ended with a job that is not done: {job}"
    yield from problems_of_state(soak, wait, job, now)


def problems_of_state(soak: Soak, wait: Wait, job: TtsJob, now: float) -> Iterator[str]:
    """Say what is wrong with a state that a wait was told."""
    if wait.job_id is not None and job.id != wait.job_id:
        yield f"it was told of job {job.id}"
    number = number_of(job.id)
    if number is None:
        if isinstance(job.output, Failed):
            yield "it was told that a created job failed"
        return
    planned = job_of(soak, number)
    if dict(job.input) != planned.input:
        yield f"it was told of an input that is another's: {dict(job.input)}"
    if job.done and now < planned.finishes - EARLY:
        yield f"it was told of the end at {now:.3f} s, which is at {planned.finishes:.3f} s"
    if job.done and isinstance(job.output, Completed) is planned.fails:
        yield f"it was told {type(job.output).__name__}, which is wrong"
    if wait.way == "get_job" and not job.done and planned.finishes < wait.began - EARLY:
        yield f"it was told that the job is not done, which it was at {planned.finishes:.3f} s"


def problems_of_error(soak: Soak, wait: Wait, error: PlayAIError, now: float, slack: float) -> Iterator[str]:
    """Say what is wrong with an error, as far as the wait itself tells.

    Args:
        soak: What was asked for.
        wait: The wait.
        error: What it raised.
        now: When, in seconds from the beginning.
        slack: By how much the machine was late lately.
    """
    if wait.job_id is not None and error.job_id != wait.job_id:
        yield f"its error is about job {error.job_id}: {error!r}"
    if isinstance(error, JobFailedError):
        yield from problems_of_state(soak, wait, error.job, now)
    if not isinstance(error, WaitTimeoutError):
        return
    if wait.deadline is None:
        yield f"it has no deadline, and timed out: {error!r}"
        return
    if now < wait.deadline - EARLY:
        yield f"it timed out {wait.deadline - now:.3f} s early"
    late = now - max(wait.deadline, wait.asked)
    if late > LATE + slack:
        yield f"it timed out {late:.3f} s late at {now:.3f} s, the machine being {slack:.3f} s late: {error}"
    if error.job is not None and error.job.done and wait.way != "speak":
        yield f"it timed out though it knew the end: {error.job}"


def is_suspicious(soak: Soak, wait: Wait, error: PlayAIError, now: float) -> bool:
    """Say whether a wait timed out although its last poll, just before the deadline, must have found its job done.

    Unless that poll met something, which the service knows; or was still queued, which the error tells; or under way,
    which is not known any more where the caller was busy and was told late.
    """
    if not isinstance(error, WaitTimeoutError) or wait.deadline is None or wait.way not in STATUS_WAYS:
        return False
    number = None if wait.job_id is None else number_of(wait.job_id)
    if number is None or now > wait.began + error.elapsed + PROMPT or any(words in str(error) for words in _HELD_UP):
        return False
    return job_of(soak, number).finishes < wait.deadline - LAST_POLL


def lost(soak: Soak, waits: Sequence[Wait], now: float, calm_since: float, *, queues: bool) -> dict[Wait, str]:
    """Say which of a caller's open waits, after a while of calm, should not be open, and why.

    Args:
        soak: What was asked for.
        waits: All that the caller has open.
        now: When it is, in seconds from the beginning.
        calm_since: Since when nothing has befallen the service.
        queues: Whether polls of the session are due and wait for their turn: then a job's end may not be known yet.
    """
    reasons = {}
    for wait in waits:
        why = _overdue(wait, now) or (None if queues else _known(soak, wait, now, calm_since))
        if why is not None:
            reasons[wait] = why
    # All together are told of as one, when the last has ended.
    return {} if waits[0].way == "wait_for_all" and len(reasons) < len(waits) else reasons


def _overdue(wait: Wait, now: float) -> str | None:
    if wait.deadline is None or now <= max(wait.deadline, wait.asked) + LATE:
        return None
    return f"its deadline passed {now - wait.deadline:.3f} s ago"


def _known(soak: Soak, wait: Wait, now: float, calm_since: float) -> str | None:
    number = None if wait.job_id is None else number_of(wait.job_id)
    if number is None or now <= max(wait.asked, calm_since) + PATIENCE:
        return None
    job = job_of(soak, number)
    return f"its job was done at {job.finishes:.3f} s" if job.finishes < calm_since else None


@attrs.frozen(kw_only=True)
class Met:
    """An error that a wait ended with; times are in seconds from the beginning."""

    caller: int
    way: str
    job_id: str | None
    kind: str
    status: int | None
    words: str
    patience: int
    began: float
    ended: float

    @classmethod
    def of(cls, wait: Wait, error: PlayAIError, now: float) -> Met:
        """Note an error."""
        return cls(
            caller=wait.caller,
            way=wait.way,
            job_id=None if error.job_id is None else str(error.job_id),
            kind=type(error).__name__,
            status=error.status if isinstance(error, APIStatusError) else None,
            words=f"{error!r} from {error.__cause__!r}",
            patience=wait.patience,
            began=wait.began,
            ended=now,
        )


class History:
    """What befell the service, arranged to explain errors.

    Args:
        faults: When, at which endpoint, which job, and what.
        spans: From when to when nobody answered.
        quotas: From when on, the quota of status requests and that of creations.
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
        """Take what the service reported."""
        return cls(report["faults"], report["spans"], report["quotas"])

    def unexplained(self, met: Met) -> str | None:
        """Say why nothing that befell the service explains an error; None if something does."""
        if met.way == "unknown" and met.kind == "NotFoundError":
            return None
        if met.kind == "WaitTimeoutError":
            return self._unpolled(met)
        since, until = met.began - REQUEST_TIMEOUT - 0.5, met.ended + 0.1
        names = self._names(met, since, until)
        if met.kind == "RateLimitedError" and met.way in STATUS_WAYS:
            return "a 429 never ends a wait"
        explained = {
            "RateLimitedError": "Status 429" in names or self._limited(since, until),
            "TransportError": self._down(since, until) or any(name in _SILENT for name in names),
            "InvalidResponseError": any(name.startswith("Malformed") for name in names),
            "DownloadError": self._down(since, until) or bool(names),
        }
        if not explained.get(met.kind, f"Status {met.status}" in names):
            return f"no request met this, but {sorted(set(names)) or 'nothing'}"
        return self._impatient(met) if met.kind in _PASSING else None

    def _unpolled(self, met: Met) -> str | None:
        """Say that a wait timed out though its job was done, and nothing befell its last poll."""
        since = met.ended - LAST_POLL - 2 * LATE
        if self._down(since, met.ended) or self._names(met, since, met.ended):
            return None
        return "its job was done, and it timed out without a last poll"

    def _down(self, since: float, until: float) -> bool:
        """Whether nobody answered at any moment."""
        return any(start < until and end > since for start, end in self._spans)

    def _names(self, met: Met, since: float, until: float) -> list[str]:
        endpoints = ENDPOINTS.get(met.way, ("status",))
        keys = [(endpoint, None if endpoint == "create" else met.job_id) for endpoint in endpoints]
        return [name for key in keys for at, name in self._faults.get(key, ()) if since <= at <= until]

    def _limited(self, since: float, until: float) -> bool:
        """Whether there was a quota at any moment."""
        earlier = [quotas for at, *quotas in self._quotas if at < since][-1:]
        during = [quotas for at, *quotas in self._quotas if since <= at <= until]
        return any(quota is not None for quotas in earlier + during for quota in quotas)

    def _impatient(self, met: Met) -> str | None:
        """Say that a wait was given up after fewer failures than it bears; from how many requests, others share."""
        if met.way not in STATUS_WAYS or any(start < met.ended for start, end in self._spans if end > met.ended - 60):
            return None
        passing = [
            at
            for at, name in self._faults.get(("status", met.job_id), ())
            if at <= met.ended and (name in _SILENT or name.startswith(("Malformed", "Status 5")))
        ]
        if len(passing) < met.patience:
            return f"it was given up after {len(passing)} failures, and not {met.patience}"
        return None
