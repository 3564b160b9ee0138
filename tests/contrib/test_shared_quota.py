"""Several sessions on one quota: the script that keeps it, on a real Redis and in virtual time.

Jitter and the lengths of jobs come from seeded dice, so that each run is the same.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from playai_async import Pacing, PlayAISession
from playai_async._shared_quota import Ask, QuotaLink, SharedQuota, Terms
from playai_async.emulator import Emulator, Status
from playai_async.jobs._pacing.leased_quota import LeasedQuota, terms_for
from tests.contrib.virtual_quota import VirtualQuota
from tests.support.clock import now
from tests.support.fleets import QUOTA, WINDOW, finished_late, most_in_a_window, share_of_429s
from tests.support.scripted import API_KEY, USER_ID

PROCESSES = 4


@pytest.fixture(autouse=True)
def _loaded_dice() -> None:
    random.seed(7)


@asynccontextmanager
async def sessions_with(
    emulator: Emulator, shared: SharedQuota | None, count: int = PROCESSES, requests: int = QUOTA
) -> AsyncIterator[list[PlayAISession]]:
    """So many sessions with the emulator, each as good as a process of its own."""
    pacing = Pacing(requests_per_window=requests, window=WINDOW, shared=shared)
    async with AsyncExitStack() as stack:
        sessions = [PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) for _ in range(count)]
        yield [await stack.enter_async_context(session) for session in sessions]


async def makespan(emulator: Emulator, sessions: Sequence[PlayAISession], jobs: int, gap: float = 0.0) -> float:
    """Wait for so many jobs, and return how long that took."""
    began = now()
    assert len(await finished_late(emulator, sessions, jobs, gap)) == jobs
    return now() - began


class Process:
    """A process that does no more than to ask for requests and to send them, step by step."""

    def __init__(self, quota: VirtualQuota, requests: int = QUOTA) -> None:
        terms = terms_for(Pacing(requests_per_window=requests), name="q", request_timeout=10.0)
        assert terms is not None
        self._quota = LeasedQuota(terms)
        self._link: QuotaLink = quota.open(terms)
        self.wait = 0.0
        self.pause: float | None = None

    async def asks(self, wanted: int = 1, pause: float = 0.0) -> int:
        """Ask for so many, and send what is granted."""
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
            self._quota.on_reopened(now())
            self._quota.on_accepted(now())
        else:
            self._quota.on_accepted(now())


# Many waits


@pytest.mark.parametrize(("jobs", "gap"), [(300, 0.0), (150, 2.0)], ids=["burst of 300", "stream of 150"])
@pytest.mark.parametrize("phase", [0.0, 17.0])
async def test_processes_never_exceed_the_quota_together(
    virtual_quota: VirtualQuota, jobs: int, gap: float, phase: float
) -> None:
    """Over any span of a window, counted at the service; and they take about as long as one process would."""
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


async def test_turns_go_round_the_processes(virtual_quota: VirtualQuota) -> None:
    """One with a few waits is not behind the hundreds of another."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 2) as (busy, idle):
        jobs = [emulator.add_job(duration=math.inf) for _ in range(300)]
        crowd = asyncio.create_task(busy.wait_for_all(jobs, timeout=None))
        await asyncio.sleep(90)
        began = now()
        await idle.wait_for_all([emulator.add_job(duration=0.0) for _ in range(10)])
        assert now() - began == pytest.approx(20, abs=2)  # every other turn, of one a second
        crowd.cancel()
        await asyncio.wait([crowd])
        assert emulator.stats.throttled == 0


async def test_a_process_in_a_hurry_takes_no_more_than_its_turn(virtual_quota: VirtualQuota) -> None:
    """Whose polls find their jobs done may take what is left; but not where others have anything to send."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 2) as (early, late):
        crowd = [asyncio.create_task(early.wait_for_all([emulator.add_job(duration=0.0) for _ in range(150)]))]
        await asyncio.sleep(5)
        crowd.append(asyncio.create_task(late.wait_for_all([emulator.add_job(duration=0.0) for _ in range(150)])))
        await asyncio.sleep(60)
        assert abs(early.stats.requests - late.stats.requests) <= 20
        before = [session.stats.requests for session in (early, late)]
        await asyncio.sleep(100)
        sent = [session.stats.requests - count for session, count in zip((early, late), before, strict=True)]
        assert abs(sent[0] - sent[1]) <= 3
        await asyncio.gather(*crowd)
        assert emulator.stats.throttled == 0


@pytest.mark.parametrize("losses", [1, 5])
async def test_a_redis_that_forgets_all_is_told_all(virtual_quota: VirtualQuota, losses: int) -> None:
    """Each process tells what it remembers before anybody is granted anything: the quota holds."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 250))
        for _ in range(losses):
            await asyncio.sleep(37)
            virtual_quota.lose_all()
        await waits
        assert emulator.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= QUOTA


@pytest.mark.parametrize("seconds", [2.0, 100.0])
async def test_no_wait_is_lost_while_redis_is_away(virtual_quota: VirtualQuota, seconds: float) -> None:
    """Each process paces alone, from what it was granted: few 429s come of it, and it ends with the outage."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        waits = asyncio.create_task(makespan(emulator, sessions, 400))
        await asyncio.sleep(100)
        virtual_quota.down = True
        virtual_quota.lose_all()
        await asyncio.sleep(seconds)
        virtual_quota.down = False
        emulated = len(virtual_quota.exchanges)
        await waits
        assert share_of_429s(emulator.arrivals) < 0.1
        assert len(virtual_quota.exchanges) > emulated


async def test_a_429_that_others_caused_is_met_by_few(virtual_quota: VirtualQuota) -> None:
    """All are held by what one has met, and one request at a time finds out whether it is over."""
    async with Emulator(10, WINDOW) as emulator, sessions_with(emulator, virtual_quota) as sessions:
        await makespan(emulator, sessions, 40)
        spent = [arrival for arrival in emulator.arrivals if arrival.status == 429]
        assert 0 < len(spent) <= 13 * emulator.arrivals[-1].at / WINDOW
        gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(spent)]
        assert sum(gap < 1.0 for gap in gaps) <= 4


async def test_a_hint_that_one_met_holds_all(virtual_quota: VirtualQuota) -> None:
    """For as long as the service asked one of them to stay away."""
    async with Emulator() as emulator, sessions_with(emulator, virtual_quota, 3) as sessions:
        emulator.inject(Status(429, headers={"Retry-After": "40"}))
        began = now()
        jobs = [emulator.add_job(duration=0.0) for _ in range(9)]
        await asyncio.gather(*(sessions[number % 3].wait_for_completion(job) for number, job in enumerate(jobs)))
        later = sorted(arrival.at - began for arrival in emulator.arrivals)
        assert later[0] < 1.0
        assert [when for when in later if 5.0 < when < 40.0] == []
        assert len([when for when in later if when < 5.0]) <= 5  # on their way before that was known


async def test_all_go_on_when_one_has_found_a_429_over(virtual_quota: VirtualQuota) -> None:
    """Who finds the probe on its way asks again soon, and not only when its lease is over."""
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


# One exchange after the other


async def test_a_burst_goes_at_once_and_the_rest_evenly(virtual_quota: VirtualQuota) -> None:
    """Five of sixty, and then one a second."""
    process = Process(virtual_quota)
    assert await process.asks(10) == 5
    assert await process.asks(1) == 0
    assert process.wait == pytest.approx(1.0)
    await asyncio.sleep(process.wait)
    assert await process.asks(1) == 1


async def test_a_quota_that_is_spent_is_waited_for(virtual_quota: VirtualQuota) -> None:
    """Until the first request counts no more; who waits asks again each second."""
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


async def test_requests_under_way_hold_their_places(virtual_quota: VirtualQuota) -> None:
    """However long they take, up to their lease."""
    process = Process(virtual_quota, requests=1)
    assert await process.asks(1) == 1
    await asyncio.sleep(79)
    assert await process.asks(1) == 0


async def test_a_process_that_died_holds_its_places_for_no_longer_than_its_lease(virtual_quota: VirtualQuota) -> None:
    """Nor does its turn hold up those behind it for more than a moment."""
    dead, alive = Process(virtual_quota, requests=1), Process(virtual_quota, requests=1)
    assert await dead.asks(1) == 1
    assert await dead.asks(1) == 0
    assert await alive.asks(1) == 0
    for _ in range(80):
        assert await alive.asks(1) == 0
        await asyncio.sleep(1.0)
    assert await alive.asks(1) == 1


async def test_whoever_stands_in_the_queue_is_before_those_who_come(virtual_quota: VirtualQuota) -> None:
    """Also where they happen to ask in the very moment when the turn comes."""
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


async def test_a_batch_leaves_something_for_the_others(virtual_quota: VirtualQuota) -> None:
    """Of what is there at once, each who stands in the queue gets a share."""
    processes = [Process(virtual_quota, requests=120) for _ in range(3)]
    assert await processes[0].asks(32) == 10
    assert [await process.asks(32) for process in processes] == [0, 0, 0]
    await asyncio.sleep(2.9)
    assert [await process.asks(32) for process in processes] == [1, 1, 1]  # of five that have come


async def test_what_is_given_back_is_anothers(virtual_quota: VirtualQuota) -> None:
    """At once: it was never sent."""
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
    """When the pause is; the others wait for what comes of it."""
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


async def test_a_probe_that_is_refused_holds_all_anew(virtual_quota: VirtualQuota) -> None:
    """For the pause that it led to."""
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
async def test_a_probe_without_a_verdict_is_followed_by_another(virtual_quota: VirtualQuota, *, dies: bool) -> None:
    """At once, or when its lease is over."""
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
        prober.ends()  # a 5xx, say
        await prober.asks(0)
    assert (await other.asks(1), other.pause) == (1, 0.0)


async def test_nothing_is_kept_that_names_a_key_or_a_job(virtual_quota: VirtualQuota) -> None:
    """A digest, numbers and times: whoever reads Redis learns nothing that they could use."""
    async with Emulator(QUOTA, WINDOW) as emulator, sessions_with(emulator, virtual_quota, 1) as (session,):
        job_id = emulator.add_job(duration=1.0)
        await session.wait_for_completion(job_id)
    client = virtual_quota.client
    kept = [key + client.dump(key) for key in client.scan_iter() if key != b"clock"]
    assert len(kept) >= 2
    for secret in (API_KEY, USER_ID, str(job_id), emulator.base_url):
        assert not any(secret.encode() in each for each in kept)


async def test_numbers_of_a_large_quota_are_exact(virtual_quota: VirtualQuota) -> None:
    """Times are microseconds since the epoch, and permits are numbered for years."""
    terms = Terms("q", requests=10**6, window=60.0, burst=100_000, lease=20.0, ask_again=1.0)
    link = virtual_quota.open(terms)
    ask = Ask(3, False, 2**40, {2**40 - 1: 60.0}, (), None, None, None, True)  # noqa: FBT003 - its fields, in order
    answer = await link.exchange(ask)
    assert answer.granted == 3
    (places,) = virtual_quota.client.scan_iter("*places")
    numbers = [int(member.rpartition(b":")[2]) for member, _ in virtual_quota.client.zscan_iter(places)]
    assert sorted(numbers) == [2**40 - 1, 2**40, 2**40 + 1, 2**40 + 2]
    assert math.isclose(answer.wait, 0.0)


async def test_the_end_of_an_older_429_does_not_end_a_newer_one(virtual_quota: VirtualQuota) -> None:
    """A probe that was on its way when another process met a new 429 says nothing about that one."""
    slow, other = Process(virtual_quota), Process(virtual_quota)
    assert [await slow.asks(1), await other.asks(1)] == [1, 1]
    slow.ends("throttled")
    assert await slow.asks(1, pause=5.0) == 0
    await asyncio.sleep(5)
    assert await slow.asks(1) == 1  # the probe
    other.ends("throttled")  # of a request that went before, and with a hint
    assert await other.asks(1, pause=60.0) == 0
    slow.ends("reopened")
    assert (await slow.asks(1), slow.pause) == (0, 60.0)
