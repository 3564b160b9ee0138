"""Durable waits on a real PostgreSQL, in real time: what in-memory rows cannot show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from procrastinate import PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued, ConnectorException
from sqlalchemy.ext.asyncio import create_async_engine

from playai_async import PlayAISession, Polling, TransportError
from playai_async.contrib.procrastinate import DurableWaits, Outcome, TimeoutConnector
from playai_async.contrib.procrastinate._rescue import rescue
from playai_async.emulator import Emulator, Hang, Status
from tests.contrib.durable import Backend, RecordingHandler, finished, logged, running
from tests.support.scripted import COMPLETED
from tools.durable_worker import TABLES, Supervised, Work, app_of, run_worker, session_of
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
    polled = dict.fromkeys(arrival.job_id for arrival in emulator.arrivals)
    assert list(polled) == [second, first]  # a slow worker may poll the second again before the first


async def a_minute_later(cluster: Cluster, database: str) -> None:
    """Pretend that the workers sent their last sign of life a minute ago."""
    statement = """
        UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '61 s';
        UPDATE procrastinate_jobs SET args = jsonb_set(args, '{held_until}', '0') WHERE args ? 'held_until';
    """
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
        async with app.open_async():
            await waits.defer(job_id, on_done="store")
            async with worker.running():
                while not emulator.arrivals:
                    await asyncio.sleep(0.02)
                worker.kill()
            (row,) = await app.job_manager.list_jobs_async(task="playai:wait")
            assert row.status == "doing"
            async with running(run_worker(work, install_signal_handlers=False)):
                await a_minute_later(cluster, database)
                keys = await until_stored(cluster, database, waits, 1)
    assert keys == [f"{job_id}:store:COMPLETED"]


async def test_a_worker_that_is_about_to_be_restarted_may_be_killed() -> None:
    """Such as one that has lost its database. The chaos run kills workers at any moment."""
    worker = Supervised(Work(dsn="", url=""))
    worker._command = ["true"]
    async with asyncio.timeout(PATIENCE), worker.running():
        while worker._process is None or worker._process.returncode is None:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.02)
        worker.kill()


async def test_waits_survive_a_restart_of_postgresql(cluster: Cluster, database: str, emulator: Emulator) -> None:
    """The worker may end. After it is restarted, no wait is lost."""
    cluster.execute(TABLES, database)
    jobs = [emulator.add_job(duration=math.inf) for _ in range(20)]
    # The pool waits 1 s, 2 s, 4 s and so on between the broken connections that it finds. So few of them.
    work = Work(dsn=cluster.dsn(database), url=emulator.base_url, quota=6_000, concurrency=2)
    async with asyncio.timeout(PATIENCE), session_of(work) as playai:
        app, waits = app_of(work, playai)
        async with app.open_async():
            for job_id in jobs:
                await waits.defer(job_id, on_done="store")
        async with Supervised(work).running():
            while emulator.stats.requests < len(jobs):
                await asyncio.sleep(0.02)
            await asyncio.to_thread(cluster.stop)
            await asyncio.to_thread(cluster.start)
            for job_id in jobs:
                emulator.set_output(job_id, COMPLETED)
            await a_minute_later(cluster, database)
            async with app.open_async():
                keys = await until_stored(cluster, database, waits, len(jobs))
    assert keys == sorted(f"{job_id}:store:COMPLETED" for job_id in jobs)


# The caller's transaction


async def sqlalchemy_connection(cluster: Cluster, database: str, stack: contextlib.AsyncExitStack) -> Any:
    """Open a connection of SQLAlchemy on psycopg."""
    url = cluster.dsn(database).replace(" ", "&")
    engine = create_async_engine(f"postgresql+psycopg://?{url}")
    stack.push_async_callback(engine.dispose)
    return await stack.enter_async_context(engine.connect())


async def psycopg_connection(cluster: Cluster, database: str, stack: contextlib.AsyncExitStack) -> Any:
    """Open a connection of psycopg."""
    return await stack.enter_async_context(await psycopg.AsyncConnection.connect(cluster.dsn(database)))


@pytest.mark.parametrize("connect", [psycopg_connection, sqlalchemy_connection], ids=["psycopg", "SQLAlchemy"])
async def test_a_wait_is_stored_in_the_transaction_of_the_caller(
    cluster: Cluster, database: str, playai: PlayAISession, connect: Any
) -> None:
    """Other connections see the row after the commit. A rollback leaves none."""
    async with (
        on_postgres(cluster, database, playai, RecordingHandler()) as backend,
        contextlib.AsyncExitStack() as stack,
    ):
        connection = await connect(cluster, database, stack)
        await backend.waits.defer(UUID(int=1), on_done="note", connection=connection)
        assert await backend.rows() == []
        await connection.rollback()
        ids = [UUID(int=2), UUID(int=3)]
        numbers = [await backend.waits.defer(job_id, on_done="note", connection=connection) for job_id in ids]
        assert await backend.rows() == []
        await connection.commit()
        rows = await backend.rows()
        assert [row.id for row in rows] == numbers
        assert [row.task_kwargs["job_id"] for row in rows] == [str(job_id) for job_id in ids]


async def test_a_connection_of_another_library_is_refused(
    cluster: Cluster, database: str, playai: PlayAISession
) -> None:
    """Procrastinate cannot insert with it. Nothing is stored."""
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:
        with psycopg.connect(cluster.dsn(database)) as synchronous:
            for connection in (object(), synchronous):
                with pytest.raises(TypeError, match="connection must be a psycopg"):
                    await backend.waits.defer(UUID(int=1), on_done="note", connection=connection)
        assert await backend.rows() == []


# Bad nights


async def test_a_refused_key_ends_no_wait(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """The row is put back until the key is accepted."""
    emulator.inject(Status(401), times=5)  # more than the failures that end a wait
    recorder, job_id = RecordingHandler(), emulator.add_job()
    async with on_postgres(cluster, database, playai, recorder) as backend, backend.working():
        await backend.waits.defer(job_id, on_done="note")
        assert (await recorder.called()).job is not None
        row = await backend.until(finished)
    assert (row.attempts, row.task_kwargs.get("failures")) == (6, None)


LOST = """
INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour'), (now() - interval '20 s');
INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id, abort_requested)
SELECT 'playai', 'playai:' || task, args::jsonb, 'doing', worker, aborted
FROM generate_series(1, {rows}), (VALUES {kinds}) AS kind (task, args, worker, aborted)
"""
"""Rows that dead and living workers hold: of some tasks, with some arguments."""


async def test_many_rows_are_rescued_in_one_statement(cluster: Cluster, database: str, playai: PlayAISession) -> None:
    """PostgreSQL's time grows with the number of rows and not with its square, even if it takes the table for small."""
    cluster.execute(LOST.format(rows=5, kinds="('wait', '{}', 1, false)"), database)
    cluster.execute("ANALYZE", database)
    cluster.execute(LOST.format(rows=10_000, kinds="('wait', '{}', 1, false)"), database)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend, asyncio.timeout(PATIENCE / 4):
        await rescued(backend)
    statement = "SELECT status, attempts, count(*), count(DISTINCT xmin::text) FROM procrastinate_jobs GROUP BY 1, 2"
    assert await asyncio.to_thread(cluster.execute, statement, database) == [("todo", 1, 10_005, 1)]


async def test_of_several_rescues_at_once_one_has_a_row(cluster: Cluster, database: str, playai: PlayAISession) -> None:
    """PostgreSQL looks again at a row that was locked."""
    cluster.execute(LOST.format(rows=500, kinds="('wait', '{}', 1, false)"), database)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:
        await asyncio.gather(*(rescued(backend) for _ in range(3)))
        assert {(row.status, row.attempts) for row in await backend.rows()} == {("todo", 1)}


async def rescued(backend: Backend) -> None:
    """Rescue rows of dead workers once."""
    await rescue(backend.app.job_manager, "playai:wait", "playai:rescue", backend.waits._emitter)


async def test_only_rows_that_nobody_has_are_rescued(cluster: Cluster, database: str, playai: PlayAISession) -> None:
    """The worker is dead or forgotten, and no handler runs. A row whose abort was requested fails."""
    held = json.dumps({"held_until": time.time() + 10})
    was_held = json.dumps({"held_until": time.time() - 10})
    kinds = (
        "('wait', '{}', 1, false), ('wait', '{}', 2, false), ('wait', '{}', NULL, false), "
        f"('wait', '{held}', 1, false), ('wait', '{was_held}', 1, false), ('wait', '{{}}', 1, true), "
        "('rescue', '{}', 1, false), ('rescue', '{}', 2, false), ('other', '{}', 1, false)"
    )
    cluster.execute(LOST.format(rows=1, kinds=kinds), database)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:
        await rescued(backend)
    statement = "SELECT id, status FROM procrastinate_jobs ORDER BY id"
    rows = dict(await asyncio.to_thread(cluster.execute, statement, database))
    assert rows == {1: "todo", 2: "doing", 3: "todo", 4: "doing", 5: "todo", 6: "failed", 8: "doing", 9: "doing"}


async def test_a_handler_runs_once_at_a_time(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """Its worker sent no heartbeat for a minute, but it is alive."""
    calls, goes_on = list[str](), asyncio.Event()
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:

        @backend.waits.on_done("slow")
        async def _(outcome: Outcome) -> None:
            calls.append(outcome.key)
            await goes_on.wait()

        await backend.waits.defer(emulator.add_job(), on_done="slow")
        async with backend.working(update_heartbeat_interval=600):
            while not calls:
                await asyncio.sleep(0.02)
            statement = "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '61 s'"
            await asyncio.to_thread(cluster.execute, statement, database)
            await rescued(backend)
            assert (await backend.row()).status == "doing"
            goes_on.set()
            assert (await backend.until(finished)).status == "succeeded"
    assert len(calls) == 1


async def test_a_worker_that_lost_its_row_writes_nothing(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker polls the row, and calls the handler. The slow one finds its token outdated."""
    emulator.inject(Hang(), times=1)
    recorder = RecordingHandler()
    async with on_postgres(cluster, database, playai, recorder) as backend:
        number = await backend.waits.defer(emulator.add_job(), on_done="note")
        async with backend.working(update_heartbeat_interval=600, shutdown_graceful_timeout=0):
            while not emulator.arrivals:
                await asyncio.sleep(0.02)
            await a_minute_later(cluster, database)
            await rescued(backend)
            await recorder.called()
            row = await backend.until(finished)
        assert (await backend.row()).evolve(worker_id=row.worker_id) == row
    assert len(recorder.calls) == 1
    assert f"Row {number} was rescued meanwhile" in caplog.text


async def test_a_worker_does_not_wait_for_ever_for_a_database_that_hangs(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs that and ends. The next worker goes on when the database does."""
    connector = TimeoutConnector(conninfo=cluster.dsn(database), min_size=1, max_size=8)
    recorder = RecordingHandler()
    backend = Backend(playai, connector, recorder, polling=QUICK)
    async with asyncio.timeout(PATIENCE), backend.app.open_async():
        await backend.waits.defer(emulator.add_job(duration=1.0), on_done="note")
        worker = asyncio.create_task(
            backend.app.run_worker_async(
                queues=["playai"], update_heartbeat_interval=0.1, install_signal_handlers=False, listen_notify=False
            )
        )
        await backend.until(lambda row: row.attempts > 0)
        connector.statement_timeout = 0.5
        with cluster.frozen(), pytest.raises(ConnectorException, match=r"PostgreSQL has not answered for 0\.5 s"):
            await worker
        connector.statement_timeout = PATIENCE
        assert logged(caplog, "database_silent")
        await a_minute_later(cluster, database)
        await rescued(backend)
        async with backend.working():
            await recorder.called()
            await backend.until(finished)
    assert len(recorder.calls) == 1


async def test_a_row_of_a_version_before_is_polled(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """As version 1.0.0rc1 stored it, with all counters and the time of a hint."""
    recorder, job_id = RecordingHandler(), emulator.add_job()
    stored = {"job_id": str(job_id), "on_done": "note", "started": time.time(), "deadline": None}
    counters = {"unasked": 1, "throttled": 0, "failures": 1, "calls": 0, "late_since": 0.0, "hinted": 1.5}
    async with on_postgres(cluster, database, playai, recorder) as backend, backend.working():
        await backend.waits._wait_task.defer_async(**stored, **counters)
        assert (await recorder.called()).job is not None
        await backend.until(finished)
