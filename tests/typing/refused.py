"""Mistakes that the type checkers must report: checked, never run.

Each marked line is wrong. A checker that stops reporting one reports its comment as unused.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_never
from uuid import UUID

from playai_async import Completed, Failed, PlayAISession, Polling, TtsJob, TtsParameters

JOB_ID = UUID(int=1)


async def forgets_that_jobs_fail(playai: PlayAISession) -> str:
    """A match over one of two outputs is not exhaustive."""
    output = (await playai.wait_for_completion(JOB_ID)).output
    match output:
        case Completed(url=url):
            return url
        case _:
            assert_never(output)  # type: ignore[arg-type]


async def forgets_that_jobs_take_time(playai: PlayAISession) -> str:
    """A job that was merely asked for need not be done."""
    output = (await playai.get_job(JOB_ID)).output
    match output:
        case Completed(url=url):
            return url
        case Failed():
            return ""
        case _:
            assert_never(output)  # type: ignore[arg-type]


async def takes_a_failure_for_audio(playai: PlayAISession) -> str:
    """A finished job has no link until it is known to be completed."""
    job = await playai.wait_for_completion(JOB_ID)
    return job.output.url  # type: ignore[union-attr]


async def forgets_that_waits_fail(playai: PlayAISession) -> list[UUID]:
    """Where errors are returned, not every result is a job."""
    results = await playai.wait_for_all([JOB_ID], return_exceptions=True)
    return [result.id for result in results]  # type: ignore[union-attr]


async def takes_one_job_for_several(playai: PlayAISession) -> None:
    """Several are waited for, and as they come; one is given in a list."""
    await playai.wait_for_all(JOB_ID)  # type: ignore[call-overload]
    playai.as_completed([1])  # type: ignore[list-item]
    async for job in playai.as_completed([JOB_ID]):
        wants_audio(job)  # type: ignore[arg-type]
    for _ in playai.as_completed([JOB_ID]):  # type: ignore[attr-defined]
        pass


def wants_audio(job: TtsJob[Completed]) -> str:
    """Ask for a completed job."""
    return job.output.url


def takes_any_job_for_audio(job: TtsJob) -> str:
    """A job in any state is no completed one."""
    return wants_audio(job)  # type: ignore[arg-type]


def changes_a_job(job: TtsJob) -> None:
    """Values are frozen."""
    job.completed_at = None  # type: ignore[misc]


async def mixes_up_arguments(playai: PlayAISession) -> None:
    """Everything but the job is named, and each name has its type."""
    await playai.wait_for_completion(JOB_ID, 30.0)  # type: ignore[call-arg,arg-type]
    await playai.wait_for_completion(JOB_ID, timeout="30")  # type: ignore[arg-type]
    await playai.wait_for_completion(1)  # type: ignore[arg-type]
    Polling(wait=1.0)  # type: ignore[arg-type]
    TtsParameters("Hello", "a-voice", "PlayDialog")  # type: ignore[call-arg]


async def ignores_what_it_waited_for(playai: PlayAISession) -> None:
    """A wait that is not awaited does nothing."""
    playai.wait_for_completion(JOB_ID)  # type: ignore[unused-coroutine]
