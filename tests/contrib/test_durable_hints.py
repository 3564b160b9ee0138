"""Hints for durable waits, with rows in memory and in PostgreSQL: which rows come forward, and how often."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from procrastinate import PsycopgConnector
from procrastinate.exceptions import UnboundTaskError

from playai_async import PlayAISession, Polling, TtsJob
from playai_async.contrib.procrastinate import DurableWaits
from playai_async.contrib.procrastinate._rows import now, priority_of
from playai_async.emulator import Emulator, Status
from tests.contrib.durable import Backend, RecordingHandler, finished, in_memory
from tests.support.scripted import COMPLETED, JOB_ID, OTHER_ID, ScriptedService, job, job_json, lost
from tools.servers.postgres import Cluster

SLOW = Polling(initial=30.0, maximum=30.0, jitter=0, max_failures=3)

IN_REAL_TIME = pytest.mark.looptime(False)  # noqa: FBT003 - looptime's own way; PostgreSQL's time is real


@contextlib.asynccontextmanager
async def on_postgres(
    cluster: Cluster, database: str, playai: PlayAISession, recorder: RecordingHandler
) -> AsyncIterator[Backend]:
    """Open an app whose rows are in a database, with a timeout for the test."""
    connector = PsycopgConnector(conninfo=cluster.dsn(database), min_size=1, max_size=8)
    backend = Backend(playai, connector, recorder, polling=SLOW)
    async with asyncio.timeout(60.0), backend.app.open_async():
        yield backend


def scheduled(row: Any) -> float:
    """Return when a row is due, in seconds since 1970."""
    assert row.scheduled_at is not None
    due: float = row.scheduled_at.timestamp()
    return due


# In memory, in virtual time


@pytest.mark.usefixtures("one_clock")
async def test_a_hint_ends_the_pause_before_the_next_poll(session: PlayAISession, service: ScriptedService) -> None:
    service.answers(job(), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder, polling=SLOW) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(12.0)
        assert await backend.waits.hint(JOB_ID) is True
        await recorder.called()
        await backend.until(finished)
    assert service.pauses == [pytest.approx(12.0, abs=0.1)]


@pytest.mark.usefixtures("one_clock")
async def test_a_row_comes_forward_at_most_once_per_second(session: PlayAISession, service: ScriptedService) -> None:
    """However many hints come."""
    service.answers(job())
    async with in_memory(session, RecordingHandler(), polling=SLOW) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(5.0)
        followed = 0
        for _ in range(100):
            await asyncio.sleep(0.1)
            followed += await backend.waits.hint(JOB_ID)
    assert 8 <= followed <= 10
    assert len(service.arrivals) == 1 + followed


@pytest.mark.usefixtures("one_clock")
async def test_a_hinted_row_is_fetched_after_rows_that_have_been_due_for_longer(
    session: PlayAISession, service: ScriptedService
) -> None:
    """Its priority is that of a row that becomes due now, so false hints do not hold up others."""
    service.answers(job())
    service.answers(job(job_id=OTHER_ID), job_id=OTHER_ID)
    async with in_memory(session, RecordingHandler(), polling=SLOW) as backend:
        async with backend.working():
            await backend.waits.defer(JOB_ID, on_done="note")
            await backend.until(lambda row: row.attempts == 1)
        await backend.waits.defer(OTHER_ID, on_done="note")
        await asyncio.sleep(5.0)
        assert await backend.waits.hint(JOB_ID) is True
        hinted, other = await backend.rows()
        assert hinted.priority == priority_of(now()) < other.priority


@pytest.mark.usefixtures("one_clock")
async def test_a_hint_does_not_shorten_the_pause_after_a_failure(
    session: PlayAISession, service: ScriptedService
) -> None:
    service.answers(lost(), job(COMPLETED))
    async with in_memory(session, RecordingHandler(), polling=SLOW) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(12.0)
        assert await backend.waits.hint(JOB_ID) is False
    assert len(service.arrivals) == 1


@pytest.mark.usefixtures("one_clock")
async def test_a_hint_does_not_shorten_the_pause_of_a_handler_that_raised(
    session: PlayAISession, service: ScriptedService
) -> None:
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(*[ValueError()] * 6)
    async with in_memory(session, recorder, polling=SLOW) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(5)
        assert await backend.waits.hint(JOB_ID) is False


@pytest.mark.usefixtures("one_clock")
async def test_only_a_row_that_is_not_due_comes_forward(session: PlayAISession, service: ScriptedService) -> None:
    """Not one that is new, being polled, finished, or about another job."""
    service.answers(job(), job(COMPLETED))
    async with in_memory(session, RecordingHandler(), polling=SLOW) as backend:
        assert await backend.waits.hint(JOB_ID) is False
        await backend.waits.defer(JOB_ID, on_done="note")
        assert await backend.waits.hint(JOB_ID) is False
        async with backend.working():
            await backend.until(lambda row: row.attempts == 1)
            await asyncio.sleep(5.0)
            assert await backend.waits.hint(OTHER_ID) is False
            assert await backend.waits.hint(TtsJob.from_dict(job_json())) is True
            assert await backend.waits.hint(str(JOB_ID)) is False  # due already
            await backend.until(finished)
            assert await backend.waits.hint(JOB_ID) is False


@pytest.mark.parametrize(("name", "error"), [("nonsense", ValueError), (5, TypeError)], ids=str)
async def test_a_hint_checks_the_job(session: PlayAISession, name: Any, error: type[Exception]) -> None:
    async with in_memory(session, RecordingHandler()) as backend:
        with pytest.raises(error):
            await backend.waits.hint(name)


async def test_a_hint_needs_an_app(session: PlayAISession) -> None:
    with pytest.raises(UnboundTaskError):
        await DurableWaits(session).hint(JOB_ID)


# In PostgreSQL, in real time


@IN_REAL_TIME
async def test_a_process_without_a_worker_brings_a_row_forward(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    """The row says that it is due, and any worker polls it."""
    recorder, job_id = RecordingHandler(), emulator.add_job(duration=math.inf)
    async with on_postgres(cluster, database, playai, recorder) as backend, backend.working():
        await backend.waits.defer(job_id, on_done="note")
        row = await backend.until(lambda row: row.status == "todo" and row.attempts == 1)
        assert scheduled(row) > now() + 20.0
        async with on_postgres(cluster, database, playai, RecordingHandler()) as web:
            assert await web.waits.hint(job_id) is True
        row = await backend.until(lambda row: row.attempts == 2)
        assert row.task_kwargs["hinted"] == pytest.approx(now(), abs=5.0)
        assert emulator.stats.requests == 2


@IN_REAL_TIME
async def test_of_many_hints_at_once_one_brings_the_row_forward(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    job_id, other = emulator.add_job(duration=math.inf), UUID(int=2)
    emulator.add_job(duration=math.inf, job_id=other)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend:
        await backend.waits.defer(job_id, on_done="note")
        await backend.waits.defer(other, on_done="note")
        async with backend.working():
            await backend.until_all(lambda rows: all(row.status == "todo" and row.attempts for row in rows))
        hints = await asyncio.gather(*[backend.waits.hint(job_id) for _ in range(20)])
        assert hints.count(True) == 1
        rows = {row.task_kwargs["job_id"]: row for row in await backend.rows()}
        hinted, untouched = rows[str(job_id)], rows[str(other)]
        assert abs(scheduled(hinted) - now()) < 5.0
        assert scheduled(untouched) > now() + 15.0
        assert hinted.priority > untouched.priority


@IN_REAL_TIME
async def test_in_postgresql_a_hint_does_not_shorten_the_pause_after_a_failure(
    cluster: Cluster, database: str, playai: PlayAISession, emulator: Emulator
) -> None:
    emulator.inject(Status(503), times=1)
    job_id = emulator.add_job(duration=math.inf)
    async with on_postgres(cluster, database, playai, RecordingHandler()) as backend, backend.working():
        await backend.waits.defer(job_id, on_done="note")
        await backend.until(lambda row: row.status == "todo" and row.task_kwargs.get("failures") == 1)
        assert await backend.waits.hint(job_id) is False
