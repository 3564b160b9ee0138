"""Several sessions on one quota: the script on a real Redis, in virtual time.

Jitter and the durations of jobs use a seeded generator, so that every run is the same.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import pytest
import redis

from playai_async import Pacing, PlayAISession
from playai_async._shared_quota import Ask, QuotaLink, SharedQuota, Terms
from playai_async.emulator import Emulator, Status
from playai_async.jobs._pacing.gate import Reopening
from playai_async.jobs._pacing.leased_quota import LeasedQuota, terms_for
from tests.contrib.virtual_quota import VirtualQuota
from tests.support.clock import now
from tests.support.fleets import QUOTA, WINDOW, finished_late, most_in_a_window, share_of_429s
from tests.support.scripted import API_KEY, USER_ID

PROCESSES = 4

TERMS = Terms("q", requests=60, window=60.0, burst=5, lease=20.0, ask_again=1.0)


@pytest.fixture(autouse=True)
def _seeded_random() -> None:
    random.seed(7)


@asynccontextmanager
async def sessions_with(
    emulator: Emulator, shared: SharedQuota | None, count: int = PROCESSES, requests: int = QUOTA
) -> AsyncIterator[list[PlayAISession]]:
    """Open sessions on the emulator. Each behaves like a process of its own."""
    pacing = Pacing(requests_per_window=requests, window=WINDOW, shared=shared)
    async with AsyncExitStack() as stack:
        sessions = [PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) for _ in range(count)]
        yield [await stack.enter_async_context(session) for session in sessions]


async def makespan(emulator: Emulator, sessions: Sequence[PlayAISession], jobs: int, gap: float = 0.0) -> float:
    """Wait for jobs, and return how long that took."""
    began = now()
    assert len(await finished_late(emulator, sessions, jobs, gap)) == jobs
    return now() - began


class Process:
    """A process that asks for requests and sends them, step by step."""

    def __init__(self, quota: VirtualQuota, requests: int = QUOTA, window: float = WINDOW) -> None:
        terms = terms_for(Pacing(requests_per_window=requests, window=window), name="q", request_timeout=10.0)
        self._quota = LeasedQuota(terms)
        self._link: QuotaLink = quota.open(terms)
        self.wait = 0.0
        self.pause: float | None = None

    async def asks(self, wanted: int = 1, pause: float = 0.0) -> int:
        """Ask for requests, and send the granted ones."""
        ask = self._quota.ask(now(), wanted, 0.0, pause)
        assert ask is not None
        answer = await self._link.exchange(ask)
        self._quota.on_answer(now(), now(), ask, answer)
        sent = 0
        while self._quota.delay(now(), 0.0) == 0.0:
            if answer.pause is None:
                self._quota.on_sent(now(), 0.0, 0)
            else:
                self._quota.on_probe_sent(now())
            sent += 1
        self.wait, self.pause = answer.wait, answer.pause
        return sent

    def ends(self, how: str = "accepted") -> None:
        """End the request that was granted first."""
        if how == "throttled":
            self._quota.on_throttled(now(), first=True)
        elif how == "reopened":
            self._quota.on_reopened(now(), Reopening(1.0, refused=False))
            self._quota.on_accepted(now())
        else:
            self._quota.on_accepted(now())


# Many waits


@pytest.mark.parametrize(
    ("jobs", "gap", "phase"), [(200, 0.0, 0.0), (150, 2.0, 17.0)], ids=["burst of 200", "stream of 150"]
)
async def test_processes_never_exceed_the_quota_together(
    virtual_quota: VirtualQuota, jobs: int, gap: float, phase: float
) -> None:
    """Over any span of a window, counted at the service. They take about as long as one process."""
    async with Emulator(QUOTA, WINDOW, phase=phase) as emulator:
        async with sessions_with(emulator, None, 1) as alone:
            by_one = await makespan(emulator, alone, jobs, gap)
        emulator.reset_stats()
        await asyncio.sleep(2 * WINDOW)
        async with sessions_with(emulator, virtual_quota) as sessions:
            by_all = await makespan(emulator, sessions, jobs, gap)
            assert by_all <= 1.15 * by_one
            assert emulator.stats.throttled == 0
            assert most_in_a_window(emulator.arrivals) <= QUOTA
            assert [session.stats.quota for session in sessions] == [QUOTA] * PROCESSES


async def test_processes_take_turns(virtual_quota: VirtualQuota) -> None:
    """A process with a few waits does not queue behind hundreds of waits of another."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 2) as (busy, idle):
        jobs = [emulator.add_job(duration=math.inf) for _ in range(300)]
        crowd = asyncio.create_task(busy.wait_for_all(jobs, timeout=None))
        await asyncio.sleep(90)
        began = now()
        await idle.wait_for_all([emulator.add_job(duration=0.0) for _ in range(10)])
        assert now() - began == pytest.approx(20, abs=2)  # every second request, at one request a second
        crowd.cancel()
        await asyncio.wait([crowd])
        assert emulator.stats.throttled == 0


async def test_a_process_in_a_hurry_takes_no_more_than_its_share(virtual_quota: VirtualQuota) -> None:
    """It may use the rest of the quota only if no other process has something to send."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 2) as (early, late):
        crowd = [asyncio.create_task(early.wait_for_all([emulator.add_job(duration=0.0) for _ in range(100)]))]
        await asyncio.sleep(5)
        crowd.append(asyncio.create_task(late.wait_for_all([emulator.add_job(duration=0.0) for _ in range(100)])))
        await asyncio.sleep(60)
        assert abs(early.stats.requests - late.stats.requests) <= 20
        before = [session.stats.requests for session in (early, late)]
        await asyncio.sleep(100)
        sent = [session.stats.requests - count for session, count in zip((early, late), before, strict=True)]
        assert abs(sent[0] - sent[1]) <= 3
        await asyncio.gather(*crowd)
        assert emulator.stats.throttled == 0


async def test_requests_are_reported_again_after_redis_lost_its_data(virtual_quota: VirtualQuota) -> None:
    """Processes report them before anything is granted, so the quota holds."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 220))
        for _ in range(5):
            await asyncio.sleep(37)
            virtual_quota.lose_all()
        await waits
        assert emulator.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= QUOTA


@pytest.mark.parametrize("seconds", [2.0, 100.0])
async def test_no_wait_is_lost_while_redis_is_unreachable(virtual_quota: VirtualQuota, seconds: float) -> None:
    """Each process paces alone, with its share of the quota. This causes few 429s."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 240))
        await asyncio.sleep(100)
        virtual_quota.down = True
        virtual_quota.lose_all()
        await asyncio.sleep(seconds)
        virtual_quota.down = False
        emulated = len(virtual_quota.exchanges)
        await waits
        assert share_of_429s(emulator.arrivals) <= 0.02
        assert len(virtual_quota.exchanges) > emulated


async def test_a_429_caused_by_others_pauses_all_processes(virtual_quota: VirtualQuota) -> None:
    """One probe at a time finds out when the pause is over."""
    async with Emulator(10, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        await makespan(emulator, sessions, 40)
        spent = [arrival for arrival in emulator.arrivals if arrival.status == 429]
        assert 0 < len(spent) <= 13 * emulator.arrivals[-1].at / WINDOW
        gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(spent)]
        assert sum(gap < 1.0 for gap in gaps) <= 4


async def test_retry_after_pauses_all_processes(virtual_quota: VirtualQuota) -> None:
    """Although only one of them received it."""
    async with Emulator() as emulator, sessions_with(emulator, virtual_quota, 3) as sessions:
        emulator.inject(Status(429, headers={"Retry-After": "40"}))
        began = now()
        jobs = [emulator.add_job(duration=0.0) for _ in range(9)]
        await asyncio.gather(*(sessions[number % 3].wait_for_completion(job) for number, job in enumerate(jobs)))
        later = sorted(arrival.at - began for arrival in emulator.arrivals)
        assert later[0] < 1.0
        assert [when for when in later if 5.0 < when < 40.0] == []
        assert len([when for when in later if when < 5.0]) <= 5  # in flight before the 429 was known


async def test_all_processes_resume_after_one_accepted_probe(virtual_quota: VirtualQuota) -> None:
    """A process that finds a probe in flight asks again soon, and not only when the lease expires."""
    async with Emulator() as emulator, sessions_with(emulator, virtual_quota, 3) as sessions:
        emulator.inject(Status(429, headers={"Retry-After": "40"}))
        began = now()
        waits = []
        for session in sessions:
            waits.append(asyncio.create_task(session.wait_for_completion(emulator.add_job(duration=0.0))))
            await asyncio.sleep(1)
        await asyncio.gather(*waits)
        assert now() - began < 43
        assert emulator.stats.requests == 4


# Single exchanges


async def test_a_burst_is_sent_at_once_and_the_rest_evenly(virtual_quota: VirtualQuota) -> None:
    """Five of sixty, then one a second."""
    process = Process(virtual_quota)
    assert await process.asks(10) == 5
    assert await process.asks(1) == 0
    assert process.wait == pytest.approx(1.0)
    await asyncio.sleep(process.wait)
    assert await process.asks(1) == 1


async def test_a_process_waits_for_a_spent_quota(virtual_quota: VirtualQuota) -> None:
    """Until the first request expires. The process asks again each second."""
    process = Process(virtual_quota, requests=2)
    assert await process.asks(1) == 1
    process.ends()
    await asyncio.sleep(30)
    assert await process.asks(2) == 1
    process.ends()
    assert await process.asks(1) == 0
    assert process.wait == pytest.approx(1.0)
    await asyncio.sleep(29.5)
    assert await process.asks(1) == 0
    assert process.wait == pytest.approx(0.53, abs=0.01)
    await asyncio.sleep(process.wait)
    assert await process.asks(1) == 1


async def test_requests_in_flight_count_until_their_lease_expires(virtual_quota: VirtualQuota) -> None:
    """However long they take."""
    process = Process(virtual_quota, requests=1)
    assert await process.asks(1) == 1
    await asyncio.sleep(79)
    assert await process.asks(1) == 0


async def test_requests_of_a_dead_process_expire_with_their_lease(virtual_quota: VirtualQuota) -> None:
    """Its place in the queue expires within seconds."""
    dead, alive = Process(virtual_quota, requests=1), Process(virtual_quota, requests=1)
    assert await dead.asks(1) == 1
    assert await dead.asks(1) == 0
    assert await alive.asks(1) == 0
    for _ in range(80):
        assert await alive.asks(1) == 0
        await asyncio.sleep(1.0)
    assert await alive.asks(1) == 1


async def test_the_queue_is_first_in_first_out(virtual_quota: VirtualQuota) -> None:
    """Even if a later process asks at the moment when a request becomes available."""
    first, second = Process(virtual_quota, requests=1), Process(virtual_quota, requests=1)
    assert await first.asks(1) == 1
    first.ends()
    assert await second.asks(1) == 0
    for _ in range(60):
        await asyncio.sleep(1.0)
        assert await second.asks(1) == 0
    assert await first.asks(1) == 0
    await asyncio.sleep(0.1)
    assert await first.asks(1) == 0
    assert await second.asks(1) == 1


async def test_available_requests_are_shared_by_the_processes_in_the_queue(virtual_quota: VirtualQuota) -> None:
    """Of what is there at once, each who stands in the queue gets a share."""
    processes = [Process(virtual_quota, requests=120) for _ in range(3)]
    assert await processes[0].asks(32) == 10
    assert [await process.asks(32) for process in processes] == [0, 0, 0]
    await asyncio.sleep(2.9)
    assert [await process.asks(32) for process in processes] == [1, 1, 1]  # of the five that have become available


async def test_an_unused_request_is_granted_to_another_process(virtual_quota: VirtualQuota) -> None:
    """At once, because it was never sent."""
    giver, taker = Process(virtual_quota, requests=1), Process(virtual_quota, requests=1)
    ask = giver._quota.ask(now(), 1, 0.0, 0.0)
    assert ask is not None
    giver._quota.on_answer(now(), now(), ask, await giver._link.exchange(ask))
    assert await taker.asks(1) == 0
    ask = giver._quota.ask(now(), 0, 0.0, 0.0)
    assert ask is not None
    await giver._link.exchange(ask)
    assert await taker.asks(1) == 1


async def test_one_probe_at_a_time_finds_out_whether_a_429_is_over(virtual_quota: VirtualQuota) -> None:
    """When the pause is over. Other processes wait for the result."""
    prober, other = Process(virtual_quota), Process(virtual_quota)
    assert await prober.asks(1) == 1
    prober.ends("throttled")
    assert await prober.asks(1, pause=20.0) == 0
    assert (await other.asks(1), other.pause, other.wait) == (0, 20.0, 20.0)
    await asyncio.sleep(20)
    assert (await prober.asks(3), prober.pause) == (1, 0.0)
    assert (await other.asks(1), other.pause) == (0, 0.0)
    prober.ends("reopened")
    assert await prober.asks(1) == 1
    assert (await other.asks(1), other.pause) == (1, None)


async def test_a_prober_that_dies_silences_the_others_for_a_window_at_most(virtual_quota: VirtualQuota) -> None:
    """Also where a request may take longer than a window."""
    prober, other = Process(virtual_quota, window=6.0), Process(virtual_quota, window=6.0)
    assert await prober.asks(1) == 1
    prober.ends("throttled")
    assert await prober.asks(1, pause=2.0) == 0
    await asyncio.sleep(2.0)
    assert await prober.asks(1) == 1
    await asyncio.sleep(5.9)
    assert await other.asks(1) == 0
    await asyncio.sleep(0.1)
    assert await other.asks(1) == 1


async def test_a_rejected_probe_pauses_all_processes_again(virtual_quota: VirtualQuota) -> None:
    """For the new pause."""
    prober, other = Process(virtual_quota), Process(virtual_quota)
    assert await prober.asks(1) == 1
    prober.ends("throttled")
    assert await prober.asks(1, pause=20.0) == 0
    await asyncio.sleep(20)
    assert await prober.asks(1) == 1
    prober.ends("throttled")
    assert await prober.asks(1, pause=5.0) == 0
    assert (await other.asks(1), other.pause) == (0, 5.0)


@pytest.mark.parametrize("dies", [False, True], ids=["and its process tells", "and its process died"])
async def test_a_probe_without_a_result_is_followed_by_another(virtual_quota: VirtualQuota, *, dies: bool) -> None:
    """At once, or when its lease expires."""
    prober, other = Process(virtual_quota), Process(virtual_quota)
    assert await prober.asks(1) == 1
    prober.ends("throttled")
    assert await prober.asks(1, pause=20.0) == 0
    await asyncio.sleep(20)
    assert await prober.asks(1) == 1
    assert await other.asks(1) == 0
    if dies:
        await asyncio.sleep(20)
    else:
        prober.ends()  # for example with a 5xx
        await prober.asks(0)
    assert (await other.asks(1), other.pause) == (1, 0.0)


async def test_redis_stores_no_key_and_no_job_id(virtual_quota: VirtualQuota) -> None:
    """Only a digest, numbers and times."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 1) as (session,):
        job_id = emulator.add_job(duration=1.0)
        await session.wait_for_completion(job_id)
    client = virtual_quota.client
    kept = [key + client.dump(key) for key in client.scan_iter()]
    assert len(kept) >= 2
    for secret in (API_KEY, USER_ID, str(job_id), emulator.base_url):
        assert not any(secret.encode() in each for each in kept)


async def test_numbers_of_a_large_quota_are_exact(virtual_quota: VirtualQuota) -> None:
    """Times are microseconds since the epoch, and permits are numbered for years."""
    terms = Terms("q", requests=10**6, window=60.0, burst=100_000, lease=20.0, ask_again=1.0)
    link = virtual_quota.open(terms)
    ask = Ask(3, False, 2**40, {2**40 - 1: 60.0}, (), None, None, None, True)  # noqa: FBT003 - its fields in order
    answer = await link.exchange(ask)
    assert answer.granted == 3
    (places,) = virtual_quota.client.scan_iter("*places")
    numbers = [int(member.rpartition(b":")[2]) for member, _ in virtual_quota.client.zscan_iter(places)]
    assert sorted(numbers) == [2**40 - 1, 2**40, 2**40 + 1, 2**40 + 2]
    assert math.isclose(answer.wait, 0.0)


async def test_the_end_of_an_older_429_does_not_end_a_newer_one(virtual_quota: VirtualQuota) -> None:
    """A probe that was sent before another process received a new 429 says nothing about it."""
    slow, other = Process(virtual_quota), Process(virtual_quota)
    assert [await slow.asks(1), await other.asks(1)] == [1, 1]
    slow.ends("throttled")
    assert await slow.asks(1, pause=5.0) == 0
    await asyncio.sleep(5)
    assert await slow.asks(1) == 1  # the probe
    other.ends("throttled")  # of an earlier request, with Retry-After
    assert await other.asks(1, pause=60.0) == 0
    slow.ends("reopened")
    assert (await slow.asks(1), slow.pause) == (0, 60.0)


# Lost and repeated exchanges


def ask_for(requests: int, first: int, unused: tuple[int, ...] = ()) -> Ask:
    """Ask for requests, and report nothing but unused ones."""
    return Ask(requests, False, first, {}, unused, None, None, None, True)  # noqa: FBT003 - its fields in order


async def test_a_repeated_exchange_gets_the_answer_of_the_first(virtual_quota: VirtualQuota) -> None:
    """A connection may break after Redis has run the script: the repeated exchange wastes nothing."""
    process = virtual_quota.open(TERMS)
    virtual_quota.repeats = 2
    assert (await process.exchange(ask_for(3, 0))).granted == 3
    virtual_quota.repeats = 1
    assert (await process.exchange(ask_for(3, 3))).granted == 2  # the rest of a burst of five
    places = next(virtual_quota.client.scan_iter("*places"))
    assert virtual_quota.client.zcard(places) == 5


async def test_an_exchange_that_arrives_after_a_later_one_is_refused(virtual_quota: VirtualQuota) -> None:
    """The process has given it up, and would never use what it grants."""
    process = virtual_quota.open(TERMS)
    virtual_quota.lost = True
    with pytest.raises(redis.ConnectionError):
        await process.exchange(ask_for(3, 0))
    virtual_quota.lost = False
    assert (await process.exchange(ask_for(1, 3, unused=(0, 1, 2)))).granted == 1
    with pytest.raises(redis.ResponseError, match="a later exchange was made"):
        virtual_quota.deliver_lost()
    places = next(virtual_quota.client.scan_iter("*places"))
    assert virtual_quota.client.zcard(places) == 1


async def test_the_first_process_that_comes_back_does_not_take_all(virtual_quota: VirtualQuota) -> None:
    """Others may have sent requests alone, and report them within the next seconds."""
    first = virtual_quota.open(TERMS)
    era = (await first.exchange(ask_for(1, 0))).era
    back = attrs.evolve(ask_for(50, 1), hurry=True, era=era)
    assert (await first.exchange(back)).granted == 4
    await asyncio.sleep(3.0)
    later = attrs.evolve(ask_for(50, 51), hurry=True, era=era, whole=False)
    assert (await first.exchange(later)).granted == 50


# The clock of Redis


@pytest.mark.parametrize("step", [-60.0, 3600.0, None], ids=["back", "forward", "stands still"])
async def test_a_clock_that_steps_or_stands_still_changes_nothing(
    virtual_quota: VirtualQuota, step: float | None
) -> None:
    """The quota holds, and nobody stops sending."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 2) as sessions:
        waits = [
            asyncio.create_task(session.wait_for_all([emulator.add_job(math.inf) for _ in range(80)], timeout=None))
            for session in sessions
        ]
        await asyncio.sleep(70)
        virtual_quota.clock_step, virtual_quota.frozen = step or 0.0, step is None
        await asyncio.sleep(150)
        sent = [arrival.at for arrival in emulator.arrivals]
        silence = max(later - earlier for earlier, later in itertools.pairwise(sent))
        assert silence < 6  # after the burst at the start
        assert len(sent) >= 210
        assert most_in_a_window(emulator.arrivals) <= QUOTA + 5  # a step forward is worth a second at most
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def test_a_pause_is_not_longer_because_the_clock_steps_back(virtual_quota: VirtualQuota) -> None:
    """Processes pause for as long as the service asked, and say why."""
    async with Emulator() as emulator, sessions_with(emulator, virtual_quota, 2) as sessions:
        emulator.inject(Status(429, headers={"Retry-After": "40"}))
        began = now()
        waits = [asyncio.create_task(each.wait_for_completion(emulator.add_job(duration=0.0))) for each in sessions]
        await asyncio.sleep(10)
        virtual_quota.clock_step = -3600.0
        assert [session.stats.pause_reason for session in sessions] == ["throttled", "throttled"]
        await asyncio.gather(*waits)
        assert now() - began < 45
