"""Rows that nobody works on any more, put back: those of dead workers, and those that a live one could not write to.

Knows procrastinate, and must know nothing of polling or of handlers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from typing import Any

from procrastinate import JobContext
from procrastinate.exceptions import ConnectorException, ProcrastinateException
from procrastinate.jobs import Status
from procrastinate.manager import JobManager

from playai_async.contrib.procrastinate._constants import SETTLE_PAUSE, SETTLE_TRIES
from playai_async.contrib.procrastinate._rows import still_held

__all__ = ["Settling", "rescue"]

logger = logging.getLogger("playai_async")


async def rescue(manager: JobManager, waiting: str, rescuing: str) -> None:
    """Put back what dead workers held, due at once.

    Args:
        manager: The app's.
        waiting: The name of the task that polls.
        rescuing: The name of the task that calls this.

    A cancellation leaves the rest to the next rescue. Two at once are fine: each row is looked at once more before it
    is put back.
    """
    for job in await manager.get_stalled_jobs(task_name=waiting):
        if await still_held(manager, job):
            fields = {"playai_event": "row_rescued", "playai_row": job.id}
            logger.warning("Row %s was held by a worker that died, and is put back.", job.id, extra=fields)
            await _written(job.id, manager.retry_job(job))
    for job in await manager.get_stalled_jobs(task_name=rescuing):
        # A rescue that died has successors already; its row is of no use.
        await _written(job.id, manager.finish_job(job, Status.FAILED, delete_job=True))


async def _written(row: int | None, writing: Awaitable[None]) -> None:
    """Write to one row; that another rescue was there first is as good."""
    try:
        await writing
    except ConnectorException as error:
        logger.debug("Row %s could not be put back (%s).", row, error)


class Settling:
    """Sees to rows whose turn is over, but of which procrastinate could not write that.

    It writes once. Where that one statement meets a lost connection, the row stays with its worker, which lives on, so
    that nobody takes it for dead: the row would be lost.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def watch(self, context: JobContext) -> None:
        """See to a row from within its turn: procrastinate writes in the task that the turn is called in."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        task.add_done_callback(partial(self._ended, context))

    def _ended(self, context: JobContext, turn: asyncio.Task[Any]) -> None:
        if turn.cancelled() or not isinstance(turn.exception(), ConnectorException):
            return
        fields = {"playai_event": "row_unwritten", "playai_row": context.job.id}
        logger.warning("Row %s could not be written to, and is put back later.", context.job.id, extra=fields)
        task = turn.get_loop().create_task(_settle(context))
        self._tasks.add(task)  # a loop holds its tasks weakly
        task.add_done_callback(self._tasks.discard)


async def _settle(context: JobContext) -> None:
    """Put a row back as soon as that can be written, unless it has left our hands by then."""
    manager = context.app.job_manager
    for _ in range(SETTLE_TRIES):
        await asyncio.sleep(SETTLE_PAUSE)
        try:
            if await still_held(manager, context.job):
                await manager.retry_job(context.job)
        except ConnectorException:
            continue
        except ProcrastinateException:  # the app is closed, and its worker's rows are rescued
            return
        return
