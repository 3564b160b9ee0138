"""Durable waits on a real PostgreSQL, in real time: what in-memory rows cannot show."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from procrastinate import PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued

from bench.scale.durable_worker import TABLES, Supervised, Work, app_of, session_of
from playai_async import PlayAISession, Polling, TransportError
from playai_async.contrib.procrastinate import DurableWaits
from playai_async.emulator import Emulator, Hang, Status
from tests.contrib.durable import Backend, Books, finished
from tools.servers.postgres import Cluster

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - looptime's own way; PostgreSQL's time is real

QUICK = Polling(initial=0.1, maximum=0.2, jitter=0, max_failures=3)


PATIENCE = 60.0
"""Seconds that a test may take, before it is taken to wait for what never comes."""


@contextlib.asynccontextmanager
async def on_postgres(cluster: Cluster, database: str, playai: PlayAISession, books: Books) -> AsyncIterator[Backend]:
    """Open an app whose rows are in a database, for no longer than our patience."""
    connector = PsycopgConnector(conninfo=cluster.dsn(database), min_size=1, max_size=8)
    backend = Backend(playai, connector, books, polling=QUICK)
    async with asyncio.timeout(PATIENCE), backend.app.open_async():
        yield backend


async def test_one_row_is_polled_to_the_end(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """Stored before the first poll, put back by each, and done with the job."""
    books, job_id = Books(), emulator.add_job(duration=0.5)
    async with on_postgres(cluster, database, playai, books) as backend:
        number = await backend.waits.defer(job_id, on_done="note")
        stored = await backend.row()
        assert (stored.id, stored.status, stored.attempts) == (number, "todo", 0)
        assert emulator.stats.requests == 0
        async with backend.working():
            outcome = await books.told()
            row = await backend.until(finished)
    assert outcome.job is not None
    assert (row.id, row.status, row.attempts) == (number, "succeeded", emulator.stats.requests)
    assert row.attempts > 2


async def test_failures_in_a_row_are_counted_over_turns(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """They are in the row, for whichever worker comes next."""
    emulator.inject(Status(503), times=2)
    books, job_id = Books(), emulator.add_job(duration=math.inf)
    async with on_postgres(cluster, database, playai, books) as backend, backend.working():
        await backend.waits.defer(job_id, on_done="note")
        await backend.until(lambda row: row.task_kwargs.get("failures") == 2)
        await backend.until(lambda row: row.task_kwargs.get("failures") == 0)
        await emulator.stop()
        outcome = await books.told()
        row = await backend.until(finished)
    assert isinstance(outcome.error, TransportError)
    assert row.task_kwargs["failures"] == 2  # the third ended the wait


async def test_a_stopped_worker_leaves_its_rows_to_the_next(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """Due at once, though a request was under way."""
    emulator.inject(Hang(), times=1)
    books, job_id = Books(), emulator.add_job()
    async with on_postgres(cluster, database, playai, books) as backend:
        await backend.waits.defer(job_id, on_done="note")
        async with backend.working(shutdown_graceful_timeout=0.0):
            while not emulator.arrivals:
                await asyncio.sleep(0.02)
        row = await backend.row()
        assert (row.status, row.task_kwargs["unasked"]) == ("todo", 1)
        async with backend.working():
            await books.told()
            await backend.until(finished)


async def test_what_has_been_due_longest_goes_first(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """PostgreSQL fetches by the priorities, and they fit its integers."""
    first, second = UUID(int=1), UUID(int=2)
    for job_id in (first, second):
        emulator.add_job(duration=60.0, job_id=job_id)
    async with on_postgres(cluster, database, playai, Books()) as backend:
        later = await backend.waits.defer(first, on_done="note")
        await backend.waits.defer(second, on_done="note")
        await backend.app.connector.execute_query_async(
            "UPDATE procrastinate_jobs SET priority = priority - 5 WHERE id = %(row)s", row=later
        )
        async with backend.working(concurrency=1):
            await backend.until_all(lambda rows: all(row.attempts for row in rows))
    assert [arrival.job_id for arrival in emulator.arrivals][:2] == [second, first]


async def half_a_minute_later(cluster: Cluster, database: str) -> None:
    """Have half a minute pass for those who look for dead workers."""
    statement = "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '31 s'"
    await asyncio.to_thread(cluster.execute, statement, database)


async def until_stored(cluster: Cluster, database: str, waits: DurableWaits, number: int) -> list[str]:
    """Wait for so many outcomes, with a look for dead workers every now and then; return their keys."""
    while len(keys := await keys_in(cluster, database)) < number:
        with contextlib.suppress(AlreadyEnqueued):
            await waits._rescue_task.defer_async(timestamp=0)
        await asyncio.sleep(0.2)
    return keys


async def keys_in(cluster: Cluster, database: str) -> list[str]:
    """Return the keys that handlers have stored."""
    return [key for (key,) in await asyncio.to_thread(cluster.execute, "SELECT key FROM ended ORDER BY key", database)]


async def test_what_a_killed_worker_held_is_polled_on(cluster: Cluster, database: str, emulator: Emulator) -> None:
    """SIGKILL leaves a row that nobody works on; the next worker finds it, and the handler is called."""
    cluster.execute(TABLES, database)
    job_id = emulator.add_job()
    emulator.inject(Hang(), times=1)
    work = Work(dsn=cluster.dsn(database), url=emulator.base_url, quota=6_000)
    async with asyncio.timeout(PATIENCE), session_of(work) as playai:
        app, waits = app_of(work, playai)
        worker = Supervised(work)
        async with app.open_async(), worker.kept_up():
            await waits.defer(job_id, on_done="store")
            while not emulator.arrivals:
                await asyncio.sleep(0.02)
            worker.kill()
            while worker.started < 2:
                await asyncio.sleep(0.02)
            (row,) = await app.job_manager.list_jobs_async(task="playai:wait")
            assert row.status == "doing"
            await half_a_minute_later(cluster, database)
            keys = await until_stored(cluster, database, waits, 1)
    assert keys == [f"{job_id}:store:COMPLETED"]


async def test_waits_outlast_a_restart_of_postgresql(cluster: Cluster, database: str, emulator: Emulator) -> None:
    """Its workers may end with it, and whoever starts them again finds every wait."""
    cluster.execute(TABLES, database)
    jobs = [emulator.add_job(duration=2.0) for _ in range(20)]
    work = Work(dsn=cluster.dsn(database), url=emulator.base_url, quota=6_000)
    async with asyncio.timeout(PATIENCE), session_of(work) as playai:
        app, waits = app_of(work, playai)
        async with app.open_async():
            for job_id in jobs:
                await waits.defer(job_id, on_done="store")
        worker = Supervised(work)
        async with worker.kept_up():
            while emulator.stats.requests < len(jobs):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.start)
            await half_a_minute_later(cluster, database)
            async with app.open_async():
                keys = await until_stored(cluster, database, waits, len(jobs))
    assert keys == sorted(f"{job_id}:store:COMPLETED" for job_id in jobs)
