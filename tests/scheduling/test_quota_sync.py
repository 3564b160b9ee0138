"""Sessions that share a quota: how they ask, what they do while nobody answers, and how they leave."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator

import pytest

from playai_async import Pacing, PlayAISession, Polling, TtsParameters
from playai_async._shared_quota import Terms
from playai_async._telemetry.emitter import Emitter
from playai_async.jobs._engine import build_pacer
from playai_async.jobs._pacing.leased_quota import LeasedQuota
from playai_async.jobs._scheduling.quota_sync import QuotaSync
from tests.support.clock import now
from tests.support.dice import Dice
from tests.support.memory_quota import MemoryQuota
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
    JOB_ID,
    OTHER_ID,
    USER_ID,
    Answer,
    ScriptedService,
    created,
    job,
    throttled,
)

STEADY = Polling(initial=1.0, multiplier=1.0, jitter=0.0)
"""A poll each second."""

REFUSED = ConnectionError("redis://:secret@redis.internal refused")


@pytest.fixture
def quota() -> MemoryQuota:
    """A quota that grants, and notes what it was asked."""
    return MemoryQuota()


def session_with(
    quota: MemoryQuota, requests: int = 60, key: str = API_KEY, *, base_url: str | None = None
) -> PlayAISession:
    """A session that shares the quota."""
    pacing = Pacing(requests_per_window=requests, shared=quota)
    return PlayAISession(key, USER_ID, base_url=base_url, polling=STEADY, pacing=pacing)


@pytest.fixture
async def session(service: ScriptedService, quota: MemoryQuota) -> AsyncIterator[PlayAISession]:
    """A session that shares the quota, with the scripted service."""
    async with session_with(quota) as session:
        yield session


def records(caplog: pytest.LogCaptureFixture, event: str) -> list[logging.LogRecord]:
    """What the log says of an event."""
    return [record for record in caplog.records if getattr(record, "playai_event", None) == event]


class Idler:
    """A dispatcher that wants a request and never sends it."""

    def demand(self) -> tuple[int, float]:
        return 1, 0.0

    def pump(self) -> None:
        pass

    def on_held(self, now: float) -> None:
        pass


# What is asked


async def test_each_poll_takes_a_permit(service: ScriptedService, session: PlayAISession, quota: MemoryQuota) -> None:
    """And tells of its end; polls come when their pauses say so, as without sharing."""
    service.answers(job(), job(), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert service.arrivals == [0.0, 1.0, 2.0]
    assert [ask.first for _, ask in quota.asks if ask.wanted] == [0, 1, 2]
    await asyncio.sleep(1)
    assert quota.links[0].places == {0: 60.03, 1: 61.03, 2: 62.03}


async def test_a_call_takes_a_permit_too(service: ScriptedService, session: PlayAISession, quota: MemoryQuota) -> None:
    """It is a status request like any other."""
    service.answers(job())
    await session.get_job(JOB_ID)
    assert quota.wishes == [0.0]


async def test_creating_takes_none(service: ScriptedService, session: PlayAISession, quota: MemoryQuota) -> None:
    """The service counts creations apart."""
    service.creates(created())
    await session.create_job(TtsParameters("text", "voice"))
    assert quota.asks == []


async def test_as_many_are_asked_for_as_may_go_at_once(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """In one exchange, however many there are: an exchange a request would be slow."""
    service.answers(job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    await asyncio.gather(
        *(session.wait_for_completion(job_id) for job_id in (JOB_ID, OTHER_ID)), session.get_job(JOB_ID)
    )
    assert service.arrivals == [0.0, 0.0, 0.0]
    assert sum(ask.wanted for _, ask in quota.asks) <= 4


async def test_who_is_granted_nothing_asks_again_when_told(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """And not before, whatever else is put down meanwhile."""
    service.answers(job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    quota.spent, quota.again = True, 0.75
    waits = [asyncio.create_task(session.wait_for_completion(JOB_ID))]
    await asyncio.sleep(1)
    waits.append(asyncio.create_task(session.wait_for_completion(OTHER_ID)))
    await asyncio.sleep(1)
    quota.spent = False
    await asyncio.gather(*waits)
    assert quota.wishes == [0.0, 0.75, 1.5, 2.25]
    assert service.arrivals == [2.25, 2.25]


async def test_an_answer_without_a_wait_does_not_spin(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """A moment passes before the next ask, at least."""
    service.answers(job(COMPLETED))
    quota.spent, quota.again = True, 0.0
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(0.1)
    quota.spent = False
    await wait
    assert len(quota.asks) <= 102


async def test_a_turn_is_left_when_nobody_waits_any_more(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """At once, so that the next in turn need not find out."""
    service.answers(job())
    quota.spent = True
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(0.5)
    wait.cancel()
    await asyncio.wait([wait])
    other = asyncio.create_task(session.get_job(JOB_ID))  # and with the next that comes and goes
    await asyncio.sleep(0.1)
    other.cancel()
    await asyncio.wait([other])
    await asyncio.sleep(5)
    assert quota.asks[-1][1].wanted == 0
    assert now() - quota.asks[-1][0] >= 4


async def test_permits_are_asked_for_when_a_slot_is_free(service: ScriptedService, quota: MemoryQuota) -> None:
    """One that cannot be used would only be taken from others."""
    service.answers(Answer(payload=job(COMPLETED).payload, takes=3.0))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    pacing = Pacing(requests_per_window=60, max_in_flight=1, shared=quota)
    async with PlayAISession(API_KEY, USER_ID, pacing=pacing) as session:
        await session.wait_for_all([JOB_ID, OTHER_ID])
    assert quota.wishes == [0.0, 3.0]
    assert not any(ask.unused for _, ask in quota.asks)


async def test_sessions_share_what_there_is(service: ScriptedService, quota: MemoryQuota) -> None:
    """The third request of a quota of two a window goes when the first counts no more."""
    service.answers(job())
    async with session_with(quota, 2) as one, session_with(quota, 2) as other:
        await one.get_job(JOB_ID)
        await other.get_job(JOB_ID)
        await one.get_job(JOB_ID)
        assert now() == pytest.approx(60.03, abs=1.0)
        assert one.stats.quota == other.stats.quota == 2


# A 429 that another process met


async def test_a_429_of_another_process_holds_this_one(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota, caplog: pytest.LogCaptureFixture
) -> None:
    """As one of its own would: it is a pause, it is told of, and one request finds out whether it is over."""
    caplog.set_level(logging.INFO, "playai_async")
    service.answers(job(COMPLETED))
    service.answers(job(COMPLETED, OTHER_ID), job_id=OTHER_ID)
    quota.spent, quota.pause, quota.again = True, 30.0, 30.0
    waits = asyncio.gather(session.wait_for_completion(JOB_ID), session.wait_for_completion(OTHER_ID))
    await asyncio.sleep(10)
    assert (session.stats.pause_reason, session.stats.paused_for, session.stats.throttled) == ("throttled", 20.0, 0)
    quota.spent, quota.pause = False, 0.0
    await waits
    assert service.arrivals == [30.0, 30.0]
    assert [ask.wanted for _, ask in quota.asks if ask.wanted] == [1, 1, 1]
    assert any(ask.reopened is not None for _, ask in quota.asks)
    assert len(records(caplog, "pause_began")) == len(records(caplog, "pause_ended")) == 1


async def test_a_429_is_told_to_all(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the pause that it led to here, and once more when it is over."""
    monkeypatch.setattr(random, "uniform", Dice(0.0))
    service.answers(throttled("20"), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert [(when, ask.pause) for when, ask in quota.asks if ask.pause is not None] == [(0.0, 20.0)]
    assert service.arrivals == [0.0, 20.0]
    await asyncio.sleep(0.1)
    assert quota.asks[-1][1].reopened is not None


# Nobody answers


async def test_without_an_answer_it_paces_alone_and_says_so_once(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks again each second while there is anything to send, and comes back by itself."""
    caplog.set_level(logging.INFO, "playai_async")
    service.answers(*[job()] * 10, job(COMPLETED))
    quota.error = REFUSED
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(4.5)
    assert service.arrivals == [0.0, 1.0, 2.0, 3.0, 4.0]
    quota.error = None
    await wait
    assert service.arrivals == [float(second) for second in range(11)]
    assert [record.levelname for record in records(caplog, "shared_quota_away")] == ["WARNING"]
    assert [record.levelname for record in records(caplog, "shared_quota_back")] == ["INFO"]
    assert "ConnectionError" in caplog.text
    assert "secret" not in caplog.text
    assert sorted({when for when, _ in quota.asks})[:6] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(quota.links[0].places) == 11


async def test_an_answer_that_does_not_come_holds_nobody_up(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """A second is enough for any exchange."""
    service.answers(job(COMPLETED))
    quota.takes = math.inf
    await session.wait_for_completion(JOB_ID)
    assert service.arrivals == [1.0]
    await session.get_job(JOB_ID)
    assert now() == 1.0  # the next does not wait for it


async def test_an_answer_that_cannot_be_used_does_not_spin(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """It counts as none: whatever goes wrong, there is one exchange a second."""
    service.answers(*[job()] * 9, job(COMPLETED))
    quota.nonsense = True
    await session.wait_for_completion(JOB_ID)
    assert service.arrivals[-1] == 9.0
    assert len(quota.asks) <= 11


@pytest.mark.parametrize("kind", [KeyError, SystemError])
async def test_a_log_filter_that_raises_does_not_make_it_spin(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota, kind: type[Exception]
) -> None:
    """On the one warning that the quota is out of reach."""

    def fail(record: logging.LogRecord) -> bool:
        raise kind(record.msg)

    service.answers(*[job()] * 9, job(COMPLETED))
    quota.error = REFUSED
    logger = logging.getLogger("playai_async")
    logger.addFilter(fail)
    try:
        await session.wait_for_completion(JOB_ID)
    finally:
        logger.removeFilter(fail)
    assert len(quota.asks) <= 11


async def test_a_permit_that_is_never_used_does_not_spin(quota: MemoryQuota) -> None:
    """If the sender wants permits and does not use them, there is a pause before each exchange."""
    terms = Terms("q", requests=60, window=60.0, burst=5, lease=20.0, ask_again=1.0)
    leased = LeasedQuota(terms)
    sync = QuotaSync(quota.open(terms), leased, build_pacer(Pacing(), leased=leased), Idler(), Emitter())
    sync.wake()
    for _ in range(100):
        await asyncio.sleep(0.001)
        sync.wake()
    await sync.aclose()
    assert len(quota.asks) <= 105


async def test_an_idle_session_does_not_ask_whether_it_is_back(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """Whoever waits next will find out."""
    service.answers(job(COMPLETED))
    quota.error = REFUSED
    await session.wait_for_completion(JOB_ID)
    asks = len(quota.asks)
    await asyncio.sleep(100)
    assert len(quota.asks) == asks


async def test_an_exchange_that_a_stranger_cancels_is_no_end(
    service: ScriptedService, session: PlayAISession, quota: MemoryQuota
) -> None:
    """A framework may cancel every task it finds."""
    service.answers(job(COMPLETED))
    quota.takes = 0.5
    before = asyncio.all_tasks()
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(0.1)
    for task in asyncio.all_tasks() - before - {wait}:
        task.cancel()
    await wait
    assert service.arrivals == [0.1]


# The end


async def test_closing_tells_what_is_left_and_lets_go(service: ScriptedService, quota: MemoryQuota) -> None:
    """Of the last request, and that no turn is waited for."""
    service.answers(job())
    async with session_with(quota) as session:
        await session.get_job(JOB_ID)
        await asyncio.sleep(0.1)
        quota.spent = True
        wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(0.1)
    assert [link.closed for link in quota.links] == [1]
    assert (quota.asks[-1][1].wanted, quota.asks[-1][1].unused) == (0, ())
    assert quota.links[0].places.keys() == {0}
    assert isinstance((await asyncio.gather(wait, return_exceptions=True))[0], Exception)
    await session.aclose()
    assert [link.closed for link in quota.links] == [1]


async def test_closing_waits_for_the_exchange_under_way(service: ScriptedService, quota: MemoryQuota) -> None:
    """What it is granted is given back."""
    service.answers(job())
    quota.takes = 0.5
    async with session_with(quota) as session:
        wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
        await asyncio.sleep(0.1)
    assert quota.links[0].places == {}
    await asyncio.gather(wait, return_exceptions=True)
    assert service.arrivals == []


@pytest.mark.parametrize("takes", [0.0, math.inf], ids=["which refuses", "which hangs"])
async def test_closing_is_not_held_up_by_a_quota_out_of_reach(
    service: ScriptedService, quota: MemoryQuota, takes: float
) -> None:
    """Nor by what its link makes of the end."""
    service.answers(job())
    async with session_with(quota) as session:
        await session.get_job(JOB_ID)
        quota.takes, quota.error = takes, None if takes else REFUSED
        quota.close_error = REFUSED
        began = now()
    assert now() - began <= 1.0
    assert quota.links[0].closed == 1


async def test_closing_again_sees_a_cancelled_closing_through(service: ScriptedService, quota: MemoryQuota) -> None:
    """Nothing is left running, and the link is let go of once nobody asks."""
    before = asyncio.all_tasks()
    service.answers(job())
    quota.takes = 0.5
    session = session_with(quota)
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID))
    await asyncio.sleep(0.1)
    closing = asyncio.create_task(session.aclose())
    await asyncio.sleep(0.1)
    closing.cancel()
    await asyncio.wait([closing])
    await session.aclose()
    await asyncio.gather(wait, return_exceptions=True)
    assert asyncio.all_tasks() <= before
    assert quota.links[0].places == {}


async def test_a_session_that_never_waits_tells_nothing(quota: MemoryQuota) -> None:
    """It lets go of the link all the same."""
    async with session_with(quota):
        pass
    assert quota.asks == []
    assert [link.closed for link in quota.links] == [1]


# Settings


async def test_the_name_of_the_quota_tells_nothing_of_the_key(service: ScriptedService, quota: MemoryQuota) -> None:
    """It is the same for the same key at the same place, however its URL is written, and another for another."""
    service.answers(job())
    sessions = [
        session_with(quota),
        session_with(quota, key=f"Bearer {API_KEY}"),
        session_with(quota, base_url="HTTPS://API.PLAY.AI:443/"),
        session_with(quota, key="another-key"),
        session_with(quota, base_url="https://elsewhere.example/v"),
        session_with(quota, base_url="https://elsewhere.example/v/"),
    ]
    for session in sessions:
        session._runtime.open(None)
        await session.aclose()
    names = [link.terms.name for link in quota.links]
    assert names[0] == names[1] == names[2]
    assert names[4] == names[5]
    assert len(set(names)) == 3
    assert not any(API_KEY in name or "play" in name for name in names)


def test_what_is_no_quota_is_refused() -> None:
    """A URL alone does not say which kind of server it names."""
    with pytest.raises(TypeError, match="shared must be a shared quota, not str"):
        Pacing(requests_per_window=60, shared="redis://localhost")  # type: ignore[arg-type]  # that is the mistake
