"""Rows that were left behind: which rows are rescheduled, and which are not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from procrastinate.exceptions import AppNotOpen, ConnectorException
from procrastinate.testing import InMemoryConnector

from playai_async import PlayAISession
from playai_async.contrib.procrastinate._rescue import rescue
from playai_async.contrib.procrastinate._rows import Rescheduled, save_and_reschedule
from playai_async.contrib.procrastinate._values import Reschedule
from tests.contrib.durable import Backend, RecordingHandler, at, broken_log, finished, in_memory, logged
from tests.support.scripted import COMPLETED, JOB_ID, Answer, ScriptedService, job

pytestmark = pytest.mark.usefixtures("one_clock")


def memory_of(backend: Backend) -> InMemoryConnector:
    """Return the in-memory connector."""
    connector = backend.app.connector
    assert isinstance(connector, InMemoryConnector)
    return connector


async def rescued(backend: Backend) -> None:
    """Rescue rows of dead workers once."""
    await rescue(backend.app.job_manager, "playai:wait", "playai:rescue", backend.waits._emitter)


async def fetched(backend: Backend, *, heartbeat: timedelta | None) -> None:
    """Let a worker fetch a row. Its last heartbeat is `heartbeat` ago, or with None it is unregistered."""
    manager = backend.app.job_manager
    worker = await manager.register_worker()
    assert await manager.fetch_job(["playai"], worker) is not None
    if heartbeat is None:
        await manager.unregister_worker(worker)
    else:
        memory_of(backend).workers[worker] = at() - heartbeat


@pytest.mark.parametrize("heartbeat", [timedelta(seconds=31), None], ids=["silent", "forgotten"])
async def test_the_row_of_a_dead_worker_is_rescheduled(
    session: PlayAISession, heartbeat: timedelta | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Due at once, with its priority."""
    async with in_memory(session, RecordingHandler()) as backend:
        number = await backend.waits.defer(JOB_ID, on_done="note")
        before = await backend.row()
        await fetched(backend, heartbeat=heartbeat)
        await rescued(backend)
        row = await backend.row()
    assert (row.status, row.attempts, row.priority) == ("todo", 1, before.priority)
    assert row.scheduled_at == at()
    assert f"Row {number} belongs to a dead worker and is rescheduled." in caplog.text
    assert logged(caplog, "row_rescued")


async def test_the_row_of_a_live_worker_is_not_touched(session: PlayAISession) -> None:
    """However long it takes."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=timedelta(seconds=20))
        await rescued(backend)
        assert (await backend.row()).status == "doing"


async def test_a_row_that_was_rescued_meanwhile_is_not_touched(session: PlayAISession) -> None:
    """Of two rescues at once one is first, and a live worker may have fetched the row by then."""

    class Raced(InMemoryConnector):
        async def select_stalled_jobs_by_heartbeat_all(self, *args: Any, **kwargs: Any) -> Any:
            rows = [dict(row) for row in await super().select_stalled_jobs_by_heartbeat_all(*args, **kwargs)]
            if rows and rows[0]["task_name"] == "playai:wait":
                await self.retry_job_run(job_id=rows[0]["id"], retry_at=at())
                await backend.app.job_manager.fetch_job(None, await backend.app.job_manager.register_worker())
            return rows

    backend = Backend(session, Raced(), RecordingHandler())
    async with backend.app.open_async():
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=None)
        await rescued(backend)
        row = await backend.row()
    assert (row.status, row.attempts) == ("doing", 1)


async def test_a_row_that_cannot_be_written_to_does_not_end_a_rescue(session: PlayAISession) -> None:
    """Usually another rescue wrote to it first."""

    class Refusing(InMemoryConnector):
        async def retry_job_run(self, *args: Any, **kwargs: Any) -> None:
            raise ConnectorException("not in a state to retry")

    backend = Backend(session, Refusing(), RecordingHandler())
    async with backend.app.open_async():
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=None)
        await rescued(backend)


async def test_the_row_of_a_dead_rescue_is_deleted(session: PlayAISession) -> None:
    """Later rescues have been scheduled already."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits._rescue_task.defer_async(timestamp=0)
        await fetched(backend, heartbeat=None)
        await rescued(backend)
        assert memory_of(backend).jobs == {}


async def test_workers_rescue_by_themselves(session: PlayAISession, service: ScriptedService) -> None:
    """Every half minute, even if other rows are due. The wait continues to its end."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=timedelta(hours=1))
        async with backend.working():
            await recorder.called()
            await backend.until(finished)
        periodic = backend.app.periodic_registry.periodic_tasks.values()
        rescues = [row for row in memory_of(backend).jobs.values() if row["task_name"] == "playai:rescue"]
    assert [task.cron for task in periodic] == ["* * * * * */30"]
    assert {row["priority"] for row in rescues} == {0}


# Rows that a live worker could not write


class Flaky(InMemoryConnector):
    """Raises the given errors, one per statement that reschedules a row."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)

    async def retry_job_run(self, *args: Any, **kwargs: Any) -> None:
        """Put a row back, unless there is an error to raise."""
        if self.errors:
            raise self.errors.pop(0)
        await super().retry_job_run(*args, **kwargs)


async def test_a_worker_reschedules_a_row_that_it_could_not_write(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """The result is written only once, and a row of a live worker is never rescued."""
    service.answers(job(), job(COMPLETED))
    recorder = RecordingHandler()
    backend = Backend(session, Flaky(ConnectorException("lost"), ConnectorException("lost again")), recorder)
    async with backend.app.open_async(), backend.working():
        number = await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called()
        await backend.until(finished)
        await asyncio.sleep(0)
    assert [round(arrival) for arrival in service.arrivals] == [0, 10]
    assert f"Row {number} could not be written and is rescheduled later." in caplog.text
    assert logged(caplog, "row_unwritten")


async def test_an_outcome_that_was_not_written_may_be_followed_by_another(
    session: PlayAISession, service: ScriptedService
) -> None:
    """The job is requested again, and a different outcome has a different key."""

    class Unended(InMemoryConnector):
        lost = False

        async def finish_job_run(self, job_id: int, status: str, delete_job: bool) -> None:
            if self.jobs[job_id]["task_name"] == "playai:wait" and not self.lost:
                self.lost = True
                raise ConnectorException("lost")
            await super().finish_job_run(job_id, status, delete_job)

    service.answers(job(COMPLETED), Answer(404))
    recorder = RecordingHandler()
    backend = Backend(session, Unended(), recorder)
    async with backend.app.open_async(), backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(2)
        await backend.until(finished)
    assert [outcome.key for outcome in recorder.outcomes] == [
        f"{JOB_ID}:note:COMPLETED",
        f"{JOB_ID}:note:NotFoundError",
    ]


async def test_a_worker_does_not_reschedule_a_row_that_it_no_longer_has(
    session: PlayAISession, service: ScriptedService
) -> None:
    """The worker has stopped and was unregistered, so a rescue reschedules the row."""
    service.answers(job())
    backend = Backend(session, Flaky(ConnectorException("lost")), RecordingHandler())
    async with backend.app.open_async():
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working():
            await asyncio.sleep(1)
        await asyncio.sleep(6)
        row = await backend.row()
    assert (row.status, row.attempts) == ("doing", 0)


async def test_a_closed_app_ends_the_retries(session: PlayAISession, service: ScriptedService) -> None:
    """A rescue will reschedule the row."""
    service.answers(job())
    connector = Flaky(ConnectorException("lost"), AppNotOpen(), ConnectorException("never met"))
    backend = Backend(session, connector, RecordingHandler())
    async with backend.app.open_async(), backend.working(fetch_job_polling_interval=1.0):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(60)
    assert len(connector.errors) == 1


async def test_the_retries_end_after_ten_minutes(session: PlayAISession, service: ScriptedService) -> None:
    """After ten minutes."""
    service.answers(job())
    connector = Flaky(*[ConnectorException("lost")] * 1_000)
    backend = Backend(session, connector, RecordingHandler())
    async with backend.app.open_async(), backend.working(fetch_job_polling_interval=5.0):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(1_000)
    assert len(connector.errors) == 1_000 - 1 - 120


# The counters of a row


@pytest.mark.parametrize(
    "error", [ConnectorException("lost"), asyncio.CancelledError()], ids=["connection lost", "worker stops"]
)
async def test_a_row_is_rescheduled_even_if_its_counters_cannot_be_saved(
    session: PlayAISession, error: BaseException
) -> None:
    """Wrong counters only make a poll early or late. A lost row would be worse."""

    class Away:
        async def execute_query_async(self, query: str, **arguments: Any) -> None:
            raise error

    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        row = await backend.row()
    away: Any = Away()
    raised = await save_and_reschedule(away, row, Reschedule(at().timestamp(), "lost", counters={"failures": 1}))
    assert isinstance(raised, Rescheduled)
    assert raised.decision.retry_at == at() + timedelta(seconds=1)


async def test_a_cancelled_task_needs_no_retry(session: PlayAISession, service: ScriptedService) -> None:
    """The worker shuts down, and the row has been rescheduled."""
    service.answers(Answer(takes=60))
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working():
            await backend.until(lambda row: row.status == "doing")
            (turn,) = [task for task in asyncio.all_tasks() if task.get_name().startswith("process job playai:wait")]
            turn.cancel()
            row = await backend.until(lambda row: row.status == "todo")
    assert row.task_kwargs["unasked"] == 1


# A log that raises


async def test_a_log_that_raises_does_not_keep_rows_from_being_rescued(session: PlayAISession) -> None:
    """Every row of a dead worker is due at once."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=None)
        with broken_log() as events:
            await rescued(backend)
        row = await backend.row()
    assert "row_rescued" in events
    assert (row.status, row.attempts) == ("todo", 1)


async def test_a_log_that_raises_loses_no_row_that_could_not_be_written(
    session: PlayAISession, service: ScriptedService
) -> None:
    """It is written later."""
    service.answers(job(), job(COMPLETED))
    recorder = RecordingHandler()
    backend = Backend(session, Flaky(ConnectorException("lost")), recorder)
    with broken_log() as events:
        async with backend.app.open_async(), backend.working():
            await backend.waits.defer(JOB_ID, on_done="note")
            await recorder.called()
            await backend.until(finished)
    assert "row_unwritten" in events
