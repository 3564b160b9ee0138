"""What the status requests of a service mean for a durable wait: PlayAI's, and those of any `JobPoller`.

A `Judge` is pure: it reads what a request brought, and words the end of a wait. A `Service` adds the request.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast
from uuid import UUID

import attrs

from playai_async._exceptions import (
    ConfigurationError,
    ForbiddenError,
    PlayAIError,
    PollerClosedError,
    RateLimitedError,
    UnauthorizedError,
    WaitTimeoutError,
    is_transient,
)
from playai_async._models import Completed, Failed, TtsJob, job_id_of
from playai_async._session import PlayAISession
from playai_async._settings import Polling, checked
from playai_async.contrib.procrastinate._values import AnyOutcome, JobOutcome, Outcome, Row
from playai_async.jobs import JobPoller, Throttled, Transient
from playai_async.jobs._classify import status_of
from playai_async.jobs._errors import JobErrors

__all__ = ["PLAYAI", "Judge", "Meaning", "Service", "playai_service", "poller_service"]


class Meaning(enum.Enum):
    """What a request brought."""

    DONE = enum.auto()
    UNFINISHED = enum.auto()
    THROTTLED = enum.auto()
    TRANSIENT = enum.auto()
    REFUSED = enum.auto()
    """The service refused the key, which an operator can change: a 401 or a 403."""
    MISCONFIGURED = enum.auto()
    """A mistake of this worker. Others may do better."""
    FINAL = enum.auto()


class Judge(Protocol):
    """Reads what requests brought."""

    def meaning(self, result: object) -> Meaning:
        """Return what a job or an error means; raise `ConfigurationError` if the caller's own function failed."""
        ...

    def done(self, row: Row, job: object) -> AnyOutcome:
        """Return the end of a wait whose job is finished."""
        ...

    def failed(self, row: Row, error: Exception) -> AnyOutcome:
        """Return the end of a wait with an error."""
        ...

    def timed_out(self, row: Row, result: object | None, *, elapsed: float, polls: int, reason: str) -> Exception:
        """Return the error for a deadline that passed; `result` is what the last poll brought."""
        ...


class _PlayAIJudge:
    """Reads what a `PlayAISession` brought."""

    def meaning(self, result: object) -> Meaning:
        if isinstance(result, TtsJob):
            return Meaning.DONE if result.done else Meaning.UNFINISHED
        if isinstance(result, ConfigurationError | PollerClosedError):
            return Meaning.MISCONFIGURED
        if isinstance(result, RateLimitedError):
            return Meaning.THROTTLED
        if isinstance(result, UnauthorizedError | ForbiddenError):
            return Meaning.REFUSED
        return Meaning.TRANSIENT if is_transient(result) else Meaning.FINAL

    def done(self, row: Row, job: object) -> AnyOutcome:
        finished = cast("TtsJob[Completed | Failed]", job)
        return Outcome(job_id=cast("UUID", row.job_id), key=_key(row, finished.output.status), job=finished)

    def failed(self, row: Row, error: Exception) -> AnyOutcome:
        known = cast("PlayAIError", error)  # a session raises no other
        return Outcome(job_id=cast("UUID", row.job_id), key=_key(row, type(error).__name__), error=known)

    def timed_out(self, row: Row, result: object | None, *, elapsed: float, polls: int, reason: str) -> Exception:
        job = cast("TtsJob", result) if isinstance(result, TtsJob) else None
        state = "no answer to the last poll" if job is None else f"last seen {type(job.output).__name__}"
        return WaitTimeoutError(
            f"Job {row.job_id} was not done after {elapsed:.1f} s (polls: {polls}; {state}{reason});"
            " it goes on and can be waited for again.",
            job=job,
            last_error=result if isinstance(result, PlayAIError) else None,
            elapsed=elapsed,
            polls=polls,
            job_id=cast("UUID", row.job_id),
        )


PLAYAI: Judge = _PlayAIJudge()

_REFUSED = {401, 403}


@attrs.frozen
class _PollerJudge:
    """Reads what a `JobPoller` brought.

    Attributes:
        is_done: The poller's `is_done`.
        classify: The poller's `classify`.
    """

    is_done: Callable[[Any], bool]
    classify: Callable[[Exception], Throttled | Transient | None]

    def meaning(self, result: object) -> Meaning:
        if isinstance(result, ConfigurationError | PollerClosedError):
            return Meaning.MISCONFIGURED
        try:
            if not isinstance(result, Exception):
                return Meaning.DONE if self.is_done(result) else Meaning.UNFINISHED
            verdict = self.classify(result)
        except Exception as error:
            raise ConfigurationError(f"is_done or classify failed ({type(error).__name__})") from error
        if verdict is not None:
            return Meaning.THROTTLED if isinstance(verdict, Throttled) else Meaning.TRANSIENT
        return Meaning.REFUSED if status_of(result) in _REFUSED else Meaning.FINAL

    def done(self, row: Row, job: object) -> AnyOutcome:
        return JobOutcome(job_id=str(row.job_id), key=_key(row, "DONE"), job=job)

    def failed(self, row: Row, error: Exception) -> AnyOutcome:
        key = _key(row, type(error).__name__)
        return JobOutcome(job_id=str(row.job_id), key=key, error=JobErrors().for_waiter(error, row.job_id))

    def timed_out(self, row: Row, result: object | None, *, elapsed: float, polls: int, reason: str) -> Exception:
        error, job = (result, None) if isinstance(result, Exception) else (None, result)
        return JobErrors().timed_out(row.job_id, job=job, last_error=error, elapsed=elapsed, polls=polls, why=reason)


def _key(row: Row, result: str) -> str:
    return f"{row.job_id}:{row.on_done}:{result}"


@attrs.frozen
class Service:
    """Where a worker asks for jobs.

    Attributes:
        judge: Reads what a request brought.
        polling: How waits poll by default.
        get: Sends one status request.
        paused_for: Returns the seconds until requests are sent again.
        parse: Returns the id of a job that a caller named.
    """

    judge: Judge
    polling: Polling
    get: Callable[[Any], Awaitable[object]]
    paused_for: Callable[[], float]
    parse: Callable[[Any], UUID | str]


def playai_service(playai: PlayAISession) -> Service:
    """Ask for PlayAI's jobs with a session."""
    polling = playai._polling  # noqa: SLF001 - same package # pyright: ignore[reportPrivateUsage]
    return Service(PLAYAI, polling, playai.get_job, lambda: playai.stats.paused_for, job_id_of)


def poller_service(poller: JobPoller[str, Any]) -> Service:
    """Ask for the jobs of any service with a poller."""
    judge = _PollerJudge(poller._is_done, poller._classify)  # noqa: SLF001 - same package # pyright: ignore[reportPrivateUsage]
    polling = poller._polling  # noqa: SLF001 - same package # pyright: ignore[reportPrivateUsage]
    return Service(judge, polling, poller.get, lambda: poller.stats.paused_for, _text_of)


def _text_of(job_id: object) -> str:
    if not checked("job", job_id, str):
        raise ValueError("the id of a job is empty")
    return cast("str", job_id)
