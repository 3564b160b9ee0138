"""Durable waits: waits that are stored in PostgreSQL and survive the process that started them.

Needs the extra `procrastinate`. `DurableWaits.defer` stores the id of a job before the first poll. Each wait is one row
of procrastinate's table, and any worker that runs the blueprint's tasks sends the next poll. No coroutine, connection
or process is held between two polls. When the wait ends, a handler of the application is called with an `Outcome`.

When a worker fetches a row that is due, it does the following:

1. If the session is paused for longer than a second, the row is rescheduled without a request.
2. Otherwise the worker sends one status request with `PlayAISession.get_job`, under the pacing of the session; or with
   `JobPoller.get`, if the row names a poller. `_services` knows both, and reads what the request brought.
3. `_decisions` decides from the row and the result: reschedule the row, or end the wait. It is pure and uses the same
   backoff as `wait_for_completion`, restored from the counters in the row.
4. A row is rescheduled by raising `Rescheduled`, which procrastinate's retry strategy turns into the time of the next
   poll (`_rows`). Counters that changed are written to the arguments of the row first.
5. At the end of the wait the handler is called. If the handler raises, the row is rescheduled, and the next attempt
   requests the job again. So a handler is called at least once, and `Outcome.key` identifies repeated calls.

The priority of a row is the time at which it became due, so the row that has waited longest is fetched first. A row
that was due but got no reply keeps its priority.

`DurableWaits.hint` makes the next poll of a job due now, from any process. It changes the row and nothing
else, and stores the time of the hint in the row's argument `hinted`, so that a row comes forward at most once a second.

While a handler runs, its worker renews `held_until` in the arguments of the row, and no rescue takes the row before
that time: procrastinate's heartbeat stops while a worker shuts down, and while its event loop stands still. A worker
that is slower than that may lose its row. It notices, because the row's `attempts` has grown, and then neither calls
the handler nor writes to the row (`_rows.Turn`).

A row can be left behind in two ways, and `_rescue` handles both. If a worker dies, a periodic task of any other worker
reschedules its rows. If a worker is alive but could not write the result of a task because the database was
unreachable, it retries to write the result itself.

A worker that cannot poll a row, because it lacks the handler or its settings are wrong, reschedules the row for other
workers and logs an error. It never ends the wait.

A process keeps no state that a wait depends on. Everything is in the row, so the names of the row's arguments must not
change between versions; `_values.row_of` reads the rows of other versions. The pauses between polls are those of
`jobs/_polling/backoff`, and replies are read by the session. `_decisions` only says what follows for the row.
"""

from playai_async.contrib.procrastinate._connector import TimeoutConnector
from playai_async.contrib.procrastinate._durable import DurableWaits
from playai_async.contrib.procrastinate._values import JobOutcome, Outcome

__all__ = ["DurableWaits", "JobOutcome", "Outcome", "TimeoutConnector"]

for _name in __all__:
    globals()[_name].__module__ = __name__  # tracebacks and reprs show the name that users import
