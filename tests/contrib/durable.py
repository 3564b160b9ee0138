"""What the tests of durable waits share: an app, its handler's notes, and a worker for the length of a block."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
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
"""When the tests in virtual time begin."""


@pytest.fixture
def one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have procrastinate's clock go as the loop's does."""
    monkeypatch.setattr(utils, "utcnow", at)


def at() -> datetime:
    """Return the time that the loop's clock shows, as a date."""
    return BEGINNING + timedelta(seconds=asyncio.get_running_loop().time())


class Books:
    """A handler that notes what it is told, after raising what it was told to raise."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[float, Outcome]] = []
        self._told = asyncio.Condition()

    async def note(self, outcome: Outcome) -> None:
        """Take note of an outcome."""
        async with self._told:
            self.calls.append((round(asyncio.get_running_loop().time(), 3), outcome))
            self._told.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    async def told(self, times: int = 1) -> Outcome:
        """Wait until it was called so often; return the last outcome."""
        async with self._told:
            await self._told.wait_for(lambda: len(self.calls) >= times)
        return self.calls[-1][1]

    @property
    def outcomes(self) -> list[Outcome]:
        """What it was told."""
        return [outcome for _, outcome in self.calls]


class Backend:
    """An app whose waits are told to a handler called "note".

    Args:
        playai: The session that its worker asks with.
        connector: Where the rows are.
        books: The handler; None for an app without it.
        settings: What the waits are made with.
    """

    def __init__(
        self, playai: PlayAISession, connector: BaseAsyncConnector, books: Books | None, **settings: Any
    ) -> None:
        self.playai = playai
        self.waits = DurableWaits(playai, **{"polling": EXACT, **settings})
        if books is not None:
            self.waits.on_done("note")(books.note)
        self.app = procrastinate.App(connector=connector)
        self.app.add_tasks_from(self.waits.blueprint, namespace="playai")

    async def rows(self) -> list[procrastinate.jobs.Job]:
        """Return the rows of waits."""
        return list(await self.app.job_manager.list_jobs_async(task="playai:wait"))

    async def row(self) -> procrastinate.jobs.Job:
        """Return the only row of a wait."""
        (row,) = await self.rows()
        return row

    async def until(self, is_so: Callable[[procrastinate.jobs.Job], bool]) -> procrastinate.jobs.Job:
        """Wait until something is so of the only row."""
        return (await self.until_all(lambda rows: is_so(rows[0])))[0]

    async def until_all(self, is_so: Callable[[list[procrastinate.jobs.Job]], bool]) -> list[procrastinate.jobs.Job]:
        """Wait until something is so of all rows of waits."""
        while not is_so(rows := await self.rows()):
            await asyncio.sleep(0.02)
        return rows

    @contextlib.asynccontextmanager
    async def working(self, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
        """Run a worker for the length of the block."""
        options = {"concurrency": 8, "fetch_job_polling_interval": 0.01, **options}
        run = self.app.run_worker_async(queues=["playai"], install_signal_handlers=False, **options)
        worker = asyncio.create_task(run)
        try:
            yield worker
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker


@contextlib.asynccontextmanager
async def in_memory(playai: PlayAISession, books: Books | None, **settings: Any) -> AsyncIterator[Backend]:
    """Open an app whose rows are in memory."""
    backend = Backend(playai, InMemoryConnector(), books, **settings)
    async with backend.app.open_async():
        yield backend


def finished(row: procrastinate.jobs.Job) -> bool:
    """Say whether a row has come to its end."""
    return row.status not in {"todo", "doing"}


def told(caplog: pytest.LogCaptureFixture, event: str) -> bool:
    """Say whether the log has an event, each time with the fields that the page has for it, and at its level."""
    page = (Path(__file__).parents[2] / "docs/durable-waits.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{event}` \| (.*?) \| .*? \| (.*) \|$", page, re.MULTILINE)
    levels, fields = set(re.findall(r"[A-Z]{4,}", row[0])), set(re.findall(r"playai_\w+", row[1]))
    records = [record for record in caplog.records if getattr(record, "playai_event", None) == event]
    for record in records:
        assert record.levelname in levels
        assert {name for name in vars(record) if name.startswith("playai_")} == fields | {"playai_event"}
    return bool(records)
