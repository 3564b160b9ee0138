"""What thousands of callers whose waits end at one moment must not do to each other, nor to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from uuid import UUID

import pytest

from playai_async import Completed, InProgress, Pacing, PlayAISession, Polling, TtsJob
from playai_async._api.jobs import JobsApi
from tests.support.scripted import API_KEY, JOB_ID, OTHER_ID, USER_ID, ScriptedService

READERS = 2_000
PLENTY = Pacing(requests_per_window=10**9)
DONE = Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0)


class Scripted:
    """A service without HTTP, whose jobs are in a new state at each answer, or done from a time on."""

    def __init__(self) -> None:
        self.done_from = float("inf")
        self.takes = 1.0
        self.answers = 0

    async def status(self, job_id: UUID) -> TtsJob:
        """Answer one status request."""
        await asyncio.sleep(self.takes)
        self.answers += 1
        output = DONE if asyncio.get_running_loop().time() >= self.done_from else InProgress()
        return TtsJob(job_id, datetime(2026, 1, 2, tzinfo=UTC), {"answer": self.answers}, None, output)


@pytest.fixture
def jobs(service: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    """A service for any number of jobs; `service` keeps the loop from waiting for sockets."""
    scripted = Scripted()
    monkeypatch.setattr(JobsApi, "status", lambda _, job_id: scripted.status(job_id))
    return scripted


@pytest.mark.parametrize("reading", ["watch", "as_completed"], ids=str)
async def test_readers_that_end_at_once_do_not_wait_for_each_other(reading: str, jobs: Scripted) -> None:
    """Each is told in its slice, and goes: the rounds of the loop are those of the slices, not one for each reader."""
    jobs.done_from = 0.0

    async def read(session: PlayAISession) -> None:
        states = session.watch(JOB_ID) if reading == "watch" else session.as_completed([JOB_ID])
        async with contextlib.aclosing(states):
            async for _ in states:
                pass

    async with PlayAISession(API_KEY, USER_ID) as session:
        readers = [asyncio.create_task(read(session)) for _ in range(READERS)]
        while not jobs.answers:
            await asyncio.sleep(0.5)
        rounds = 0
        while not all(reader.done() for reader in readers):
            await asyncio.sleep(0)
            rounds += 1
            assert rounds < READERS / 20
        await asyncio.gather(*readers)


async def test_closing_in_the_middle_of_an_expiry_leaves_no_timer(jobs: Scripted) -> None:
    """Nothing would ever need it, and it would keep the inside of the session alive until then."""
    session = PlayAISession(API_KEY, USER_ID, pacing=PLENTY)
    group = asyncio.create_task(session.wait_for_all([JOB_ID] * 1_000, timeout=5, return_exceptions=True))
    long = asyncio.create_task(session.wait_for_completion(OTHER_ID, timeout=50_000))
    await asyncio.sleep(5)
    while session.stats.open_waits == 1_001:
        await asyncio.sleep(0)
    assert session.stats.open_waits > 1
    await session.aclose()
    await asyncio.wait([group, long])
    timers: list[asyncio.TimerHandle] = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]  # asyncio's
    assert [timer for timer in timers if timer.when() > 10_000 and not timer.cancelled()] == []


async def test_who_comes_while_a_change_is_told_is_not_told_of_earlier_ones(jobs: Scripted) -> None:
    """They get the state as it is, and then what follows."""
    seen: list[int] = []
    steady = Polling(initial=1.0, multiplier=1.0, jitter=0.0)

    async def follow(session: PlayAISession, changes: int) -> list[int]:
        async with contextlib.aclosing(session.watch(JOB_ID, polling=steady)) as states:
            return [(await anext(states)).input["answer"] for _ in range(changes)]

    async with PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session:
        crowd = [asyncio.create_task(follow(session, 3)) for _ in range(READERS)]
        await asyncio.sleep(3)  # the second answer comes now
        while jobs.answers < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen = await follow(session, 3)
        assert await asyncio.gather(*crowd) == [[1, 2, 3]] * READERS
    assert seen == [2, 3, 4]
