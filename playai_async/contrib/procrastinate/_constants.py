"""The defaults and limits of durable waits, each with its unit and its reason."""

from __future__ import annotations

__all__ = [
    "HANDLER_PAUSE",
    "HINT_INTERVAL",
    "MAX_HANDLER_FAILURES",
    "MAX_HANDLER_PAUSE",
    "MAX_OVERTIME",
    "MAX_POLL_TIME",
    "MAX_WRITE_RETRIES",
    "MIN_PAUSE",
    "MISCONFIGURED_PAUSE",
    "PRIORITY_EPOCH",
    "QUEUE",
    "RESCUE_CRON",
    "WRITE_RETRY_PAUSE",
]

QUEUE = "playai"
"""A queue for waits only, because the priorities of its rows are times."""

PRIORITY_EPOCH = 1_767_225_600
"""2026-01-01 UTC in Unix time: the epoch of priorities. PostgreSQL's `integer` overflows 68 years later."""

RESCUE_CRON = "* * * * * */30"
"""When to look for rows of dead workers. procrastinate considers a worker dead after 30 s without a heartbeat."""

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
