"""The public API as a user writes it, for the type checkers: checked, never run.

`assert_type` says what a checker must infer, and `assert_never` that nothing is left to match.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, assert_never, assert_type
from uuid import UUID

import aiohttp
import tenacity
import yarl

from playai_async import (
    APIStatusError,
    Completed,
    ConfigurationError,
    DownloadError,
    Failed,
    InProgress,
    InvalidResponseError,
    JobFailedError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    RateLimitedError,
    SessionClosedError,
    SessionStats,
    TransportError,
    TtsJob,
    TtsParameters,
    Unknown,
    WaitTimeoutError,
    __version__,
)

JOB_ID = UUID(int=1)


async def wait_and_match(playai: PlayAISession) -> str:
    """A finished wait holds one of two outputs."""
    job = await playai.wait_for_completion(JOB_ID)
    assert_type(job, TtsJob[Completed | Failed])
    match job.output:
        case Completed(url=url):
            return url
        case Failed():
            return "failed"
        case _:
            assert_never(job.output)


async def match_any_output(playai: PlayAISession) -> str:
    """A job that was merely asked for holds any of four."""
    job = await playai.get_job(str(JOB_ID))
    assert_type(job, TtsJob)
    assert_type(playai.hint(job), bool)
    match job.output:
        case Completed(url, content_type, file_size, duration):
            return f"{url} {content_type} {file_size + duration}"
        case InProgress():
            return "in progress"
        case Failed():
            return "failed"
        case Unknown(status, fields):
            return f"{status} {fields.get('position')}"
        case _:
            assert_never(job.output)


async def match_by_status(playai: PlayAISession) -> float:
    """The status tells the known outputs apart, as a tag does."""
    output = (await playai.wait_for_completion(JOB_ID)).output
    assert_type(output.status, Literal["COMPLETED", "FAILED"])
    if output.status == "COMPLETED":
        return output.duration
    assert_type(output, Failed)
    return 0.0


def store_and_load(job: TtsJob[Completed]) -> TtsJob:
    """A job goes out as JSON and comes back in any state."""
    assert_type(job.status, str)
    assert_type(job.to_dict(), dict[str, Any])
    assert_type(TtsJob.from_dict(job.to_dict()), TtsJob)
    return TtsJob.from_dict(job.to_dict())


async def raise_for_failure(playai: PlayAISession) -> str:
    """What comes back is known to be completed."""
    job = (await playai.wait_for_completion(JOB_ID, timeout=None)).raise_for_failure()
    assert_type(job, TtsJob[Completed])
    assert_type(job.output, Completed)
    return job.output.url


def takes_any_job(job: TtsJob) -> bool:
    """Plain `TtsJob` is a job in any state."""
    assert_type(job.output, Completed | InProgress | Failed | Unknown)
    assert_type(job.done, bool)
    return job.done


def takes_a_finished_job(job: TtsJob[Completed | Failed]) -> tuple[bool, bool]:
    """A job of some outputs is a job of more, since nothing about it can change."""
    return takes_any_job(job), job.done


def takes_a_completed_job(job: TtsJob[Completed]) -> bool:
    """The same, one step further down."""
    return all(takes_a_finished_job(job))


def read_a_job(job: TtsJob) -> None:
    """Every attribute has its type."""
    assert_type(job.id, UUID)
    assert_type(job.created_at, datetime)
    assert_type(job.input, Mapping[str, Any])
    assert_type(job.completed_at, datetime | None)


async def watch(playai: PlayAISession, job: TtsJob) -> AsyncIterator[str]:
    """A watch is iterated over, and can be closed early."""
    changes = playai.watch(job, polling=Polling(initial=0.5), timeout=30)
    async for change in changes:
        assert_type(change, TtsJob)
        yield change.output.status
    await changes.aclose()


async def wait_for_several(playai: PlayAISession, job: TtsJob, also_errors: bool) -> None:
    """Ids, texts and jobs, mixed; errors are among the results where they may be, and nowhere else."""
    assert_type(await playai.wait_for_all([JOB_ID, str(JOB_ID), job]), list[TtsJob[Completed | Failed]])
    assert_type(await playai.wait_for_all({JOB_ID}, return_exceptions=False), list[TtsJob[Completed | Failed]])
    both = await playai.wait_for_all((job,), polling=Polling(), timeout=None, return_exceptions=True)
    assert_type(both, list[TtsJob[Completed | Failed] | PlayAIError])
    either = await playai.wait_for_all([JOB_ID], return_exceptions=also_errors)
    assert_type(either, list[TtsJob[Completed | Failed] | PlayAIError])
    for outcome in both:
        if isinstance(outcome, PlayAIError):
            assert_type(outcome.job_id, UUID | None)
        else:
            assert_type(outcome, TtsJob[Completed | Failed])


async def read_as_they_end(playai: PlayAISession, job: TtsJob, also_errors: bool) -> None:
    """An iteration over several jobs is an async generator, which can be closed early."""
    ended = playai.as_completed((number for number in (JOB_ID, str(JOB_ID), job)), timeout=30)
    assert_type(ended, AsyncGenerator[TtsJob[Completed | Failed], None])
    async with contextlib.aclosing(ended):
        async for finished in ended:
            assert_type(finished, TtsJob[Completed | Failed])
            break
    certain = playai.as_completed([JOB_ID], return_exceptions=False)
    assert_type(certain, AsyncGenerator[TtsJob[Completed | Failed], None])
    both = playai.as_completed([JOB_ID], polling=Polling(), return_exceptions=True)
    assert_type(both, AsyncGenerator[TtsJob[Completed | Failed] | PlayAIError, None])
    either = playai.as_completed([JOB_ID], return_exceptions=also_errors)
    assert_type(either, AsyncGenerator[TtsJob[Completed | Failed] | PlayAIError, None])
    async for outcome in both:
        match outcome:
            case TtsJob(output=output):
                assert_type(output, Completed | Failed)
            case PlayAIError(job_id=job_id):
                assert_type(job_id, UUID | None)
            case _:
                assert_never(outcome)


async def configure(http_session: aiohttp.ClientSession) -> None:
    """Every setting, in each of its types."""
    polling = Polling(
        initial=1,
        multiplier=1.5,
        maximum=10,
        jitter=0.2,
        timeout=None,
        max_failures=8,
        wait=tenacity.wait_random_exponential(multiplier=1, max=10) + tenacity.wait_fixed(1),
    )
    pacing = Pacing(requests_per_window=60, window=60, max_in_flight=8)
    async with PlayAISession(
        "key",
        "user",
        base_url=yarl.URL("https://api.play.ai"),
        http_session=http_session,
        polling=polling,
        pacing=pacing,
        request_timeout=5,
    ) as playai:
        assert_type(playai, PlayAISession)
        assert_type(playai.stats, SessionStats)
    session = PlayAISession(base_url="http://localhost:8000")
    await session.aclose()


def strategies(state_of_mind: tenacity.wait.wait_base) -> list[Polling]:
    """A strategy is one of tenacity's, or a function of its state."""

    def by_attempt(state: tenacity.RetryCallState) -> float:
        return float(state.attempt_number)

    return [
        Polling(wait=state_of_mind),
        Polling(wait=by_attempt),
        Polling(wait=lambda state: 2.0 * state.attempt_number),
        Polling(wait=tenacity.wait_chain(tenacity.wait_fixed(1), tenacity.wait_fixed(5))),
        Polling(wait=None),
    ]


def read_stats(stats: SessionStats) -> None:
    """Counts are integers, and so is a quota; a pause is seconds."""
    assert_type(stats.requests, int)
    assert_type(stats.throttled, int)
    assert_type(stats.transient_failures, int)
    assert_type(stats.open_waits, int)
    assert_type(stats.distinct_jobs, int)
    assert_type(stats.in_flight, int)
    assert_type(stats.paused_for, float)
    assert_type(stats.quota, int | None)
    assert_type(stats.queued, int)
    assert_type(stats.pause_reason, Literal["throttled", "outage"] | None)
    assert_type(stats.hints_followed, int)
    assert_type(stats.hints_ignored, int)


def make_parameters() -> TtsParameters:
    """Two texts, and the rest by name."""
    return TtsParameters("Hello", "a-voice", model="Play3.0-mini", speed=1, seed=None, extra={"mood": ["calm"]})


async def catch(playai: PlayAISession) -> None:
    """Each error carries what its documentation says."""
    try:
        await playai.wait_for_completion(JOB_ID)
    except RateLimitedError as error:
        assert_type(error.retry_after, float | None)
    except APIStatusError as error:
        assert_type(error.status, int)
        assert_type(error.error_id, str | None)
        assert_type(error.message, str | None)
        assert_type(error.excerpt, str)
    except InvalidResponseError as error:
        assert_type(error.problems, tuple[str, ...])
        assert_type(error.excerpt, str)
    except WaitTimeoutError as error:
        assert_type(error.job, TtsJob | None)
        assert_type(error.last_error, PlayAIError | None)
        assert_type(error.elapsed, float)
        assert_type(error.polls, int)
    except JobFailedError as error:
        assert_type(error.job, TtsJob[Failed])
    except (TransportError, DownloadError, SessionClosedError, ConfigurationError) as error:
        assert_type(error.job_id, UUID | None)


def second_bases() -> tuple[TimeoutError, ValueError, RuntimeError]:
    """Some errors are what a caller may catch already."""
    return WaitTimeoutError("", elapsed=0.0, polls=0), ConfigurationError(""), SessionClosedError("")


version: str = __version__


async def text_to_file(playai: PlayAISession) -> None:
    """Creating, downloading, and both with the wait between them."""
    parameters = make_parameters()
    assert_type(await playai.create_job(parameters, timeout=None), TtsJob)
    assert_type(await playai.download(JOB_ID, "speech.mp3", on_progress=print), Path)
    job = await playai.speak(parameters, Path("out"), polling=Polling(), timeout=60, on_progress=show)
    assert_type(job, TtsJob[Completed])
    assert_type(job.output.duration, float)
    assert_type(TransportError("lost").maybe_received, bool)


def show(received: int, total: int | None) -> None:
    """Show how far a download is."""
    print(received, total)  # noqa: T201 - never run
