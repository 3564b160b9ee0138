"""Reschedules rows that were left behind: rows of dead workers, and rows that a live worker could not write to.

This module knows procrastinate. It must not know anything of polling or handlers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any

from procrastinate import JobContext
from procrastinate.exceptions import ConnectorException, ProcrastinateException
from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import DurableRowRescued, DurableRowUnwritten
from playai_async.contrib.procrastinate._constants import MAX_WRITE_RETRIES, WRITE_RETRY_PAUSE
from playai_async.contrib.procrastinate._rows import is_unchanged

__all__ = ["WriteRetrier", "rescue"]


async def rescue(manager: JobManager, wait_task: str, rescue_task: str, emitter: Emitter) -> None:
    """Reschedule the rows of dead workers, due at once.

    After a cancellation, the next rescue handles the remaining rows. Several rescues may run at once: each row is
    checked again before it is rescheduled.

    Args:
        manager: The job manager of the app.
        wait_task: The name of the task that polls.
        rescue_task: The name of the task that calls this function.
        emitter: Reports each row.
    """
    for job in await manager.get_stalled_jobs(task_name=wait_task):
        if await is_unchanged(manager, job):
            emitter.emit(DurableRowRescued(job.id))
            await _write(job.id, manager.retry_job(job), emitter)
    for job in await manager.get_stalled_jobs(task_name=rescue_task):
        # Later rescues have been scheduled already, so the row of a rescue that died is useless.
        await _write(job.id, manager.finish_job(job, Status.FAILED, delete_job=True), emitter)


async def _write(row: int | None, writing: Awaitable[None], emitter: Emitter) -> None:
    """Write to one row. Ignore a failure, which usually means that another rescue wrote to the row first."""
    try:
        await writing
    except ConnectorException as error:
        emitter.emit(DurableRowRescued(row, error))


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
