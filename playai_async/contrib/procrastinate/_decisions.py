"""Decides what happens to the row of a durable wait: reschedule the row, or end the wait.

Pure except for jitter: no event loop, no clock, no database. The pauses, and which errors are transient, come from the
backoff of the engine. All times are seconds since 1970.
"""

from __future__ import annotations

import sys
from typing import cast

from playai_async._exceptions import (
    ConfigurationError,
    ForbiddenError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    UnauthorizedError,
    WaitTimeoutError,
    is_transient,
)
from playai_async._models import Completed, Failed, TtsJob
from playai_async._settings import Polling
from playai_async.contrib.procrastinate._constants import (
    HANDLER_PAUSE,
    MAX_HANDLER_PAUSE,
    MAX_OVERTIME,
    MIN_PAUSE,
    MISCONFIGURED_PAUSE,
)
from playai_async.contrib.procrastinate._values import Counters, Outcome, Reschedule, Row
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._scheduling.request import Failure, Success, Transient

__all__ = [
    "before_request",
    "is_refused",
    "on_handler_error",
    "on_misconfigured_worker",
    "on_no_reply",
    "on_result",
    "on_unknown_row",
    "on_worker_shutdown",
]


def before_request(row: Row, now: float, pause: float) -> Reschedule | Outcome | None:
    """Decide whether to send a request. The session may be paused, or another worker's handler may still run.

    Args:
        row: The wait.
        now: The current time.
        pause: Seconds until the session sends requests again.

    Returns:
        What happens instead of a request; or None to send the request.
    """
    if row.held_until > now:
        return Reschedule(row.held_until, "its handler runs", keep_priority=True, counters=_unasked(row))
    if pause <= MIN_PAUSE:
        return None
    return _postpone(row, now, now + pause, reason="the session is paused", counters=_unasked(row))


def on_no_reply(row: Row, now: float, *, reason: str) -> Reschedule | Outcome:
    """Decide after an attempt without a reply, which does not count as a failure.

    Args:
        row: The wait.
        now: The current time.
        reason: Why there is no reply.
    """
    return _postpone(row, now, now, reason=reason, counters=_unasked(row))


def on_worker_shutdown(row: Row, now: float) -> Reschedule:
    """Reschedule the row of a worker that shuts down, for any other worker."""
    return Reschedule(now, "the worker shuts down", keep_priority=True, counters=_unasked(row))


def on_misconfigured_worker(row: Row, now: float, reason: str) -> Reschedule:
    """Reschedule a row that this worker cannot poll: a handler is missing, or a setting is wrong."""
    return Reschedule(now + MISCONFIGURED_PAUSE, reason, keep_priority=True, counters=_unasked(row))


def on_unknown_row(now: float) -> Reschedule:
    """Put back a row of another version, without a change to its arguments."""
    return Reschedule(now + MISCONFIGURED_PAUSE, "the row is of another version", keep_priority=True)


def on_result(
    row: Row, result: TtsJob | PlayAIError, sent_at: float, now: float, *, pause: float, polling: Polling
) -> Reschedule | Outcome:
    """Decide after a request.

    Args:
        row: The wait.
        result: The job, or the error that the request raised.
        sent_at: When the session was asked for the job.
        now: The current time.
        pause: Seconds until the session sends requests again.
        polling: How the wait polls.

    Raises:
        ConfigurationError: The caller's wait strategy raised or did not return a number; or `result` is this error.
        SessionClosedError: `result` is this error.
    """
    if isinstance(result, ConfigurationError | SessionClosedError):
        raise result
    if isinstance(result, RateLimitedError):
        counters: Counters = {"throttled": row.throttled + 1}
        at = now + max(pause, MIN_PAUSE)
        return _postpone(row, now, at, reason="rate limited", counters=counters, error=result)
    if isinstance(result, TtsJob) and result.done:
        return _job_outcome(row, cast("TtsJob[Completed | Failed]", result))
    if isinstance(result, PlayAIError) and not (is_transient(result) or is_refused(result)):
        return _error_outcome(row, result)
    return _poll_again(row, result, sent_at, now, polling)


def is_refused(result: object) -> bool:
    """Return whether the service refused the key, which an operator can change: a 401 or a 403."""
    return isinstance(result, UnauthorizedError | ForbiddenError)


def on_handler_error(row: Row, now: float, max_failures: int) -> Reschedule | None:
    """Decide after the handler raised. None means that the handler is not called again."""
    calls = row.calls + 1
    if calls >= max_failures:
        return None
    pause = min(MAX_HANDLER_PAUSE, HANDLER_PAUSE * 2.0 ** min(row.calls, 60))
    return Reschedule(now + pause, f"the handler is called again in {pause:.0f} s", counters={"calls": calls})


def _poll_again(
    row: Row, result: TtsJob | PlayAIError, sent_at: float, now: float, polling: Polling
) -> Reschedule | Outcome:
    """Decide after an unfinished job, a transient error or a refused key. The last one does not count as a failure."""
    polls, elapsed = row.polls - row.throttled, max(0.0, now - row.started)
    max_failures = sys.maxsize if is_refused(result) else polling.max_failures
    backoff = Backoff(poll_rule(polling), max_failures, polls=polls, failures=row.failures, elapsed=elapsed)
    outcome = Failure(result, Transient()) if isinstance(result, PlayAIError) else Success(result, done=False)
    pause = backoff.pause_after(outcome)
    if pause is None and isinstance(result, PlayAIError):
        return _error_outcome(row, result)
    if pause is None or _is_late(row, sent_at):  # never None here: an unfinished job is always polled again
        return _error_outcome(row, _timeout_error(row, now, polls=row.polls + 1, result=result))
    at = now + pause if row.last_poll_at is None else min(now + pause, max(now, row.last_poll_at))
    is_counted = backoff.failures != row.failures and not is_refused(result)
    counters: Counters = {"failures": backoff.failures} if is_counted else {}
    return Reschedule(at, f"polled again in {at - now:.1f} s", counters=counters)


def _postpone(
    row: Row, now: float, at: float, *, reason: str, counters: Counters, error: PlayAIError | None = None
) -> Reschedule | Outcome:
    """Reschedule a row that got no reply: before its deadline not past it, and after its deadline for one last poll."""
    if not _is_late(row, now):
        if row.last_poll_at is not None:
            at = min(at, row.last_poll_at)
        return Reschedule(at, reason, keep_priority=True, counters=counters)
    late_since = row.late_since or now
    if at > late_since + MAX_OVERTIME:
        polls = row.polls + (error is not None)
        return _error_outcome(row, _timeout_error(row, now, polls=polls, result=error, reason=f"; {reason}"))
    return Reschedule(at, reason, keep_priority=True, counters={**counters, "late_since": late_since})


def _is_late(row: Row, now: float) -> bool:
    return row.last_poll_at is not None and now >= row.last_poll_at


def _unasked(row: Row) -> Counters:
    return {"unasked": row.unasked + 1}


def _job_outcome(row: Row, job: TtsJob[Completed | Failed]) -> Outcome:
    return Outcome(job_id=row.job_id, key=_key(row, job.output.status), job=job)


def _error_outcome(row: Row, error: PlayAIError) -> Outcome:
    return Outcome(job_id=row.job_id, key=_key(row, type(error).__name__), error=error)


def _key(row: Row, result: str) -> str:
    return f"{row.job_id}:{row.on_done}:{result}"


def _timeout_error(
    row: Row, now: float, *, polls: int, result: TtsJob | PlayAIError | None, reason: str = ""
) -> WaitTimeoutError:
    job = result if isinstance(result, TtsJob) else None
    elapsed = max(0.0, now - row.started)
    state = "no answer to the last poll" if job is None else f"last seen {type(job.output).__name__}"
    return WaitTimeoutError(
        f"Job {row.job_id} was not done after {elapsed:.1f} s (polls: {polls}; {state}{reason});"
        " it goes on and can be waited for again.",
        job=job,
        last_error=result if isinstance(result, PlayAIError) else None,
        elapsed=elapsed,
        polls=polls,
        job_id=row.job_id,
    )
