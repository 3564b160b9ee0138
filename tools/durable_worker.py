"""A worker of durable waits, in a process of its own: asks the service, and writes what became of each job to a table.

It is told on its command line, as JSON, where the service and the database are. It ends when procrastinate's worker
does, with status 0 where it was told to end, and 1 where it lost the database, say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import procrastinate
import psycopg
from procrastinate.exceptions import ConnectorException

from playai_async import Pacing, PlayAISession, Polling
from playai_async.contrib.procrastinate import DurableWaits, Outcome
from tools.processes import told

TABLES = """
CREATE TABLE ended (key text PRIMARY KEY, job_id uuid NOT NULL);
CREATE TABLE calls (key text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
"""

RESTART_PAUSE = 0.5
"""Seconds from a worker's end to the next worker."""


@attrs.frozen(kw_only=True)
class Work:
    """What a worker is told.

    Attributes:
        dsn: Where the database is.
        url: Where the service is.
        quota: The requests a window of 60 s that each worker may send, or None to learn that.
        concurrency: Rows at once.
        timeout: Seconds for each wait.
    """

    dsn: str
    url: str
    quota: int | None = None
    concurrency: int = 8
    timeout: float | None = 600.0


def app_of(work: Work, playai: PlayAISession) -> tuple[procrastinate.App, DurableWaits]:
    """Make the app of a backend that writes each outcome to a table, exactly once."""
    waits = DurableWaits(playai, polling=Polling(timeout=work.timeout))

    @waits.on_done("store")
    async def _(outcome: Outcome) -> None:
        async with await psycopg.AsyncConnection.connect(work.dsn) as connection:
            await connection.execute(
                "INSERT INTO ended (key, job_id) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING",
                (outcome.key, outcome.job_id),
            )
            await connection.execute("INSERT INTO calls (key) VALUES (%s)", (outcome.key,))

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=work.dsn, max_size=work.concurrency))
    app.add_tasks_from(waits.blueprint, namespace="playai")
    return app, waits


def session_of(work: Work) -> PlayAISession:
    """Make the session of such a backend."""
    return PlayAISession(
        "a-key", "a-user", base_url=work.url, pacing=Pacing(requests_per_window=work.quota), polling=Polling()
    )


async def work_as(work: Work, **options: Any) -> None:
    """Be a worker, until procrastinate's ends."""
    async with session_of(work) as playai:
        app, _ = app_of(work, playai)
        async with app.open_async():
            await app.run_worker_async(
                queues=["playai"],
                concurrency=work.concurrency,
                fetch_job_polling_interval=0.5,
                shutdown_graceful_timeout=5.0,
                **options,
            )


class Supervised:
    """A worker process, and another whenever it ends.

    Attributes:
        started: How many processes there were.
    """

    def __init__(self, work: Work) -> None:
        self._command = [sys.executable, "-m", __spec__.name, json.dumps(attrs.asdict(work))]
        self._process: asyncio.subprocess.Process | None = None
        self.started = 0

    @contextlib.asynccontextmanager
    async def kept_up(self) -> AsyncIterator[None]:
        """Keep a worker up for the length of the block."""
        keeping = asyncio.create_task(self._keep_up())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])

    def kill(self) -> None:
        """Kill the worker that there is, with SIGKILL."""
        assert self._process is not None
        self._process.kill()

    async def _keep_up(self) -> None:
        while True:
            self._process = await asyncio.create_subprocess_exec(*self._command, cwd=Path(__file__).parents[1])
            self.started += 1
            try:
                await self._process.wait()
            finally:
                if self._process.returncode is None:
                    self._process.kill()
                    await self._process.wait()
            await asyncio.sleep(RESTART_PAUSE)


def main() -> int:
    """Be a worker. Return the exit status."""
    for name in ("procrastinate", "psycopg", "playai_async"):  # whoever kills workers and databases knows of it
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(work_as(Work(**told())))
    except ConnectorException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
