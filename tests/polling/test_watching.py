"""What `watch` promises."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest

from playai_async import (
    InProgress,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsJob,
    Unknown,
    WaitTimeoutError,
)
from tests.support.scripted import (
    API_KEY,
    COMPLETED,
    FAILED,
    JOB_ID,
    USER_ID,
    Answer,
    ScriptedService,
    job,
    lost,
    throttled,
)

STEADY = Polling(initial=1.0, multiplier=1.0, jitter=0.0)


async def statuses(session: PlayAISession) -> list[str]:
    """The states that a watcher of the job is told of."""
    return [seen.output.status async for seen in session.watch(JOB_ID, polling=STEADY)]


async def test_yields_the_first_answer_at_once_then_each_change_the_final_one_last(
    service: ScriptedService, session: PlayAISession
) -> None:
    """An answer that is as the one before is no change."""
    queued, warming = job({"status": "QUEUED"}), job({"status": "WARMING"})
    service.answers(queued, queued, warming, job(), job(), queued, job(FAILED))
    assert await statuses(session) == ["QUEUED", "WARMING", "IN_PROGRESS", "QUEUED", "FAILED"]


async def test_a_change_in_the_fields_of_a_state_is_a_change(service: ScriptedService, session: PlayAISession) -> None:
    """Such as a place in a queue, in a state that is not known."""
    service.answers(*(job({"status": "QUEUED", "place": place}) for place in (3, 3, 1)), job(COMPLETED))
    outputs = [seen.output async for seen in session.watch(JOB_ID)]
    assert outputs[:2] == [Unknown("QUEUED", {"place": 3}), Unknown("QUEUED", {"place": 1})]
    assert len(outputs) == 3


async def test_the_first_answer_comes_without_a_pause(service: ScriptedService, session: PlayAISession) -> None:
    """No time passes before it."""
    service.answers(job(), job(COMPLETED))
    start = asyncio.get_running_loop().time()
    async with contextlib.aclosing(session.watch(JOB_ID)) as changes:
        assert (await anext(changes)).output == InProgress()
        assert asyncio.get_running_loop().time() == start


async def test_failures_and_429s_are_no_changes(service: ScriptedService, session: PlayAISession) -> None:
    """They are lived through as in any wait."""
    service.answers(throttled(), job(), lost(), throttled(), job(), job(COMPLETED))
    assert await statuses(session) == ["IN_PROGRESS", "COMPLETED"]


async def test_a_finished_job_is_yielded_without_a_request(service: ScriptedService, session: PlayAISession) -> None:
    """There is nothing more to come."""
    service.answers(job(COMPLETED))
    finished = await session.get_job(JOB_ID)
    assert [seen async for seen in session.watch(finished)] == [finished]
    assert len(service.arrivals) == 1


async def test_shares_its_requests_with_waits(service: ScriptedService, session: PlayAISession) -> None:
    """A watcher and a waiter under equal settings cost what one costs; who joins late is told what is known."""
    service.answers(job(), job(), job(COMPLETED))
    wait = asyncio.create_task(session.wait_for_completion(JOB_ID, polling=STEADY))
    await asyncio.sleep(0.5)
    assert await statuses(session) == ["IN_PROGRESS", "COMPLETED"]
    assert (await wait).done
    assert service.pauses == [1.0, 1.0]


async def test_no_change_is_lost_on_a_slow_reader(service: ScriptedService, session: PlayAISession) -> None:
    """Changes that came while the reader was busy are yielded in order, the final one last."""
    service.answers(*(job({"status": f"STEP_{number}"}) for number in range(5)), job(COMPLETED))
    seen: list[TtsJob] = []
    async for change in session.watch(JOB_ID, polling=STEADY):
        seen.append(change)
        if len(seen) == 1:
            await asyncio.sleep(100)
    assert [change.output.status for change in seen] == [f"STEP_{number}" for number in range(5)] + ["COMPLETED"]


async def test_the_deadline_counts_the_readers_own_time(service: ScriptedService, session: PlayAISession) -> None:
    """What came before it is still yielded, then the deadline is raised."""
    service.answers(job({"status": "QUEUED"}), job())
    seen: list[str] = []
    with pytest.raises(WaitTimeoutError) as caught:
        async for change in session.watch(JOB_ID, polling=STEADY, timeout=10):
            seen.append(change.output.status)
            await asyncio.sleep(30)
    assert seen == ["QUEUED", "IN_PROGRESS"]
    assert caught.value.elapsed == pytest.approx(10)


async def test_an_error_comes_after_the_changes_before_it(service: ScriptedService, session: PlayAISession) -> None:
    """And ends the iteration."""
    service.answers(job(), lost())
    changes = session.watch(JOB_ID, polling=Polling(max_failures=2))
    assert (await anext(changes)).output == InProgress()
    with pytest.raises(TransportError) as caught:
        await anext(changes)
    assert caught.value.job_id == JOB_ID
    with pytest.raises(StopAsyncIteration):
        await anext(changes)


async def test_leaving_the_loop_early_stops_the_polling(service: ScriptedService, session: PlayAISession) -> None:
    """Without any closing by the caller; a request under way is cut."""
    service.answers(job(), Answer(takes=5))
    async for _ in session.watch(JOB_ID, polling=STEADY):
        break
    gc.collect()
    await asyncio.sleep(100)
    assert session.stats.open_waits == 0
    assert len(service.arrivals) <= 2
    assert service.under_way == 0


async def test_closing_the_generator_leaves_nothing_running(service: ScriptedService, session: PlayAISession) -> None:
    """By the end of the `aclosing` block, even with a request under way."""
    service.answers(job(), Answer(takes=9))
    tasks = asyncio.all_tasks()
    async with contextlib.aclosing(session.watch(JOB_ID, polling=STEADY)) as changes:
        await anext(changes)
        await asyncio.sleep(2)
        assert service.under_way == 1
    assert service.under_way == 0
    assert asyncio.all_tasks() == tasks


async def test_an_exception_in_the_body_lets_go(service: ScriptedService, session: PlayAISession) -> None:
    """The reader's own error comes out, and the polling stops."""
    service.answers(job())
    with pytest.raises(ZeroDivisionError):
        async with contextlib.aclosing(session.watch(JOB_ID)) as changes:
            async for _ in changes:
                raise ZeroDivisionError
    assert session.stats.open_waits == 0


async def test_cancelling_a_reader_leaves_the_other(service: ScriptedService, session: PlayAISession) -> None:
    """Each reader is a wait of its own."""
    service.answers(job(), job(), job(COMPLETED))
    readers = [asyncio.create_task(statuses(session)) for _ in range(2)]
    await asyncio.sleep(0.5)
    readers[0].cancel()
    assert await readers[1] == ["IN_PROGRESS", "COMPLETED"]
    assert readers[0].cancelled()


async def test_closing_the_session_ends_the_iteration(service: ScriptedService) -> None:
    """With `SessionClosedError`, at the reader's next step."""
    service.answers(job())
    session = PlayAISession(API_KEY, USER_ID)
    changes = session.watch(JOB_ID)
    await anext(changes)
    await session.aclose()
    with pytest.raises(SessionClosedError) as caught:
        await anext(changes)
    assert caught.value.job_id == JOB_ID


async def test_a_generator_that_was_never_started_holds_nothing(session: PlayAISession) -> None:
    """The wait begins with the first step."""
    changes = session.watch(JOB_ID)
    assert session.stats.open_waits == 0
    await changes.aclose()
