"""Outages: what many waits, single waits and direct calls do while the service is down, and when it is back."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Callable

import pytest
import tenacity

from playai_async import (
    Pacing,
    PlayAISession,
    Polling,
    RateLimitedError,
    TransportError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Slow, Status
from tests.support.clock import now
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, Answer, ScriptedService, job, lost, throttled

PLENTY = Pacing(requests_per_window=10**9)
"""A quota that holds nothing back, so that an outage is all that does."""

EAGER = Polling(wait=tenacity.wait_fixed(0.1), max_failures=1000)
"""Polls that are always due when the session may send."""

LONGEST_PAUSE = 5.0
"""Seconds between two requests in a long outage: a twelfth of the window."""

OWN_PAUSE = 12.0
"""Seconds that a wait pauses at most after its own poll failed, with the defaults."""

JOBS = [JOB_ID.__class__(int=number) for number in range(1, 4)]


@pytest.fixture(autouse=True)
def _loaded_dice() -> None:
    random.seed(7)


# Many waits


@pytest.mark.parametrize(
    ("fault", "pacing"),
    [
        pytest.param(Status(500), PLENTY, id="500"),
        pytest.param(Status(500), Pacing(), id="500, quota unknown"),
        pytest.param(Reset(), PLENTY, id="reset"),
        pytest.param(Malformed("html"), PLENTY, id="garbage"),
    ],
)
async def test_a_hundred_waits_live_through_an_outage(pacing: Pacing, fault: Fault, emulator: Emulator) -> None:
    """A minute of failures: one request at a time, some tens in all, no wait lost, and all finish soon after it."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) as playai:
        jobs = [emulator.add_job(duration=30) for _ in range(100)]
        group = asyncio.create_task(playai.wait_for_all(jobs))
        await asyncio.sleep(25)
        emulator.reset_stats()
        emulator.inject(fault, times=None)
        while playai.stats.pause_reason is None:
            await asyncio.sleep(0.05)
        assert playai.stats.pause_reason == "outage"
        while playai.stats.in_flight:  # those that were under way when the third one failed
            await asyncio.sleep(0)
        assert emulator.stats.requests <= 3 + 32
        emulator.reset_stats()
        await asyncio.sleep(60)
        assert emulator.stats.most_in_flight == 1
        assert 60 / LONGEST_PAUSE <= emulator.stats.requests <= 60 / LONGEST_PAUSE + 5
        assert playai.stats.open_waits == 100
        emulator.clear_faults()
        back = now()
        finished = await group
        assert [job.id for job in finished] == jobs
        assert now() - back <= LONGEST_PAUSE + (OWN_PAUSE if pacing is PLENTY else 60)
        stats = playai.stats
        assert (stats.pause_reason, stats.paused_for) == (None, 0.0)


async def test_a_restart_of_the_service_is_lived_through(emulator: Emulator) -> None:
    """Connections are refused for a minute; nobody is lost, and nothing is left of it."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        jobs = [emulator.add_job(duration=20) for _ in range(100)]
        group = asyncio.create_task(playai.wait_for_all(jobs))
        await asyncio.sleep(10)
        await emulator.stop()
        await asyncio.sleep(60)
        failures = playai.stats.transient_failures
        assert 60 / LONGEST_PAUSE <= failures <= 60 / LONGEST_PAUSE + 32 + 5
        await emulator.start()
        assert [job.id for job in await group] == jobs
        assert now() <= 70 + LONGEST_PAUSE + OWN_PAUSE
        assert playai.stats.transient_failures == failures


async def test_a_service_that_hangs_is_asked_one_request_at_a_time(emulator: Emulator) -> None:
    """Each until the request timeout; when it answers again, all finish."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        jobs = [emulator.add_job(duration=5) for _ in range(100)]
        emulator.inject(Hang(), times=None)
        group = asyncio.create_task(playai.wait_for_all(jobs))
        await asyncio.sleep(21)
        assert playai.stats.transient_failures == 32 + 2  # two were sent anew before the third failure in a row
        sent = playai.stats.requests
        for _ in range(120):
            await asyncio.sleep(0.5)
            assert playai.stats.in_flight <= 1
        assert playai.stats.requests - sent <= 60 / 10
        emulator.clear_faults()
        assert [job.id for job in await group] == jobs
        assert now() <= 81 + LONGEST_PAUSE + OWN_PAUSE


async def test_an_outage_of_ten_minutes_loses_no_wait_of_a_hundred(emulator: Emulator) -> None:
    """Each failure is one of many waits': none of them has used up its patience."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        emulator.inject(Status(503), times=None)
        jobs = [emulator.add_job() for _ in range(100)]
        group = asyncio.create_task(playai.wait_for_all(jobs, timeout=None))
        await asyncio.sleep(600)
        assert emulator.stats.requests <= 600 / LONGEST_PAUSE + 32 + 5
        emulator.clear_faults()
        assert [job.id for job in await group] == jobs


async def test_the_pauses_of_an_outage_grow(service: ScriptedService) -> None:
    """A second after the third failure in a row, and each half as long again, up to the scale of the window."""
    for job_id in JOBS:
        service.answers(Answer(500), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(25)
        assert service.pauses == [0.0, 0.0, 1.0, 1.5, 2.25, 3.375, 5.0, 5.0, 5.0]
        group.cancel()
        await asyncio.wait([group])


async def test_the_scale_of_the_longest_pause_is_the_window(service: ScriptedService) -> None:
    """A tenth of the window makes a tenth of the pause."""
    for job_id in JOBS:
        service.answers(Answer(500), job_id=job_id)
    pacing = Pacing(requests_per_window=10**9, window=6.0)
    async with PlayAISession(API_KEY, USER_ID, pacing=pacing) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(1.9)
        assert service.pauses == [0.0, 0.0, 0.5, 0.5, 0.5]
        group.cancel()
        await asyncio.wait([group])


async def test_one_good_answer_ends_an_outage(service: ScriptedService) -> None:
    """All that is due goes out at once, and the next outage begins with the shortest pause."""
    service.answers(Answer(500), Answer(500), job(job_id=JOBS[0]), Answer(500), job_id=JOBS[0])
    for job_id in JOBS[1:]:
        service.answers(Answer(500), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(9.5)
        # The fourth probe is the first job's again, and good. The two others go at once, and all three after their
        # own pause of 0.1 s; with that the third failure in a row has come.
        good, again = 8.125, 8.225
        expected = [0, 0, 0, 1, 2.5, 4.75, good, good, good, again, again, again, again + 1]
        assert service.arrivals == pytest.approx(expected)
        group.cancel()
        await asyncio.wait([group])


async def test_two_failures_in_a_row_are_no_outage(service: ScriptedService) -> None:
    """The other waits go on as they were."""
    for job_id in JOBS[:2]:
        service.answers(Answer(500), job(job_id=job_id), job(COMPLETED, job_id), job_id=job_id)
    service.answers(job(job_id=JOBS[2]), job(COMPLETED, JOBS[2]), job_id=JOBS[2])
    steady = Polling(initial=1, multiplier=1, jitter=0)
    async with PlayAISession(API_KEY, USER_ID) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=steady))
        await asyncio.sleep(0.5)
        assert session.stats.pause_reason is None
        assert len(await group) == 3
        assert now() == 2.0


# A single wait


@pytest.mark.parametrize("pacing", [PLENTY, Pacing()], ids=["known", "learned"])
@pytest.mark.parametrize(
    ("polling", "pauses"),
    [
        (Polling(wait=tenacity.wait_fixed(0.01), max_failures=100), [0.01] * 12),
        (Polling(wait=tenacity.wait_fixed(0.7), max_failures=100), [0.7] * 12),
        (
            Polling(wait=tenacity.wait_incrementing(start=0.5, increment=0.5), max_failures=100),
            [0.5, 1, 1.5, 2, 2.5, 3],
        ),
        (Polling(jitter=0, max_failures=100), [1, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10, 10]),
        (Polling(wait=tenacity.wait_fixed(100), max_failures=100, timeout=None), [100.0] * 5),
    ],
    ids=["hasty", "steady", "growing", "defaults", "slow"],
)
async def test_a_single_wait_keeps_its_own_pauses(
    polling: Polling, pauses: list[float], pacing: Pacing, service: ScriptedService
) -> None:
    """Exactly tenacity's, however long the outage: there is nobody to share the asking with."""
    service.answers(*[Answer(500)] * len(pauses), job(COMPLETED))
    async with PlayAISession(API_KEY, USER_ID, pacing=pacing) as session:
        callers = [session.wait_for_completion(JOB_ID, polling=polling) for _ in range(3)]  # of one wait
        await asyncio.gather(*callers)
    assert service.pauses == pytest.approx(pauses)


async def test_a_single_wait_ends_after_its_failures_and_not_before(
    service: ScriptedService, session: PlayAISession
) -> None:
    """With the defaults after eight of them in a row, some half a minute."""
    service.answers(lost())
    with pytest.raises(TransportError):
        await session.wait_for_completion(JOB_ID, polling=Polling(jitter=0))
    assert len(service.arrivals) == 8
    assert now() == pytest.approx(1 + 1.5 + 2.25 + 3.375 + 5.0625 + 7.59375 + 10)


async def test_a_wait_that_is_left_alone_in_an_outage_goes_on(service: ScriptedService) -> None:
    """The others are let go of; the gate does not stay closed for want of anybody to open it."""
    for job_id in JOBS:
        service.answers(*[Answer(500)] * 6, job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        waits = [asyncio.create_task(session.wait_for_completion(job_id, polling=EAGER)) for job_id in JOBS]
        await asyncio.sleep(3)
        assert session.stats.pause_reason == "outage"
        for wait in waits[1:]:
            wait.cancel()
        assert (await waits[0]).done
        assert session.stats.pause_reason is None


# Not an outage


async def test_one_poisoned_job_does_not_hold_up_the_others(emulator: Emulator) -> None:
    """Good answers in between say that the service is up; the wait that fails ends after its own failures."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        poisoned = emulator.add_job(duration=math.inf)
        emulator.inject(Status(500), times=None, job_id=poisoned)
        jobs = [emulator.add_job(duration=2.0 * number) for number in range(30)]
        late: list[float] = []
        async for outcome in playai.as_completed([poisoned, *jobs], return_exceptions=True):
            if isinstance(outcome, UnexpectedServiceError):
                assert outcome.job_id == poisoned
            else:
                assert not isinstance(outcome, Exception)
                late.append(now() - emulator.finishes_at(outcome.id))
        assert len(late) == 30
        assert max(late) <= 10 * 1.2 + 0.5
        assert emulator.requests_of(poisoned) == 8


@pytest.mark.parametrize("pause", [0.01, 2.0])
async def test_a_poisoned_job_that_is_polled_hastily_costs_the_others_a_pause_at_most(
    pause: float, emulator: Emulator
) -> None:
    """It alone is polled often enough to look like an outage; each of the others still has its turn soon."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        poisoned = emulator.add_job(duration=math.inf)
        emulator.inject(Status(500), times=None, job_id=poisoned)
        hasty = Polling(wait=tenacity.wait_fixed(pause), max_failures=10**6)
        patient = Polling(wait=tenacity.wait_fixed(20))
        sick = asyncio.create_task(playai.wait_for_completion(poisoned, polling=hasty))
        await asyncio.sleep(10)
        jobs = [emulator.add_job(duration=50 + number) for number in range(5)]
        async for healthy in playai.as_completed(jobs, polling=patient):
            assert now() - emulator.finishes_at(healthy.id) <= 20 + 4 * LONGEST_PAUSE
        sick.cancel()
        await asyncio.wait([sick])


# What the session tells, and deadlines


async def test_stats_tell_of_an_outage(service: ScriptedService) -> None:
    """Why nothing is sent, for how long, and how many wait for it to be over; then nothing of it is left."""
    for job_id in JOBS:
        service.answers(Answer(500), job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(0.25)
        stats = session.stats
        assert stats.pause_reason == "outage"
        assert stats.paused_for == pytest.approx(0.75)
        assert (stats.transient_failures, stats.throttled) == (3, 0)
        assert (stats.open_waits, stats.queued, stats.in_flight) == (3, 3, 0)
        await group
        after = session.stats
        assert (after.pause_reason, after.paused_for, after.queued, after.open_waits) == (None, 0.0, 0, 0)
        assert now() == pytest.approx(1.0)


@pytest.mark.parametrize("timeout", [3.3, 7.0, 30.0])
async def test_a_deadline_is_kept_in_an_outage_and_names_the_pause(timeout: float, service: ScriptedService) -> None:
    """To the moment, for each wait, with the error that it met if it was among those that were polled."""
    for job_id in JOBS:
        service.answers(Answer(503), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        outcomes = await session.wait_for_all(JOBS, polling=EAGER, timeout=timeout, return_exceptions=True)
    assert now() == pytest.approx(timeout)
    for outcome in outcomes:
        assert isinstance(outcome, WaitTimeoutError)
        assert isinstance(outcome.last_error, UnexpectedServiceError)
        assert outcome.elapsed == pytest.approx(timeout)
        assert re.search(r"polls: \d+; no answer yet; outage for \d s more\)", str(outcome))


# 429s and direct calls


async def test_a_429_in_an_outage_is_a_429(service: ScriptedService) -> None:
    """Its hint is obeyed, and the failures before it are forgotten: it is an answer of a service that is up."""
    service.answers(Answer(500), throttled("20"), job(COMPLETED, JOBS[0]), job_id=JOBS[0])
    for job_id in JOBS[1:]:
        service.answers(Answer(500), job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(2)
        stats = session.stats
        assert stats.pause_reason == "throttled"
        assert 18 <= stats.paused_for <= 21
        assert len(await group) == 3
        assert session.stats.pause_reason is None
    assert service.pauses[:3] == [0.0, 0.0, 1.0]
    assert 20 <= service.pauses[3] <= 21
    assert service.pauses[4:] == [0.0, 0.0]


async def test_an_outage_in_a_429s_pause_keeps_to_its_probes(service: ScriptedService) -> None:
    """Whether throttled or down: one request at a time, a twelfth of the window apart."""
    service.answers(throttled(), *[Answer(500)] * 6, job(COMPLETED, JOBS[0]), job_id=JOBS[0])
    for job_id in JOBS[1:]:
        service.answers(*[Answer(500)] * 6, job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=10**9, max_in_flight=1)) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(30)
        assert session.stats.pause_reason == "throttled"
        assert all(LONGEST_PAUSE <= pause <= LONGEST_PAUSE * 1.05 for pause in service.pauses)
        assert len(service.arrivals) == 6
        assert len(await group) == 3


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(500), UnexpectedServiceError),
        (lost(), TransportError),
        (throttled("20"), RateLimitedError),
        (job(COMPLETED), None),
    ],
    ids=["500", "lost", "429", "good"],
)
async def test_a_call_in_an_outage_is_the_next_to_go_out(
    answer: Answer, expected: type[Exception] | None, service: ScriptedService
) -> None:
    """Not before the pause is over; what it meets is its caller's, and tells whether the outage is over."""
    for job_id in JOBS:
        service.answers(Answer(500), job_id=job_id)
    service.answers(answer)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        group = asyncio.create_task(session.wait_for_all(JOBS, polling=EAGER))
        await asyncio.sleep(3)  # the probe at 1 s failed, and that at 2.5 s; the next is due at 4.75 s
        call = asyncio.create_task(session.get_job(JOB_ID))
        await asyncio.wait([call])
        assert now() == pytest.approx(4.75)
        assert service.requests[5]["url"].name == str(JOB_ID)
        error = call.exception()
        assert error is None if expected is None else isinstance(error, expected)
        went_out = [at for at in service.arrivals if at == pytest.approx(4.75)]
        assert len(went_out) == (4 if expected is None else 1)  # what was held back goes out when a good answer came
        group.cancel()
        await asyncio.wait([group])


async def test_calls_alone_are_never_held_back_by_failures(service: ScriptedService, session: PlayAISession) -> None:
    """Who asks once, and again, decides for themselves when."""
    service.answers(Answer(500))
    for _ in range(10):
        with pytest.raises(UnexpectedServiceError):
            await session.get_job(JOB_ID)
    assert now() == 0.0
    assert session.stats.pause_reason is None


@pytest.mark.parametrize(
    "leave",
    [lambda probe, session: probe.cancel(), lambda probe, session: asyncio.ensure_future(session.aclose())],
    ids=["cancelled", "closed"],
)
async def test_a_probe_that_is_given_up_leaves_its_turn_to_the_next(
    leave: Callable[[asyncio.Task[object], PlayAISession], object], service: ScriptedService
) -> None:
    """The gate does not wait for an answer that will never come."""
    service.answers(Answer(500), Answer(takes=9), job_id=JOBS[0])
    for job_id in JOBS[1:]:
        service.answers(Answer(500), job(COMPLETED, job_id), job_id=job_id)
    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        waits: list[asyncio.Task[object]] = [
            asyncio.create_task(session.wait_for_completion(job_id, polling=EAGER)) for job_id in JOBS
        ]
        await asyncio.sleep(2)
        assert service.under_way == 1
        leave(waits[0], session)
        await asyncio.wait(waits)
        assert now() == 2.0
        assert session.stats.in_flight == session.stats.open_waits == 0


async def test_slow_answers_are_no_failures(emulator: Emulator) -> None:
    """A service that takes its time is up."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=PLENTY) as playai:
        emulator.inject(Slow(8.0), times=12)
        assert len(await playai.wait_for_all([emulator.add_job() for _ in range(12)])) == 12
        assert (playai.stats.transient_failures, playai.stats.pause_reason) == (0, None)
