"""Hints between sessions that share a quota."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator

import attrs
import pytest

from playai_async import Pacing, PlayAISession, Polling
from tests.support.clock import now
from tests.support.memory_quota import MemoryQuota
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, ScriptedService, job

SLOW = Polling(initial=20.0, maximum=20.0, jitter=0.0)


@attrs.define
class HintingQuota(MemoryQuota):
    """A shared quota that passes hints on.

    Attributes:
        hint_error: What each use of a link for hints raises, or None.
        hint_takes: Seconds until a hint is sent.
        subscribed: How often a session began to listen.
        sent: The hints that were sent, and when.
    """

    hint_error: Exception | None = None
    hint_takes: float = 0.0
    subscribed: int = 0
    sent: list[tuple[float, str]] = attrs.field(factory=list[tuple[float, str]])
    boxes: dict[str, asyncio.Queue[str]] = attrs.field(factory=dict[str, asyncio.Queue[str]])

    def open_hints(self, name: str) -> _Link:
        """Create a link."""
        return _Link(self, name)


@attrs.define
class _Link:
    quota: HintingQuota
    name: str
    me: str = attrs.field(factory=lambda: uuid.uuid4().hex)

    async def send(self, hint: str) -> None:
        await asyncio.sleep(self.quota.hint_takes)
        if self.quota.hint_error is not None:
            raise self.quota.hint_error
        self.quota.sent.append((now(), hint))
        for other, box in self.quota.boxes.items():
            if other != self.me:
                box.put_nowait(hint)

    async def hints(self) -> AsyncGenerator[str, None]:
        self.quota.subscribed += 1
        if self.quota.hint_error is not None:
            raise self.quota.hint_error
        box = self.quota.boxes[self.me] = asyncio.Queue()
        while True:
            yield await box.get()

    async def aclose(self) -> None:
        if self.quota.hint_error is not None:
            raise self.quota.hint_error


@pytest.fixture
def quota() -> HintingQuota:
    """A shared quota that passes hints on."""
    return HintingQuota()


@contextlib.asynccontextmanager
async def two_sessions(service: ScriptedService, quota: HintingQuota) -> AsyncIterator[list[PlayAISession]]:
    """Two sessions that share it. Both have been used, and listen."""
    pacing = Pacing(requests_per_window=60, shared=quota)
    async with contextlib.AsyncExitStack() as stack:
        sessions = [PlayAISession(API_KEY, USER_ID, polling=SLOW, pacing=pacing) for _ in range(2)]
        service.answers(job(), job(), job(), job(COMPLETED))
        for session in sessions:
            await (await stack.enter_async_context(session)).get_job(JOB_ID)
        yield sessions


async def test_a_hint_to_any_session_reaches_the_one_that_waits(service: ScriptedService, quota: HintingQuota) -> None:
    """Its poll goes at once."""
    async with two_sessions(service, quota) as sessions:
        waits, other = sessions
        wait = asyncio.create_task(waits.wait_for_completion(JOB_ID))
        await asyncio.sleep(5)
        began = now()
        assert not other.hint(JOB_ID)  # nobody waits here
        assert (await wait).done
        assert now() - began < 0.1
        assert (waits.stats.hints_followed, other.stats.hints_followed) == (1, 0)
        other.hint(uuid.UUID(int=7))
        await asyncio.sleep(1)
        assert waits.stats.hints_ignored == 0  # it was for another session


async def test_hints_about_a_job_are_sent_once_a_second(service: ScriptedService, quota: HintingQuota) -> None:
    """And a finished job needs none."""
    async with two_sessions(service, quota) as sessions:
        for _ in range(25):
            sessions[1].hint(JOB_ID)
            sessions[1].hint(str(uuid.UUID(int=7)))
            await asyncio.sleep(0.1)
        assert len(quota.sent) == 6
        assert {hint for _, hint in quota.sent} == {str(JOB_ID), str(uuid.UUID(int=7))}
        quota.sent.clear()
        await asyncio.sleep(2)
        await sessions[0].get_job(JOB_ID)
        finished = await sessions[0].get_job(JOB_ID)
        assert finished.done
        sessions[1].hint(finished)
        await asyncio.sleep(1)
        assert quota.sent == []


async def test_hints_that_cannot_be_sent_are_dropped(service: ScriptedService, quota: HintingQuota) -> None:
    """They would come too late; later ones are sent again."""
    async with two_sessions(service, quota) as sessions:
        quota.hint_error = ConnectionError("refused")
        for number in range(10):
            sessions[1].hint(uuid.UUID(int=number))
        await asyncio.sleep(1)
        quota.hint_error = None
        sessions[1].hint(uuid.UUID(int=11))
        await asyncio.sleep(1)
        assert [hint for _, hint in quota.sent] == [str(uuid.UUID(int=11))]


async def test_a_flood_of_hints_is_bounded(service: ScriptedService, quota: HintingQuota) -> None:
    """A thousand wait to be sent."""
    async with two_sessions(service, quota) as sessions:
        quota.hint_takes = 0.0
        for number in range(5000):
            sessions[1].hint(uuid.UUID(int=number))
        await asyncio.sleep(5)
        assert len(quota.sent) == 1024


async def test_a_lost_connection_is_made_again(service: ScriptedService, quota: HintingQuota) -> None:
    """After a second; a hint that makes no sense counts as one."""
    async with two_sessions(service, quota) as sessions:
        assert quota.subscribed == 2
        next(iter(quota.boxes.values())).put_nowait("nonsense")
        quota.hint_error = ConnectionError("refused")
        await asyncio.sleep(2.5)
        assert quota.subscribed == 4
        quota.hint_error = None
        wait = asyncio.create_task(sessions[0].wait_for_completion(JOB_ID))
        await asyncio.sleep(5)
        sessions[1].hint(JOB_ID)
        await asyncio.sleep(1)
        assert sessions[0].stats.hints_followed == 1
        wait.cancel()
        await asyncio.wait([wait])


async def test_closing_ends_the_connection_and_drops_hints(service: ScriptedService, quota: HintingQuota) -> None:
    """Also if it is cancelled and repeated, and if the link fails."""
    before = asyncio.all_tasks()
    service.answers(job())
    session = PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=60, shared=quota))
    await session.get_job(JOB_ID)
    quota.hint_takes = 0.5
    session.hint(JOB_ID)
    relay = session._runtime._parts.relay  # type: ignore[union-attr]  # it has been used
    assert relay is not None
    quota.hint_error = ConnectionError("refused")
    await session.aclose()
    await relay.aclose()
    relay.send("late")
    assert quota.sent == []
    assert asyncio.all_tasks() <= before
