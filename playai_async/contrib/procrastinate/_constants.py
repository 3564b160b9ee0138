"""What a durable wait's settings are, where the caller has none to give: each with its unit and its reason."""

from __future__ import annotations

__all__ = [
    "ABSENT_PAUSE",
    "HANDLER_PAUSE",
    "LONGEST_HANDLER_PAUSE",
    "LONGEST_TURN",
    "MAX_HANDLER_FAILURES",
    "OVERTIME",
    "PRIORITY_EPOCH",
    "QUEUE",
    "RESCUES",
    "SETTLE_PAUSE",
    "SETTLE_TRIES",
    "SHORTEST_HOLD",
]

QUEUE = "playai"
"""A queue of its own, since the priorities of its rows are times."""

PRIORITY_EPOCH = 1_767_225_600
"""2026-01-01, UTC: where the priorities count from. PostgreSQL's `integer` ends 68 years later."""

RESCUES = "* * * * * */30"
"""When rows of dead workers are looked for; procrastinate takes a worker for dead after 30 s without a sign."""

LONGEST_TURN = 30.0
"""Seconds from a row's being fetched to its answer, at most; past that its worker's slot is given to another row.

More than a session's default `request_timeout`, so that a request that hangs is a failure and not a turn without one.
"""

SHORTEST_HOLD = 1.0
"""Seconds. A shorter pause of the session is waited for in the slot: putting a row back costs four statements."""

OVERTIME = 3_600.0
"""Seconds that a wait past its deadline waits for the one poll that it is owed, while 429s hold it back.

After a night without workers thousands of waits are late at once, and each may be done: at 60 requests a minute an
hour is 3,600 of them.
"""

ABSENT_PAUSE = 30.0
"""Seconds until a row is looked at again that this worker can do nothing for; a deployment mends that."""

MAX_HANDLER_FAILURES = 20
"""With the pauses below, an hour: what a database of the caller's may be away for."""

HANDLER_PAUSE = 1.0
"""Seconds from a handler's first failure to its next call; doubled each time."""

LONGEST_HANDLER_PAUSE = 300.0
"""Seconds that this growing pause stops at."""

SETTLE_PAUSE = 5.0
"""Seconds between two attempts to put a row back that procrastinate could not write to."""

SETTLE_TRIES = 120
"""Ten minutes of them. A worker that cannot write for so long has died of it, and its rows are rescued."""
