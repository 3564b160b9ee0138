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

from playai_async import PlayAISession, Polling, TransportError
from playai_async.contrib.procrastinate import DurableWaits
from playai_async.emulator import Emulator, Hang, Status
from tests.contrib.durable import Backend, RecordingHandler, finished
from tools.durable_worker import TABLES, Supervised, Work, app_of, session_of
from tools.servers.postgres import Cluster

pytestmark = pytest.mark.looptime(False)  # noqa: FBT003 - looptime's own way; PostgreSQL's time is real

QUICK = Polling(initial=0.1, maximum=0.2, jitter=0, max_failures=3)


PATIENCE = 60.0
"""Seconds. The timeout of a test."""


@contextlib.asynccontextmanager
async def on_postgres(
    cluster: Cluster, database: str, playai: PlayAISession, recorder: RecordingHandler
) -> AsyncIterator[Backend]:
    """Open an app whose rows are in a database, with a timeout for the test."""
    connector = PsycopgConnector(conninfo=cluster.dsn(database), min_size=1, max_size=8)
    backend = Backend(playai, connector, recorder, polling=QUICK)
    async with asyncio.timeout(PATIENCE), backend.app.open_async():
        yield backend


async def test_one_row_is_polled_to_the_end(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """It is stored before the first poll, rescheduled by each poll, and finished with the job."""
    recorder, job_id = RecordingHandler(), emulator.add_job(duration=1.5)
    async with on_postgres(cluster, database, playai, recorder) as backend:
        number = await backend.waits.defer(job_id, on_done="note")
        stored = await backend.row()
        assert (stored.id, stored.status, stored.attempts) == (number, "todo", 0)
        assert emulator.stats.requests == 0
        async with backend.working():
            outcome = await recorder.called()
            row = await backend.until(finished)
    assert outcome.job is not None
    assert (row.id, row.status, row.attempts) == (number, "succeeded", emulator.stats.requests)
    assert row.attempts > 2


async def test_failures_in_a_row_are_counted_over_attempts(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """The count is stored in the row, so that any worker can continue."""
    emulator.inject(Status(503), times=2)
    recorder, job_id = RecordingHandler(), emulator.add_job(duration=math.inf)
    async with on_postgres(cluster, database, playai, recorder) as backend, backend.working():
        await backend.waits.defer(job_id, on_done="note")
        await backend.until(lambda row: row.task_kwargs.get("failures") == 2)
        await backend.until(lambda row: row.task_kwargs.get("failures") == 0)
        await emulator.stop()
        outcome = await recorder.called()
        row = await backend.until(finished)
    assert isinstance(outcome.error, TransportError)
    assert row.task_kwargs["failures"] == 2  # the third ended the wait


async def test_a_stopped_worker_leaves_its_rows_to_the_next(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """Due at once, even if a request was in flight."""
    emulator.inject(Hang(), times=1)
    recorder, job_id = RecordingHandler(), emulator.add_job()
    async with on_postgres(cluster, database, playai, recorder) as backend:
        await backend.waits.defer(job_id, on_done="note")
        async with backend.working(shutdown_graceful_timeout=0.0):
            while not emulator.arrivals:
                await asyncio.sleep(0.02)
        row = await backend.row()
        assert (row.status, row.task_kwargs["unasked"]) == ("todo", 1)
        async with backend.working():
            await recorder.called()
            await backend.until(finished)


async def test_the_row_that_has_been_due_longest_is_fetched_first(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """PostgreSQL orders by the priorities, and they fit its integers."""
    first, second = UUID(int=1), UUID(int=2)
    for job_id in (first, second):
        emulator.add_job(duration=60.0, job_id=job_id)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:
        later = await backend.waits.defer(first, on_done="note")
        await backend.waits.defer(second, on_done="note")
        await backend.app.connector.execute_query_async(
            "UPDATE procrastinate_jobs SET priority = priority - 5 WHERE id = %(row)s", row=later
        )
        async with backend.working(concurrency=1):
            await backend.until_all(lambda rows: all(row.attempts for row in rows))
    assert [arrival.job_id for arrival in emulator.arrivals][:2] == [second, first]


async def half_a_minute_later(cluster: Cluster, database: str) -> None:
    """Make procrastinate believe that the workers sent their last heartbeat half a minute ago."""
    statement = "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '31 s'"
    await asyncio.to_thread(cluster.execute, statement, database)


async def until_stored(cluster: Cluster, database: str, waits: DurableWaits, number: int) -> list[str]:
    """Wait for a number of outcomes, while rescuing rows from time to time. Return their keys."""
    while len(keys := await keys_in(cluster, database)) < number:
        with contextlib.suppress(AlreadyEnqueued):
            await waits._rescue_task.defer_async(timestamp=0)
        await asyncio.sleep(0.2)
    return keys


async def keys_in(cluster: Cluster, database: str) -> list[str]:
    """Return the keys that handlers have stored."""
    return [key for (key,) in await asyncio.to_thread(cluster.execute, "SELECT key FROM ended ORDER BY key", database)]


async def test_the_row_of_a_killed_worker_is_rescued(cluster: Cluster, database: str, emulator: Emulator) -> None:
    """After SIGKILL, the next worker rescues the row, and the handler is called."""
    cluster.execute(TABLES, database)
    job_id = emulator.add_job()
    emulator.inject(Hang(), times=1)
    work = Work(dsn=cluster.dsn(database), url=emulator.base_url, quota=6_000)
    async with asyncio.timeout(PATIENCE), session_of(work) as playai:
        app, waits = app_of(work, playai)
        worker = Supervised(work)
        async with app.open_async(), worker.running():
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


async def test_waits_survive_a_restart_of_postgresql(cluster: Cluster, database: str, emulator: Emulator) -> None:
    """The workers may end. After they are restarted, no wait is lost."""
    cluster.execute(TABLES, database)
    jobs = [emulator.add_job(duration=2.0) for _ in range(20)]
    work = Work(dsn=cluster.dsn(database), url=emulator.base_url, quota=6_000)
    async with asyncio.timeout(PATIENCE), session_of(work) as playai:
        app, waits = app_of(work, playai)
        async with app.open_async():
            for job_id in jobs:
                await waits.defer(job_id, on_done="store")
        worker = Supervised(work)
        async with worker.running():
            while emulator.stats.requests < len(jobs):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.start)
            await half_a_minute_later(cluster, database)
            async with app.open_async():
                keys = await until_stored(cluster, database, waits, len(jobs))
    assert keys == sorted(f"{job_id}:store:COMPLETED" for job_id in jobs)
