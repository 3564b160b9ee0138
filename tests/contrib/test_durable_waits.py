"""Durable waits in virtual time with rows in memory: when requests are sent, and how handlers are called."""

from __future__ import annotations

import asyncio
from inspect import get_annotations
from typing import Any, get_type_hints
from uuid import UUID

import attrs
import pytest
from procrastinate.exceptions import UnboundTaskError
from tenacity import wait_none

from playai_async import (
    Completed,
    ConfigurationError,
    Failed,
    InProgress,
    NotFoundError,
    Pacing,
    PlayAISession,
    Polling,
    RateLimitedError,
    TransportError,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async.contrib import procrastinate as durable
from playai_async.contrib.procrastinate import DurableWaits, Outcome, TimeoutConnector
from playai_async.contrib.procrastinate._rows import priority_of
from tests.contrib.durable import EXACT, RecordingHandler, at, broken_log, finished, in_memory, logged
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
    FAILED,
    JOB_ID,
    OTHER_ID,
    USER_ID,
    Answer,
    ScriptedService,
    job,
    lost,
    throttled,
)

pytestmark = pytest.mark.usefixtures("one_clock")


def tenths(pauses: list[float]) -> list[float]:
    """Round pauses to a precision that a worker which polls every 10 ms can reach."""
    return [round(pause, 1) for pause in pauses]


# Polling


async def test_defer_stores_a_row_and_sends_no_request(session: PlayAISession, service: ScriptedService) -> None:
    """The id is stored before the first poll."""
    service.answers(job())
    async with in_memory(session, RecordingHandler()) as backend:
        number = await backend.waits.defer(JOB_ID, on_done="note", timeout=60)
        row = await backend.row()
        now = at().timestamp()
    assert (row.id, row.status, row.queue, row.task_name) == (number, "todo", "playai", "playai:wait")
    assert row.task_kwargs == {"job_id": str(JOB_ID), "on_done": "note", "started": now, "deadline": now + 60}
    assert row.priority == priority_of(now)
    assert service.arrivals == []


async def test_a_row_of_a_later_version_is_polled(session: PlayAISession, service: ScriptedService) -> None:
    """Both versions may run during a deployment. Unknown arguments stay in the row."""
    service.answers(job(), job(COMPLETED))
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits._wait_task.defer_async(
            job_id=str(JOB_ID), on_done="note", started=0.0, deadline=None, new=1
        )
        async with backend.working():
            row = await backend.until(finished)
    assert (row.status, row.attempts, row.task_kwargs["new"]) == ("succeeded", 2, 1)


LATER = {"format": 2, "on_done": "note", "started": 0.0, "deadline": None}


@pytest.mark.parametrize(
    "arguments",
    [{"job_id": str(JOB_ID), **LATER}, {"task_id": 7, **LATER, "format": 1}, {"job_id": "no id", **LATER, "format": 1}],
    ids=["another format", "another name", "another kind of id"],
)
async def test_a_row_that_this_version_does_not_understand_is_left_alone(
    session: PlayAISession, service: ScriptedService, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A worker of the later version polls it. The log says so."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits._wait_task.defer_async(**arguments)
        async with backend.working(fetch_job_polling_interval=0.5):
            row = await backend.until(lambda row: row.attempts == 2)
            assert 30 <= asyncio.get_running_loop().time() < 31
    assert (row.status, row.task_kwargs) == ("todo", arguments)
    assert service.arrivals == []
    assert "is of another version" in caplog.text
    assert logged(caplog, "row_unknown")


async def test_a_worker_that_shuts_down_leaves_alone_what_it_does_not_understand(session: PlayAISession) -> None:
    """Even if the shutdown comes in the middle."""
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits._wait_task.defer_async(**LATER)
        async with backend.working(shutdown_graceful_timeout=0):
            await backend.until(lambda row: row.attempts == 1)
        assert (await backend.row()).status == "todo"


@pytest.mark.parametrize(("output", "kind"), [(COMPLETED, Completed), (FAILED, Failed)], ids=["completed", "failed"])
async def test_the_handler_is_called_with_the_job(
    session: PlayAISession, service: ScriptedService, output: dict[str, object], kind: type
) -> None:
    """Completed or failed. The row is finished after that."""
    service.answers(job(), job(output))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await recorder.called()
        row = await backend.until(finished)
    assert outcome.job_id == JOB_ID
    assert outcome.job is not None
    assert isinstance(outcome.job.output, kind)
    assert outcome.error is None
    assert outcome.key == f"{JOB_ID}:note:{output['status']}"
    assert row.status == "succeeded"


async def test_one_row_polls_with_the_pauses_of_its_polling(session: PlayAISession, service: ScriptedService) -> None:
    """The row is rescheduled each time, and no other row is created."""
    service.answers(*[job()] * 7, job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        number = await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called()
        row = await backend.until(finished)
    assert tenths(service.pauses) == [1.0, 1.5, 2.2, 3.4, 5.1, 7.6, 10.0]
    assert (row.id, row.attempts) == (number, 8)
    assert "failures" not in row.task_kwargs  # no counter changed, so none was saved


async def test_a_timeout_of_none_has_no_deadline(session: PlayAISession, service: ScriptedService) -> None:
    """As for `wait_for_completion`."""
    service.answers(*[job()] * 100, job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(fetch_job_polling_interval=5.0):
        await backend.waits.defer(str(JOB_ID), on_done="note", timeout=None)
        outcome = await recorder.called()
    assert outcome.job is not None
    assert recorder.calls[0][0] > 600


async def test_an_unknown_status_is_polled_again(session: PlayAISession, service: ScriptedService) -> None:
    """It does not end the wait."""
    service.answers(job({"status": "PAUSED"}), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await recorder.called()).job is not None


# Errors


async def test_failures_in_a_row_end_a_wait(session: PlayAISession, service: ScriptedService) -> None:
    """After `max_failures` attempts. The handler is called with the last error."""
    service.answers(lost(), Answer(503), lost())
    recorder = RecordingHandler()
    async with in_memory(session, recorder, polling=Polling(jitter=0, max_failures=3)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await recorder.called()
    assert isinstance(outcome.error, TransportError)
    assert outcome.job is None
    assert outcome.key == f"{JOB_ID}:note:TransportError"
    assert tenths(service.pauses) == [1.0, 1.5]


async def test_a_success_resets_the_count_of_failures(session: PlayAISession, service: ScriptedService) -> None:
    """Two in a row would have ended the wait."""
    service.answers(lost(), job(), Answer(503), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder, polling=Polling(jitter=0, max_failures=2)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await recorder.called()).job is not None
        row = await backend.until(finished)
    assert row.task_kwargs["failures"] == 1  # from the last failure; the success ended the wait


async def test_a_429_postpones_a_wait_and_does_not_count(session: PlayAISession, service: ScriptedService) -> None:
    """It is not a failure, does not reset the failures, and does not lengthen the pauses."""
    service.answers(lost(), throttled("7"), job(), lost(), throttled("7"), Answer(503))
    recorder = RecordingHandler()
    async with in_memory(session, recorder, polling=Polling(jitter=0, max_failures=2)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await recorder.called()
        row = await backend.until(finished)
    assert isinstance(outcome.error, UnexpectedServiceError)
    # After the 429: `Retry-After`, and up to a second more.
    first, held, second, third, held_again = service.pauses
    assert tenths([first, second, third]) == [1.0, 1.5, 2.2]
    assert 7 <= held < 9
    assert 7 <= held_again < 9
    assert row.task_kwargs["throttled"] == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_ends_no_wait(
    session: PlayAISession, service: ScriptedService, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be in the middle of a rotation. The first refusal is logged; all count for nothing."""
    refused = Answer(status)
    service.answers(lost(), refused, refused, refused, job(), refused, lost(), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder, polling=Polling(jitter=0, max_failures=3)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await recorder.called()).job is not None
    assert tenths(service.pauses) == [1.0, 1.5, 2.2, 3.4, 5.1, 7.6, 10.0]
    assert caplog.text.count("The service refuses this worker's key") == 2  # once, and once again after it was accepted
    assert logged(caplog, "key_refused")


async def test_a_key_that_is_refused_until_the_deadline_times_out(
    session: PlayAISession, service: ScriptedService
) -> None:
    """The error says what was last met."""
    service.answers(Answer(401))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note", timeout=20)
        outcome = await recorder.called()
    assert isinstance(outcome.error, WaitTimeoutError)
    assert isinstance(outcome.error.last_error, UnauthorizedError)


@pytest.mark.parametrize("status", [408, 425])
async def test_a_request_that_may_be_repeated_is_repeated(
    session: PlayAISession, service: ScriptedService, status: int
) -> None:
    """As for `wait_for_completion`: it counts as a failure."""
    service.answers(Answer(status), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await recorder.called()).job is not None
        assert (await backend.until(finished)).task_kwargs["failures"] == 1


async def test_a_final_error_ends_a_wait_at_once(session: PlayAISession, service: ScriptedService) -> None:
    """As for `wait_for_completion`."""
    service.answers(Answer(404))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await recorder.called()
    assert isinstance(outcome.error, NotFoundError)
    assert outcome.key == f"{JOB_ID}:note:NotFoundError"
    assert len(service.arrivals) == 1


# Deadlines


async def test_the_last_poll_is_sent_just_before_the_deadline(session: PlayAISession, service: ScriptedService) -> None:
    """If the job is not done, the handler is called before the deadline."""
    service.answers(job())
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note", timeout=20)
        outcome = await recorder.called()
    assert tenths(service.arrivals) == [0.0, 1.0, 2.5, 4.8, 8.2, 13.2, 19.0]
    assert recorder.calls[0][0] <= 20
    assert isinstance(outcome.error, WaitTimeoutError)
    assert outcome.error.polls == 7
    assert outcome.error.job is not None
    assert isinstance(outcome.error.job.output, InProgress)
    assert outcome.error.last_error is None
    assert outcome.error.job_id == JOB_ID
    assert outcome.error.elapsed == pytest.approx(19, abs=0.1)
    assert outcome.key == f"{JOB_ID}:note:WaitTimeoutError"


@pytest.mark.parametrize("output", [COMPLETED, {"status": "IN_PROGRESS"}], ids=["done", "not done"])
async def test_a_row_that_is_fetched_after_its_deadline_is_polled_once(
    session: PlayAISession, service: ScriptedService, output: dict[str, object]
) -> None:
    """There may have been no worker for hours, and the job may be done."""
    service.answers(job(output))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        await asyncio.sleep(7_200)
        async with backend.working():
            outcome = await recorder.called()
            await backend.until(finished)
    assert len(service.arrivals) == 1
    assert (outcome.job is None) == (output["status"] == "IN_PROGRESS")


async def test_a_late_row_waits_for_its_last_poll_during_429s(session: PlayAISession, service: ScriptedService) -> None:
    """After a night without workers there may be more late waits than the quota allows."""
    service.answers(throttled("30"), throttled("30"), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        await asyncio.sleep(7_200)
        async with backend.working(fetch_job_polling_interval=1.0):
            assert (await recorder.called()).job is not None
    assert len(service.arrivals) == 3


async def test_a_late_row_times_out_after_an_hour_of_429s(session: PlayAISession, service: ScriptedService) -> None:
    """So that every wait ends."""
    service.answers(throttled("30"))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(fetch_job_polling_interval=10.0):
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        outcome = await recorder.called()
    assert isinstance(outcome.error, WaitTimeoutError)
    assert isinstance(outcome.error.last_error, RateLimitedError)
    assert 3_600 - 60 < recorder.calls[0][0] < 3_600 + 60


# Attempts without a reply


async def test_a_row_is_rescheduled_while_the_session_is_paused(
    session: PlayAISession, service: ScriptedService
) -> None:
    """No slot of the worker is occupied."""
    service.answers(throttled("20"), job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(concurrency=1, fetch_job_polling_interval=0.5):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(5)
        await backend.waits.defer(OTHER_ID, on_done="note")
        await asyncio.sleep(1)
        assert [row.status for row in await backend.rows()] == ["todo", "todo"]
        await recorder.called(2)
    assert recorder.calls[0][0] > 20
    assert len(service.arrivals) == 3


async def test_a_poll_that_is_rate_limited_for_30_s_is_rescheduled(service: ScriptedService) -> None:
    """A spent quota does not occupy a slot for longer. The row keeps its priority."""
    service.answers(job())
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    recorder = RecordingHandler()
    async with (
        PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=1, window=100.0)) as session,
        in_memory(session, recorder) as backend,
        backend.working(fetch_job_polling_interval=0.5),
    ):
        await session.get_job(JOB_ID)
        await backend.waits.defer(OTHER_ID, on_done="note")
        priority = (await backend.row()).priority
        row = await backend.until(lambda row: row.attempts == 1)
        assert 30 <= asyncio.get_running_loop().time() < 31
        assert row.priority == priority
        await recorder.called()
    assert len(service.arrivals) == 2
    assert 100 <= recorder.calls[0][0] < 101


async def test_a_closed_session_does_not_end_waits(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """The session of another worker may be open. Nothing is counted, and the error is logged."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=60)
        await session.aclose()
        async with backend.working(fetch_job_polling_interval=30.0):
            row = await backend.until(lambda row: row.attempts == 2)
            assert row.task_kwargs["unasked"] == 2
            await asyncio.sleep(4_000)
            row = await backend.row()
    assert row.status == "todo"
    assert recorder.calls == []
    assert logged(caplog, "worker_misconfigured")


async def test_a_worker_that_shuts_down_reschedules_its_rows(session: PlayAISession, service: ScriptedService) -> None:
    """Due at once."""
    service.answers(Answer(takes=5), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working(shutdown_graceful_timeout=0.5):
            await asyncio.sleep(1)
        row = await backend.row()
        assert (row.status, row.task_kwargs["unasked"]) == ("todo", 1)
        assert row.scheduled_at is not None
        assert row.scheduled_at <= at()
        async with backend.working():
            await recorder.called()
    assert len(recorder.calls) == 1


async def test_a_row_that_the_user_aborts_is_finished(session: PlayAISession, service: ScriptedService) -> None:
    """It is not rescheduled."""
    service.answers(Answer(takes=20))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working(abort_job_polling_interval=0.1):
        number = await backend.waits.defer(JOB_ID, on_done="note")
        await backend.until(lambda row: row.status == "doing")
        await backend.app.job_manager.cancel_job_by_id_async(number, abort=True)
        row = await backend.until(finished)
    assert row.status == "aborted"
    assert recorder.calls == []


async def test_a_worker_with_wrong_settings_does_not_end_waits(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs an error, and leaves the row to other workers."""
    service.answers(job(), job(COMPLETED))
    recorder = RecordingHandler()
    wrong = Polling(wait=lambda _: "soon")  # type: ignore[arg-type]  # the caller's mistake
    async with in_memory(session, recorder, polling=wrong) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working():
            row = await backend.until(lambda row: row.attempts == 1)
        assert row.status == "todo"
        assert f"This worker cannot wait for job {JOB_ID}: polling.wait failed" in caplog.text
        assert logged(caplog, "worker_misconfigured")
        services = backend.waits._services
        services[None] = attrs.evolve(services[None], polling=Polling(wait=wait_none()))
        async with backend.working():
            await recorder.called()
    assert 30 <= recorder.calls[0][0] < 31


async def test_a_worker_without_the_handler_leaves_the_row(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """It sends no request, logs an error, and leaves the row to other workers."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        handler = backend.waits._handlers.pop("note")
        async with backend.working():
            row = await backend.until(lambda row: row.attempts == 1)
        assert row.status == "todo"
        assert service.arrivals == []
        assert "the handler 'note', which this worker does not have" in caplog.text
        assert logged(caplog, "handler_unknown")
        backend.waits._handlers["note"] = handler
        async with backend.working():
            await recorder.called()
    assert len(service.arrivals) == 1


# Handlers


async def test_a_handler_that_raises_is_called_again(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """After growing pauses, with the job requested again and the same key."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(*[OSError("the disk is full")] * 3)
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(4)
        row = await backend.until(finished)
    assert tenths([called for called, _ in recorder.calls]) == [0.0, 1.0, 3.0, 7.0]
    assert len(service.arrivals) == 4
    assert len({outcome.key for outcome in recorder.outcomes}) == 1
    assert row.status == "succeeded"
    assert "The handler 'note' failed (OSError) for job" in caplog.text
    assert logged(caplog, "handler_failed")


async def test_a_handler_that_always_raises_is_called_20_times(
    session: PlayAISession, service: ScriptedService
) -> None:
    """In about an hour. Then the row is left as failed."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(*[OSError("the disk is full")] * 30)
    async with in_memory(session, recorder) as backend, backend.working(fetch_job_polling_interval=5.0):
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(20)
        row = await backend.until(finished)
    times = [called for called, _ in recorder.calls]
    assert row.status == "failed"
    assert len(times) == 20
    assert 290 < times[-1] - times[-2] < 310
    assert 3_000 < times[-1] < 4_000


async def test_the_last_failure_of_a_handler_is_logged_as_an_error(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """With the name of the handler and the job."""
    service.answers(job(COMPLETED))
    async with in_memory(session, RecordingHandler(OSError()), max_handler_failures=1) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await backend.until(finished)
    (record,) = [record for record in caplog.records if record.name == "playai_async" and record.levelname == "ERROR"]
    assert record.getMessage() == f"The handler 'note' failed (OSError) for job {JOB_ID}; it is not called again."


async def test_a_log_that_raises_does_not_end_a_wait(session: PlayAISession, service: ScriptedService) -> None:
    """Whatever is logged: a handler that failed, a handler that is unknown, a session that is closed."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(OSError("the disk is full"))
    async with in_memory(session, recorder) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        handler = backend.waits._handlers.pop("note")
        with broken_log() as events:
            async with backend.working():
                await backend.until(lambda row: row.attempts == 1)
                backend.waits._handlers["note"] = handler
                await recorder.called(2)
                assert (await backend.until(finished)).status == "succeeded"
            await session.aclose()
            await backend.waits.defer(OTHER_ID, on_done="note")
            async with backend.working():
                rows = await backend.until_all(lambda rows: rows[-1].attempts == 1)
    assert rows[-1].status == "todo"
    assert {"handler_unknown", "handler_failed", "worker_misconfigured"} <= set(events)


async def test_a_handler_that_raises_cancelled_error_has_failed(
    session: PlayAISession, service: ScriptedService
) -> None:
    """The worker does not shut down."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(asyncio.CancelledError())
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called(2)
        row = await backend.until(finished)
    assert row.task_kwargs["calls"] == 1


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()], ids=["exits", "interrupted"])
async def test_a_handler_that_would_end_its_process_has_failed(
    session: PlayAISession, service: ScriptedService, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Because procrastinate suppresses the exception, and would end the row after one call."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(error)
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        row = await backend.until(finished)
    assert (row.status, row.task_kwargs["calls"], len(recorder.calls)) == ("succeeded", 1, 2)
    assert logged(caplog, "handler_failed")


async def test_a_handler_that_always_raises_cancelled_error_is_not_called_for_ever(
    session: PlayAISession, service: ScriptedService
) -> None:
    """Its row does not go round for ever."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler(asyncio.CancelledError(), asyncio.CancelledError())
    async with in_memory(session, recorder, max_handler_failures=2) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        row = await backend.until(finished)
    assert row.status == "aborted"


@pytest.mark.parametrize("error", [asyncio.CancelledError, TimeoutError], ids=["cancelled", "made another error of it"])
async def test_a_handler_that_cancels_its_own_task_is_not_called_for_ever(
    session: PlayAISession, service: ScriptedService, error: type[BaseException]
) -> None:
    """Timeout libraries from before Python 3.11 do this. The worker does not shut down."""
    service.answers(job(COMPLETED))
    called: list[float] = []
    async with in_memory(session, None, max_handler_failures=3) as backend:

        @backend.waits.on_done("note")
        async def _(_: Outcome) -> None:
            called.append(asyncio.get_running_loop().time())
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                raise error from None

        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working():
            await asyncio.sleep(10)
        row = await backend.row()
    assert tenths(called) == [0.0, 1.0, 3.0]
    assert finished(row)


@pytest.mark.parametrize("error", [asyncio.CancelledError, OSError], ids=["cancelled", "made another error of it"])
async def test_a_handler_is_called_again_if_its_worker_shut_down(
    session: PlayAISession, service: ScriptedService, error: type[BaseException]
) -> None:
    """The handler did not return."""
    service.answers(job(COMPLETED))
    calls: list[Outcome] = []

    async with in_memory(session, None) as backend:

        @backend.waits.on_done("slow")
        async def _(outcome: Outcome) -> None:
            calls.append(outcome)
            try:
                await asyncio.sleep(60 if len(calls) == 1 else 0)
            except asyncio.CancelledError:
                raise error from None

        await backend.waits.defer(JOB_ID, on_done="slow")
        async with backend.working(shutdown_graceful_timeout=0):
            await backend.until(lambda row: bool(calls) and row.status == "doing")
        assert (await backend.row()).status == "todo"
        async with backend.working():
            row = await backend.until(finished)
    assert len(calls) == 2
    assert "calls" not in row.task_kwargs


async def test_a_rescheduled_row_is_logged_in_one_line(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """The exception of each attempt is logged by procrastinate at INFO."""
    caplog.set_level("INFO", "procrastinate")
    service.answers(job(), job(COMPLETED))
    recorder = RecordingHandler()
    async with in_memory(session, recorder) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await recorder.called()
    (record,) = [record for record in caplog.records if "Error, to retry" in record.getMessage()]
    assert record.exc_text is None or "Traceback" not in record.exc_text
    assert "polled again in 1.0 s" in caplog.text


# Priorities


async def test_the_row_that_has_been_due_longest_is_polled_first(
    session: PlayAISession, service: ScriptedService
) -> None:
    """With more rows due than the quota allows, the first rows stored would be polled again and again."""
    first, second = UUID(int=1), UUID(int=2)
    for job_id in (first, second):
        service.answers(job(job_id=job_id), job_id=job_id)
    async with in_memory(session, RecordingHandler()) as backend:
        await backend.waits.defer(first, on_done="note")
        async with backend.working():
            await backend.until(lambda row: row.attempts == 1)
        await backend.waits.defer(second, on_done="note")  # due at once, a second before the first
        await asyncio.sleep(10)
        async with backend.working(concurrency=1):
            await backend.until_all(lambda rows: sum(row.attempts for row in rows) >= 3)
    asked = [str(request["url"]).rpartition("/")[2] for request in service.requests]
    assert asked == [str(first), str(second), str(first)]


# Invalid arguments


async def test_an_invalid_wait_is_not_stored(session: PlayAISession) -> None:
    """Whatever is wrong with it."""
    async with in_memory(session, RecordingHandler()) as backend:
        with pytest.raises(ValueError, match="no handler is named 'nothing'"):
            await backend.waits.defer(JOB_ID, on_done="nothing")
        with pytest.raises(ValueError, match="not a job id"):
            await backend.waits.defer("no id", on_done="note")
        with pytest.raises(TypeError):
            await backend.waits.defer(5, on_done="note")  # type: ignore[arg-type]  # tests the mistake
        with pytest.raises(ValueError, match="timeout must be a positive") as caught:
            await backend.waits.defer(JOB_ID, on_done="note", timeout=0)
        assert type(caught.value) is ValueError
        assert await backend.rows() == []


async def test_a_blueprint_without_an_app_raises_procrastinates_error(session: PlayAISession) -> None:
    """Its message says what to do."""
    waits = DurableWaits(session)
    waits.on_done("note")(RecordingHandler().note)
    with pytest.raises(UnboundTaskError):
        await waits.defer(JOB_ID, on_done="note")


def test_settings_are_validated_at_construction() -> None:
    """When they are given."""
    session = PlayAISession(API_KEY, USER_ID)
    with pytest.raises(TypeError, match="playai must be a PlayAISession"):
        DurableWaits("playai")  # type: ignore[arg-type]  # tests the mistake
    with pytest.raises(TypeError, match="polling must be a Polling"):
        DurableWaits(session, polling=5)  # type: ignore[arg-type]  # tests the mistake
    with pytest.raises(ConfigurationError, match="queue is empty"):
        DurableWaits(session, queue="")
    with pytest.raises(ConfigurationError, match="max_handler_failures must be at least 1"):
        DurableWaits(session, max_handler_failures=0)


def test_the_default_polling_is_that_of_the_session() -> None:
    """Its own settings are the default."""
    session = PlayAISession(API_KEY, USER_ID, polling=EXACT)
    assert DurableWaits(session)._services[None].polling is EXACT


def test_the_name_of_a_handler_is_unique() -> None:
    """Rows store the name."""
    waits = DurableWaits(PlayAISession(API_KEY, USER_ID))
    recorder = RecordingHandler()
    decorated = waits.on_done("note")(recorder.note)
    assert decorated == recorder.note
    for name, problem in (("note", "another handler is named 'note'"), ("", "the name of a handler is empty")):
        with pytest.raises(ValueError, match=problem):
            waits.on_done(name)


def test_a_handler_must_be_a_coroutine_function() -> None:
    """Any other would be done before it is awaited."""
    waits = DurableWaits(PlayAISession(API_KEY, USER_ID))
    with pytest.raises(TypeError, match="a handler must be a coroutine function, not a builtin_function_or_method"):
        waits.on_done("note")(print)  # type: ignore[type-var]  # tests the mistake


def test_the_public_names_are_few() -> None:
    """What is private may change."""
    assert durable.__all__ == ["DurableWaits", "JobOutcome", "Outcome", "TimeoutConnector"]
    assert TimeoutConnector.__module__ == durable.__name__
    assert {name for name in vars(durable) if not name.startswith("_")} == set(durable.__all__)
    assert {name for name in dir(DurableWaits) if not name.startswith("_")} == {"defer", "hint", "on_done"}


@pytest.mark.parametrize("public", [DurableWaits, Outcome])
def test_public_names_report_the_module_that_users_import(public: type) -> None:
    """In tracebacks and reprs. The annotations can still be resolved."""
    assert public.__module__ == "playai_async.contrib.procrastinate"
    assert get_type_hints(public).keys() == get_annotations(public).keys()
