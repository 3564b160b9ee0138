"""Durable waits: the job's id is in PostgreSQL before the first poll, and whatever process is there goes on waiting.

A wait is one row of procrastinate's. Each time that it is due a worker makes one status request and puts the row back
with a delay; no coroutine, connection or process is held by a wait. When the job is done, a function of the caller's
is called with it.

Nothing here decides how long to pause or what a reply means (`_backoff`, `_protocol`), and nothing here keeps state in
a process that a wait could not do without. Needs the extra `procrastinate`.
"""

from playai_async.contrib.procrastinate._durable import DurableWaits
from playai_async.contrib.procrastinate._values import Outcome

__all__ = ["DurableWaits", "Outcome"]
