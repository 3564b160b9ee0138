"""Durable waits as a user writes them, for the type checkers: checked, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, assert_type
from uuid import UUID

from procrastinate import App, Blueprint, PsycopgConnector
from psycopg import AsyncConnection

from playai_async import Completed, Failed, PlayAIError, PlayAISession, Polling, TtsJob
from playai_async.contrib.procrastinate import DurableWaits, JobOutcome, Outcome, TimeoutConnector
from playai_async.jobs import JobPoller

playai = PlayAISession()
waits = DurableWaits(playai, polling=Polling(timeout=3600), queue="speech", max_handler_failures=5)


@waits.on_done("store_audio")
async def store_audio(outcome: Outcome) -> None:
    """A handler sees the job or the error, and stays the function that it was."""
    assert_type(outcome.job_id, UUID)
    assert_type(outcome.key, str)
    assert_type(outcome.job, TtsJob[Completed | Failed] | None)
    assert_type(outcome.error, PlayAIError | None)


handler: Callable[[Outcome], Coroutine[Any, Any, None]] = store_audio

assert_type(waits.blueprint, Blueprint)
assert_type(waits.queue, str)
app = App(connector=PsycopgConnector(conninfo="dbname=backend"))
app.add_tasks_from(waits.blueprint, namespace="playai")


async def begin(job: TtsJob) -> None:
    """A wait may be begun by a job, an id or its text."""
    assert_type(await waits.defer(job, on_done="store_audio"), int)
    await waits.defer(job.id, on_done="store_audio", timeout=60.0)
    await waits.defer(str(job.id), on_done="store_audio", timeout=None)
    assert_type(await waits.hint(job), bool)


class Task:
    """The job of another service."""

    done: bool


async def fetch(task_id: str) -> Task:
    """A status request."""
    raise NotImplementedError(task_id)


poller = JobPoller(fetch, is_done=lambda task: task.done)
both = DurableWaits(playai, pollers={"runway": poller})
others = DurableWaits(pollers={"runway": poller}, polling=Polling(timeout=3600))
timed = TimeoutConnector(conninfo="dbname=backend")
timed.statement_timeout = 10.0


@others.on_done("store_video", poller="runway")
async def store_video(outcome: JobOutcome[Task]) -> None:
    """A handler of another service's jobs."""
    assert_type(outcome.job_id, str)
    assert_type(outcome.key, str)
    assert_type(outcome.job, Task | None)
    assert_type(outcome.error, Exception | None)


async def begin_another(connection: AsyncConnection) -> None:
    """A wait may be begun in the caller's transaction."""
    assert_type(await others.defer("task-1", on_done="store_video", connection=connection), int)
    assert_type(await others.hint("task-1", poller="runway"), bool)


def mistakes() -> None:
    """What checkers report."""
    DurableWaits("playai")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no session

    @waits.on_done("not asynchronous")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # no coroutine
    def _(outcome: Outcome) -> None:
        assert_type(outcome, Outcome)

    @others.on_done("wrong outcome", poller="runway")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]  # a JobOutcome
    async def _(outcome: Outcome) -> None:
        assert_type(outcome, Outcome)
