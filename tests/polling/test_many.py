"""What `as_completed` and `wait_for_all` promise, for a few jobs and for thousands."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import warnings
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import looptime
import pytest
import tenacity

from playai_async import (
    Completed,
    ConfigurationError,
    Failed,
    InProgress,
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsJob,
    WaitTimeoutError,
)
from playai_async._api.jobs import JobsApi
from playai_async.emulator import Emulator
from tests.support.clock import now
from tests.support.scripted import API_KEY, COMPLETED, FAILED, USER_ID, Answer, ScriptedService, job, lost

STEADY = Polling(initial=1.0, multiplier=1.0, jitter=0.0)
"""A poll each second."""

PLENTY = Pacing(requests_per_window=10**9)
"""A quota that holds nothing back."""

A, B, C = (UUID(int=number) for number in (1, 2, 3))

MANY = 2_000
"""Waits: several rounds of them."""

SOME_HUNDREDS = 500
"""Waits that may end in one round of the event loop."""


def finishing(service: ScriptedService, job_id: UUID, polls: int, output: dict[str, Any] = COMPLETED) -> None:
    """Script a job that is done at its so-manieth poll."""
    service.answers(*[job(job_id=job_id)] * (polls - 1), job(output, job_id), job_id=job_id)


def a_job(job_id: UUID, output: Completed | Failed | InProgress) -> TtsJob[Any]:
    """A job as the service would describe it."""
    return TtsJob(job_id, datetime(2026, 1, 2, tzinfo=UTC), {}, None, output)


DONE = Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0)


@attrs.define
class Crowd:
    """A service for any number of jobs, without HTTP: they are done from a time on, and answers take a while."""

    done_from: float = float("inf")
    takes: float = 0.0
    asked: list[UUID] = attrs.field(factory=list[UUID])
    under_way: int = 0

    async def status(self, job_id: UUID) -> TtsJob:
        """Answer one status request."""
        self.asked.append(job_id)
        self.under_way += 1
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        return a_job(job_id, DONE if now() >= self.done_from else InProgress())


@pytest.fixture
def crowd(service: ScriptedService, monkeypatch: pytest.MonkeyPatch) -> Crowd:
    """A service for any number of jobs."""
    crowd = Crowd()
    monkeypatch.setattr(JobsApi, "status", lambda _, job_id: crowd.status(job_id))
    return crowd


def many(count: int = MANY) -> list[UUID]:
    """Ids of so many jobs."""
    return [UUID(int=number) for number in range(1, count + 1)]


class Rounds:
    """How many waits end in each round of the event loop, from a moment on and for so many rounds."""

    def __init__(self, session: PlayAISession, rounds: int = 200) -> None:
        self._session = session
        self._left = rounds
        self._open = 0
        self.ended: list[int] = []

    def count_from(self, when: float) -> None:
        """Begin at a time of the loop."""
        asyncio.get_running_loop().call_at(when, self._begin)

    def count(self) -> None:
        """Begin now."""
        self._begin()

    def _begin(self) -> None:
        self._open = self._session.stats.open_waits
        self._tick()

    def _tick(self) -> None:
        still_open = self._session.stats.open_waits
        self.ended.append(self._open - still_open)
        self._open = still_open
        self._left -= 1
        if self._left and still_open:
            asyncio.get_running_loop().call_soon(self._tick)


# The order, and what is yielded


async def test_jobs_are_yielded_in_the_order_in_which_they_end(
    service: ScriptedService, session: PlayAISession
) -> None:
    """Well or badly, each at the moment at which it is known to be done."""
    finishing(service, A, 4)
    finishing(service, B, 2, FAILED)
    finishing(service, C, 3)
    seen = [(done.id, done.output.status, now()) async for done in session.as_completed([A, B, C], polling=STEADY)]
    assert seen == [(B, "FAILED", 1.0), (C, "COMPLETED", 2.0), (A, "COMPLETED", 3.0)]


async def test_all_are_returned_in_the_order_given(service: ScriptedService, session: PlayAISession) -> None:
    """Whatever the order in which they end."""
    finishing(service, A, 4)
    finishing(service, B, 2, FAILED)
    finishing(service, C, 3)
    finished = await session.wait_for_all([A, str(B), C], polling=STEADY)
    assert [(done.id, done.output.status) for done in finished] == [(A, "COMPLETED"), (B, "FAILED"), (C, "COMPLETED")]
    assert now() == 3.0


async def test_finished_jobs_come_first_and_cost_no_request(service: ScriptedService, session: PlayAISession) -> None:
    """The very objects that were given; only the one that is not done is asked for."""
    finishing(service, B, 1)
    done, failed = a_job(A, DONE), a_job(C, Failed())
    seen = [ended async for ended in session.as_completed([a_job(B, InProgress()), done, failed])]
    assert seen[0] is done
    assert seen[1] is failed
    assert seen[2].id == B
    assert [ended.id for ended in await session.wait_for_all([failed, done])] == [C, A]
    assert len(service.arrivals) == 1


async def test_finished_jobs_come_first_among_many(crowd: Crowd) -> None:
    """Also at the end of a list so long that others end while it is gone through."""
    crowd.done_from = 0.0
    done = a_job(UUID(int=MANY), DONE)
    async with (
        PlayAISession(API_KEY, USER_ID, pacing=PLENTY) as session,
        contextlib.aclosing(session.as_completed([*many(2_000), done])) as ended,
    ):
        assert (await anext(ended)) is done


async def test_a_job_that_is_given_twice_comes_twice_and_shares_its_requests(
    service: ScriptedService, session: PlayAISession
) -> None:
    """One result for each entry, in whatever form it names the job."""
    finishing(service, A, 3)
    seen = [done.id async for done in session.as_completed([A, str(A), a_job(A, InProgress())], polling=STEADY)]
    assert seen == [A, A, A]
    assert service.pauses == [1.0, 1.0]
    assert await session.wait_for_all([A, A]) == [a_completed := await session.get_job(A), a_completed]


async def test_nothing_to_wait_for_is_fine(session: PlayAISession) -> None:
    """An empty iteration and an empty list, without a request."""
    assert [done async for done in session.as_completed([])] == []
    assert await session.wait_for_all([]) == []
    assert session.stats.requests == 0


async def test_two_groups_over_the_same_jobs_share_their_requests(
    service: ScriptedService, session: PlayAISession
) -> None:
    """And share them with single waits under the same settings."""
    for job_id in (A, B):
        finishing(service, job_id, 3)
    results = await asyncio.gather(
        session.wait_for_all([A, B], polling=STEADY),
        session.wait_for_all([B, A], polling=STEADY),
        session.wait_for_completion(A, polling=STEADY),
    )
    assert [done.id for done in results[0]] == [A, B]
    assert [done.id for done in results[1]] == [B, A]
    assert results[2].id == A
    assert len(service.arrivals) == 6


async def test_an_iteration_is_for_once(service: ScriptedService, session: PlayAISession) -> None:
    """As any async generator: a second loop over it ends at once; another call waits anew."""
    finishing(service, A, 1)
    ended = session.as_completed([A])
    assert [done.id async for done in ended] == [A]
    assert [done.id async for done in ended] == []
    assert [done.id async for done in session.as_completed([A])] == [A]
    assert len(service.arrivals) == 2


async def test_a_slow_reader_loses_nothing(service: ScriptedService, session: PlayAISession) -> None:
    """What ended while the reader was busy is there at its next step, in the order in which it ended."""
    for job_id, polls in ((A, 1), (B, 5), (C, 3)):
        finishing(service, job_id, polls)
    seen: list[tuple[UUID, float]] = []
    async for done in session.as_completed([A, B, C], polling=STEADY, timeout=10):
        seen.append((done.id, now()))
        if len(seen) == 1:
            await asyncio.sleep(100)
    assert seen == [(A, 0.0), (C, 100.0), (B, 100.0)]


# Input


async def test_a_generator_of_jobs_is_read_once_and_at_the_call(
    service: ScriptedService, session: PlayAISession
) -> None:
    """What the caller does to it later changes nothing."""
    finishing(service, A, 1)
    finishing(service, B, 1)
    left = [B, A]

    def naming() -> Iterator[UUID]:
        while left:
            yield left.pop()

    ended = session.as_completed(naming())
    assert left == []
    left.append(C)
    assert {done.id async for done in ended} == {A, B}
    left[:] = [B, A]
    assert [done.id for done in await session.wait_for_all(naming())] == [A, B]


async def test_the_wait_begins_with_the_first_step(session: PlayAISession) -> None:
    """An iteration that never began holds nothing."""
    ended = session.as_completed([A, B])
    await asyncio.sleep(100)
    assert session.stats.open_waits == session.stats.requests == 0
    await ended.aclose()
    del ended
    session.as_completed([A])
    gc.collect()
    assert session.stats.open_waits == 0


BAD_INPUT = pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"jobs": str(A)}, TypeError),
        ({"jobs": str(A).encode()}, TypeError),
        ({"jobs": A}, TypeError),
        ({"jobs": a_job(A, DONE)}, TypeError),
        ({"jobs": None}, TypeError),
        ({"jobs": [A, 7]}, TypeError),
        ({"jobs": [A, None]}, TypeError),
        ({"jobs": [A, "no id"]}, ValueError),
        ({"jobs": [A], "timeout": 0}, ValueError),
        ({"jobs": [A], "timeout": -1.0}, ValueError),
        ({"jobs": [A], "timeout": float("inf")}, ValueError),
        ({"jobs": [A], "timeout": "5"}, TypeError),
        ({"jobs": [A], "polling": Pacing()}, TypeError),
    ],
    ids=[
        *("text", "bytes", "id", "job", "None", "a number in it", "None in it", "no id in it"),
        *("no time", "negative time", "infinite time", "time as text", "other settings"),
    ],
)


@BAD_INPUT
async def test_as_completed_refuses_bad_input_at_the_call(
    arguments: dict[str, Any], error: type[Exception], session: PlayAISession
) -> None:
    """Before the first step, and before any request."""
    with pytest.raises(error) as caught:
        session.as_completed(**arguments)
    assert type(caught.value) is error
    assert session.stats.requests == session.stats.open_waits == 0


@BAD_INPUT
async def test_wait_for_all_refuses_bad_input_when_awaited(
    arguments: dict[str, Any], error: type[Exception], session: PlayAISession
) -> None:
    """Before any request; also where errors are to be returned, since this is the caller's own."""
    waiting = session.wait_for_all(**arguments, return_exceptions=True)
    with pytest.raises(error) as caught:
        await waiting
    assert type(caught.value) is error
    assert session.stats.requests == session.stats.open_waits == 0


async def test_an_input_that_raises_is_not_waited_for(session: PlayAISession) -> None:
    """The caller's own error comes out, at the call."""

    def broken() -> Iterator[UUID]:
        yield A
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        session.as_completed(broken())
    with pytest.raises(ZeroDivisionError):
        await session.wait_for_all(broken())
    assert session.stats.open_waits == 0


# Errors


async def one_by_one(session: PlayAISession, jobs: Iterable[UUID], **settings: Any) -> list[Any]:
    """What `as_completed` gives, in the order given, for comparison with `wait_for_all`."""
    outcomes = [outcome async for outcome in session.as_completed(jobs, **settings)]
    return sorted(outcomes, key=lambda outcome: getattr(outcome, "job_id", None) or outcome.id)


async def all_at_once(session: PlayAISession, jobs: Iterable[UUID], **settings: Any) -> list[Any]:
    """What `wait_for_all` gives."""
    outcomes: list[Any] = await session.wait_for_all(jobs, **settings)
    return outcomes


Waiting = Callable[..., Coroutine[Any, Any, list[Any]]]

BOTH = pytest.mark.parametrize("waiting", [one_by_one, all_at_once], ids=["as_completed", "wait_for_all"])


@BOTH
async def test_the_failure_of_one_job_does_not_touch_the_others(
    waiting: Waiting, service: ScriptedService, session: PlayAISession
) -> None:
    """A refusal, a deadline and lost connections are outcomes like others, each with its job's id."""
    service.answers(Answer(404, payload={"errorMessage": "No."}), job_id=A)
    service.answers(lost(), job_id=B)
    finishing(service, C, 8)
    outcomes = await waiting(
        session, [A, B, C], polling=Polling(initial=1, multiplier=1, jitter=0, max_failures=2), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [NotFoundError, TransportError, TtsJob]
    assert [outcome.job_id for outcome in outcomes[:2]] == [A, B]
    assert outcomes[2].id == C
    assert session.stats.open_waits == 0


@BOTH
async def test_each_wait_has_the_timeout_to_itself(
    waiting: Waiting, service: ScriptedService, session: PlayAISession
) -> None:
    """From the moment at which it begins; one that runs into it leaves the others their results."""
    service.answers(job(job_id=A), job_id=A)
    finishing(service, B, 3)
    expired, finished = await waiting(session, [A, B], polling=STEADY, timeout=5, return_exceptions=True)
    assert isinstance(expired, WaitTimeoutError)
    assert expired.job_id == A
    assert expired.elapsed == pytest.approx(5)
    assert finished.id == B
    assert now() == pytest.approx(5)


@BOTH
async def test_the_timeout_left_out_is_that_of_the_settings_and_none_is_none(
    waiting: Waiting, service: ScriptedService, session: PlayAISession
) -> None:
    """As for a single wait."""
    finishing(service, A, 40)
    (expired,) = await waiting(
        session, [A], polling=Polling(initial=1, multiplier=1, jitter=0, timeout=20), return_exceptions=True
    )
    assert isinstance(expired, WaitTimeoutError)
    assert now() == pytest.approx(20)
    (finished,) = await waiting(
        session, [A], polling=Polling(initial=1, multiplier=1, jitter=0, timeout=2), timeout=None
    )
    assert finished.id == A


@BOTH
async def test_errors_of_one_job_that_is_given_twice_are_two(
    waiting: Waiting, service: ScriptedService, session: PlayAISession
) -> None:
    """A raised exception grows the traceback of its raiser: no two entries get the same."""
    service.answers(Answer(404), job_id=A)
    one, other = await waiting(session, [A, A], return_exceptions=True)
    assert str(one) == str(other)
    assert one is not other
    assert one.job_id == other.job_id == A
    assert len(service.arrivals) == 1


@BOTH
async def test_a_closed_session_is_an_outcome_of_each_job(waiting: Waiting, session: PlayAISession) -> None:
    """With the job's id, or raised as such."""
    await session.aclose()
    outcomes = await waiting(session, [A, B], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [SessionClosedError] * 2
    assert [outcome.job_id for outcome in outcomes] == [A, B]
    with pytest.raises(SessionClosedError) as caught:
        await waiting(session, [A, B])
    assert caught.value.job_id == A


@BOTH
@pytest.mark.parametrize("moment", [0.0, 0.5, 1.5], ids=["queued", "under way", "paused"])
async def test_a_session_that_is_closed_meanwhile_ends_each_job(
    waiting: Waiting, moment: float, service: ScriptedService, session: PlayAISession
) -> None:
    """At once, in each phase of a wait, with the job's id."""
    for job_id in (A, B):
        service.answers(Answer(payload=job(job_id=job_id).payload, takes=1.0), job_id=job_id)
    outcomes = asyncio.create_task(waiting(session, [A, B], return_exceptions=True))
    raised = asyncio.create_task(waiting(session, [A, B]))
    await asyncio.sleep(moment)
    await session.aclose()
    assert [(type(outcome), outcome.job_id) for outcome in await outcomes] == [
        (SessionClosedError, A),
        (SessionClosedError, B),
    ]
    with pytest.raises(SessionClosedError):
        await raised
    assert now() == moment


async def test_a_session_that_is_closed_while_the_waits_are_opened_ends_each_job(crowd: Crowd) -> None:
    """Those that were opened and those that were not yet."""
    session = PlayAISession(API_KEY, USER_ID)
    waiting = asyncio.create_task(session.wait_for_all(many(), return_exceptions=True))
    while session.stats.open_waits < MANY // 2:
        await asyncio.sleep(0)
    await session.aclose()
    outcomes = await waiting
    assert {type(outcome) for outcome in outcomes} == {SessionClosedError}
    assert [outcome.job_id for outcome in outcomes if isinstance(outcome, PlayAIError)] == many()
    assert session.stats.open_waits == 0


@BOTH
def test_a_session_of_another_loop_is_an_outcome_of_each_job(waiting: Waiting) -> None:
    """With the job's id, or raised as such."""
    session = PlayAISession(API_KEY, USER_ID)

    async def use() -> None:
        outcomes = await waiting(session, [A, B], return_exceptions=True)
        assert [(type(outcome), outcome.job_id) for outcome in outcomes] == [
            (ConfigurationError, A),
            (ConfigurationError, B),
        ]
        with pytest.raises(ConfigurationError, match="loop") as caught:
            await waiting(session, [A, B])
        assert caught.value.job_id == A

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as its_own:
        its_own.run(session.__aenter__())
        with asyncio.Runner(loop_factory=looptime.new_event_loop) as another:
            another.run(use())
        its_own.run(session.aclose())


async def test_a_wait_strategy_that_fails_is_an_outcome_of_its_job(
    service: ScriptedService, session: PlayAISession
) -> None:
    """The caller's mistake, told for each job that it was asked for."""

    def broken(state: tenacity.RetryCallState) -> float:
        raise ZeroDivisionError

    service.answers(job(job_id=A), job_id=A)
    finishing(service, B, 1)
    mistake, finished = await session.wait_for_all([A, B], polling=Polling(wait=broken), return_exceptions=True)
    assert isinstance(mistake, ConfigurationError)
    assert mistake.job_id == A
    assert isinstance(finished, TtsJob)


@BOTH
async def test_the_first_error_is_raised_and_lets_the_others_go(
    waiting: Waiting, service: ScriptedService, session: PlayAISession
) -> None:
    """By the time it comes out nothing is left open, under way or running, and nothing is polled afterwards."""
    service.answers(job(job_id=A), job_id=A)
    service.answers(Answer(404, takes=2.5), job_id=B)
    service.answers(job(job_id=C), Answer(takes=9), job_id=C)
    tasks = asyncio.all_tasks()
    with pytest.raises(NotFoundError) as caught:
        await waiting(session, [A, B, C], polling=STEADY)
    assert caught.value.job_id == B
    assert now() == 2.5
    assert asyncio.all_tasks() == tasks
    assert service.under_way == 0
    assert session.stats.open_waits == session.stats.distinct_jobs == session.stats.in_flight == 0
    sent = len(service.arrivals)
    await asyncio.sleep(1000)
    assert len(service.arrivals) == sent


async def test_an_error_ends_the_iteration(service: ScriptedService, session: PlayAISession) -> None:
    """What came before it was yielded; nothing comes after it."""
    finishing(service, A, 2)
    service.answers(job(job_id=B), job(job_id=B), Answer(404), job_id=B)
    finishing(service, C, 9)
    ended = session.as_completed([A, B, C], polling=STEADY)
    assert (await anext(ended)).id == A
    with pytest.raises(NotFoundError):
        await anext(ended)
    with pytest.raises(StopAsyncIteration):
        await anext(ended)
    assert session.stats.open_waits == 0


async def test_who_waits_for_a_job_that_a_group_lets_go_of_keeps_its_wait(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A group lets go of its own waits, not of the jobs."""
    service.answers(Answer(404), job_id=A)
    finishing(service, B, 4)
    other = asyncio.create_task(session.wait_for_completion(B, polling=STEADY))
    with pytest.raises(NotFoundError):
        await session.wait_for_all([B, A], polling=STEADY)
    assert (await other).id == B
    assert service.arrivals[-1] == 3.0


# Leaving early


async def leave_and_close(ended: AsyncGenerator[TtsJob, None]) -> None:
    """As the documentation says."""
    async with contextlib.aclosing(ended):
        async for _ in ended:
            break


async def step_and_close(ended: AsyncGenerator[TtsJob, None]) -> None:
    """By hand."""
    await anext(ended)
    await ended.aclose()


async def raise_in_the_body(ended: AsyncGenerator[TtsJob, None]) -> None:
    """An error of the reader's own."""
    with pytest.raises(ZeroDivisionError):
        async with contextlib.aclosing(ended):
            async for _ in ended:
                raise ZeroDivisionError


@pytest.mark.parametrize(
    "leave", [leave_and_close, step_and_close, raise_in_the_body], ids=["break", "aclose", "error"]
)
async def test_leaving_early_lets_the_rest_go(
    leave: Callable[[AsyncGenerator[TtsJob, None]], Awaitable[None]], service: ScriptedService, session: PlayAISession
) -> None:
    """No task, no request and no wait is left when the block ends, and nothing is polled afterwards."""
    finishing(service, A, 2)
    service.answers(job(job_id=B), Answer(takes=9), job_id=B)
    service.answers(job(job_id=C), job_id=C)
    tasks = asyncio.all_tasks()
    await leave(session.as_completed([A, B, C], polling=STEADY))
    assert now() == 1.0
    assert asyncio.all_tasks() == tasks
    assert service.under_way == session.stats.open_waits == session.stats.in_flight == 0
    sent = len(service.arrivals)
    await asyncio.sleep(100)
    assert len(service.arrivals) == sent


async def test_leaving_the_loop_without_closing_lets_the_rest_go(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A little later, when the loop closes the generator that nobody holds."""
    finishing(service, A, 2)
    service.answers(job(job_id=B), Answer(takes=9), job_id=B)
    async for _ in session.as_completed([A, B], polling=STEADY):
        break
    gc.collect()
    await asyncio.sleep(100)
    assert session.stats.open_waits == 0
    assert len(service.arrivals) == 4
    assert service.under_way == 0


@pytest.mark.parametrize("dropped", [True, False], ids=["dropped", "held"])
def test_a_loop_that_ends_with_a_group_open_ends_quietly(
    dropped: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its generator is closed by the loop, after a first step and with polls to come; nothing is logged."""

    async def leave() -> None:
        with ScriptedService() as service:
            finishing(service, A, 1)
            service.answers(job(job_id=B), job_id=B)
            session = PlayAISession(API_KEY, USER_ID)
            ended = session.as_completed([A, B])
            await anext(ended)
            if not dropped:
                held.append(ended)
            sessions.append(session)
            del ended

    sessions: list[PlayAISession] = []
    held: list[AsyncGenerator[TtsJob, None]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of the session that is left open, which is the point
        with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
            runner.run(leave())
        assert sessions[0].stats.open_waits == 0
        del sessions[:], held[:]
        gc.collect()
    assert [record for record in caplog.records if "generator" in record.getMessage()] == []


# Cancellation


@BOTH
@pytest.mark.parametrize(
    "moment", [None, 0.0, 0.5, 1.5], ids=["before the first step", "queued", "under way", "paused"]
)
async def test_a_cancellation_lets_go_of_every_wait_at_once(
    waiting: Waiting, moment: float | None, service: ScriptedService, session: PlayAISession
) -> None:
    """No time passes, and nothing is left open, under way or running."""
    for job_id in (A, B):
        service.answers(Answer(payload=job(job_id=job_id).payload, takes=1.0), job_id=job_id)
    tasks = asyncio.all_tasks()
    group = asyncio.create_task(waiting(session, [A, B]))
    if moment is not None:
        await asyncio.sleep(moment)
    group.cancel()
    with pytest.raises(asyncio.CancelledError):
        await group
    assert now() == (moment or 0.0)
    assert asyncio.all_tasks() == tasks
    assert service.under_way == session.stats.open_waits == session.stats.in_flight == 0
    sent = len(service.arrivals)
    await asyncio.sleep(100)
    assert len(service.arrivals) == sent


@BOTH
async def test_a_cancellation_while_the_waits_are_opened_lets_go_of_those_that_were(
    waiting: Waiting, crowd: Crowd
) -> None:
    """And opens no more."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        tasks = asyncio.all_tasks()
        group = asyncio.create_task(waiting(session, many()))
        while session.stats.open_waits < MANY // 2:
            await asyncio.sleep(0)
        assert session.stats.open_waits < MANY
        group.cancel()
        with pytest.raises(asyncio.CancelledError):
            await group
        assert session.stats.open_waits == session.stats.queued == session.stats.in_flight == 0
        assert asyncio.all_tasks() == tasks
        sent = len(crowd.asked)
        await asyncio.sleep(100)
        assert len(crowd.asked) == sent


@BOTH
async def test_a_second_cancellation_while_the_rest_is_let_go_loses_none_of_them(
    waiting: Waiting, crowd: Crowd
) -> None:
    """It comes out at once; the waits are let go all the same."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        group = asyncio.create_task(waiting(session, many()))
        await asyncio.sleep(1)
        group.cancel()
        while session.stats.open_waits == MANY:
            await asyncio.sleep(0)
        assert session.stats.open_waits > 0
        group.cancel()
        with pytest.raises(asyncio.CancelledError):
            await group
        assert session.stats.open_waits > 0
        await asyncio.sleep(1)
        assert session.stats.open_waits == session.stats.queued == session.stats.in_flight == 0
        sent = len(crowd.asked)
        await asyncio.sleep(100)
        assert len(crowd.asked) == sent


async def test_a_cancellation_while_a_deaf_request_is_seen_off_passes_through(
    service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that takes its time to end holds up nobody who is cancelled for good."""

    async def deaf(_: JobsApi, job_id: UUID) -> TtsJob:
        try:
            await asyncio.sleep(50)
        finally:
            await asyncio.sleep(5)
        raise AssertionError

    monkeypatch.setattr(JobsApi, "status", deaf)
    async with PlayAISession(API_KEY, USER_ID) as session:
        group = asyncio.create_task(session.wait_for_all([A, B]))
        await asyncio.sleep(1)
        group.cancel()
        await asyncio.sleep(1)
        assert not group.done()
        group.cancel()
        with pytest.raises(asyncio.CancelledError):
            await group
        assert now() == 2.0
        assert session.stats.open_waits == 0
        assert session.stats.in_flight == 2
        await asyncio.sleep(10)
        assert session.stats.in_flight == 0


async def test_a_reader_that_is_cancelled_between_steps_may_go_on(
    service: ScriptedService, session: PlayAISession
) -> None:
    """A timeout of the reader's own around one step closes the generator; what it held is let go."""
    finishing(service, A, 2)
    finishing(service, B, 9)
    ended = session.as_completed([A, B], polling=STEADY)
    assert (await anext(ended)).id == A
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.5):
            await anext(ended)
    assert now() == 3.5
    assert session.stats.open_waits == 0
    with pytest.raises(StopAsyncIteration):
        await anext(ended)


# What waits cost


async def test_waits_that_sleep_hold_no_slot(crowd: Crowd) -> None:
    """With one request at a time allowed, a thousand waits are all polled, and others get their turns."""
    crowd.done_from = 100.0
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=10**9, max_in_flight=1)) as session:
        group = asyncio.create_task(session.wait_for_all(many(1_000), polling=Polling(wait=tenacity.wait_fixed(200))))
        await asyncio.sleep(1)
        assert (session.stats.open_waits, session.stats.queued, session.stats.in_flight) == (1_000, 0, 0)
        assert len(set(crowd.asked)) == 1_000
        await session.get_job(A)
        assert now() == 1.0
        assert len(await group) == 1_000
    assert len(crowd.asked) == 2_001


async def test_a_wait_is_no_task(crowd: Crowd) -> None:
    """A thousand waits of one group have the caller's task and those of the requests under way."""
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=10**9, max_in_flight=4)) as session:
        tasks = asyncio.all_tasks()
        group = asyncio.create_task(session.wait_for_all(many(1_000)))
        while session.stats.open_waits < 1_000:
            await asyncio.sleep(0)
            assert len(asyncio.all_tasks()) <= len(tasks) + 1 + 4
        await asyncio.sleep(0.5)  # between polls
        assert asyncio.all_tasks() == {*tasks, group}
        group.cancel()
        await asyncio.wait([group])


async def test_thousands_of_waits_are_opened_in_many_rounds(crowd: Crowd) -> None:
    """Others of the event loop get their turns in between."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        group = asyncio.create_task(session.wait_for_all(many()))
        opened = [0]
        while opened[-1] < MANY:
            await asyncio.sleep(0)
            opened.append(session.stats.open_waits)
        assert max(later - earlier for earlier, later in itertools.pairwise(opened)) <= SOME_HUNDREDS
        group.cancel()
        await asyncio.wait([group])


@BOTH
async def test_thousands_of_waits_that_expire_at_one_moment_block_nobody(waiting: Waiting, crowd: Crowd) -> None:
    """Each with its own error, at the moment; the event loop goes round in between."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        rounds = Rounds(session)
        rounds.count_from(30)
        outcomes = await waiting(session, many(), timeout=30, return_exceptions=True)
        assert now() == pytest.approx(30)
        assert [(type(outcome), outcome.job_id) for outcome in outcomes] == [
            (WaitTimeoutError, job_id) for job_id in many()
        ]
        assert session.stats.open_waits == session.stats.in_flight == session.stats.queued == 0
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


async def test_thousands_of_single_waits_that_expire_at_one_moment_block_nobody(crowd: Crowd) -> None:
    """The same for as many callers who know nothing of each other."""
    async with PlayAISession(API_KEY, USER_ID) as session:
        waits = [asyncio.create_task(session.wait_for_completion(job_id, timeout=30)) for job_id in many()]
        rounds = Rounds(session)
        rounds.count_from(30)
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert now() == pytest.approx(30)
        assert {type(outcome) for outcome in outcomes} == {WaitTimeoutError}
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


async def test_closing_with_thousands_of_waits_open_blocks_nobody(crowd: Crowd) -> None:
    """Each ends with `SessionClosedError` and its job's id, and no task is left when the session is closed."""
    crowd.takes = 9.0
    session = PlayAISession(API_KEY, USER_ID)
    tasks = asyncio.all_tasks()
    group = asyncio.create_task(session.wait_for_all(many(), return_exceptions=True))
    await asyncio.sleep(1)
    rounds = Rounds(session)
    rounds.count()
    await session.aclose()
    assert session.stats.open_waits == session.stats.in_flight == crowd.under_way == 0
    assert asyncio.all_tasks() - {group} == tasks
    outcomes = await group
    assert [outcome.job_id for outcome in outcomes if isinstance(outcome, SessionClosedError)] == many()
    assert now() == 1.0
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


@BOTH
async def test_cancelling_thousands_of_waits_blocks_nobody(waiting: Waiting, crowd: Crowd) -> None:
    """They are let go in slices, at once, and nothing is left."""
    crowd.takes = 9.0
    async with PlayAISession(API_KEY, USER_ID) as session:
        tasks = asyncio.all_tasks()
        group = asyncio.create_task(waiting(session, many()))
        await asyncio.sleep(1)
        rounds = Rounds(session)
        rounds.count()
        group.cancel()
        with pytest.raises(asyncio.CancelledError):
            await group
        assert now() == 1.0
        assert asyncio.all_tasks() == tasks
        assert session.stats.open_waits == session.stats.in_flight == crowd.under_way == 0
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


async def test_nothing_is_sent_for_waits_that_are_being_let_go(crowd: Crowd) -> None:
    """The turns of those that went first are not given to those that go next."""
    crowd.takes = 9.0
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=10**9, max_in_flight=4)) as session:
        group = asyncio.create_task(session.wait_for_all(many()))
        await asyncio.sleep(1)
        assert (len(crowd.asked), session.stats.requests) == (4, 4)
        group.cancel()
        await asyncio.wait([group])
        await asyncio.sleep(100)
        assert (len(crowd.asked), session.stats.requests) == (4, 4)


async def test_nothing_is_sent_for_waits_that_are_expiring(crowd: Crowd) -> None:
    """The same where their deadlines come at one moment."""
    crowd.takes = 9.0
    async with PlayAISession(API_KEY, USER_ID, pacing=Pacing(requests_per_window=10**9, max_in_flight=4)) as session:
        await session.wait_for_all(many(), timeout=5, return_exceptions=True)
        await asyncio.sleep(100)
        assert (len(crowd.asked), session.stats.requests) == (4, 4)


@BOTH
async def test_one_answer_that_ends_thousands_of_waits_blocks_nobody(waiting: Waiting, crowd: Crowd) -> None:
    """Each entry of the one job has its result, at once, and the event loop goes round in between."""
    crowd.done_from = 30.0
    async with PlayAISession(API_KEY, USER_ID) as session:
        rounds = Rounds(session)
        rounds.count_from(30)
        outcomes = await waiting(session, [A] * MANY, polling=STEADY)
        assert now() == pytest.approx(30)
        assert [outcome.id for outcome in outcomes] == [A] * MANY
    assert len(crowd.asked) == 31
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


@pytest.mark.parametrize("going", [0, 300, MANY], ids=["none", "some", "all"])
async def test_thousands_of_callers_of_one_job_are_woken_in_slices(going: int, crowd: Crowd) -> None:
    """A caller that leaves while the others are woken is skipped."""
    crowd.done_from = 30.0
    async with PlayAISession(API_KEY, USER_ID) as session:
        waits = [asyncio.create_task(session.wait_for_completion(A, polling=STEADY)) for _ in range(MANY)]
        rounds = Rounds(session)
        if not going:  # those that go at once are their caller's own doing
            rounds.count_from(30)
        await asyncio.sleep(30)
        while session.stats.open_waits == MANY:
            await asyncio.sleep(0)
        assert session.stats.open_waits > 0
        gone = [wait for wait in waits if not wait.done()][:going]
        for wait in gone:
            wait.cancel()
        outcomes = await asyncio.gather(*waits, return_exceptions=True)
        assert now() == pytest.approx(30)
        assert sum(isinstance(outcome, TtsJob) for outcome in outcomes) >= MANY - len(gone)
        assert session.stats.open_waits == session.stats.distinct_jobs == 0
    assert max(rounds.ended, default=0) <= SOME_HUNDREDS


async def test_an_answer_and_thousands_of_deadlines_at_one_moment_leave_nobody_without_an_end(crowd: Crowd) -> None:
    """Each has the job or the deadline, whichever came first; nobody has both, and nobody has neither."""
    crowd.done_from, crowd.takes = 29.5, 1.0
    async with PlayAISession(API_KEY, USER_ID) as session:
        rounds = Rounds(session)
        rounds.count_from(30)
        patient = Polling(initial=100, maximum=100, jitter=0)  # the last poll is sent at 29 s, and answered at 30 s
        outcomes = await session.wait_for_all([A] * MANY, polling=patient, timeout=30, return_exceptions=True)
        assert now() == pytest.approx(30)
        assert all(isinstance(outcome, TtsJob | WaitTimeoutError) for outcome in outcomes)
        assert session.stats.open_waits == session.stats.distinct_jobs == session.stats.in_flight == 0
    assert sum(rounds.ended) == MANY
    assert max(rounds.ended) <= SOME_HUNDREDS


async def test_a_session_that_is_closed_while_thousands_are_woken_ends_them_all(crowd: Crowd) -> None:
    """Those whose job is done get it or hear of the closing; none is left without an end."""
    crowd.done_from = 30.0
    session = PlayAISession(API_KEY, USER_ID)
    group = asyncio.create_task(session.wait_for_all([A] * MANY, polling=STEADY, return_exceptions=True))
    await asyncio.sleep(30)
    while session.stats.open_waits == MANY:
        await asyncio.sleep(0)
    assert session.stats.open_waits > 0
    await session.aclose()
    outcomes = await group
    assert len(outcomes) == MANY
    assert all(isinstance(outcome, TtsJob | SessionClosedError) for outcome in outcomes)
    assert session.stats.open_waits == 0


async def test_thousands_of_readers_of_one_job_are_told_of_a_change_in_slices(crowd: Crowd) -> None:
    """A change that is no end wakes as many as an end does."""
    told = 0

    async def read() -> None:
        nonlocal told
        async for _ in session.watch(A, polling=STEADY):
            told += 1

    async with PlayAISession(API_KEY, USER_ID) as session:
        crowd.takes = 0.5
        readers = [asyncio.create_task(read()) for _ in range(MANY)]
        await asyncio.sleep(0.5)
        in_each_round: list[int] = []
        async with asyncio.timeout(0.1):
            while told < MANY:
                before = told
                await asyncio.sleep(0)
                in_each_round.append(told - before)
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)
    assert max(in_each_round) <= SOME_HUNDREDS


async def test_a_job_is_not_kept_once_it_was_yielded(emulator: Emulator, playai: PlayAISession) -> None:
    """A list of thousands is waited for in the memory of those that are still open."""
    jobs = [emulator.add_job(number / 100) for number in range(200)]
    alive = weakref.WeakSet[TtsJob]()
    most = 0
    async with contextlib.aclosing(playai.as_completed(jobs)) as ended:
        async for done in ended:
            alive.add(done)
            most = max(most, len(alive))
            await asyncio.sleep(1)
    assert most <= 5
