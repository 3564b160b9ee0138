"""Reschedules rows that were left behind: rows of dead workers, and rows that a live worker could not write to.

This module knows procrastinate. It must not know anything of polling or handlers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, cast

from procrastinate import JobContext, utils
from procrastinate.exceptions import ConnectorException, ProcrastinateException
from procrastinate.manager import JobManager
from procrastinate.testing import InMemoryConnector
from procrastinate.worker import Worker

from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import DurableRowRescued, DurableRowUnwritten
from playai_async.contrib.procrastinate._constants import (
    MAX_WRITE_RETRIES,
    MISSED_HEARTBEATS,
    STALLED_TIMEOUT,
    WRITE_RETRY_PAUSE,
)
from playai_async.contrib.procrastinate._rows import is_unchanged, now

__all__ = ["WriteRetrier", "heartbeats_of", "rescue", "timeout_of"]

_TIMEOUT = "playai_async: stalled worker timeout"


_IS_LOST = """
status = 'doing'
AND task_name = %(task)s
AND COALESCE((args ->> 'held_until')::float8, 0) <= %(now)s
AND (
    worker_id IS NULL
    OR worker_id IN (
        SELECT id FROM procrastinate_workers WHERE last_heartbeat < now() - %(timeout)s * interval '1 second'
    )
)
"""
"""No subquery returns the rows: PostgreSQL may take 10,000 of them for a few, and compare each with each."""

_RESCHEDULE = (
    """
UPDATE procrastinate_jobs
SET status = (CASE WHEN abort_requested THEN 'failed' ELSE 'todo' END)::procrastinate_job_status,
    attempts = attempts + 1,
    scheduled_at = to_timestamp(%(now)s)
WHERE """
    + _IS_LOST
    + "RETURNING id"
)
"""PostgreSQL refuses a `todo` whose abort was requested; procrastinate's own statement fails such a row, too."""

_DELETE = "DELETE FROM procrastinate_jobs WHERE " + _IS_LOST  # noqa: S608 - ours


async def rescue(
    manager: JobManager, wait_task: str, rescue_task: str, emitter: Emitter, *, timeout: float = STALLED_TIMEOUT
) -> None:
    """Reschedule the rows of dead workers, due at once, in one statement. Several rescues may run at once.

    Args:
        manager: The job manager of the app.
        wait_task: The name of the task that polls.
        rescue_task: The name of the task that calls this function.
        emitter: Reports each row.
        timeout: Seconds without a heartbeat after which a worker is dead.
    """
    connector = manager.connector
    if isinstance(connector, InMemoryConnector):
        rows = _rescue_in_memory(connector, rescue_task, timeout)
    else:
        values: dict[str, Any] = {"timeout": timeout, "now": now()}
        updated = await connector.execute_query_all_async(_RESCHEDULE, task=wait_task, **values)
        rows = [row["id"] for row in updated]
        # Later rescues have been scheduled already, so the row of a rescue that died is useless.
        await connector.execute_query_async(_DELETE, task=rescue_task, **values)
    for row in rows:
        emitter.emit(DurableRowRescued(row))


def _rescue_in_memory(connector: InMemoryConnector, rescue_task: str, timeout: float) -> list[int]:
    """Do what the statements above do, where there are no other tasks."""
    at = utils.utcnow()
    doing = {number: row for number, row in connector.jobs.items() if row["status"] == "doing"}
    rows: list[int] = []
    for number, row in doing.items():
        heartbeat = connector.workers.get(row["worker_id"])
        is_dead = heartbeat is None or heartbeat < at - timedelta(seconds=timeout)
        if not is_dead or row["args"].get("held_until", 0.0) > at.timestamp():
            continue
        if row["task_name"] == rescue_task:
            del connector.jobs[number]
        else:
            row.update(status="todo", attempts=row["attempts"] + 1, scheduled_at=at)
            rows.append(number)
    return rows


async def heartbeats_of(call_next: Callable[[], Awaitable[Any]], context: JobContext, worker: Worker) -> Any:
    """Note in the context after how many seconds a worker is dead. A middleware of the rescue task.

    procrastinate does not tell a task how its worker was started, neither by `run_worker_async` nor by the app.
    """
    interval = MISSED_HEARTBEATS * worker.update_heartbeat_interval
    notes = cast("dict[str, Any]", context.additional_context)  # pyright: ignore[reportUnknownMemberType]  # a bare dict
    notes[_TIMEOUT] = max(worker.stalled_worker_timeout, interval)
    return await call_next()


def timeout_of(context: JobContext) -> float:
    """Return what `heartbeats_of` noted."""
    notes = cast("dict[str, Any]", context.additional_context)  # pyright: ignore[reportUnknownMemberType]  # a bare dict
    return float(notes[_TIMEOUT])


class WriteRetrier:
    """Reschedules a row if procrastinate could not write the result of its task.

    procrastinate writes the result once. If the connection is lost at that moment, the row stays assigned to a worker
    that is alive. No rescue would find the row, and it would be lost.

    Args:
        emitter: Reports each row.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, context: JobContext) -> None:
        """Watch the current task, in which procrastinate also writes the result. Call this while the row is polled."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        task.add_done_callback(partial(self._on_task_done, context))

    def _on_task_done(self, context: JobContext, task: asyncio.Task[Any]) -> None:
        if task.cancelled() or not isinstance(task.exception(), ConnectorException):
            return
        retry = task.get_loop().create_task(_retry_write(context))
        self._tasks.add(retry)  # the event loop holds only weak references to tasks
        retry.add_done_callback(self._tasks.discard)
        self._emitter.emit(DurableRowUnwritten(context.job.id))


async def _retry_write(context: JobContext) -> None:
    """Reschedule a row as soon as the database can be reached, if the row is still assigned to this worker."""
    manager = context.app.job_manager
    for _ in range(MAX_WRITE_RETRIES):
        await asyncio.sleep(WRITE_RETRY_PAUSE)
        try:
            if await is_unchanged(manager, context.job):
                await manager.retry_job(context.job)
        except ConnectorException:
            continue
        except ProcrastinateException:  # the app is closed, so a rescue will find the row
            return
        return
