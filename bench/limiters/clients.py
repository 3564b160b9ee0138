"""The clients that are compared: this library, and loops that people write by hand.

A client is an async context manager: given a service and the scale of time, it yields `wait(job_id)`, which returns
when the client has noticed that the job is finished. The scale is 1 for windows of 60 s; all pauses shrink with it, so
that a run against a real limiter with windows of 6 s takes a tenth of the time. Every loop repeats requests after a
429, and gives no wait up.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs

from bench.fleet.workloads import WINDOW
from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller, Throttled
from tools.limited_service import RefusedError, Service

__all__ = ["ARMS", "FIXED", "KNOWN", "LEARNED", "LOOPS", "TOLD_LOOPS", "Client"]

KNOWN, LEARNED, FIXED = "known", "learned", "fixed"
"""This library: told the quota, not told, and told that the service counts in fixed windows as well."""

Wait = Callable[[Hashable], Awaitable[object]]


@attrs.frozen
class Client:
    """What a client gets to know.

    Attributes:
        service: The service.
        scale: Seconds of a window divided by 60.
        quota: Requests per window, for those clients that are told.
    """

    service: Service
    scale: float
    quota: int


def pacing_of(arm: str, quota: int, scale: float) -> Pacing:
    """Return the pacing of this library; raises TypeError if it has no such setting yet."""
    if arm == LEARNED:
        return Pacing(window=WINDOW * scale)
    more: dict[str, str] = {"counting": "fixed"} if arm == FIXED else {}
    return Pacing(requests_per_window=quota, window=WINDOW * scale, **more)  # type: ignore[arg-type]  # see above


def ours(arm: str) -> Callable[[Client], AbstractAsyncContextManager[Wait]]:
    """Return this library with these settings."""

    @asynccontextmanager
    async def client(given: Client) -> AsyncIterator[Wait]:
        scale = given.scale
        polling = Polling(initial=1.0 * scale, maximum=10.0 * scale, timeout=None)
        poller: JobPoller[Hashable, bool | Hashable] = JobPoller(
            given.service.fetch,
            is_done=lambda done: done is True,
            classify=lambda error: Throttled(error.retry_after) if isinstance(error, RefusedError) else None,
            polling=polling,
            pacing=pacing_of(arm, given.quota, scale),
        )
        async with poller:
            yield poller.wait_for_completion

    return client


# Hand-written loops

Pause = Callable[[int, float | None], float]
"""Seconds to pause, given the 429s in a row, and the latest hint; or the polls so far, and None."""


@asynccontextmanager
async def loop(given: Client, poll_pause: Pause, refused_pause: Pause) -> AsyncIterator[Wait]:
    """Poll, sleep, poll again; sleep after a 429, too."""

    async def wait(job_id: Hashable) -> None:
        polls = refused = 0
        while True:
            try:
                if await given.service.fetch(job_id):
                    return
            except RefusedError as error:
                refused += 1
                pause = refused_pause(refused, _scaled(error.retry_after, given.scale))
            else:
                polls, refused = polls + 1, 0
                pause = poll_pause(polls, None)
            await asyncio.sleep(pause * given.scale)

    yield wait


def _scaled(hint: float | None, scale: float) -> float | None:
    return None if hint is None else hint / scale


def jittered(seconds: float) -> float:
    """Return up to a fifth more or less."""
    return seconds * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load


def backoff(refused: int, hint: float | None) -> float:
    """Return a random, exponential pause of at most 60 s, after the hint."""
    return (hint or 0.0) + random.uniform(0, min(60.0, 2.0 ** min(refused, 6)))  # noqa: S311 - spreads load


def every_2_s(given: Client) -> AbstractAsyncContextManager[Wait]:
    """The loop of `bench.fleet`: every 2 s, whatever comes."""
    return loop(given, lambda _, __: 2.0, lambda _, __: 2.0)


def every_5_s(given: Client) -> AbstractAsyncContextManager[Wait]:
    """Every 5 s with jitter; after a 429 when the service says, plus jitter."""
    return loop(given, lambda _, __: jittered(5.0), lambda _, hint: (hint or 0.0) + jittered(5.0))


def exponential(given: Client) -> AbstractAsyncContextManager[Wait]:
    """From 1 to 10 s, and exponential backoff after a 429."""
    return loop(given, lambda polls, _: jittered(min(10.0, 1.5 ** (polls - 1))), backoff)


@asynccontextmanager
async def semaphore(given: Client) -> AsyncIterator[Wait]:
    """At most 8 requests of all waits at the same time, each of which is repeated every second or so until accepted."""
    places = asyncio.Semaphore(8)

    async def ask(job_id: Hashable) -> bool:
        while True:
            try:
                return await given.service.fetch(job_id)
            except RefusedError as error:
                await asyncio.sleep((error.retry_after or 0.0) + jittered(1.0) * given.scale)

    async def wait(job_id: Hashable) -> None:
        while True:
            async with places:
                done = await ask(job_id)
            if done:
                return
            await asyncio.sleep(2.0 * given.scale)

    yield wait


@asynccontextmanager
async def with_tenacity(given: Client) -> AsyncIterator[Wait]:
    """Every 2 s, with tenacity's `wait_random_exponential(max=60)` around each request."""
    from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

    waits = wait_random_exponential(multiplier=1.0 * given.scale, max=60.0 * given.scale)
    retrying = AsyncRetrying(retry=retry_if_exception_type(RefusedError), wait=waits)

    async def wait(job_id: Hashable) -> None:
        while True:
            done: bool = await retrying(given.service.fetch, job_id)
            if done:
                return
            await asyncio.sleep(2.0 * given.scale)

    yield wait


@asynccontextmanager
async def evenly(given: Client) -> AsyncIterator[Wait]:
    """Every 2 s, but never two requests within a window divided by the quota: a loop that knows the quota."""
    turn = asyncio.Lock()

    async def wait(job_id: Hashable) -> None:
        while True:
            async with turn:
                await asyncio.sleep(WINDOW * given.scale / given.quota)
            try:
                if await given.service.fetch(job_id):
                    return
                await asyncio.sleep(2.0 * given.scale)
            except RefusedError as error:
                await asyncio.sleep((error.retry_after or 0.0) + jittered(2.0) * given.scale)

    yield wait


ClientFactory = Callable[[Client], AbstractAsyncContextManager[Wait]]

LOOPS: Mapping[str, ClientFactory] = {
    "loop 2 s": every_2_s,
    "loop 5 s": every_5_s,
    "exponential": exponential,
    "semaphore": semaphore,
    "tenacity": with_tenacity,
}
"""Loops that are told nothing."""

TOLD_LOOPS: Mapping[str, ClientFactory] = {"even": evenly}

ARMS: Mapping[str, ClientFactory] = {
    **{arm: ours(arm) for arm in (KNOWN, LEARNED, FIXED)},
    **LOOPS,
    **TOLD_LOOPS,
}
