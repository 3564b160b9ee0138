"""Waits with `Polling(forecast=True)`: when they poll, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import attrs
import pytest
from tenacity import RetryCallState, wait_fixed

from playai_async import (
    ConfigurationError,
    InProgress,
    Pacing,
    PlayAISession,
    Polling,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)
from playai_async.emulator import Emulator
from playai_async.jobs import JobPoller, JobTimeoutError, Throttled, Transient
from tests.support.clock import now
from tests.support.scripted import API_KEY, USER_ID

TAKES = 20.0
"""Seconds that each job takes here."""

FORECAST = Polling(jitter=0, forecast=True)


@attrs.frozen
class Task:
    """A job of some service."""

    name: str
    done: bool
    size: Any = None


class BusyError(Exception):
    """The service's 429."""


class DownError(Exception):
    """The service's 503."""


class Tasks:
    """A service whose jobs all take the same time from their first poll on."""

    def __init__(self) -> None:
        self.polls: dict[str, list[float]] = {}
        self.errors: dict[str, dict[int, Exception]] = {}
        self.sizes: dict[str, Any] = {}
        self.takes: dict[str, float] = {}

    async def fetch(self, name: str) -> Task:
        """Answer a status request."""
        polls = self.polls.setdefault(name, [])
        polls.append(now())
        if (error := self.errors.get(name, {}).get(len(polls))) is not None:
            raise error
        return Task(name, now() >= polls[0] + self.takes.get(name, TAKES), self.sizes.get(name))

    def ages(self, name: str) -> list[float]:
        """Return the ages of a job at its polls."""
        return [round(at - self.polls[name][0], 3) for at in self.polls[name]]


@pytest.fixture
def tasks() -> Tasks:
    """Return the service."""
    return Tasks()


def classify(error: Exception) -> Throttled | Transient | None:
    """Say what an exception of the service means."""
    if isinstance(error, BusyError):
        return Throttled()
    return Transient() if isinstance(error, DownError) else None


def poller_for(
    tasks: Tasks, polling: Polling = FORECAST, *, size: Callable[[Task], Any] | None = None, **options: Any
) -> JobPoller[str, Task]:
    """Return a poller of the service."""
    return JobPoller(
        tasks.fetch,
        is_done=lambda task: task.done,
        classify=classify,
        polling=polling,
        pacing=Pacing(requests_per_window=10_000),  # nothing waits for its turn
        size=size,
        **options,
    )


@pytest.fixture
async def warm(tasks: Tasks) -> AsyncIterator[JobPoller[str, Task]]:
    """Return a poller that uses forecasts; a test warms it, because the clock starts anew with it."""
    async with poller_for(tasks, size=lambda task: task.size, run_time=lambda _: TAKES) as poller:
        yield poller


async def see_tasks(poller: JobPoller[str, Task]) -> None:
    """See twelve jobs finish."""
    await poller.wait_for_all([f"seen {number}" for number in range(12)])


async def test_until_there_is_a_forecast_the_pauses_are_tenacitys(tasks: Tasks) -> None:
    """To the bit."""
    async with poller_for(tasks, Polling(jitter=0)) as poller:
        await poller.wait_for_completion("plain")
    async with poller_for(tasks) as poller:
        await poller.wait_for_completion("forecast")
    assert tasks.ages("plain") == tasks.ages("forecast")


async def test_a_job_is_polled_when_it_is_likely_to_be_finished(tasks: Tasks, warm: JobPoller[str, Task]) -> None:
    """Two polls, and little lag, where tenacity's pauses take seven."""
    await see_tasks(warm)
    began = now()
    await warm.wait_for_completion("a")
    assert len(tasks.ages("a")) == 2
    assert TAKES < now() - began < TAKES + 2


async def test_waits_without_forecasts_are_not_changed_by_those_with(tasks: Tasks, warm: JobPoller[str, Task]) -> None:
    """Each wait polls as its own settings say, and only equal settings share requests."""
    await see_tasks(warm)
    await asyncio.gather(
        warm.wait_for_completion("a", polling=Polling(jitter=0)), warm.wait_for_completion("b"),
        warm.wait_for_completion("b"),
    )  # fmt: skip
    assert (len(tasks.ages("a")), len(tasks.ages("b"))) == (7, 2)
    await asyncio.gather(warm.wait_for_completion("c", polling=Polling(jitter=0)), warm.wait_for_completion("c"))
    assert len(tasks.ages("c")) == 9


async def test_without_forecasts_nothing_is_measured(tasks: Tasks) -> None:
    """The callables are not called."""
    calls: list[Task] = []
    async with poller_for(tasks, Polling(), size=calls.append, run_time=calls.append) as poller:
        await poller.wait_for_completion("a")
    assert calls == []


async def test_a_429_leaves_a_planned_poll_due(tasks: Tasks, warm: JobPoller[str, Task]) -> None:
    """It goes when the gate opens, and the plan is as before."""
    await see_tasks(warm)
    tasks.errors["a"] = {2: BusyError()}
    await warm.wait_for_completion("a")
    _, refused, answered = tasks.ages("a")
    assert refused == pytest.approx(20.26, abs=0.1)
    assert answered - refused == pytest.approx(5.2, abs=0.2)


async def test_after_a_failure_the_pause_is_tenacitys(tasks: Tasks, warm: JobPoller[str, Task]) -> None:
    """And after the next answer it is the forecast's again."""
    await see_tasks(warm)
    tasks.errors["a"] = {1: DownError(), 2: DownError()}
    await warm.wait_for_completion("a")
    ages = tasks.ages("a")
    assert ages[:3] == [0.0, 1.0, 2.5]
    assert len(ages) == 4


async def test_a_job_that_takes_longer_than_all_others_is_polled_as_without_a_forecast(
    tasks: Tasks, warm: JobPoller[str, Task]
) -> None:
    """With tenacity's next pauses."""
    await see_tasks(warm)
    tasks.takes["a"] = 30.0
    await warm.wait_for_completion("a")
    ages = tasks.ages("a")
    pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(ages)]
    assert pauses == [pytest.approx(20.26, abs=0.1), 1.5, 2.25, 3.375, 5.062]


async def test_the_last_poll_goes_before_the_deadline(tasks: Tasks, warm: JobPoller[str, Task]) -> None:
    """Whenever the next poll was planned, and for each caller."""
    await see_tasks(warm)
    one = asyncio.create_task(warm.wait_for_completion("a", timeout=15.0))
    await asyncio.sleep(1.0)
    other = asyncio.create_task(warm.wait_for_completion("a", timeout=8.0))
    ended = await asyncio.gather(one, other, return_exceptions=True)
    assert [type(error) for error in ended] == [JobTimeoutError, JobTimeoutError]
    assert tasks.ages("a") == [0.0, 8.2, 14.0]


async def test_a_deadline_between_the_earliest_time_and_the_due_one_does_not_delay_a_poll(
    tasks: Tasks, warm: JobPoller[str, Task]
) -> None:
    """It may go from its earliest time on, all the same."""
    await see_tasks(warm)
    await warm.wait_for_completion("a", timeout=22.0)
    assert tasks.ages("a") == [0.0, pytest.approx(20.26, abs=0.1)]


async def test_what_the_log_says_of_a_pause(
    warm: JobPoller[str, Task], tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG only."""
    await see_tasks(warm)
    await warm.wait_for_completion("quiet")
    assert not caplog.records
    caplog.set_level(logging.DEBUG, "playai_async")
    await warm.wait_for_completion("a")
    (planned,) = [record for record in caplog.records if getattr(record, "playai_event", "") == "poll_planned"]
    assert planned.getMessage() == "Job a is expected to finish in 20 s."
    fields = ("playai_job_id", "playai_expected", "playai_earliest", "playai_due")
    assert [getattr(planned, field) for field in fields] == [
        "a", pytest.approx(20, abs=0.1), pytest.approx(20.26, abs=0.1), pytest.approx(22.1, abs=0.2)
    ]  # fmt: skip


@pytest.mark.parametrize("measure", ["size", "run_time"])
async def test_a_measure_that_raises_ends_the_waits_of_its_job_and_no_other(tasks: Tasks, measure: str) -> None:
    """With the error, at the poll that met it."""

    def broken(task: Task) -> float | None:
        if task.name == "a":
            raise LookupError("no size")
        return 1.0

    async with poller_for(tasks, FORECAST, **dict[str, Any]({measure: broken})) as poller:
        ended = await poller.wait_for_all(["a", "b", "a"], return_exceptions=True)
    assert [type(end) for end in ended] == [LookupError, Task, LookupError]
    notes = [getattr(end, "__notes__", [""])[0] for end in ended]
    assert "a" in notes[0]
    assert notes[2] == notes[0]


async def test_a_measure_that_returns_no_number_ends_the_waits_of_its_job(tasks: Tasks) -> None:
    """With a `TypeError` that names it."""
    tasks.sizes["a"] = "12"
    async with poller_for(tasks, size=lambda task: task.size) as poller:
        with pytest.raises(TypeError, match="size must return a number or None, not str"):
            await poller.wait_for_completion("a")
        await poller.wait_for_completion("b")


@pytest.mark.parametrize("measure", ["size", "run_time"])
def test_a_measure_must_be_callable(tasks: Tasks, measure: str) -> None:
    """Or be left out."""
    with pytest.raises(TypeError, match=f"{measure} must be callable or None, not int"):
        poller_for(tasks, FORECAST, **dict[str, Any]({measure: 3}))


@pytest.mark.parametrize("value", [1, None, "yes"])
def test_forecast_is_true_or_false(value: Any) -> None:
    """And nothing that only counts as such."""
    with pytest.raises(TypeError, match="forecast must be a bool"):
        Polling(forecast=value)


# With a PlayAISession


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """The service."""
    async with Emulator(job_duration=100.0) as emulator:
        yield emulator


def session_with(emulator: Emulator, polling: Polling = FORECAST, window: float = 60.0) -> PlayAISession:
    """Return a session with the service."""
    return PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, polling=polling, pacing=Pacing(window=window))


@pytest.fixture
async def playai(emulator: Emulator) -> AsyncIterator[PlayAISession]:
    """Return a session that uses forecasts; a test warms it, because the clock starts anew with it."""
    async with session_with(emulator) as session:
        yield session


INPUT = {"model": "PlayDialog", "voice": "v", "text": "x" * 1_000}


async def see_jobs(session: PlayAISession, emulator: Emulator) -> None:
    """See ten jobs finish."""
    await session.wait_for_all([emulator.add_job(TAKES, input=INPUT) for _ in range(10)])


def in_progress(job_id: UUID) -> TtsJob:
    """Return a job as the service described it when it was created."""
    return TtsJob(job_id, datetime.now(UTC), INPUT, None, InProgress())


def polls_of(emulator: Emulator, job_id: UUID) -> list[float]:
    """Return when a job was polled."""
    return [arrival.at for arrival in emulator.arrivals if arrival.job_id == job_id]


async def test_a_job_that_is_handed_in_needs_no_first_poll(emulator: Emulator, playai: PlayAISession) -> None:
    """One poll, when it is likely to be finished."""
    await see_jobs(playai, emulator)
    job_id, began = emulator.add_job(TAKES, input=INPUT), now()
    await playai.wait_for_completion(in_progress(job_id))
    (poll,) = polls_of(emulator, job_id)
    assert TAKES < poll - began < TAKES + 1


async def test_a_job_of_another_model_is_polled_at_once(emulator: Emulator, playai: PlayAISession) -> None:
    """There is no forecast for it; nor for one without a text, or with something else in its place."""
    await see_jobs(playai, emulator)
    for changed in ({"model": "Play3.0-mini"}, {"model": 3}, {"text": None}):
        job_id, began = emulator.add_job(1.0, input={**INPUT, **changed}), now()
        await playai.wait_for_completion(attrs.evolve(in_progress(job_id), input={**INPUT, **changed}))
        assert polls_of(emulator, job_id)[0] - began < 0.1


async def test_a_job_that_this_session_created_needs_no_first_poll(emulator: Emulator, playai: PlayAISession) -> None:
    """Its id is enough, and its age counts from its creation."""
    await see_jobs(playai, emulator)
    job = await playai.create_job(TtsParameters("x" * 1_000, "v"))
    created = now()
    await asyncio.sleep(5.0)
    with pytest.raises(WaitTimeoutError):
        await playai.wait_for_completion(str(job.id), timeout=18.0)
    first, *_, last = [round(poll - created) for poll in polls_of(emulator, job.id)]
    assert (first, last) == (20, 22)


async def test_a_watch_yields_what_the_caller_has_at_once(emulator: Emulator, playai: PlayAISession) -> None:
    """Without a poll; then the finished job."""
    await see_jobs(playai, emulator)
    job_id, began = emulator.add_job(TAKES, input=INPUT), now()
    async with aclosing(playai.watch(in_progress(job_id))) as states:
        assert (await anext(states)).status == "IN_PROGRESS"
        assert now() == began
        assert (await anext(states)).status == "COMPLETED"
    assert len(polls_of(emulator, job_id)) == 1


async def test_a_watch_of_an_id_polls_at_once(emulator: Emulator, playai: PlayAISession) -> None:
    """Also of a job that this session created, and where another wait has planned its first poll."""
    await see_jobs(playai, emulator)
    job = await playai.create_job(TtsParameters("x" * 1_000, "v"))
    other = asyncio.create_task(playai.wait_for_completion(job.id))
    await asyncio.sleep(1.0)
    assert polls_of(emulator, job.id) == []
    async with aclosing(playai.watch(job.id)) as states:
        began = now()
        assert (await anext(states)).id == job.id
        assert now() - began < 0.1
    other.cancel()


async def test_a_strategy_of_the_callers_own_is_asked_for_the_first_pause(emulator: Emulator) -> None:
    """No poll is planned sooner, whatever the forecast says."""
    async with session_with(emulator, Polling(wait=wait_fixed(25.0), forecast=True)) as playai:
        await see_jobs(playai, emulator)
        job_id, began = emulator.add_job(TAKES, input=INPUT), now()
        await playai.wait_for_completion(in_progress(job_id))
        assert [poll - began for poll in polls_of(emulator, job_id)] == [pytest.approx(25.0, abs=0.1)]


async def test_a_strategy_that_fails_ends_the_wait(emulator: Emulator, playai: PlayAISession) -> None:
    """After a first poll, as without a forecast."""
    await see_jobs(playai, emulator)

    def broken(_: RetryCallState) -> float:
        raise LookupError

    job_id = emulator.add_job(TAKES, input=INPUT)
    with pytest.raises(ConfigurationError):
        await playai.wait_for_completion(in_progress(job_id), polling=Polling(wait=broken, forecast=True))
    assert len(polls_of(emulator, job_id)) == 1


async def test_no_pause_is_longer_than_a_window(emulator: Emulator) -> None:
    """However long all jobs take."""
    async with session_with(emulator, window=15.0) as playai:
        await playai.wait_for_all([emulator.add_job(100.0, input=INPUT) for _ in range(10)])
        job_id, began = emulator.add_job(100.0, input=INPUT), now()
        await playai.wait_for_completion(in_progress(job_id))
        polls = [began, *polls_of(emulator, job_id)]
    pauses = [later - earlier for earlier, later in itertools.pairwise(polls)]
    assert 10.0 < max(pauses) <= 15.1
