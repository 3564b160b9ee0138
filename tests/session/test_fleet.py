"""Many waits on one quota: sessions and the emulator in virtual time, on real sockets where they make a difference.

Jitter and the lengths of jobs come from seeded dice, so that each run is the same.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from playai_async import InProgress, Pacing, PlayAISession, Polling, TtsJob, WaitTimeoutError
from playai_async.emulator import Emulator, Hang
from tests.support.clock import now
from tests.support.fleets import (
    QUOTA,
    WINDOW,
    finished_late,
    most_in_a_window,
    share_of_429s,
    slow_network,
    without_sockets,
)
from tests.support.scripted import API_KEY, USER_ID


@pytest.fixture(autouse=True)
def _loaded_dice() -> None:
    random.seed(7)


def session_with(
    emulator: Emulator,
    requests_per_window: int | None = None,
    *,
    max_in_flight: int = 32,
    http_session: aiohttp.ClientSession | None = None,
) -> PlayAISession:
    """A session with the emulator."""
    pacing = Pacing(requests_per_window=requests_per_window, window=WINDOW, max_in_flight=max_in_flight)
    return PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session, pacing=pacing)


STREAM_AND_BURST = pytest.mark.parametrize(
    ("jobs", "gap", "phase"),
    [(120, 2.0, 17.0), (200, 0.0, 0.0), (200, 0.0, 45.0)],
    ids=["stream of 120", "burst of 200 at the edge", "burst of 200 near the next edge"],
)
"""Jobs, seconds between their starts, and seconds of the service's first window that are over at the beginning."""


# A known quota


@STREAM_AND_BURST
async def test_a_known_quota_is_never_exceeded_and_no_wait_is_lost(jobs: int, gap: float, phase: float) -> None:
    """Over any span of a window, counted at the service, whatever the phase of its windows; so no 429 comes."""
    async with Emulator(QUOTA, WINDOW, phase=phase) as emulator, session_with(emulator, QUOTA) as playai:
        late = await finished_late(emulator, [playai], jobs, gap)
        assert len(late) == jobs
        assert emulator.stats.throttled == playai.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= QUOTA
        assert emulator.stats.requests == playai.stats.requests <= 2.6 * jobs
        assert playai.stats.quota == QUOTA


async def test_a_known_quota_of_five_a_minute_works() -> None:
    """There is no floor under the rate: fewer than one request a second is normal."""
    async with Emulator(5, WINDOW, phase=20) as emulator, session_with(emulator, 5) as playai:
        await finished_late(emulator, [playai], 20, 10.0)
        assert emulator.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= 5


async def test_a_known_quota_holds_for_waits_calls_and_those_that_were_cut_short() -> None:
    """A request that nobody waits for any more was counted all the same."""
    async with Emulator(20, WINDOW) as emulator, session_with(emulator, 20) as playai:
        job_id = emulator.add_job(duration=math.inf)
        for _ in range(60):
            emulator.inject(Hang())
            callers = [
                asyncio.create_task(playai.get_job(job_id)),
                asyncio.create_task(playai.wait_for_completion(job_id)),
            ]
            await asyncio.sleep(3.3)
            for caller in callers:
                caller.cancel()
            await asyncio.wait(callers)
        assert emulator.stats.throttled == 0
        assert emulator.stats.requests >= 60
        assert most_in_a_window(emulator.arrivals) <= 20


async def test_a_known_quota_holds_over_a_slow_network() -> None:
    """Whenever between its start and its end a request is counted."""
    async with (
        Emulator(QUOTA, WINDOW, phase=31) as emulator,
        slow_network(4.0) as http_session,
        session_with(emulator, QUOTA, http_session=http_session) as playai,
    ):
        late = await finished_late(emulator, [playai], 150, 0.5)
        assert len(late) == 150
        assert emulator.stats.throttled == 0
        assert most_in_a_window(emulator.arrivals) <= QUOTA


# A learned quota


@pytest.mark.parametrize("phase", [0.0, 31.0])
async def test_a_quota_is_learned_over_a_slow_network(phase: float) -> None:
    """Answers that come late, and in another order, tell as much: few 429s, no wait lost."""
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator, one_way=1.0),
        session_with(emulator) as playai,
    ):
        late = await finished_late(emulator, [playai], 200, 1.0)
        assert len(late) == 200
        later = [arrival for arrival in emulator.arrivals if arrival.at >= 2 * WINDOW]
        assert share_of_429s(later) <= 0.05
        assert playai.stats.quota is not None
        assert 0.8 * QUOTA <= playai.stats.quota <= 1.15 * QUOTA


@STREAM_AND_BURST
async def test_a_learned_quota_costs_few_429s_and_no_wait(jobs: int, gap: float, phase: float) -> None:
    """After the first window at most three requests in a hundred are refused."""
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator),
        session_with(emulator) as playai,
    ):
        begin = now()
        late = await finished_late(emulator, [playai], jobs, gap)
        assert len(late) == jobs
        after_the_first_window = [arrival for arrival in emulator.arrivals if arrival.at >= begin + WINDOW]
        assert len(after_the_first_window) > 100
        assert share_of_429s(after_the_first_window) <= 0.03
        assert emulator.stats.throttled <= PROBES_OF_A_WINDOW
        assert playai.stats.quota is not None
        assert 0.9 * QUOTA <= playai.stats.quota <= 1.1 * QUOTA


PROBES_OF_A_WINDOW = 13
"""What finding the first edge may cost, and one for each later 429."""


@pytest.mark.parametrize("phase", [0.0, 31.0])
async def test_a_learned_quota_is_close_to_the_true_one_and_used(phase: float) -> None:
    """In each window under load: nearly all that may be sent is sent, and at most one request is refused."""
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator),
        session_with(emulator) as playai,
    ):
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(100)
        ]
        await asyncio.sleep(2 * WINDOW - phase)  # to an edge of the service's
        learned: list[int] = []
        for _ in range(9):
            emulator.reset_stats()
            await asyncio.sleep(WINDOW)
            assert emulator.stats.throttled <= 1
            assert emulator.stats.by_status[200] >= 0.9 * QUOTA
            assert playai.stats.quota is not None
            learned.append(playai.stats.quota)
            if emulator.stats.throttled:
                assert playai.stats.quota <= QUOTA
        assert min(learned) >= 0.9 * QUOTA
        assert max(learned) <= 1.1 * QUOTA  # tried, a little at a time, in case there is more now
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def test_a_service_without_a_quota_is_found_out_within_a_window() -> None:
    """Where nothing is refused the rate grows, until nothing is held back; and nothing is learned."""
    async with Emulator() as emulator, without_sockets(emulator), session_with(emulator) as playai:
        begin = now()
        await playai.wait_for_all([emulator.add_job() for _ in range(600)])
        assert now() - begin <= 0.8 * WINDOW
        assert (playai.stats.requests, playai.stats.throttled, playai.stats.quota) == (600, 0, None)


@pytest.mark.parametrize("phase", [0.0, 30.0])
async def test_two_learning_sessions_share_one_key(phase: float) -> None:
    """Neither knows of the other; both finish, and each spends under a tenth of its requests on 429s."""
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator),
        session_with(emulator) as one,
        session_with(emulator) as other,
    ):
        late = await finished_late(emulator, [one, other], 160, 1.0)
        assert len(late) == 160
        for playai in (one, other):
            assert playai.stats.requests > 80
            assert playai.stats.throttled < 0.1 * playai.stats.requests
            assert playai.stats.open_waits == 0


async def test_a_quota_of_five_a_minute_is_learned() -> None:
    """Half a minute of probes is a lot beside it; still each wait ends, and the service is mostly not bothered."""
    limits: list[int | None] = []

    async def watch(playai: PlayAISession) -> None:
        await asyncio.sleep(3.5 * WINDOW - 10)  # to the middle of the service's fourth window
        while True:
            limits.append(playai.stats.quota)
            await asyncio.sleep(WINDOW)

    async with Emulator(5, WINDOW, phase=10) as emulator, without_sockets(emulator), session_with(emulator) as playai:
        watching = asyncio.create_task(watch(playai))
        late = await finished_late(emulator, [playai], 30, 10.0)
        watching.cancel()
        assert len(late) == 30
        assert len(limits) >= 4
        assert all(limit is not None and 4 <= limit <= 5 for limit in limits)
        # The last requests begin a window, after one that took all five: the next try at one more is not made yet.
        assert playai.stats.quota is not None
        assert playai.stats.quota <= 6
        later = [arrival for arrival in emulator.arrivals if arrival.at >= 2 * WINDOW]
        assert share_of_429s(later) <= 0.15


async def test_a_quota_that_is_halved_and_doubled_is_followed() -> None:
    """Down within a window or two and up within a few, and in each later window at most one request is refused."""
    async with Emulator(QUOTA, WINDOW) as emulator, without_sockets(emulator), session_with(emulator) as playai:
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(100)
        ]
        for quota, to_settle in ((QUOTA, 2), (QUOTA // 2, 2), (QUOTA, 4)):
            emulator.quota = quota
            await asyncio.sleep(to_settle * WINDOW)
            for _ in range(4):
                emulator.reset_stats()
                await asyncio.sleep(WINDOW)
                assert emulator.stats.throttled <= 1
                assert emulator.stats.by_status[200] >= 0.85 * quota
                assert playai.stats.quota is not None
                assert 0.85 * quota <= playai.stats.quota <= 1.15 * quota
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


@asynccontextmanager
async def stranger(emulator: Emulator, at_once: int, pause: float) -> AsyncIterator[None]:
    """Somebody else with the same key, who asks so many times in a row, again and again."""

    async def ask() -> None:
        while True:
            for _ in range(at_once):
                async with http_session.get(f"{emulator.base_url}/api/v1/tts/{job_id}") as reply:
                    await reply.read()
            await asyncio.sleep(pause)

    job_id = emulator.add_job()
    headers = {"Authorization": f"Bearer {API_KEY}", "X-USER-ID": USER_ID}
    async with aiohttp.ClientSession(headers=headers) as http_session:
        asking = asyncio.create_task(ask())
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.wait([asking])


@pytest.mark.parametrize(
    ("at_once", "pause", "phase"),
    [(15, 60.0, 10.0), (1, 4.0, 40.0), (30, 60.0, 40.0)],
    ids=["burst", "evenly", "half"],
)
async def test_a_learning_session_makes_do_with_what_a_stranger_leaves(
    at_once: int, pause: float, phase: float
) -> None:
    """A part of the quota is used by somebody else: no wait is lost, and few requests are refused."""
    async with (
        Emulator(QUOTA, WINDOW, phase=phase) as emulator,
        without_sockets(emulator),
        session_with(emulator) as playai,
    ):
        async with stranger(emulator, at_once, pause):
            late = await finished_late(emulator, [playai], 100, 4.0)
        assert len(late) == 100
        assert playai.stats.throttled <= 0.06 * playai.stats.requests
        assert playai.stats.quota is None or playai.stats.quota <= 1.1 * QUOTA


async def test_a_hint_opens_the_gate_without_probes() -> None:
    """A service that says when to come back is asked again then, and the edge is known from the first 429 on."""
    async with (
        Emulator(QUOTA, WINDOW, phase=10, retry_after=True) as emulator,
        without_sockets(emulator),
        session_with(emulator) as playai,
    ):
        late = await finished_late(emulator, [playai], 150, 1.0)
        assert len(late) == 150
        refused = [arrival.at for arrival in emulator.arrivals if arrival.status == 429]
        assert 1 <= len(refused) <= 4
        for at in refused:
            edge = math.ceil((at + 10) / WINDOW) * WINDOW - 10
            following = min(arrival.at for arrival in emulator.arrivals if arrival.at > at)
            assert edge <= following <= edge + 2.1  # a hint is in whole seconds, and stretched a little


# Whose turn it is


@pytest.mark.parametrize("known", [QUOTA, None], ids=["known", "learned"])
async def test_a_new_wait_among_a_hundred_old_ones_has_its_turn_in_time(known: int | None) -> None:
    """It waits for those that were due before it, and for none that become due later."""
    async with Emulator(QUOTA, WINDOW) as emulator, without_sockets(emulator), session_with(emulator, known) as playai:
        old = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(100)
        ]
        await asyncio.sleep(5 * WINDOW)
        assert playai.stats.queued > 50
        begin = now()
        newcomer = emulator.add_job()
        await playai.wait_for_completion(newcomer)
        # A hundred polls at the even rate of the quota, the six seconds by which a first poll gives way, and a
        # little for what a learned quota leaves unused.
        assert now() - begin <= (100 / QUOTA) * WINDOW * 1.1 + 6
        assert emulator.requests_of(newcomer) == 1
        for wait in old:
            wait.cancel()
        await asyncio.wait(old)


async def test_old_waits_are_not_starved_by_new_ones() -> None:
    """A stream of new jobs takes no more than its share: all that are due are polled in turn."""
    async with Emulator(QUOTA, WINDOW) as emulator, without_sockets(emulator), session_with(emulator, QUOTA) as playai:
        old = emulator.add_job(duration=100.0)
        wait = asyncio.create_task(playai.wait_for_completion(old, timeout=None))
        new: list[asyncio.Task[TtsJob]] = []
        for _ in range(240):
            job_id = emulator.add_job(duration=math.inf)
            new.append(asyncio.create_task(playai.wait_for_completion(job_id, timeout=None)))
            await asyncio.sleep(0.5)
        await asyncio.sleep(140)
        assert wait.done()
        for each in new:
            each.cancel()
        await asyncio.wait(new)


async def test_cancelled_waits_leave_no_hole() -> None:
    """The turns of those that went are the others': the quota is used all the same."""
    async with Emulator(QUOTA, WINDOW) as emulator, session_with(emulator, QUOTA) as playai:
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(200)
        ]
        await asyncio.sleep(30)
        gone, kept = waits[::2], waits[1::2]
        for wait in gone:
            wait.cancel()
        await asyncio.wait(gone)
        assert (playai.stats.open_waits, playai.stats.distinct_jobs) == (100, 100)
        await asyncio.sleep(WINDOW)
        emulator.reset_stats()
        await asyncio.sleep(WINDOW)
        assert emulator.stats.requests >= QUOTA - 1
        for wait in kept:
            wait.cancel()
        await asyncio.wait(kept)


@pytest.mark.parametrize("known", [QUOTA, None], ids=["known", "learned"])
async def test_a_call_goes_ahead_of_a_hundred_polls(known: int | None) -> None:
    """It takes the very next turn."""
    async with Emulator(QUOTA, WINDOW) as emulator, without_sockets(emulator), session_with(emulator, known) as playai:
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(150)
        ]
        await asyncio.sleep(2.5 * WINDOW)
        assert playai.stats.queued >= 100
        for _ in range(5):
            sent = emulator.stats.requests
            job_id = emulator.add_job()
            await playai.get_job(job_id)
            assert emulator.arrivals[sent].job_id == job_id
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


# What the session tells


async def test_stats_tell_of_a_queue_for_a_known_quota() -> None:
    """Polls that are due and wait for their turn are queued; nothing is paused."""
    async with Emulator(QUOTA, WINDOW) as emulator, session_with(emulator, QUOTA) as playai:
        assert (playai.stats.quota, playai.stats.queued) == (QUOTA, 0)
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(100)
        ]
        await asyncio.sleep(0.5)
        stats = playai.stats
        assert (stats.open_waits, stats.distinct_jobs, stats.requests) == (100, 100, 5)
        assert (stats.queued, stats.in_flight) == (95, 0)
        assert (stats.paused_for, stats.pause_reason, stats.throttled) == (0.0, None, 0)
        call = asyncio.create_task(playai.get_job(emulator.add_job()))
        await asyncio.sleep(0)
        assert playai.stats.queued == 96
        for caller in (call, *waits):
            caller.cancel()
        await asyncio.wait([call, *waits])
        assert playai.stats.queued == playai.stats.open_waits == 0


async def test_stats_tell_of_a_queue_for_connections() -> None:
    """What is under way is not queued, and what sleeps between polls is neither."""
    async with Emulator() as emulator, session_with(emulator, 10**6, max_in_flight=4) as playai:
        emulator.inject(Hang(), times=None)
        jobs = [emulator.add_job(duration=math.inf) for _ in range(10)]
        group = asyncio.create_task(playai.wait_for_all(jobs, polling=Polling(initial=20, maximum=20, jitter=0)))
        await asyncio.sleep(1)
        assert (playai.stats.open_waits, playai.stats.in_flight, playai.stats.queued) == (10, 4, 6)
        emulator.clear_faults()
        await asyncio.sleep(1)
        assert (playai.stats.open_waits, playai.stats.in_flight, playai.stats.queued) == (10, 0, 0)
        group.cancel()
        await asyncio.wait([group])


async def test_stats_tell_of_a_429_and_of_what_was_learned() -> None:
    """While the gate is closed: why, for how long, who waits; and the quota once a window has told."""
    async with Emulator(QUOTA, WINDOW) as emulator, session_with(emulator) as playai:
        waits = [
            asyncio.create_task(playai.wait_for_completion(emulator.add_job(duration=math.inf), timeout=None))
            for _ in range(100)
        ]
        assert playai.stats.quota is None
        async with asyncio.timeout(WINDOW):
            while playai.stats.pause_reason is None:
                await asyncio.sleep(0.25)
        stats = playai.stats
        assert (stats.pause_reason, stats.throttled) == ("throttled", 1)
        assert 4.5 <= stats.paused_for <= 5.25
        assert stats.queued > 50
        assert stats.quota == 57
        await asyncio.sleep(stats.paused_for + 1.0)
        assert playai.stats.throttled == 2
        assert 4.5 <= playai.stats.paused_for <= 5.75  # the second pause is a quarter longer
        await asyncio.sleep(WINDOW)
        stats = playai.stats
        assert (stats.pause_reason, stats.paused_for) == (None, 0.0)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def test_a_deadline_is_kept_however_many_wait_for_their_turn() -> None:
    """To the moment, whether polled or not; what it tells is what the session did for it."""
    async with Emulator(QUOTA, WINDOW) as emulator, session_with(emulator, QUOTA) as playai:
        begin = now()
        jobs = [emulator.add_job(duration=math.inf) for _ in range(100)]
        outcomes = await playai.wait_for_all(jobs, timeout=30, return_exceptions=True)
        assert now() - begin == pytest.approx(30, abs=0.01)
        polls = [outcome.polls for outcome in outcomes if isinstance(outcome, WaitTimeoutError)]
        assert len(polls) == 100
        assert sum(polls) == emulator.stats.requests
        last_seen = [outcome.job for outcome in outcomes if isinstance(outcome, WaitTimeoutError) and outcome.polls]
        assert all(job is not None and job.output == InProgress() for job in last_seen)


async def test_as_completed_gives_each_job_of_a_fleet_once() -> None:
    """Under a quota that is learned, in the order in which the ends are noticed."""
    async with Emulator(QUOTA, WINDOW, phase=17) as emulator, session_with(emulator) as playai:
        dice = random.Random(3)  # noqa: S311 - repeatable, not secret
        jobs = [emulator.add_job(duration=dice.uniform(0, 60), fails=number % 10 == 0) for number in range(100)]
        ended = [(job.id, now()) async for job in playai.as_completed(jobs, timeout=None)]
        assert sorted(job_id.int for job_id, _ in ended) == sorted(job_id.int for job_id in jobs)
        assert [at for _, at in ended] == sorted(at for _, at in ended)
        assert playai.stats.open_waits == 0
