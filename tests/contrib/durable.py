"""Helpers for tests of durable waits: an app, a handler that records its calls, and a worker for one block."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import procrastinate
import pytest
from procrastinate import utils
from procrastinate.connector import BaseAsyncConnector
from procrastinate.testing import InMemoryConnector

from playai_async import PlayAISession, Polling
from playai_async.contrib.procrastinate import DurableWaits, Outcome

EXACT = Polling(jitter=0)
"""Pauses of 1, 1.5, 2.25 s and so on."""

BEGINNING = datetime(2026, 3, 1, tzinfo=UTC)
"""When tests in virtual time start."""


@pytest.fixture
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make procrastinate's clock follow the event loop's virtual time."""
    monkeypatch.setattr(utils, "utcnow", at)


def at() -> datetime:
    """Return the virtual time as a date."""
    return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


class RecordingHandler:
    """A handler that records its calls. It raises the given errors first, one per call."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[float, Outcome]] = []
        self._called = asyncio.Condition()

    async def note(self, outcome: Outcome) -> None:
        """Record an outcome."""
        async with self._called:
            self.calls.append((round(asyncio.get_running_loop().time(), 3), outcome))
            self._called.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    async def called(self, times: int = 1) -> Outcome:
        """Wait for a number of calls. Return the last outcome."""
        async with self._called:
            await self._called.wait_for(lambda: len(self.calls) >= times)
        return self.calls[-1][1]

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of all calls."""
        return [outcome for _, outcome in self.calls]


class Backend:
    """An app whose waits have a handler with the name "note".

    Args:
        playai: The session of the worker.
        connector: Stores the rows.
        recorder: The handler, or None for an app without a handler.
        settings: Arguments for `DurableWaits`.
    """

    def __init__(
        self, playai: PlayAISession, connector: BaseAsyncConnector, recorder: RecordingHandler | None, **settings: Any
    ) -> None:
        self.playai = playai
        self.waits = DurableWaits(playai, **{"polling": EXACT, **settings})
        if recorder is not None:
            self.waits.on_done("note")(recorder.note)
        self.app = procrastinate.App(connector=connector)
        self.app.add_tasks_from(self.waits.blueprint, namespace="playai")

    async def rows(self) -> list[procrastinate.jobs.Job]:
        """Return the rows of waits."""
        return list(await self.app.job_manager.list_jobs_async(task="playai:wait"))

    async def row(self) -> procrastinate.jobs.Job:
        """Return the only row of a wait."""
        (row,) = await self.rows()
        return row

    async def until(self, condition: Callable[[procrastinate.jobs.Job], bool]) -> procrastinate.jobs.Job:
        """Wait until a condition is true for the only row."""
        return (await self.until_all(lambda rows: condition(rows[0])))[0]

    async def until_all(
        self, condition: Callable[[list[procrastinate.jobs.Job]], bool]
    ) -> list[procrastinate.jobs.Job]:
        """Wait until a condition is true for all rows of waits."""
        pause = 0.02
        while not condition(rows := await self.rows()):
            await asyncio.sleep(pause)
            pause = min(1.1 * pause, 0.1)
        return rows

    def working(self, **options: Any) -> contextlib.AbstractAsyncContextManager[asyncio.Task[None]]:
        """Run a worker for the duration of the block."""
        options = {"concurrency": 8, "fetch_job_polling_interval": 0.05, **options}
        return running(self.app.run_worker_async(queues=["playai"], install_signal_handlers=False, **options))


@contextlib.asynccontextmanager
async def running(worker: Coroutine[None, None, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a worker for the duration of the block."""
    task = asyncio.create_task(worker)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def in_memory(
    playai: PlayAISession, recorder: RecordingHandler | None, **settings: Any
) -> AsyncIterator[Backend]:
    """Open an app whose rows are in memory."""
    backend = Backend(playai, InMemoryConnector(), recorder, **settings)
    async with backend.app.open_async():
        yield backend


def finished(row: procrastinate.jobs.Job) -> bool:
    """Return whether a row is finished."""
    return row.status not in {"todo", "doing"}


@contextlib.contextmanager
def broken_log() -> Iterator[list[str]]:
    """Let a log filter raise for each record, and yield the events of the records."""
    logger, events = logging.getLogger("playai_async"), list[str]()

    def broken(record: logging.LogRecord) -> bool:
        events.append(getattr(record, "playai_event", ""))
        raise KeyError("request_id")

    logger.addFilter(broken)
    try:
        yield events
    finally:
        logger.removeFilter(broken)


def logged(caplog: pytest.LogCaptureFixture, event: str) -> bool:
    """Return whether the event was logged. Check its level and its fields against the documentation page."""
    page = (Path(__file__).parents[2] / "docs/scaling-out.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{event}` \| (.*?) \| .*? \| (.*) \|$", page, re.MULTILINE)
    levels, fields = set(re.findall(r"[A-Z]{4,}", row[0])), set(re.findall(r"playai_\w+", row[1]))
    records = [record for record in caplog.records if getattr(record, "playai_event", None) == event]
    for record in records:
        assert record.levelname in levels
        assert {name for name in vars(record) if name.startswith("playai_")} == fields | {"playai_event"}
    return bool(records)
