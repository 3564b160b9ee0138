"""The row of a durable wait in procrastinate's table: its clock, its priority, and how it is rescheduled.

This module knows procrastinate. It must not know anything of polling or handlers.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import attrs
from procrastinate import BaseRetryStrategy, RetryDecision, utils
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from procrastinate.testing import InMemoryConnector

from playai_async.contrib.procrastinate._constants import MIN_PAUSE, PRIORITY_EPOCH
from playai_async.contrib.procrastinate._values import Counters, Reschedule

__all__ = ["ReschedulePolicy", "Rescheduled", "is_unchanged", "now", "priority_of", "save_and_reschedule"]

_MAX_INTEGER = 2**31 - 1
"""The maximum of PostgreSQL's `integer`."""

_UPDATE_ARGUMENTS = "UPDATE procrastinate_jobs SET args = args || %(counters)s::jsonb WHERE id = %(row)s"


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


class ReschedulePolicy(BaseRetryStrategy):
    """Retries a task that raised `Rescheduled`. Any other exception fails the row."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 - overrides
        """Return when the row is due again, or None."""
        if not isinstance(exception, Rescheduled):
            return None
        exception.__traceback__ = None  # procrastinate logs the exception each time; the traceback says nothing
        return exception.decision


async def save_and_reschedule(connector: BaseConnector, job: Job, reschedule: Reschedule) -> Rescheduled:
    """Save the counters that changed, and return the exception to raise.

    A cancellation while saving is suppressed: the counters are lost, but the row is not.

    Args:
        connector: The connector of the app.
        job: The row as procrastinate fetched it.
        reschedule: What happens to the row.
    """
    if reschedule.counters:
        try:
            await _save(connector, job, reschedule.counters)
        except (ConnectorException, asyncio.CancelledError):
            # Without its counters, the next poll may be early or late, and nothing else. Raising the cancellation
            # would make procrastinate abort the row instead of rescheduling it.
            reschedule = attrs.evolve(reschedule, at=max(reschedule.at, now() + MIN_PAUSE))
    return Rescheduled(reschedule)


async def _save(connector: BaseConnector, job: Job, counters: Counters) -> None:
    for name, value in counters.items():
        job.task_kwargs[name] = value  # with the in-memory connector, this changes the row itself
    if not isinstance(connector, InMemoryConnector):
        await connector.execute_query_async(_UPDATE_ARGUMENTS, counters=dict(counters), row=job.id)


async def is_unchanged(manager: JobManager, job: Job) -> bool:
    """Return whether the row is still assigned to the same worker, for the same attempt."""
    rows = await manager.list_jobs_async(id=job.id, status="doing")
    return any(row.attempts == job.attempts and row.worker_id == job.worker_id for row in rows)
