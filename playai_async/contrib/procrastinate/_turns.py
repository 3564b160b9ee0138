"""Given a durable wait's row and what its one request brought: the end, or another turn, and when.

Pure but for the jitter: no loop, no clock, no database. The pauses and what is transient are `_backoff`'s.
"""

from __future__ import annotations

from typing import cast

from playai_async._exceptions import (
    TRANSIENT,
    ConfigurationError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    WaitTimeoutError,
)
from playai_async._models import Completed, Failed, TtsJob
from playai_async._settings import Polling
from playai_async.contrib.procrastinate._constants import (
    ABSENT_PAUSE,
    HANDLER_PAUSE,
    LONGEST_HANDLER_PAUSE,
    OVERTIME,
    SHORTEST_HOLD,
)
from playai_async.contrib.procrastinate._values import Again, Counts, Outcome, Row
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._scheduling.request import Failure, Success, Transient

__all__ = ["absent", "answered", "called_in_vain", "held", "stopped", "unanswered"]


def held(row: Row, now: float, pause: float) -> Again | Outcome | None:
    """Decide before a request is sent, while the session may be pausing.

    Args:
        row: The wait.
        now: Seconds since 1970.
        pause: Seconds until the session sends anything.

    Returns:
        What to do instead, or None: send it.
    """
    if pause <= SHORTEST_HOLD:
        return None
    return _hold(row, now, now + pause, why="the session pauses", counts=_unasked(row))


def unanswered(row: Row, now: float, *, why: str) -> Again | Outcome:
    """Decide after a turn without an answer, which is no failure.

    Args:
        row: The wait.
        now: Seconds since 1970.
        why: What kept the answer away.
    """
    return _hold(row, now, now, why=why, counts=_unasked(row))


def stopped(row: Row, now: float) -> Again:
    """Put a row back that a worker lets go of, for whoever comes next."""
    return Again(now, "the worker stops", owed=True, counts=_unasked(row))


def absent(row: Row, now: float, why: str) -> Again:
    """Put a row back that this worker can do nothing for: it lacks a handler, or its settings are wrong."""
    return Again(now + ABSENT_PAUSE, why, owed=True, counts=_unasked(row))


def answered(
    row: Row, came: TtsJob | PlayAIError, asked: float, now: float, *, pause: float, polling: Polling
) -> Again | Outcome:
    """Decide after a request.

    Args:
        row: The wait.
        came: What the request brought.
        asked: When it was asked for; like all times here, seconds since 1970.
        now: When that came.
        pause: Seconds until the session sends anything more.
        polling: How the wait polls.

    Raises:
        ConfigurationError: The caller's own wait strategy raised, or returned no number; or it is what came.
        SessionClosedError: It is what came.
    """
    if isinstance(came, ConfigurationError | SessionClosedError):
        raise came
    if isinstance(came, RateLimitedError):
        throttled: Counts = {"throttled": row.throttled + 1}
        at = now + max(pause, SHORTEST_HOLD)
        return _hold(row, now, at, why="the quota is spent", counts=throttled, error=came)
    if isinstance(came, TtsJob) and came.done:
        return _done(row, cast("TtsJob[Completed | Failed]", came))
    if isinstance(came, PlayAIError) and not isinstance(came, TRANSIENT):
        return _ended(row, came)
    return _polled(row, came, asked, now, polling)


def _polled(row: Row, came: TtsJob | PlayAIError, asked: float, now: float, polling: Polling) -> Again | Outcome:
    """Decide after a job that is not done, or a failure that may pass."""
    polls, elapsed = row.polls - row.throttled, max(0.0, now - row.started)
    backoff = Backoff(poll_rule(polling), polling.max_failures, polls=polls, failures=row.failures, elapsed=elapsed)
    outcome = Failure(came, Transient()) if isinstance(came, PlayAIError) else Success(came, done=False)
    pause = backoff.pause_after(outcome)
    if pause is None and isinstance(came, PlayAIError):
        return _ended(row, came)
    if pause is None or _is_late(row, asked):  # the former never: a job that is not done is polled again
        return _ended(row, _timed_out(row, now, polls=row.polls + 1, came=came))
    at = now + pause if row.last_call is None else min(now + pause, max(now, row.last_call))
    counts: Counts = {} if backoff.failures == row.failures else {"failures": backoff.failures}
    return Again(at, f"polled again in {at - now:.1f} s", counts=counts)


def called_in_vain(row: Row, now: float, most: int) -> Again | None:
    """Decide after a handler that raised: None where that was the last time."""
    calls = row.calls + 1
    if calls >= most:
        return None
    pause = min(LONGEST_HANDLER_PAUSE, HANDLER_PAUSE * 2.0 ** min(row.calls, 60))
    return Again(now + pause, f"the handler is called again in {pause:.0f} s", counts={"calls": calls})


def _hold(
    row: Row, now: float, at: float, *, why: str, counts: Counts, error: PlayAIError | None = None
) -> Again | Outcome:
    """Put a row back until then, but not past its deadline; once that is over, for its one last poll at most."""
    if not _is_late(row, now):
        if row.last_call is not None:
            at = min(at, row.last_call)
        return Again(at, why, owed=True, counts=counts)
    since = row.late_since or now
    if at > since + OVERTIME:
        polls = row.polls + (error is not None)
        return _ended(row, _timed_out(row, now, polls=polls, came=error, why=f"; {why}"))
    return Again(at, why, owed=True, counts={**counts, "late_since": since})


def _is_late(row: Row, now: float) -> bool:
    return row.last_call is not None and now >= row.last_call


def _unasked(row: Row) -> Counts:
    return {"unasked": row.unasked + 1}


def _done(row: Row, job: TtsJob[Completed | Failed]) -> Outcome:
    return Outcome(job_id=row.job_id, key=_key(row, job.output.status), job=job)


def _ended(row: Row, error: PlayAIError) -> Outcome:
    return Outcome(job_id=row.job_id, key=_key(row, type(error).__name__), error=error)


def _key(row: Row, end: str) -> str:
    return f"{row.job_id}:{row.on_done}:{end}"


def _timed_out(
    row: Row, now: float, *, polls: int, came: TtsJob | PlayAIError | None, why: str = ""
) -> WaitTimeoutError:
    job = came if isinstance(came, TtsJob) else None
    elapsed = max(0.0, now - row.started)
    state = "no answer at last" if job is None else f"last seen {type(job.output).__name__}"
    return WaitTimeoutError(
        f"Job {row.job_id} was not done after {elapsed:.1f} s (polls: {polls}; {state}{why});"
        " it goes on and can be waited for again.",
        job=job,
        last_error=came if isinstance(came, PlayAIError) else None,
        elapsed=elapsed,
        polls=polls,
        job_id=row.job_id,
    )
