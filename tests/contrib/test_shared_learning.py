"""Several sessions that learn one quota together: the script on a real Redis, in virtual time."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from playai_async import Pacing, PlayAISession, Polling
from playai_async._shared_quota import Ask, SharedQuota
from playai_async.contrib.redis import RedisQuota, script_keys
from playai_async.emulator import Arrival, Emulator, Status
from playai_async.jobs._pacing.leased_quota import terms_for
from tests.contrib.virtual_quota import VirtualQuota
from tests.support.clock import now
from tests.support.fleets import QUOTA, WINDOW, finished_late, share_of_429s
from tests.support.scripted import API_KEY, USER_ID
from tools.servers.redis import RedisServer


@pytest.fixture(autouse=True)
def _seeded_random() -> None:
    random.seed(7)


@asynccontextmanager
async def learners(emulator: Emulator, shared: SharedQuota | None, count: int) -> AsyncIterator[list[PlayAISession]]:
    """Open sessions that do not know the quota. Each behaves like a separate process."""
    pacing = Pacing(window=WINDOW, shared=shared)
    async with AsyncExitStack() as stack:
        sessions = [PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) for _ in range(count)]
        yield [await stack.enter_async_context(session) for session in sessions]


async def makespan(emulator: Emulator, sessions: Sequence[PlayAISession], jobs: int) -> float:
    """Wait for jobs, and return how long that took."""
    began = now()
    assert len(await finished_late(emulator, sessions, jobs, 0.0)) == jobs
    return now() - began


def later(arrivals: Sequence[Arrival], seconds: float) -> list[Arrival]:
    """Return the arrivals from a time on, in seconds after the first."""
    return [arrival for arrival in arrivals if arrival.at >= arrivals[0].at + seconds]


async def test_processes_learn_a_quota_together(virtual_quota: VirtualQuota) -> None:
    """They take about as long as one process that learns, and few requests are refused."""
    async with Emulator(QUOTA, WINDOW, phase=41.0) as emulator:
        async with learners(emulator, None, 1) as alone:
            by_one = await makespan(emulator, alone, 300)
        emulator.reset_stats()
        await asyncio.sleep(2 * WINDOW)
        async with learners(emulator, virtual_quota, 4) as sessions:
            by_all = await makespan(emulator, sessions, 300)
            assert by_all <= 1.3 * by_one
            assert share_of_429s(later(emulator.arrivals, 2 * WINDOW)) <= 0.1


@asynccontextmanager
async def busy(emulator: Emulator, sessions: Sequence[PlayAISession]) -> AsyncIterator[None]:
    """Keep more jobs waiting than the quota allows to poll, until the end of the block."""
    crowds = [
        asyncio.create_task(session.wait_for_all([emulator.add_job(math.inf) for _ in range(120)], timeout=None))
        for session in sessions
    ]
    yield
    for crowd in crowds:
        crowd.cancel()
    await asyncio.wait(crowds)


async def counts_of(emulator: Emulator, windows: int) -> tuple[int, int]:
    """Return how many requests are accepted, and how many refused, in the next windows."""
    before = emulator.stats
    requests, throttled = before.requests, before.throttled
    await asyncio.sleep(windows * WINDOW)
    refused = emulator.stats.throttled - throttled
    return emulator.stats.requests - requests - refused, refused


@pytest.mark.parametrize("quota", [30, 120], ids=["halved", "doubled"])
async def test_a_quota_that_changes_is_followed(virtual_quota: VirtualQuota, quota: int) -> None:
    """Within a few windows, without many refused requests."""
    async with (
        Emulator(QUOTA, WINDOW) as emulator,
        learners(emulator, virtual_quota, 2) as sessions,
        busy(emulator, sessions),
    ):
        await asyncio.sleep(2 * WINDOW)
        emulator.quota = quota
        await asyncio.sleep(5 * WINDOW)
        accepted, refused = await counts_of(emulator, 3)
        assert accepted >= 0.85 * 3 * quota
        assert refused <= 0.1 * accepted


async def test_a_small_quota_is_learned(virtual_quota: VirtualQuota) -> None:
    """Few refused requests are no evidence, but several windows that end in a 429 are."""
    async with (
        Emulator(5, WINDOW) as emulator,
        learners(emulator, virtual_quota, 2) as sessions,
        busy(emulator, sessions),
    ):
        await asyncio.sleep(10 * WINDOW)
        accepted, refused = await counts_of(emulator, 10)
        assert accepted >= 0.7 * 10 * 5
        assert refused <= 0.2 * accepted


async def test_a_process_that_joins_late_knows_what_was_learned(virtual_quota: VirtualQuota) -> None:
    """It does not start to learn again."""
    async with Emulator(QUOTA, WINDOW) as emulator, learners(emulator, virtual_quota, 2) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 300))
        await asyncio.sleep(3 * WINDOW)
        before = emulator.stats.throttled
        async with learners(emulator, virtual_quota, 1) as (late,):
            await late.wait_for_all([emulator.add_job(duration=0.0) for _ in range(60)])
            assert late.stats.quota is not None
            assert late.stats.quota == pytest.approx(QUOTA, rel=0.15)
        assert emulator.stats.throttled - before <= 0.05 * 60 * 3
        await waits


@pytest.mark.parametrize("forgets", [False, True], ids=["remembers", "forgets"])
async def test_no_wait_is_lost_while_redis_is_unreachable(virtual_quota: VirtualQuota, *, forgets: bool) -> None:
    """Each process learns alone, starting from its share of what was learned, and tells a Redis that has forgotten."""
    async with Emulator(QUOTA, WINDOW) as emulator, learners(emulator, virtual_quota, 4) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 300))
        await asyncio.sleep(2 * WINDOW)
        before = emulator.stats.requests, emulator.stats.throttled
        virtual_quota.down = True
        await asyncio.sleep(5.0)
        assert max(session.stats.quota or 0 for session in sessions) <= QUOTA / 3
        await asyncio.sleep(100.0)
        if forgets:
            virtual_quota.lose_all()
        virtual_quota.down = False
        await asyncio.sleep(5.0)
        assert min(session.stats.quota or 0 for session in sessions) >= QUOTA / 2
        await waits
        assert emulator.stats.throttled - before[1] <= 0.1 * (emulator.stats.requests - before[0])


async def test_processes_learn_alone_without_redis(virtual_quota: VirtualQuota) -> None:
    """From the beginning, until Redis answers."""
    virtual_quota.down = True
    async with Emulator(QUOTA, WINDOW) as emulator, learners(emulator, virtual_quota, 2) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 300))
        await asyncio.sleep(3 * WINDOW)
        assert virtual_quota.exchanges == []
        virtual_quota.down = False
        await waits
        assert share_of_429s(emulator.arrivals) <= 0.1


async def test_retry_after_pauses_all_processes(virtual_quota: VirtualQuota) -> None:
    """Although only one of them received it."""
    async with Emulator() as emulator, learners(emulator, virtual_quota, 3) as sessions:
        emulator.inject(Status(429, headers={"Retry-After": "40"}))
        began = now()
        jobs = [emulator.add_job(duration=0.0) for _ in range(9)]
        await asyncio.gather(*(sessions[number % 3].wait_for_completion(job) for number, job in enumerate(jobs)))
        times = sorted(arrival.at - began for arrival in emulator.arrivals)
        assert [time for time in times if 5.0 < time < 40.0] == []
        assert len([time for time in times if time < 5.0]) <= 9
        assert [session.stats.quota for session in sessions] == [None] * 3  # one 429 after few requests shows nothing


async def test_a_service_without_a_quota_is_noticed(virtual_quota: VirtualQuota) -> None:
    """The rate grows with what the service takes."""
    async with Emulator() as emulator, learners(emulator, virtual_quota, 2) as sessions:
        await makespan(emulator, sessions, 150)
        assert emulator.stats.throttled == 0


@pytest.mark.parametrize("count", [1, 2])
async def test_a_burst_that_is_refused_lowers_the_burst_alone(virtual_quota: VirtualQuota, count: int) -> None:
    """Where the service spaces requests, the processes approach its rate all the same.

    So does a single process, which may use the whole rest of the quota at once.
    """
    async with (
        Emulator(QUOTA, WINDOW, limiter="leaky") as emulator,
        learners(emulator, virtual_quota, count) as sessions,
    ):
        assert await makespan(emulator, sessions, 200) <= 3 * 200 * WINDOW / QUOTA
        assert share_of_429s(later(emulator.arrivals, 2 * WINDOW)) <= 0.1


async def test_the_burst_stays_within_the_limit_after_many_quiet_windows(virtual_quota: VirtualQuota) -> None:
    """It would overflow within a day if each quiet window doubled it."""
    terms = terms_for(Pacing(window=WINDOW), name="q", request_timeout=10.0)
    link = virtual_quota.open(terms)
    ask = Ask(
        wanted=0,
        hurry=False,
        first=0,
        places=dict.fromkeys(range(1000), WINDOW),
        unused=(),
        pause=None,
        reopened=None,
        era=None,
        whole=True,
        limit=60.0,
    )
    for _ in range(12):
        await link.exchange(ask)
        await asyncio.sleep(WINDOW)
    burst, limit = virtual_quota.client.hmget(script_keys(terms, "any")[3], "burst", "limit")
    assert burst is not None
    assert limit is not None
    assert float(burst) <= float(limit)


def test_sessions_learn_a_quota_over_redis(redis_server: RedisServer) -> None:
    """On real connections, and therefore in real time, with short windows."""
    window, quota = 0.8, 20

    async def learn() -> tuple[int, float, list[int | None]]:
        async with Emulator(quota, window) as emulator, AsyncExitStack() as stack:
            pacing = Pacing(window=window, shared=RedisQuota(redis_server.url))
            polling = Polling(initial=0.01, maximum=0.1)
            sessions = [
                await stack.enter_async_context(
                    PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing, polling=polling)
                )
                for _ in range(3)
            ]
            jobs = [emulator.add_job(duration=window) for _ in range(90)]
            found = await asyncio.gather(
                *(session.wait_for_all(jobs[number::3]) for number, session in enumerate(sessions))
            )
            quotas = [session.stats.quota for session in sessions]
            return sum(map(len, found)), share_of_429s(emulator.arrivals), quotas

    ended, throttled, quotas = asyncio.run(learn())
    assert ended == 90
    assert throttled < 0.5  # 0.1 with windows of a minute, compared with which an exchange takes no time
    assert all(quota is not None and quota <= 60 for quota in quotas)
