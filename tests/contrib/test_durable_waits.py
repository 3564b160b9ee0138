"""Durable waits in virtual time, their rows in memory: what is asked when, and what the handler is told."""

from __future__ import annotations

import asyncio
from inspect import get_annotations
from typing import get_type_hints
from uuid import UUID

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
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async.contrib import procrastinate as durable
from playai_async.contrib.procrastinate import DurableWaits, Outcome
from playai_async.contrib.procrastinate._rows import priority_of
from tests.contrib.durable import EXACT, Books, at, finished, in_memory, told
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
    """Round pauses to what a worker that looks every hundredth of a second can keep to."""
    return [round(pause, 1) for pause in pauses]


# From the first row to the handler


async def test_a_wait_is_stored_and_nothing_is_asked(session: PlayAISession, service: ScriptedService) -> None:
    """The id is safe before the first poll."""
    service.answers(job())
    async with in_memory(session, Books()) as backend:
        number = await backend.waits.defer(JOB_ID, on_done="note", timeout=60)
        row = await backend.row()
        now = at().timestamp()
    assert (row.id, row.status, row.queue, row.task_name) == (number, "todo", "playai", "playai:wait")
    assert row.task_kwargs == {"job_id": str(JOB_ID), "on_done": "note", "started": now, "deadline": now + 60}
    assert row.priority == priority_of(now)
    assert service.arrivals == []


async def test_a_row_of_a_later_version_is_polled(session: PlayAISession, service: ScriptedService) -> None:
    """Both run while one takes the other's place; what is not known here is left in the row."""
    service.answers(job(), job(COMPLETED))
    async with in_memory(session, Books()) as backend:
        await backend.waits._wait_task.defer_async(
            job_id=str(JOB_ID), on_done="note", started=0.0, deadline=None, new=1
        )
        async with backend.working():
            row = await backend.until(finished)
    assert (row.status, row.attempts, row.task_kwargs["new"]) == ("succeeded", 2, 1)


@pytest.mark.parametrize(("output", "kind"), [(COMPLETED, Completed), (FAILED, Failed)], ids=["completed", "failed"])
async def test_the_handler_is_told_of_the_end(
    session: PlayAISession, service: ScriptedService, output: dict[str, object], kind: type
) -> None:
    """Well or badly; the row is then done."""
    service.answers(job(), job(output))
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await books.told()
        row = await backend.until(finished)
    assert outcome.job_id == JOB_ID
    assert outcome.job is not None
    assert isinstance(outcome.job.output, kind)
    assert outcome.error is None
    assert outcome.key == f"{JOB_ID}:note:{output['status']}"
    assert row.status == "succeeded"


async def test_one_row_polls_with_the_pauses_of_its_polling(session: PlayAISession, service: ScriptedService) -> None:
    """It is put back each time, and no other row is made."""
    service.answers(*[job()] * 7, job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        number = await backend.waits.defer(JOB_ID, on_done="note")
        await books.told()
        row = await backend.until(finished)
    assert tenths(service.pauses) == [1.0, 1.5, 2.2, 3.4, 5.1, 7.6, 10.0]
    assert (row.id, row.attempts) == (number, 8)
    assert "failures" not in row.task_kwargs  # nothing was counted, so nothing was written


async def test_a_wait_of_its_own_has_no_deadline(session: PlayAISession, service: ScriptedService) -> None:
    """None is none, as for `wait_for_completion`."""
    service.answers(*[job()] * 100, job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend, backend.working(fetch_job_polling_interval=1.0):
        await backend.waits.defer(str(JOB_ID), on_done="note", timeout=None)
        outcome = await books.told()
    assert outcome.job is not None
    assert books.calls[0][0] > 600


async def test_an_unknown_state_is_polled_on(session: PlayAISession, service: ScriptedService) -> None:
    """It is not taken for an end."""
    service.answers(job({"status": "PAUSED"}), job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await books.told()).job is not None


# Errors


async def test_failures_in_a_row_end_a_wait(session: PlayAISession, service: ScriptedService) -> None:
    """As many as the settings say, over as many turns; the handler is given the last."""
    service.answers(lost(), Answer(503), lost())
    books = Books()
    async with in_memory(session, books, polling=Polling(jitter=0, max_failures=3)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await books.told()
    assert isinstance(outcome.error, TransportError)
    assert outcome.job is None
    assert outcome.key == f"{JOB_ID}:note:TransportError"
    assert tenths(service.pauses) == [1.0, 1.5]


async def test_a_good_answer_resets_the_count_of_failures(session: PlayAISession, service: ScriptedService) -> None:
    """Two in a row would have ended it."""
    service.answers(lost(), job(), Answer(503), job(COMPLETED))
    books = Books()
    async with in_memory(session, books, polling=Polling(jitter=0, max_failures=2)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        assert (await books.told()).job is not None
        row = await backend.until(finished)
    assert row.task_kwargs["failures"] == 1  # what the last failure left; the good answer ended the wait


async def test_a_429_holds_a_wait_and_counts_for_nothing(session: PlayAISession, service: ScriptedService) -> None:
    """It is no failure, resets none, and does not lengthen the pauses."""
    service.answers(lost(), throttled("7"), job(), lost(), throttled("7"), Answer(503))
    books = Books()
    async with in_memory(session, books, polling=Polling(jitter=0, max_failures=2)) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await books.told()
        row = await backend.until(finished)
    assert isinstance(outcome.error, UnexpectedServiceError)
    # After the 429: what the service asked for, and up to a second more.
    first, held, second, third, held_again = service.pauses
    assert tenths([first, second, third]) == [1.0, 1.5, 2.2]
    assert 7 <= held < 9
    assert 7 <= held_again < 9
    assert row.task_kwargs["throttled"] == 2


async def test_a_refusal_ends_a_wait_at_once(session: PlayAISession, service: ScriptedService) -> None:
    """As `wait_for_completion` has it."""
    service.answers(Answer(404))
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        outcome = await books.told()
    assert isinstance(outcome.error, NotFoundError)
    assert outcome.key == f"{JOB_ID}:note:NotFoundError"
    assert len(service.arrivals) == 1


# The deadline


async def test_the_last_poll_goes_out_just_before_the_deadline(
    session: PlayAISession, service: ScriptedService
) -> None:
    """Rather than none; if it finds nothing, the handler is told by then."""
    service.answers(job())
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note", timeout=20)
        outcome = await books.told()
    assert tenths(service.arrivals) == [0.0, 1.0, 2.5, 4.8, 8.1, 13.2, 19.0]
    assert books.calls[0][0] <= 20
    assert isinstance(outcome.error, WaitTimeoutError)
    assert outcome.error.polls == 7
    assert outcome.error.job is not None
    assert isinstance(outcome.error.job.output, InProgress)
    assert outcome.error.last_error is None
    assert outcome.error.job_id == JOB_ID
    assert outcome.error.elapsed == pytest.approx(19, abs=0.1)
    assert outcome.key == f"{JOB_ID}:note:WaitTimeoutError"


@pytest.mark.parametrize("output", [COMPLETED, {"status": "IN_PROGRESS"}], ids=["done", "not done"])
async def test_a_row_that_comes_up_late_is_polled_once(
    session: PlayAISession, service: ScriptedService, output: dict[str, object]
) -> None:
    """There may have been no worker for hours, and the job be done all the same."""
    service.answers(job(output))
    books = Books()
    async with in_memory(session, books) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        await asyncio.sleep(7_200)
        async with backend.working():
            outcome = await books.told()
            await backend.until(finished)
    assert len(service.arrivals) == 1
    assert (outcome.job is None) == (output["status"] == "IN_PROGRESS")


async def test_a_late_row_waits_for_its_one_poll_while_429s_hold_it(
    session: PlayAISession, service: ScriptedService
) -> None:
    """A night without workers leaves more late waits than a window has requests."""
    service.answers(throttled("30"), throttled("30"), job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        await asyncio.sleep(7_200)
        async with backend.working():
            assert (await books.told()).job is not None
    assert len(service.arrivals) == 3


async def test_a_late_row_is_given_up_while_429s_go_on(session: PlayAISession, service: ScriptedService) -> None:
    """After an hour, so that a wait ends in the end."""
    service.answers(throttled("30"))
    books = Books()
    async with in_memory(session, books) as backend, backend.working(fetch_job_polling_interval=1.0):
        await backend.waits.defer(JOB_ID, on_done="note", timeout=10)
        outcome = await books.told()
    assert isinstance(outcome.error, WaitTimeoutError)
    assert isinstance(outcome.error.last_error, RateLimitedError)
    assert 3_600 - 60 < books.calls[0][0] < 3_600 + 60


# Turns without an answer


async def test_a_session_that_pauses_is_not_asked(session: PlayAISession, service: ScriptedService) -> None:
    """The row is put back until the pause is over, and no worker's slot is held."""
    service.answers(throttled("20"), job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    books = Books()
    async with in_memory(session, books) as backend, backend.working(concurrency=1):
        await backend.waits.defer(JOB_ID, on_done="note")
        await asyncio.sleep(5)
        await backend.waits.defer(OTHER_ID, on_done="note")
        await asyncio.sleep(1)
        assert [row.status for row in await backend.rows()] == ["todo", "todo"]
        await books.told(2)
    assert books.calls[0][0] > 20
    assert len(service.arrivals) == 3


async def test_a_turn_that_does_not_come_is_given_back(service: ScriptedService) -> None:
    """A spent quota does not hold a slot for longer than half a minute; the row keeps its place."""
    service.answers(job())
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    books = Books()
    async with (
        PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=1, window=100.0)) as session,
        in_memory(session, books) as backend,
        backend.working(),
    ):
        await session.get_job(JOB_ID)
        await backend.waits.defer(OTHER_ID, on_done="note")
        priority = (await backend.row()).priority
        row = await backend.until(lambda row: row.attempts == 1)
        assert 30 <= asyncio.get_running_loop().time() < 31
        assert row.priority == priority
        await books.told()
    assert len(service.arrivals) == 2
    assert 100 <= books.calls[0][0] < 101


async def test_a_closed_session_ends_no_wait(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker's session may be open; nothing is counted, however late the row is, and the log says so."""
    service.answers(job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend:
        await backend.waits.defer(JOB_ID, on_done="note", timeout=60)
        await session.aclose()
        async with backend.working(fetch_job_polling_interval=5.0):
            row = await backend.until(lambda row: row.attempts == 2)
            assert row.task_kwargs["unasked"] == 2
            await asyncio.sleep(4_000)
            row = await backend.row()
    assert row.status == "todo"
    assert books.calls == []
    assert told(caplog, "worker_misconfigured")


async def test_a_worker_that_stops_puts_its_rows_back(session: PlayAISession, service: ScriptedService) -> None:
    """Due at once, with nothing counted but that no answer came."""
    service.answers(Answer(takes=5), job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working(shutdown_graceful_timeout=0.5):
            await asyncio.sleep(1)
        row = await backend.row()
        assert (row.status, row.task_kwargs["unasked"]) == ("todo", 1)
        assert row.scheduled_at is not None
        assert row.scheduled_at <= at()
        async with backend.working():
            await books.told()
    assert len(books.calls) == 1


async def test_a_row_that_its_user_aborts_is_over(session: PlayAISession, service: ScriptedService) -> None:
    """It is not put back."""
    service.answers(Answer(takes=20))
    books = Books()
    async with in_memory(session, books) as backend, backend.working(abort_job_polling_interval=0.1):
        number = await backend.waits.defer(JOB_ID, on_done="note")
        await backend.until(lambda row: row.status == "doing")
        await backend.app.job_manager.cancel_job_by_id_async(number, abort=True)
        row = await backend.until(finished)
    assert row.status == "aborted"
    assert books.calls == []


async def test_a_worker_with_wrong_settings_ends_no_wait(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so, and leaves the row to one whose settings are right."""
    service.answers(job(), job(COMPLETED))
    books = Books()
    wrong = Polling(wait=lambda _: "soon")  # type: ignore[arg-type]  # the caller's mistake
    async with in_memory(session, books, polling=wrong) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        async with backend.working():
            row = await backend.until(lambda row: row.attempts == 1)
        assert row.status == "todo"
        assert f"This worker cannot wait for job {JOB_ID}: polling.wait failed" in caplog.text
        assert told(caplog, "worker_misconfigured")
        backend.waits._polling = Polling(wait=wait_none())
        async with backend.working():
            await books.told()
    assert 30 <= books.calls[0][0] < 31


async def test_a_worker_without_the_handler_leaves_the_row(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks for nothing, says so, and leaves the wait to one that has it."""
    service.answers(job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend:
        await backend.waits.defer(JOB_ID, on_done="note")
        handler = backend.waits._handlers.pop("note")
        async with backend.working():
            row = await backend.until(lambda row: row.attempts == 1)
        assert row.status == "todo"
        assert service.arrivals == []
        assert "the handler 'note', which this worker does not have" in caplog.text
        assert told(caplog, "handler_unknown")
        backend.waits._handlers["note"] = handler
        async with backend.working():
            await books.told()
    assert len(service.arrivals) == 1


# The handler


async def test_a_handler_that_raises_is_called_again(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """After growing pauses, each time with the job asked for anew and the same key."""
    service.answers(job(COMPLETED))
    books = Books(*[OSError("the disk is full")] * 3)
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await books.told(4)
        row = await backend.until(finished)
    assert tenths([called for called, _ in books.calls]) == [0.0, 1.0, 3.0, 7.0]
    assert len(service.arrivals) == 4
    assert len({outcome.key for outcome in books.outcomes}) == 1
    assert row.status == "succeeded"
    assert "The handler 'note' failed (OSError) for job" in caplog.text
    assert told(caplog, "handler_failed")


async def test_the_pauses_of_a_handler_stop_at_five_minutes(session: PlayAISession, service: ScriptedService) -> None:
    """Twenty calls, which take about an hour; then the row is left as failed, with what was raised."""
    service.answers(job(COMPLETED))
    books = Books(*[OSError("the disk is full")] * 30)
    async with in_memory(session, books) as backend, backend.working(fetch_job_polling_interval=1.0):
        await backend.waits.defer(JOB_ID, on_done="note")
        await books.told(20)
        row = await backend.until(finished)
    times = [called for called, _ in books.calls]
    assert row.status == "failed"
    assert len(times) == 20
    assert 290 < times[-1] - times[-2] < 310
    assert 3_000 < times[-1] < 4_000


async def test_a_handler_that_is_given_up_is_told_of_in_the_log(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """At ERROR, by name and job."""
    service.answers(job(COMPLETED))
    async with in_memory(session, Books(OSError()), max_handler_failures=1) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await backend.until(finished)
    (record,) = [record for record in caplog.records if record.name == "playai_async" and record.levelname == "ERROR"]
    assert record.getMessage() == f"The handler 'note' failed (OSError) for job {JOB_ID}; it is not called again."


async def test_a_handler_that_cancels_itself_has_failed(session: PlayAISession, service: ScriptedService) -> None:
    """It is no worker that stops."""
    service.answers(job(COMPLETED))
    books = Books(asyncio.CancelledError())
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await books.told(2)
        row = await backend.until(finished)
    assert row.task_kwargs["calls"] == 1


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()], ids=["exits", "interrupted"])
async def test_a_handler_that_would_end_its_process_has_failed(
    session: PlayAISession, service: ScriptedService, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Its row would be over, as procrastinate lets nothing through; one call is not all that it was promised."""
    service.answers(job(COMPLETED))
    books = Books(error)
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        row = await backend.until(finished)
    assert (row.status, row.task_kwargs["calls"], len(books.calls)) == ("succeeded", 1, 2)
    assert told(caplog, "handler_failed")


async def test_a_handler_that_only_cancels_itself_is_given_up(session: PlayAISession, service: ScriptedService) -> None:
    """Its row does not go round for ever."""
    service.answers(job(COMPLETED))
    books = Books(asyncio.CancelledError(), asyncio.CancelledError())
    async with in_memory(session, books, max_handler_failures=2) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        row = await backend.until(finished)
    assert row.status == "aborted"


@pytest.mark.parametrize("error", [asyncio.CancelledError, TimeoutError], ids=["cancelled", "made another error of it"])
async def test_a_handler_that_cancels_its_own_task_is_given_up(
    session: PlayAISession, service: ScriptedService, error: type[BaseException]
) -> None:
    """Timeouts of before Python 3.11 do so, and never take it back; it is no worker that stops either."""
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
async def test_a_worker_that_stops_during_a_handler_has_it_called_again(
    session: PlayAISession, service: ScriptedService, error: type[BaseException]
) -> None:
    """At least once: it did not return."""
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


async def test_what_is_put_back_is_logged_in_a_line(
    session: PlayAISession, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    """Procrastinate logs the exception of each turn, at INFO."""
    caplog.set_level("INFO", "procrastinate")
    service.answers(job(), job(COMPLETED))
    books = Books()
    async with in_memory(session, books) as backend, backend.working():
        await backend.waits.defer(JOB_ID, on_done="note")
        await books.told()
    (record,) = [record for record in caplog.records if "Error, to retry" in record.getMessage()]
    assert record.exc_text is None or "Traceback" not in record.exc_text
    assert "polled again in 1.0 s" in caplog.text


# Whose turn it is


async def test_what_has_been_due_longest_goes_first(session: PlayAISession, service: ScriptedService) -> None:
    """Not what was stored first: with more rows due than turns, that would be polled again and again."""
    first, second = UUID(int=1), UUID(int=2)
    for job_id in (first, second):
        service.answers(job(job_id=job_id), job_id=job_id)
    async with in_memory(session, Books()) as backend:
        await backend.waits.defer(first, on_done="note")
        async with backend.working():
            await backend.until(lambda row: row.attempts == 1)
        await backend.waits.defer(second, on_done="note")  # due at once, a second before the first is
        await asyncio.sleep(10)
        async with backend.working(concurrency=1):
            await backend.until_all(lambda rows: sum(row.attempts for row in rows) >= 3)
    asked = [str(request["url"]).rpartition("/")[2] for request in service.requests]
    assert asked == [str(first), str(second), str(first)]


# What is refused


async def test_a_wait_that_cannot_be_is_not_stored(session: PlayAISession) -> None:
    """Whatever is wrong with it."""
    async with in_memory(session, Books()) as backend:
        with pytest.raises(ValueError, match="no handler is named 'nothing'"):
            await backend.waits.defer(JOB_ID, on_done="nothing")
        with pytest.raises(ValueError, match="not a job id"):
            await backend.waits.defer("no id", on_done="note")
        with pytest.raises(TypeError):
            await backend.waits.defer(5, on_done="note")  # type: ignore[arg-type]  # that is the point
        with pytest.raises(ConfigurationError, match="timeout must be a positive") as caught:
            await backend.waits.defer(JOB_ID, on_done="note", timeout=0)
        assert await backend.rows() == []
    assert caught.value.job_id == JOB_ID


async def test_waits_of_no_app_are_procrastinates_error(session: PlayAISession) -> None:
    """It says what to do."""
    waits = DurableWaits(session)
    waits.on_done("note")(Books().note)
    with pytest.raises(UnboundTaskError):
        await waits.defer(JOB_ID, on_done="note")


def test_settings_are_checked() -> None:
    """When they are given."""
    session = PlayAISession(API_KEY, USER_ID)
    with pytest.raises(TypeError, match="playai must be a PlayAISession"):
        DurableWaits("playai")  # type: ignore[arg-type]  # that is the point
    with pytest.raises(TypeError, match="polling must be a Polling"):
        DurableWaits(session, polling=5)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(ConfigurationError, match="queue is empty"):
        DurableWaits(session, queue="")
    with pytest.raises(ConfigurationError, match="max_handler_failures must be at least 1"):
        DurableWaits(session, max_handler_failures=0)


def test_a_session_polls_as_it_would_itself() -> None:
    """Its own settings are the default."""
    session = PlayAISession(API_KEY, USER_ID, polling=EXACT)
    assert DurableWaits(session)._polling is EXACT


def test_a_handler_has_a_name_of_its_own() -> None:
    """Rows go by it."""
    waits = DurableWaits(PlayAISession(API_KEY, USER_ID))
    books = Books()
    decorated = waits.on_done("note")(books.note)
    assert decorated == books.note
    for name, problem in (("note", "another handler is named 'note'"), ("", "the name of a handler is empty")):
        with pytest.raises(ValueError, match=problem):
            waits.on_done(name)


def test_a_handler_is_a_coroutine_function() -> None:
    """Any other would be done before it is awaited."""
    waits = DurableWaits(PlayAISession(API_KEY, USER_ID))
    with pytest.raises(TypeError, match="a handler must be a coroutine function, not a builtin_function_or_method"):
        waits.on_done("note")(print)  # type: ignore[type-var]  # that is the point


def test_the_public_names_are_two() -> None:
    """`DurableWaits` and `Outcome`."""
    assert durable.__all__ == ["DurableWaits", "Outcome"]
    assert {name for name in vars(durable) if not name.startswith("_")} == set(durable.__all__)
    assert {name for name in dir(DurableWaits) if not name.startswith("_")} == {"defer", "on_done"}


@pytest.mark.parametrize("public", [DurableWaits, Outcome])
def test_public_names_report_the_module_that_users_import(public: type) -> None:
    """In tracebacks and reprs; the annotations can still be resolved."""
    assert public.__module__ == "playai_async.contrib.procrastinate"
    assert get_type_hints(public).keys() == get_annotations(public).keys()
