"""A durable wait's row in procrastinate's table: its clock, its priority, and how it is put back.

Knows procrastinate, and must know nothing of polling or of handlers.
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

from playai_async.contrib.procrastinate._constants import PRIORITY_EPOCH, SHORTEST_HOLD
from playai_async.contrib.procrastinate._values import Again, Counts

__all__ = ["PutBack", "PuttingBack", "now", "priority_of", "put_back", "still_held"]

_LARGEST = 2**31 - 1
"""Of PostgreSQL's `integer`."""

_STATE = "UPDATE procrastinate_jobs SET args = args || %(counts)s::jsonb WHERE id = %(row)s"


def now() -> float:
    """Return the seconds since 1970, by the clock that procrastinate goes by."""
    return utils.utcnow().timestamp()


def priority_of(due: float) -> int:
    """Return the priority of a row: what has been due longest goes first.

    procrastinate fetches by priority and then by id, whatever was due when: with more rows due than the quota allows,
    those with the lowest ids would be polled again and again, and the others never.

    Args:
        due: Seconds since 1970.

    Returns:
        A negative number, so that a rescue, with 0, goes before all polls.
    """
    return -max(1, int(due) - PRIORITY_EPOCH)


class PutBack(Exception):  # noqa: N818 - no error: it is how a task tells procrastinate to take its row back
    """The row is to have another turn."""

    def __init__(self, again: Again) -> None:
        super().__init__(again.why)
        at = min(again.at, PRIORITY_EPOCH + _LARGEST)  # a strategy of the caller's may pause for ages
        self.decision = RetryDecision(
            retry_at=datetime.fromtimestamp(at, UTC),
            priority=None if again.owed else priority_of(at),
        )


class PuttingBack(BaseRetryStrategy):
    """Puts back what raised `PutBack`, and lets all else fail."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:  # noqa: ARG002 - its shape
        """Return when the row is due again, or None."""
        if not isinstance(exception, PutBack):
            return None
        exception.__traceback__ = None  # procrastinate logs it at each turn, and it leads nowhere but here
        return exception.decision


async def put_back(connector: BaseConnector, job: Job, again: Again) -> PutBack:
    """Write down what changed, and return what is to be raised.

    Args:
        connector: The app's.
        job: The row, as procrastinate fetched it.
        again: What its next turn is to be.

    A cancellation loses the counts, not the row, and ends here.
    """
    if again.counts:
        try:
            await _write(connector, job, again.counts)
        except (ConnectorException, asyncio.CancelledError):
            # Without its counts a row would be polled at the wrong time, and that is all. The row itself is put back
            # by procrastinate, in a statement of its own, if it is told to: a task that ends as cancelled it aborts.
            again = attrs.evolve(again, at=max(again.at, now() + SHORTEST_HOLD))
    return PutBack(again)


async def _write(connector: BaseConnector, job: Job, counts: Counts) -> None:
    for name, count in counts.items():
        job.task_kwargs[name] = count  # in memory, this is the row itself
    if not isinstance(connector, InMemoryConnector):
        await connector.execute_query_async(_STATE, counts=dict(counts), row=job.id)


async def still_held(manager: JobManager, job: Job) -> bool:
    """Say whether a row is still in the hands that it was seen in, and nobody has touched it since."""
    rows = await manager.list_jobs_async(id=job.id, status="doing")
    return any(row.attempts == job.attempts and row.worker_id == job.worker_id for row in rows)
