"""The row of a durable wait in procrastinate's table: its clock, its priority, one worker's turn with it, and hints.

A row may be taken from a worker that is only slow. The row's `attempts` is the token that fences such a worker off:
it grows whenever the row changes hands, and what this module writes applies only if `attempts` is as it was fetched.

This module knows procrastinate. It must not know anything of polling or handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
from procrastinate import BaseRetryStrategy, JobContext, RetryDecision, utils
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.testing import InMemoryConnector

from playai_async.contrib.procrastinate._constants import (
    HINT_INTERVAL,
    HOLD_RENEWAL,
    HOLD_TIME,
    MIN_PAUSE,
    PRIORITY_EPOCH,
    SLOW_TURN,
)
from playai_async.contrib.procrastinate._values import Counters, Reschedule

__all__ = ["ReschedulePolicy", "Rescheduled", "RowTaken", "Turn", "bring_forward", "is_unchanged", "now", "priority_of"]

_MAX_INTEGER = 2**31 - 1
"""The maximum of PostgreSQL's `integer`."""

_UPDATE_ARGUMENTS = """
UPDATE procrastinate_jobs
SET args = args || %(values)s::jsonb
WHERE id = %(row)s AND status = 'doing' AND attempts = %(attempts)s
RETURNING id
"""


def now() -> float:
    """Return the seconds since 1970, by procrastinate's clock."""
    return utils.utcnow().timestamp()


def priority_of(due: float) -> int:
    """Return a row's priority: the row that has been due for longest is fetched first.

    procrastinate orders rows by priority and then by id, not by due time. Without a priority, if more rows are due than
    the quota allows, the rows with the lowest ids would be polled again and again, and the others never.

    Args:
        due: When the row is due, in seconds since 1970.

    Returns:
        A negative number. The rescue task has priority 0, so it comes before all polls.
    """
    return -max(1, int(due) - PRIORITY_EPOCH)


class Rescheduled(Exception):  # noqa: N818 - not an error: a procrastinate task raises it to be retried later
    """The row is put back into the queue. procrastinate logs the message."""

    def __init__(self, reschedule: Reschedule) -> None:
        super().__init__(reschedule.reason)
        at = min(reschedule.at, PRIORITY_EPOCH + _MAX_INTEGER)  # a custom wait strategy may return any pause
        self.decision = RetryDecision(
            retry_at=datetime.fromtimestamp(at, UTC),
            priority=None if reschedule.keep_priority else priority_of(at),
        )


class RowTaken(Exception):  # noqa: N818 - not an error: a procrastinate task raises it to write nothing
    """Another worker has the row by now. procrastinate logs the message."""

    def __init__(self) -> None:
        super().__init__("another worker has the row")


class _NoDecision(RetryDecision):
    """A decision that procrastinate fails to write to the row.

    procrastinate writes to a row by its id alone, whichever worker has it by then, and after any end of a task.
    It reads `retry_at` just before.
    """

    def __init__(self, taken: RowTaken) -> None:
        self._taken = taken

    @property
    def retry_at(self) -> datetime | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # read only
        raise self._taken


class ReschedulePolicy(BaseRetryStrategy):
    """Retries a task that raised `Rescheduled`, and writes nothing for `RowTaken`. Other exceptions fail the row."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 - overrides
        """Return when the row is due again, or None."""
        if isinstance(exception, Rescheduled | RowTaken):
            exception.__traceback__ = None  # procrastinate logs the exception each time; the traceback says nothing
            return exception.decision if isinstance(exception, Rescheduled) else _NoDecision(exception)
        return None


class Turn:
    """A worker's turn with a row, from its fetch to its write.

    Args:
        context: The context of the task.
    """

    def __init__(self, context: JobContext) -> None:
        self._connector = context.app.connector
        self._job = context.job
        self._began = now()
        self._held = False

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Keep the row from rescues for the block, in which the handler runs.

        Raises:
            RowTaken: Another worker has the row.
            Rescheduled: The database cannot be reached.
        """
        try:
            if not await self._hold():
                raise RowTaken
        except ConnectorException:
            raise Rescheduled(Reschedule(now() + MIN_PAUSE, "the row could not be held", keep_priority=True)) from None
        self._held = True
        renewing = asyncio.create_task(self._renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def reschedule(self, reschedule: Reschedule) -> Rescheduled | RowTaken:
        """Save the counters that changed, and return the exception to raise.

        A cancellation while saving is suppressed: the counters are lost, but the row is not.
        """
        values = {**reschedule.counters, "held_until": 0.0} if self._held else reschedule.counters
        try:
            if (values or now() - self._began > SLOW_TURN) and not await self._save(values):
                return RowTaken()
        except (ConnectorException, asyncio.CancelledError):
            # Without its counters, the next poll may be early or late, and nothing else. Raising the cancellation
            # would make procrastinate abort the row instead of rescheduling it.
            reschedule = attrs.evolve(reschedule, at=max(reschedule.at, now() + MIN_PAUSE))
        return Rescheduled(reschedule)

    async def _renew(self) -> None:
        """Renew the hold until cancelled, or until the row is another worker's."""
        held = True
        while held:
            await asyncio.sleep(HOLD_RENEWAL)
            with contextlib.suppress(ConnectorException):  # the next renewal may succeed
                held = await self._hold()

    async def _hold(self) -> bool:
        return await self._save({"held_until": now() + HOLD_TIME})

    async def _save(self, values: Counters) -> bool:
        """Save arguments of the row; return whether the row is still this worker's."""
        job, connector = self._job, self._connector
        if isinstance(connector, InMemoryConnector):
            row = connector.jobs.get(job.id or 0)
            if row is None or (row["status"], row["attempts"]) != ("doing", job.attempts):
                return False
            row["args"].update(values)
            return True
        rows = await connector.execute_query_all_async(
            _UPDATE_ARGUMENTS, values=dict(values), row=job.id, attempts=job.attempts
        )
        return bool(rows)


async def is_unchanged(manager: JobManager, job: Job) -> bool:
    """Return whether the row is still assigned to the same worker, for the same attempt."""
    rows = await manager.list_jobs_async(id=job.id, status="doing")
    return any(row.attempts == job.attempts and row.worker_id == job.worker_id for row in rows)


_BRING_FORWARD = """
UPDATE procrastinate_jobs
SET scheduled_at = %(at)s,
    priority = GREATEST(priority, %(priority)s),
    args = args || jsonb_build_object('hinted', %(now)s::float8)
WHERE task_name = %(task)s
    AND status = 'todo'
    AND args ->> 'job_id' = %(job_id)s
    AND args ->> 'poller' IS NOT DISTINCT FROM %(poller)s
    AND scheduled_at > %(at)s
    AND COALESCE((args ->> 'hinted')::float8, 0) <= %(now)s - %(interval)s
    AND COALESCE((args ->> 'failures')::float8, 0) = 0
    AND COALESCE((args ->> 'calls')::float8, 0) = 0
RETURNING id
"""
"""The pauses after failures and after a handler that raised stay: else hints could use up what is allowed of both."""


async def bring_forward(connector: BaseConnector, task: str, job_id: UUID | str, poller: str | None) -> bool:
    """Make the rows of a job due now, at most once per `HINT_INTERVAL`; return whether there was one.

    Args:
        connector: The connector of the app.
        task: The name of the task that polls.
        job_id: The job.
        poller: The name of its poller; None for a job of PlayAI.
    """
    seconds = now()
    at, priority = datetime.fromtimestamp(seconds, UTC), priority_of(seconds)
    if isinstance(connector, InMemoryConnector):
        rows = [
            row
            for row in connector.jobs.values()
            if _may_be_brought_forward(row, task, job_id, at) and row["args"].get("poller") == poller
        ]
        for row in rows:
            row["scheduled_at"], row["priority"] = at, max(row["priority"], priority)
            row["args"]["hinted"] = seconds
        return bool(rows)
    updated = await connector.execute_query_all_async(
        _BRING_FORWARD,
        task=task,
        job_id=str(job_id),
        poller=poller,
        at=at,
        priority=priority,
        now=seconds,
        interval=HINT_INTERVAL,
    )
    return bool(updated)


def _may_be_brought_forward(row: dict[str, Any], task: str, job_id: UUID | str, at: datetime) -> bool:
    """Return what the condition of the statement above says of a row in memory."""
    args = row["args"]
    return (
        row["task_name"] == task
        and row["status"] == "todo"
        and args["job_id"] == str(job_id)
        and row["scheduled_at"] is not None
        and row["scheduled_at"] > at
        and args.get("hinted", 0.0) <= at.timestamp() - HINT_INTERVAL
        and not args.get("failures")
        and not args.get("calls")
    )
