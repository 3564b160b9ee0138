"""A worker process for durable waits: polls jobs, and stores the outcome of each job in a table.

The arguments are JSON on the command line. The process exits with status 0 after a signal, and with status 1 when it
loses the connection to the database.
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
from playai_async.contrib.procrastinate import DurableWaits, Outcome, TimeoutConnector
from tools.processes import read_arguments

TABLES = """
CREATE TABLE ended (key text PRIMARY KEY, job_id uuid NOT NULL);
CREATE TABLE calls (key text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
"""

RESTART_PAUSE = 0.5
"""Seconds between the exit of a worker and the start of the next one."""


@attrs.frozen(kw_only=True)
class Work:
    """The arguments of a worker.

    Attributes:
        dsn: The connection string of the database.
        url: The base URL of the service.
        quota: Requests that each worker may send per window of 60 s; None: learn the quota.
        concurrency: How many rows a worker processes at the same time.
        timeout: Seconds for each wait, or None.
    """

    dsn: str
    url: str
    quota: int | None = None
    concurrency: int = 8
    timeout: float | None = 600.0


def app_of(work: Work, playai: PlayAISession) -> tuple[procrastinate.App, DurableWaits]:
    """Create the app of a backend whose handler stores each outcome exactly once."""
    waits = DurableWaits(playai, polling=Polling(timeout=work.timeout))

    @waits.on_done("store")
    async def _(outcome: Outcome) -> None:
        async with await psycopg.AsyncConnection.connect(work.dsn) as connection:
            await connection.execute(
                "INSERT INTO ended (key, job_id) VALUES (%s, %s) ON CONFLICT (key) DO NOTHING",
                (outcome.key, outcome.job_id),
            )
            await connection.execute("INSERT INTO calls (key) VALUES (%s)", (outcome.key,))

    size = work.concurrency
    connector = TimeoutConnector(conninfo=work.dsn, min_size=min(4, size), max_size=size)
    app = procrastinate.App(connector=connector)
    app.add_tasks_from(waits.blueprint, namespace="playai")
    return app, waits


def session_of(work: Work) -> PlayAISession:
    """Create the session of such a backend."""
    return PlayAISession(
        "a-key", "a-user", base_url=work.url, pacing=Pacing(requests_per_window=work.quota), polling=Polling()
    )


async def run_worker(work: Work, **options: Any) -> None:
    """Run a worker until procrastinate stops it."""
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
    """A worker process that is restarted whenever it exits.

    Attributes:
        started: How many processes were started.
    """

    def __init__(self, work: Work) -> None:
        self._command = [sys.executable, "-m", __spec__.name, json.dumps(attrs.asdict(work))]
        self._process: asyncio.subprocess.Process | None = None
        self.started = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep a worker running until the end of the block."""
        supervising = asyncio.create_task(self._supervise())
        try:
            yield
        finally:
            supervising.cancel()
            await asyncio.wait([supervising])

    def kill(self) -> None:
        """Send SIGKILL to the current worker, unless it has just exited and the next one has not started."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _supervise(self) -> None:
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
    """Run a worker and return the exit status."""
    for name in ("procrastinate", "psycopg", "playai_async"):  # the parent kills workers and databases on purpose
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        asyncio.run(run_worker(Work(**read_arguments())))
    except ConnectorException:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
