"""The limit of each status request: one timer for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest

from playai_async.jobs._fetch_timeout import FetchTimeoutError, limited
from playai_async.jobs._scheduling.request import JobId
from tests.support.clock import now

LIMIT = 2.0


def fetching(seconds: float) -> Callable[[JobId], Awaitable[object]]:
    """Return a `fetch` that takes some time."""

    async def fetch(job_id: JobId) -> object:
        await asyncio.sleep(seconds)
        return job_id

    return limited(fetch, LIMIT)


def begin(fetch: Callable[[JobId], Awaitable[object]], job_id: JobId = "a") -> asyncio.Task[object]:
    """Make a request in a task."""

    async def request() -> object:
        return await fetch(job_id)

    return asyncio.create_task(request())


async def test_each_request_has_its_own_limit() -> None:
    """Although they share a timer."""
    fetch = fetching(100.0)
    first = begin(fetch)
    await asyncio.sleep(0.5)
    second = begin(fetch)
    for request, end in ((first, 2.0), (second, 2.5)):
        with pytest.raises(FetchTimeoutError, match="more than 2 s"):
            await request
        assert now() == pytest.approx(end)


async def test_an_answer_in_time_is_returned() -> None:
    """And the timer, which is still set, does not end a later request."""
    fetch = fetching(1.5)
    assert await begin(fetch) == "a"
    assert await begin(fetch, "b") == "b"
    assert now() == pytest.approx(3.0)


async def test_a_later_request_is_limited_too() -> None:
    """After the timer found nothing to end."""
    fetch = fetching(100.0)
    first = begin(fetch)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(5.0)
    with pytest.raises(FetchTimeoutError):
        await begin(fetch)
    assert now() == pytest.approx(7.0)


async def test_a_cancellation_ends_a_request() -> None:
    """It is no timeout."""
    request = begin(fetching(100.0))
    await asyncio.sleep(1.0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert now() == pytest.approx(1.0)


async def test_a_cancellation_at_the_same_time_as_the_limit_is_a_cancellation() -> None:
    """The caller that cancelled waits for it."""
    request = begin(fetching(100.0))
    asyncio.get_running_loop().call_at(LIMIT, request.cancel)
    with pytest.raises(asyncio.CancelledError):
        await request
    assert request.cancelling() == 1


async def test_a_fetch_may_answer_although_it_was_cancelled() -> None:
    """Then the task counts as not cancelled."""
    cancelling: list[int] = []

    async def fetch(job_id: JobId) -> object:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100.0)
        return job_id

    async def request() -> object:
        job = await limited(fetch, LIMIT)("a")
        task = asyncio.current_task()
        assert task is not None
        cancelling.append(task.cancelling())
        return job

    assert await asyncio.create_task(request()) == "a"
    assert cancelling == [0]
