"""The defaults and limits of durable waits, each with its unit and its reason."""

from __future__ import annotations

__all__ = [
    "CANCEL_TIMEOUT",
    "HANDLER_PAUSE",
    "HINT_INTERVAL",
    "HOLD_RENEWAL",
    "HOLD_TIME",
    "MAX_HANDLER_FAILURES",
    "MAX_HANDLER_PAUSE",
    "MAX_OVERTIME",
    "MAX_POLL_TIME",
    "MAX_WRITE_RETRIES",
    "MIN_PAUSE",
    "MISCONFIGURED_PAUSE",
    "MISSED_HEARTBEATS",
    "PRIORITY_EPOCH",
    "QUEUE",
    "RESCUE_CRON",
    "ROW_FORMAT",
    "SLOW_TURN",
    "STALLED_TIMEOUT",
    "STATEMENT_TIMEOUT",
    "WRITE_RETRY_PAUSE",
]

QUEUE = "playai"
"""A queue for waits only, because the priorities of its rows are times."""

PRIORITY_EPOCH = 1_767_225_600
"""2026-01-01 UTC in Unix time: the epoch of priorities. PostgreSQL's `integer` overflows 68 years later."""

RESCUE_CRON = "* * * * * */30"
"""When to look for rows of dead workers."""

STALLED_TIMEOUT = 30.0
"""Seconds without a heartbeat after which a worker counts as dead: procrastinate's default `stalled_worker_timeout`."""

MISSED_HEARTBEATS = 2
"""A worker that beats less often than `stalled_worker_timeout` counts as dead after this number of missed beats."""

HOLD_TIME = 60.0
"""Seconds that a row stays with the worker that runs its handler, even if that worker sends no heartbeat.

procrastinate sends none while a worker shuts down and waits for its handlers, nor while the event loop stands still.
"""

HOLD_RENEWAL = 10.0
"""Seconds between two renewals of a hold. A loop may stand still for the difference."""

SLOW_TURN = 5.0
"""Seconds. After a longer turn a worker checks that the row is still its own before it writes to it.

A heartbeat is at least 30 s old before a row is taken away, so a worker whose turns are short still has them.
"""

STATEMENT_TIMEOUT = 30.0
"""Seconds for one statement. Longer than a fail-over of PostgreSQL takes; a server that hangs gives no sign at all."""

CANCEL_TIMEOUT = 1.0
"""Seconds that PostgreSQL has to cancel a statement after its timeout, before the connection is closed."""

ROW_FORMAT = 1
"""The format of the arguments of a row. A version that stores what this one would misread stores a higher number."""

MAX_POLL_TIME = 30.0
"""Seconds for one poll, including the time in the session's queue. After that the worker fetches another row.

More than a session's default `request_timeout`, so that a request that hangs counts as a failure.
"""

MIN_PAUSE = 1.0
"""Seconds. The worker waits for the end of a shorter pause itself, because rescheduling a row takes four statements."""

MAX_OVERTIME = 3_600.0
"""Seconds that a wait may exceed its deadline if 429s delay its last poll.

After a night without workers, thousands of waits are past their deadline at once, and each of their jobs may be done.
At 60 requests a minute, an hour is enough for 3,600 polls.
"""

HINT_INTERVAL = 1.0
"""Seconds between two hints that bring one row forward, at least. Each hint may add a poll, and may be false."""

MISCONFIGURED_PAUSE = 30.0
"""Seconds until the next attempt at a row that this worker cannot poll. Usually a deployment fixes the worker."""

MAX_HANDLER_FAILURES = 20
"""Failures in a row. With the pauses below they take about an hour, long enough for a database outage."""

HANDLER_PAUSE = 1.0
"""Seconds from the first failure of a handler to its next call. Each further pause is twice as long."""

MAX_HANDLER_PAUSE = 300.0
"""Seconds. The maximum of that growing pause."""

WRITE_RETRY_PAUSE = 5.0
"""Seconds between two attempts to reschedule a row that procrastinate could not write to."""

MAX_WRITE_RETRIES = 120
"""Attempts in ten minutes. By then a worker without a database has ended, and its rows are rescued."""
