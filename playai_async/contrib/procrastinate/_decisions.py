"""Decides what happens to the row of a durable wait: reschedule the row, or end the wait.

Pure except for jitter: no event loop, no clock, no database. The pauses come from the backoff of the engine. All
times are seconds since 1970.
"""

from __future__ import annotations

import sys

from playai_async._settings import Polling
from playai_async.contrib.procrastinate._constants import (
    HANDLER_PAUSE,
    MAX_HANDLER_PAUSE,
    MAX_OVERTIME,
    MIN_PAUSE,
    MISCONFIGURED_PAUSE,
)
from playai_async.contrib.procrastinate._services import PLAYAI, Judge, Meaning
from playai_async.contrib.procrastinate._values import AnyOutcome, Counters, Reschedule, Row
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._scheduling.request import Failure, Success, Transient

__all__ = [
    "before_request",
    "on_handler_error",
    "on_misconfigured_worker",
    "on_no_reply",
    "on_result",
    "on_unknown_row",
    "on_worker_shutdown",
]


def before_request(row: Row, now: float, pause: float, judge: Judge = PLAYAI) -> Reschedule | AnyOutcome | None:
    """Decide whether to send a request. The session may be paused, or another worker's handler may still run.

    Args:
        row: The wait.
        now: The current time.
        pause: Seconds until the session sends requests again.
        judge: Words the end of the wait.

    Returns:
        What happens instead of a request; or None to send the request.
    """
    if row.held_until > now:
        return Reschedule(row.held_until, "its handler runs", keep_priority=True, counters=_unasked(row))
    if pause <= MIN_PAUSE:
        return None
    return _postpone(row, now, now + pause, reason="the session is paused", counters=_unasked(row), judge=judge)


def on_no_reply(row: Row, now: float, *, reason: str, judge: Judge = PLAYAI) -> Reschedule | AnyOutcome:
    """Decide after an attempt without a reply, which does not count as a failure.

    Args:
        row: The wait.
        now: The current time.
        reason: Why there is no reply.
        judge: Words the end of the wait.
    """
    return _postpone(row, now, now, reason=reason, counters=_unasked(row), judge=judge)


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
    row: Row,
    result: object,
    sent_at: float,
    now: float,
    *,
    pause: float,
    polling: Polling,
    judge: Judge = PLAYAI,
) -> Reschedule | AnyOutcome:
    """Decide after a request.

    Args:
        row: The wait.
        result: The job, or the error that the request raised.
        sent_at: When the session was asked for the job.
        now: The current time.
        pause: Seconds until the session sends requests again.
        polling: How the wait polls.
        judge: Reads the result.

    Raises:
        ConfigurationError: A function of the caller raised or did not return what it should; or `result` is this error.
        PollerClosedError: `result` is this error.
    """
    meaning = judge.meaning(result)
    if not isinstance(result, Exception):
        if meaning is Meaning.DONE:
            return judge.done(row, result)
    elif meaning is Meaning.MISCONFIGURED:
        raise result
    elif meaning is Meaning.FINAL:
        return judge.failed(row, result)
    elif meaning is Meaning.THROTTLED:
        counters: Counters = {"throttled": row.throttled + 1}
        at = now + max(pause, MIN_PAUSE)
        return _postpone(row, now, at, reason="rate limited", counters=counters, error=result, judge=judge)
    counts = meaning is not Meaning.REFUSED
    return _poll_again(row, result, sent_at, now, polling=polling, judge=judge, counts=counts)


def on_handler_error(row: Row, now: float, max_failures: int) -> Reschedule | None:
    """Decide after the handler raised. None means that the handler is not called again."""
    calls = row.calls + 1
    if calls >= max_failures:
        return None
    pause = min(MAX_HANDLER_PAUSE, HANDLER_PAUSE * 2.0 ** min(row.calls, 60))
    return Reschedule(now + pause, f"the handler is called again in {pause:.0f} s", counters={"calls": calls})


def _poll_again(
    row: Row, result: object, sent_at: float, now: float, *, polling: Polling, judge: Judge, counts: bool
) -> Reschedule | AnyOutcome:
    """Decide after an unfinished job, a transient error, or a refused key, which does not count as a failure."""
    polls, elapsed = row.polls - row.throttled, max(0.0, now - row.started)
    max_failures = polling.max_failures if counts else sys.maxsize
    backoff = Backoff(poll_rule(polling), max_failures, polls=polls, failures=row.failures, elapsed=elapsed)
    outcome = Failure(result, Transient()) if isinstance(result, Exception) else Success(result, done=False)
    pause = backoff.pause_after(outcome)
    if pause is None and isinstance(result, Exception):
        return judge.failed(row, result)
    if pause is None or _is_late(row, sent_at):  # never None here: an unfinished job is always polled again
        return judge.failed(row, judge.timed_out(row, result, elapsed=elapsed, polls=row.polls + 1, reason=""))
    at = now + pause if row.last_poll_at is None else min(now + pause, max(now, row.last_poll_at))
    counters: Counters = {"failures": backoff.failures} if counts and backoff.failures != row.failures else {}
    return Reschedule(at, f"polled again in {at - now:.1f} s", counters=counters)


def _postpone(
    row: Row,
    now: float,
    at: float,
    *,
    reason: str,
    counters: Counters,
    judge: Judge,
    error: Exception | None = None,
) -> Reschedule | AnyOutcome:
    """Reschedule a row that got no reply: before its deadline not past it, and after its deadline for one last poll."""
    if not _is_late(row, now):
        if row.last_poll_at is not None:
            at = min(at, row.last_poll_at)
        return Reschedule(at, reason, keep_priority=True, counters=counters)
    late_since = row.late_since or now
    if at > late_since + MAX_OVERTIME:
        elapsed, polls = max(0.0, now - row.started), row.polls + (error is not None)
        return judge.failed(row, judge.timed_out(row, error, elapsed=elapsed, polls=polls, reason=f"; {reason}"))
    return Reschedule(at, reason, keep_priority=True, counters={**counters, "late_since": late_since})


def _is_late(row: Row, now: float) -> bool:
    return row.last_poll_at is not None and now >= row.last_poll_at


def _unasked(row: Row) -> Counters:
    return {"unasked": row.unasked + 1}
