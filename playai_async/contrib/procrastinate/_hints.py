"""Brings the rows of a job forward, because the job may have finished. Any process may do this.

This module knows procrastinate. It must not know anything of polling or handlers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from procrastinate.connector import BaseConnector
from procrastinate.testing import InMemoryConnector

from playai_async.contrib.procrastinate._constants import HINT_INTERVAL
from playai_async.contrib.procrastinate._rows import now, priority_of

__all__ = ["bring_forward"]

_BRING_FORWARD = """
UPDATE procrastinate_jobs
SET scheduled_at = %(at)s,
    priority = GREATEST(priority, %(priority)s),
    args = args || jsonb_build_object('hinted', %(now)s::float8)
WHERE task_name = %(task)s
    AND status = 'todo'
    AND args ->> 'job_id' = %(job_id)s
    AND scheduled_at > %(at)s
    AND COALESCE((args ->> 'hinted')::float8, 0) <= %(now)s - %(interval)s
    AND COALESCE((args ->> 'failures')::float8, 0) = 0
    AND COALESCE((args ->> 'calls')::float8, 0) = 0
RETURNING id
"""
"""The pauses after failures and after a handler that raised stay: else hints could use up what is allowed of both."""


async def bring_forward(connector: BaseConnector, task: str, job_id: UUID) -> bool:
    """Make the rows of a job due now, at most once per `HINT_INTERVAL`; return whether there was one.

    Args:
        connector: The connector of the app.
        task: The name of the task that polls.
        job_id: The job.
    """
    seconds = now()
    at, priority = datetime.fromtimestamp(seconds, UTC), priority_of(seconds)
    if isinstance(connector, InMemoryConnector):
        rows = [row for row in connector.jobs.values() if _may_be_brought_forward(row, task, job_id, at)]
        for row in rows:
            row["scheduled_at"], row["priority"] = at, max(row["priority"], priority)
            row["args"]["hinted"] = seconds
        return bool(rows)
    updated = await connector.execute_query_all_async(
        _BRING_FORWARD,
        task=task,
        job_id=str(job_id),
        at=at,
        priority=priority,
        now=seconds,
        interval=HINT_INTERVAL,
    )
    return bool(updated)


def _may_be_brought_forward(row: dict[str, Any], task: str, job_id: UUID, at: datetime) -> bool:
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
