"""Durable waits for the jobs of any service, with pollers by name: in virtual time, with rows in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import attrs
import procrastinate
import pytest
from procrastinate.testing import InMemoryConnector

from playai_async import ConfigurationError, PlayAISession, Polling
from playai_async.contrib.procrastinate import DurableWaits, JobOutcome
from playai_async.contrib.procrastinate._constants import MAX_OVERTIME
from playai_async.contrib.procrastinate._decisions import on_no_reply, on_result
from playai_async.contrib.procrastinate._services import poller_service
from playai_async.contrib.procrastinate._values import Row
from playai_async.jobs import JobPoller, JobTimeoutError
from tests.contrib.durable import EXACT, Backend, RecordingHandler, finished, logged
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, ScriptedService, job

pytestmark = pytest.mark.usefixtures("one_clock")


@attrs.frozen
class Task:
    """A job of another service."""

    done: bool = False


class ServiceError(Exception):
    """What a client of that service raises.

    Args:
        status: The HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status_code = status


class Client:
    """A client of that service, whose answers are given.

    Args:
        answers: What each request brings; the last one again and again.
    """

    def __init__(self, *answers: Task | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[str] = []

    async def fetch(self, task_id: str) -> Task:
        """Make a status request."""
        self.requests.append(task_id)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def is_done(task: Task) -> bool:
    """Return whether a task is finished."""
    return task.done


class PollerBackend(Backend):
    """An app that waits for the tasks of a client with the poller "tasks", and its handler."""

    def __init__(self, poller: JobPoller[str, Task], playai: PlayAISession | None = None, **settings: Any) -> None:
        self.poller = poller
        self.handled: list[JobOutcome[Task]] = []
        self.waits = DurableWaits(playai, pollers={"tasks": poller}, **settings)
        self.waits.on_done("keep", poller="tasks")(self.keep)
        self.app = procrastinate.App(connector=InMemoryConnector())
        self.app.add_tasks_from(self.waits.blueprint, namespace="playai")

    async def keep(self, outcome: JobOutcome[Task]) -> None:
        """Keep an outcome."""
        self.handled.append(outcome)

    async def outcome(self) -> JobOutcome[Task]:
        """Wait for the end of the only wait."""
        await self.until(finished)
        (outcome,) = self.handled
        return outcome


@contextlib.asynccontextmanager
async def waiting(
    client: Client, *, of_poller: Polling = EXACT, settings: dict[str, Any] | None = None
) -> AsyncGenerator[PollerBackend]:
    """Open an app with a worker, and begin a wait for a task."""
    async with JobPoller(client.fetch, is_done=is_done, polling=of_poller) as poller:
        backend = PollerBackend(poller, **(settings or {}))
        async with backend.app.open_async():
            await backend.waits.defer("task-1", on_done="keep")
            async with backend.working():
                yield backend


async def test_a_row_names_the_poller_that_asks_for_its_job() -> None:
    """Any worker with a poller of this name continues. The id may be any text."""
    client = Client(Task(), Task(), Task(done=True))
    async with waiting(client) as backend:
        row = await backend.row()
        outcome = await backend.outcome()
    assert {"job_id": "task-1", "on_done": "keep", "poller": "tasks"}.items() <= row.task_kwargs.items()
    assert outcome == JobOutcome(job_id="task-1", key="task-1:keep:DONE", job=Task(done=True))
    assert client.requests == ["task-1"] * 3


async def test_transient_errors_in_a_row_end_a_wait() -> None:
    """With the last one, and a note that names the job."""
    async with waiting(Client(ServiceError(503)), of_poller=Polling(jitter=0, max_failures=3)) as backend:
        outcome = await backend.outcome()
        row = await backend.row()
    assert (outcome.job, outcome.key, row.attempts) == (None, "task-1:keep:ServiceError", 3)
    assert isinstance(outcome.error, ServiceError)
    assert outcome.error.__notes__ == ["While waiting for job task-1."]


async def test_a_final_error_ends_a_wait_at_once() -> None:
    """As for `JobPoller.wait_for_completion`."""
    async with waiting(Client(ServiceError(404))) as backend:
        outcome = await backend.outcome()
        assert (await backend.row()).attempts == 1
    assert isinstance(outcome.error, ServiceError)


async def test_a_refused_key_ends_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Until the deadline. The first refusal is logged."""
    client = Client(*[ServiceError(401)] * 5, ServiceError(403), Task(done=True))
    async with waiting(client, of_poller=Polling(jitter=0, max_failures=2)) as backend:
        assert (await backend.outcome()).job == Task(done=True)
    assert caplog.text.count("refuses this worker's key") == 1
    assert logged(caplog, "key_refused")


async def test_the_deadline_ends_a_wait() -> None:
    """With the job as last seen. The settings of the waits come before those of the poller."""
    async with waiting(Client(Task()), settings={"polling": Polling(jitter=0, timeout=20)}) as backend:
        outcome = await backend.outcome()
    assert isinstance(outcome.error, JobTimeoutError)
    assert (outcome.error.job, outcome.error.last_error, outcome.error.polls) == (Task(), None, 7)
    assert outcome.key == "task-1:keep:JobTimeoutError"


async def test_a_client_that_times_out_has_failed() -> None:
    """The time of a turn is another one, and counts for nothing."""
    async with waiting(Client(TimeoutError(), Task(done=True))) as backend:
        await backend.outcome()
        row = await backend.row()
    assert row.task_kwargs["failures"] == 1


async def test_a_job_of_the_session_has_the_session(session: PlayAISession, service: ScriptedService) -> None:
    """One app may wait for both, with one queue."""
    service.answers(job(COMPLETED))
    recorder = RecordingHandler()
    async with JobPoller(Client(Task(done=True)).fetch, is_done=is_done) as poller:
        backend = PollerBackend(poller, session)
        backend.waits.on_done("note")(recorder.note)
        async with backend.app.open_async(), backend.working():
            await backend.waits.defer(JOB_ID, on_done="note")
            await backend.waits.defer("task-1", on_done="keep")
            await backend.until_all(lambda rows: all(map(finished, rows)))
    assert [outcome.job_id for outcome in recorder.outcomes] == [JOB_ID]
    assert [outcome.job_id for outcome in backend.handled] == ["task-1"]


async def test_a_handler_of_another_poller_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    """A deployment gave its name to another service. The row is left to other workers."""
    client = Client(Task(done=True))
    async with waiting(client) as backend:
        await backend.outcome()
        await backend.waits._wait_task.defer_async(
            job_id="task-2", on_done="keep", poller="others", started=0.0, deadline=None
        )
        await backend.until_all(lambda rows: rows[-1].attempts == 1)
    assert client.requests == ["task-1"]
    assert logged(caplog, "handler_unknown")


@pytest.mark.parametrize("closed", [True, False], ids=["closed poller", "is_done raises"])
async def test_a_mistake_in_a_worker_ends_no_wait(caplog: pytest.LogCaptureFixture, *, closed: bool) -> None:
    """The row is left to other workers."""

    def fails(task: Task) -> bool:
        raise AttributeError(task)

    async with JobPoller(Client(Task()).fetch, is_done=fails) as poller:
        backend = PollerBackend(poller)
        async with backend.app.open_async():
            await backend.waits.defer("task-1", on_done="keep")
            if closed:
                await poller.aclose()
            async with backend.working():
                row = await backend.until(lambda row: row.attempts == 1)
    assert row.status == "todo"
    assert logged(caplog, "worker_misconfigured")


async def test_a_hint_names_the_poller() -> None:
    """Services may give the same id to different jobs."""
    client = Client(Task(), Task(done=True))
    async with waiting(client, of_poller=Polling(initial=100, maximum=100, jitter=0)) as backend:
        await backend.until(lambda row: row.attempts == 1)
        await asyncio.sleep(2)
        with pytest.raises(ValueError, match="no poller is named 'others'"):
            await backend.waits.hint("task-1", poller="others")
        with pytest.raises(ValueError, match="there is no session"):
            await backend.waits.hint(JOB_ID)
        assert not await backend.waits.hint("task-2", poller="tasks")
        assert await backend.waits.hint("task-1", poller="tasks")
        await backend.outcome()
        assert 2 <= asyncio.get_running_loop().time() < 3


def a_row() -> Row:
    """A wait that began at 1970."""
    return Row(job_id="task-1", on_done="keep", poller="tasks", started=0.0, deadline=100.0, late_since=100.0)


def test_a_throttled_request_counts_for_nothing() -> None:
    """A poller sends it again by itself; a client that gives up first does not."""
    judge = poller_service(JobPoller(Client(Task()).fetch, is_done=is_done)).judge
    again = on_result(a_row(), ServiceError(429), 1.0, 2.0, pause=7.0, polling=EXACT, judge=judge)
    assert again.counters == {"throttled": 1}  # type: ignore[union-attr]  # else it fails


def test_a_wait_that_429s_keep_from_its_last_poll_times_out() -> None:
    """After an hour. The error says why."""
    judge = poller_service(JobPoller(Client(Task()).fetch, is_done=is_done)).judge
    outcome = on_no_reply(a_row(), 101.0 + MAX_OVERTIME, reason="rate limited", judge=judge)
    assert isinstance(outcome, JobOutcome)
    assert isinstance(outcome.error, JobTimeoutError)
    assert "no answer yet; rate limited" in str(outcome.error)


async def test_an_invalid_wait_is_not_stored() -> None:
    """Only texts survive in a row."""
    async with waiting(Client(Task(done=True))) as backend:
        with pytest.raises(TypeError, match="job must be a str"):
            await backend.waits.defer(JOB_ID, on_done="keep")
        with pytest.raises(ValueError, match="the id of a job is empty"):
            await backend.waits.defer("", on_done="keep")
        assert len(await backend.rows()) == 1


def test_settings_are_validated_at_construction() -> None:
    """When they are given."""
    poller = JobPoller(Client(Task()).fetch, is_done=is_done)
    with pytest.raises(ConfigurationError, match="needs a session or pollers"):
        DurableWaits()
    with pytest.raises(ConfigurationError, match="the name of a poller is empty"):
        DurableWaits(pollers={"": poller})
    with pytest.raises(TypeError, match="pollers\\['tasks'\\] must be a JobPoller"):
        DurableWaits(pollers={"tasks": PlayAISession(API_KEY, USER_ID)})  # type: ignore[dict-item]  # tests the mistake
    with pytest.raises(ValueError, match="no poller is named 'others'"):
        DurableWaits(pollers={"tasks": poller}).on_done("keep", poller="others")
    with pytest.raises(ValueError, match="there is no session"):
        DurableWaits(pollers={"tasks": poller}).on_done("keep")
