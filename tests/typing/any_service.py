"""`JobPoller` as a user writes it, for the type checkers: checked, never run.

`examples/other_services` has the same for the clients of real services.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, assert_type

import attrs

from playai_async import ConfigurationError, Pacing, Polling, SessionStats
from playai_async.jobs import (
    JobPoller,
    JobTimeoutError,
    PollerClosedError,
    Throttled,
    Transient,
    classify_error,
)


@attrs.frozen
class Video:
    """A job of some service."""

    name: int
    state: str


async def fetch(name: int) -> Video:
    """Make one status request."""
    return Video(name, "done")


def is_done(video: Video) -> bool:
    """Say whether a job is finished."""
    return video.state == "done"


async def wait() -> None:
    """Ids and jobs keep their types."""
    async with JobPoller(fetch, is_done=is_done) as jobs:
        assert_type(jobs, JobPoller[int, Video])
        assert_type(await jobs.get(7), Video)
        assert_type(await jobs.wait_for_completion(7, polling=Polling(maximum=60), timeout=None), Video)
        assert_type(jobs.watch(7), AsyncGenerator[Video, None])
        async for video in jobs.as_completed([7, 8], timeout=60.0):
            assert_type(video, Video)
        async for end in jobs.as_completed(range(8), return_exceptions=True):
            assert_type(end, Video | Exception)
        assert_type(await jobs.wait_for_all({7, 8}), list[Video])
        assert_type(await jobs.wait_for_all([7, 8], return_exceptions=True), list[Video | Exception])
        assert_type(jobs.stats, SessionStats)
    await jobs.aclose()


def classify(error: Exception) -> Throttled | Transient | None:
    """Add to what is known."""
    if isinstance(error, BlockingIOError):
        return Throttled(retry_after=1.5)
    if isinstance(error, LookupError):
        return Transient()
    verdict = classify_error(error)
    assert_type(verdict, Throttled | Transient | None)
    return verdict


poller = JobPoller(
    fetch,
    is_done=lambda video: video.state != "running",
    classify=classify,
    polling=Polling(initial=5.0),
    pacing=Pacing(requests_per_window=60),
    request_timeout=None,
)
assert_type(poller, JobPoller[int, Video])


async def handle() -> str:
    """Errors say what is known."""
    try:
        await poller.wait_for_completion(7)
    except JobTimeoutError as error:
        assert_type(error.last_error, Exception | None)
        assert_type(error.elapsed, float)
        assert_type(error.polls, int)
        return str(error)
    except PollerClosedError as error:
        return repr(error.job_id)
    except ConfigurationError:
        raise
    return "done"


async def mistakes(untyped: Any) -> None:
    """A checker reports each."""
    await poller.wait_for_completion("7")  # type: ignore[arg-type]
    await poller.wait_for_all(7)  # type: ignore[call-overload]
    JobPoller(fetch)  # type: ignore[call-arg]
    assert_type(await JobPoller(untyped, is_done=bool).get("7"), Any)
