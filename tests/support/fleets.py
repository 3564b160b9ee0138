"""Many waits on one quota: what they wait for, and what is counted of it."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp
import pytest
from yarl import URL

from playai_async import PlayAISession
from playai_async._api.contract import Reply
from playai_async._api.transport import Transport
from playai_async.emulator import Arrival, Emulator
from playai_async.emulator._service.messages import Request
from tests.support.clock import now

WINDOW = 60.0
QUOTA = 60


@asynccontextmanager
async def without_sockets(emulator: Emulator, *, one_way: float = 0.0) -> AsyncIterator[None]:
    """Pass status requests to the emulator's service directly: HTTP would take most of the processor time of a test.

    A request, and its response, each take up to `one_way` seconds on their way.
    """
    dice = random.Random(5)  # noqa: S311 - repeatable, not secret
    service, log = emulator._jobs_api, emulator._log

    async def get(transport: Transport, url: URL) -> Reply:
        await asyncio.sleep(dice.uniform(0, one_way))
        headers = transport._headers
        request = Request("GET", url.path, {}, headers, b"")
        _, job_id = service.identify("GET", url.path)
        serial = log.on_arrival(Arrival(at=now(), method="GET", path=url.path, job_id=job_id, headers=headers))
        response = service.respond(request, now())
        log.on_end(serial, response.status)
        if response.on_end is not None:
            response.on_end(now())
        await asyncio.sleep(dice.uniform(0, one_way))
        return Reply(response.status, response.headers.get("Retry-After"), response.body[:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "get", get)
        yield


def slow_network(seconds: float) -> aiohttp.ClientSession:
    """A client session whose requests, and whose answers, each take up to so many seconds on their way."""
    dice = random.Random(5)  # noqa: S311 - repeatable, not secret

    async def delayed(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        await asyncio.sleep(dice.uniform(0, seconds))
        response = await handler(request)
        await asyncio.sleep(dice.uniform(0, seconds))
        return response

    return aiohttp.ClientSession(middlewares=[delayed])


async def finished_late(emulator: Emulator, sessions: Sequence[PlayAISession], jobs: int, gap: float) -> list[float]:
    """Wait for so many jobs, one begun every `gap` seconds and half of them done within 20, without a deadline.

    The waits are shared out among the sessions. Returns by how many seconds each end was noticed late.
    """

    async def one(playai: PlayAISession, starts_in: float, takes: float) -> float:
        await asyncio.sleep(starts_in)
        job_id = emulator.add_job(duration=takes)
        assert (await playai.wait_for_completion(job_id, timeout=None)).id == job_id
        return now() - emulator.finishes_at(job_id)

    dice = random.Random(1)  # noqa: S311 - repeatable, not secret
    turns = zip(itertools.cycle(sessions), range(jobs), strict=False)
    waits = [one(playai, gap * number, dice.lognormvariate(math.log(20), 0.7)) for playai, number in turns]
    return await asyncio.gather(*waits)


def most_in_a_window(arrivals: Sequence[Arrival]) -> int:
    """The most requests that came within any span as long as a window."""
    times = [arrival.at for arrival in arrivals]
    counts = (sum(begin <= time < begin + WINDOW for time in times[index:]) for index, begin in enumerate(times))
    return max(counts)


def share_of_429s(arrivals: Sequence[Arrival]) -> float:
    """The share of requests that were refused."""
    return sum(arrival.status == 429 for arrival in arrivals) / len(arrivals)
