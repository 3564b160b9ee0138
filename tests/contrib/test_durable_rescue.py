"""Rows that were left behind: which rows are rescheduled, and which are not."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import attrs
import pytest
from procrastinate import App, JobContext, PsycopgConnector
from procrastinate.connector import BaseAsyncConnector
from procrastinate.exceptions import AppNotOpen, ConnectorException
from procrastinate.jobs import Job
from procrastinate.testing import InMemoryConnector

from playai_async import PlayAISession
from playai_async.contrib.procrastinate import Outcome
from playai_async.contrib.procrastinate._rescue import rescue
from playai_async.contrib.procrastinate._rows import Rescheduled, Turn
from playai_async.contrib.procrastinate._values import Reschedule
from tests.contrib.durable import Backend, RecordingHandler, at, broken_log, finished, in_memory, logged
from tests.support.scripted import COMPLETED, JOB_ID, OTHER_ID, Answer, ScriptedService, job

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


async def slow_handler(backend: Backend) -> tuple[asyncio.Event, list[float]]:
    """Add a handler with the name "slow" that waits for an event. Return the event and the times of its calls."""
    event, calls = asyncio.Event(), list[float]()

    @backend.waits.on_done("slow")
    async def _(_: Outcome) -> None:
        calls.append(asyncio.get_running_loop().time())
        await event.wait()

    return event, calls


@pytest.mark.parametrize("heartbeat", [timedelta(hours=1), None], ids=["silent", "forgotten"])
async def test_the_row_of_a_running_handler_is_not_touched(
    session: PlayAISession, service: ScriptedService, heartbeat: timedelta | None
) -> None:
    """However old the heartbeat: none is sent while a worker shuts down and waits for its handlers."""
    service.answers(job(COMPLETED))
    async with in_memory(session, None) as backend:
        event, calls = await slow_handler(backend)
        await backend.waits.defer(JOB_ID, on_done="slow")
        async with backend.working(update_heartbeat_interval=10_000, fetch_job_polling_interval=5.0):
            await asyncio.sleep(500)
            workers = memory_of(backend).workers
            for worker in list(workers):
                workers[worker] = at() - (heartbeat or timedelta(days=1))
            if heartbeat is None:
                await backend.app.job_manager.prune_stalled_workers(30)
                memory_of(backend).workers[1] = at()  # for the shutdown of the worker in this test
                memory_of(backend).jobs[1]["worker_id"] = None
            await rescued(backend)
            assert (await backend.row()).status == "doing"
            event.set()
            assert (await backend.until(finished)).status == "succeeded"
    assert len(calls) == 1


async def test_a_handler_that_is_gone_holds_its_row_for_a_minute(
    session: PlayAISession, service: ScriptedService
) -> None:
    """Then the row is rescheduled."""
    service.answers(job(COMPLETED))
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        await fetched(backend, heartbeat=timedelta(hours=1))
        memory_of(backend).jobs[1]["args"]["held_until"] = at().timestamp() + 60
        await asyncio.sleep(59)
        await rescued(backend)
        assert (await backend.row()).status == "doing"
        await asyncio.sleep(2)
        await rescued(backend)
        assert (await backend.row()).status == "todo"


async def test_a_held_row_that_is_fetched_is_put_back(session: PlayAISession, service: ScriptedService) -> None:
    """A version before this one may have rescued it while the handler runs."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        memory_of(backend).jobs[1]["args"]["held_until"] = at().timestamp() + 40
        async with backend.working(fetch_job_polling_interval=0.5):
            await recorder.called()
    assert 40 <= recorder.calls[0][0] < 41


async def test_a_slow_worker_does_not_call_the_handler_of_a_row_that_was_rescued(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker called it meanwhile. The slow worker writes nothing."""
    service.answers(attrs.evolve(job(COMPLETED), takes=8), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(update_heartbeat_interval=10_000):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(1)
        memory_of(backend).workers[1] = at() - timedelta(seconds=31)
        await rescued(backend)
        row = await backend.until(finished)
        await asyncio.sleep(20)
        assert (await backend.row()) == row
    assert len(recorder.calls) == 1
    assert logged(caplog, "row_taken")


async def test_a_slow_worker_does_not_put_back_a_row_that_was_rescued(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row would be polled twice from then on."""
    service.answers(attrs.evolve(job(), takes=8), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(update_heartbeat_interval=10_000):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(1)
        memory_of(backend).workers[1] = at() - timedelta(seconds=31)
        await rescued(backend)
        row = await backend.until(finished)
        await asyncio.sleep(20)
        assert (await backend.row()) == row
    assert len(service.arrivals) == 2
    assert logged(caplog, "row_taken")


async def test_a_hold_ends_with_the_handler(session: PlayAISession, service: ScriptedService) -> None:
    """One that raised is called again after its pause, and not after the hold."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(OSError())
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(2)
    assert round(recorder.calls[1][0]) == 1


async def test_a_handler_runs_on_while_its_hold_cannot_be_renewed(
    session: PlayAISession, service: ScriptedService
) -> None:
    """The next renewal may succeed. A row that is gone needs none."""
    service.answers(job(COMPLETED))
    async with in_memory(session, None) as backend:
        event, calls = await slow_handler(backend)
        await backend.waits.defer(JOB_ID, on_done="slow")
        async with backend.working(fetch_job_polling_interval=1.0):
            await asyncio.sleep(15)
            memory_of(backend).jobs[1]["attempts"] += 1  # another worker has it
            held_until = memory_of(backend).jobs[1]["args"]["held_until"]
            await asyncio.sleep(60)
            assert memory_of(backend).jobs[1]["args"]["held_until"] == held_until
            event.set()
            await backend.until(finished)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "dead_after"),
    [
        ({}, 30),
        ({"stalled_worker_timeout": 300}, 300),
        ({"stalled_worker_timeout": 1, "update_heartbeat_interval": 1}, 2),
        ({"update_heartbeat_interval": 100}, 200),
    ],
    ids=["default", "longer", "shorter", "rare heartbeats"],
)
async def test_a_rescue_goes_by_the_heartbeat_of_its_worker(
    session: PlayAISession, service: ScriptedService, options: dict[str, float], dead_after: float
) -> None:
    """As it was started, or as the app was configured."""
    service.answers(job(), job_id=OTHER_ID)
    async with in_memory(session, RecordingHandler()) as backend:
        for job_id in (JOB_ID, OTHER_ID):
            await backend.waits.defer(job_id, on_done="note")
            await fetched(backend, heartbeat=timedelta())
        async with backend.working(**options):
            await asyncio.sleep(0.1)  # before a worker starts, procrastinate forgets those that are silent
            for worker, age in ((1, dead_after - 1), (2, dead_after + 1)):
                memory_of(backend).workers[worker] = at() - timedelta(seconds=age)
            await backend.waits._rescue_task.defer_async(timestamp=0)
            await asyncio.sleep(0.1)
            rows = await backend.rows()
    assert [row.attempts > 0 for row in rows] == [False, True]


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
    async with backend.app.open_async(), backend.working(fetch_job_polling_interval=1.0):
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
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        turn = turn_of(await backend.row(), Away(error))
        raised = await turn.reschedule(Reschedule(at().timestamp(), "lost", counters={"failures": 1}))
    assert isinstance(raised, Rescheduled)
    assert raised.decision.retry_at == at() + timedelta(seconds=1)


class Away(PsycopgConnector):
    """A connector that raises an error for each statement."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Raise the error."""
        raise self.error


def turn_of(row: Job, connector: BaseAsyncConnector) -> Turn:
    """Return a worker's turn with a row."""
    app = App(connector=connector)
    return Turn(JobContext(app=app, job=row, start_timestamp=0.0, abort_reason=lambda: None))


async def test_no_handler_runs_while_its_row_cannot_be_held(session: PlayAISession) -> None:
    """The database is away. The row is put back, and its job is asked for again."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        turn = turn_of(await backend.row(), Away(ConnectorException("lost")))
        with pytest.raises(Rescheduled, match="could not be held") as caught:
            async with turn.held():
                raise AssertionError
    assert caught.value.decision.retry_at == at() + timedelta(seconds=1)


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
