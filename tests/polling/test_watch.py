"""Who waits: the objects that the poller moves about, each by itself."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import cast
from uuid import UUID

import pytest

from playai_async import (
    Completed,
    Failed,
    InProgress,
    NotFoundError,
    PlayAIError,
    Polling,
    TransportError,
    TtsJob,
    Unknown,
)
from playai_async.jobs._polling.backoff import Backoff, retrying_for
from playai_async.jobs._polling.watch import (
    Call,
    Caller,
    Follower,
    Home,
    Member,
    News,
    Outcome,
    Waiter,
    Watch,
    Watches,
    as_outcome,
    job_of,
)

JOB_ID = UUID("6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ERROR = NotFoundError("No such job.", status=404)
NOWHERE = cast("Home", None)
"""What a watch belongs to that is never polled."""


def a_job(output: Completed | Failed | InProgress | Unknown | None = None) -> TtsJob:
    """Make a job in some state."""
    return TtsJob(id=JOB_ID, created_at=NOON, input={}, completed_at=None, output=output or InProgress())


def a_watch(polling: Polling | None = None, *waiters: Waiter, job_id: UUID = JOB_ID, home: Home = NOWHERE) -> Watch:
    """Make a watch that some wait with."""
    polling = polling or Polling()
    watch = Watch(job_id, polling, Backoff(retrying_for(polling), polling.max_failures), home)
    for waiter in waiters:
        waiter.watch = watch
        watch.waiters.add(waiter)
    return watch


async def unsent() -> TtsJob:
    """Make no request: here only answers are handed over."""
    raise NotImplementedError


# Outcomes


def test_an_outcome_is_a_job_or_an_error_that_is_raised() -> None:
    """The error itself."""
    job = a_job()
    assert job_of(job) is job
    with pytest.raises(NotFoundError) as caught:
        job_of(ERROR)
    assert caught.value is ERROR


def test_what_must_never_happen_gets_a_documented_face() -> None:
    """With the bug as its cause; what has such a face keeps it."""
    bug = ZeroDivisionError("a secret")
    outcome = as_outcome(bug, JOB_ID)
    assert type(outcome) is PlayAIError
    assert (str(outcome), outcome.job_id) == (f"Waiting for job {JOB_ID} met a bug (ZeroDivisionError).", JOB_ID)
    assert outcome.__cause__ is bug
    assert as_outcome(ERROR, JOB_ID) is ERROR


@pytest.mark.parametrize("kind", ["call", "caller"], ids=str)
async def test_whoever_awaits_is_told_once_unless_they_have_gone(kind: str) -> None:
    """A future that was cancelled, or told already, is left as it is."""
    for gone in (False, True):
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if gone:
            future.cancel()
        if kind == "call":
            call = Call(unsent, JOB_ID, 0.0, future)
            call.take(ERROR, final=False)
            call.take(a_job(), final=True)
        else:
            caller = Caller(future)
            caller.end(ERROR)
            caller.end(a_job())
        assert future.cancelled() is gone
        assert gone or future.result() is ERROR


# When a poll is due


def with_deadline(last_call: float, lead: float = 1.0) -> Waiter:
    """Make a waiter whose last poll is to be sent at some time."""
    waiter = Waiter()
    waiter.last_call, waiter.lead = last_call, lead
    return waiter


@pytest.mark.parametrize(
    ("last_calls", "due"),
    [((), 15.0), ((100.0,), 15.0), ((12.0,), 12.0), ((14.0, 12.0), 12.0), ((9.0,), 10.0), ((7.0,), 15.0)],
    ids=["no deadline", "far away", "near", "two", "passed while under way", "served by the poll that ended"],
)
def test_a_poll_is_due_after_the_pause_or_just_before_a_deadline(last_calls: tuple[float, ...], due: float) -> None:
    """Whichever is earlier; the last poll was sent at 8 s, and ended at 10 s."""
    watch = a_watch(None, *[with_deadline(last_call) for last_call in last_calls])
    watch.asked = 8.0
    assert watch.due_after(10.0, 5.0) == due


@pytest.mark.parametrize(("last", "due"), [(True, 15.0), (False, 10.0)], ids=["the last poll of some", "of nobody"])
def test_one_last_poll_serves_all_whose_own_would_follow_within_their_lead(last: bool, due: float) -> None:
    """A hundred deadlines need no hundred polls."""
    watch = a_watch(None, *[with_deadline(8.0 + 0.1 * number) for number in range(1, 10)])
    watch.asked, watch.last = 8.0, last
    assert watch.due_after(10.0, 5.0) == due


def test_a_waiter_without_deadline_asks_for_no_last_poll() -> None:
    """Its pauses are all there is."""
    watch = a_watch(None, Waiter())
    assert watch.due_after(10.0, math.inf) == math.inf


# What is waited for


def test_watches_are_found_by_job_and_equal_settings() -> None:
    """The very settings, or others that are equal; no others."""
    watches = Watches()
    polling = Polling(initial=2.0)
    watch = a_watch(polling)
    assert watches.find(JOB_ID, polling) is None
    watches.add(watch)
    assert watches.find(JOB_ID, polling) is watches.find(JOB_ID, Polling(initial=2.0)) is watch
    assert watches.find(JOB_ID, Polling(initial=3.0)) is None
    assert watches.find(UUID(int=1), polling) is None


def test_a_wait_strategy_is_equal_to_itself_alone() -> None:
    """Two functions may do anything."""
    watches = Watches()

    def strategy(_: object) -> float:
        return 1.0

    watch = a_watch(Polling(wait=strategy))
    watches.add(watch)
    assert watches.find(JOB_ID, Polling(wait=strategy)) is watch
    assert watches.find(JOB_ID, Polling(wait=lambda _: 1.0)) is None


def test_one_job_may_be_waited_for_under_several_settings() -> None:
    """Each is a watch of its own, and the job is one."""
    watches = Watches()
    one, other, third = (a_watch(Polling(initial=initial)) for initial in (1.0, 2.0, 3.0))
    for watch in (one, other, third):
        watches.add(watch)
    assert (len(watches), list(watches)) == (1, [one, other, third])
    watches.remove(other)
    assert [watches.find(JOB_ID, Polling(initial=initial)) for initial in (1.0, 2.0, 3.0)] == [one, None, third]
    watches.remove(one)
    watches.remove(third)
    assert (len(watches), list(watches)) == (0, [])


def test_going_through_watches_is_not_disturbed_by_what_is_added_or_removed() -> None:
    """It goes through those that were there."""
    watches = Watches()
    there = [a_watch(job_id=UUID(int=number)) for number in range(5)]
    for watch in there:
        watches.add(watch)
    seen = []
    for watch in watches:
        seen.append(watch)
        watches.remove(watch)
        watches.add(a_watch(job_id=UUID(int=100 + len(seen))))
    assert seen == there
    assert len(watches) == 5


# How waiters are told


def test_of_a_waiter_as_such_nothing_is_known() -> None:
    """What is not done does not matter to most; what comes in the end is up to each kind."""
    waiter = Waiter()
    waiter.tell(a_job())
    with pytest.raises(NotImplementedError):
        waiter.end(ERROR)


async def test_a_follower_is_told_of_each_change_and_of_the_end() -> None:
    """An answer like the one before is no change; one like an earlier one is."""
    follower = Follower(News())
    queued, going = a_job(Unknown("QUEUED")), a_job()
    for job in (queued, a_job(Unknown("QUEUED")), going, going, queued):
        follower.tell(job)
    follower.end(ERROR)
    assert [await follower.news.next() for _ in range(4)] == [queued, going, queued, ERROR]


async def test_members_are_told_apart_by_their_index() -> None:
    """In the order of their ends; a job that is not done is nothing to them."""
    news: News[tuple[int, Outcome]] = News()
    members = [Member(news, index) for index in range(3)]
    members[1].tell(a_job())
    done = a_job(Failed())
    members[2].end(done)
    members[0].end(ERROR)
    assert [await news.next() for _ in range(2)] == [(2, done), (0, ERROR)]


# The timeout error


def test_the_timeout_error_tells_what_was_seen() -> None:
    """Of this wait alone: its time, its polls, and the errors that it met."""
    waiter = Waiter()
    watch = a_watch(None, waiter)
    watch.polls, waiter.polls_before, waiter.since = 9, 2, 100.0
    error = waiter.timed_out(130.5, why="; throttled for 5 s more")
    assert str(error) == (
        f"Job {JOB_ID} was not done after 30.5 s (polls: 7; no answer yet; throttled for 5 s more);"
        " it goes on and can be waited for again."
    )
    assert (error.job, error.last_error, error.elapsed, error.polls, error.job_id) == (None, None, 30.5, 7, JOB_ID)


@pytest.mark.parametrize(("failed_at", "met"), [(99.0, False), (100.0, True), (120.0, True)], ids=str)
def test_an_error_from_before_a_wait_is_not_one_that_it_met(failed_at: float, met: bool) -> None:
    """The watch is shared; each error is given as the waiter's own."""
    waiter = Waiter()
    watch = a_watch(None, waiter)
    watch.job, waiter.since = a_job(), 100.0
    watch.last_error, watch.failed_at = TransportError("Lost."), failed_at
    error = waiter.timed_out(130.0, why="")
    assert "last seen InProgress);" in str(error)
    assert error.job is watch.job
    assert (type(error.last_error) if met else error.last_error) is (TransportError if met else None)
    assert error.last_error is not watch.last_error


# News


async def test_news_come_in_order_however_slow_the_reader() -> None:
    """None is lost, and what is there is had without waiting."""
    news: News[int] = News()
    for number in range(5):
        news.add(number)
    assert [await news.next() for _ in range(3)] == [0, 1, 2]
    news.add(5)
    assert [await news.next() for _ in range(3)] == [3, 4, 5]


async def test_a_reader_waits_for_news() -> None:
    """Several that come at once wake it once, and are all there."""
    news: News[int] = News()
    reader = asyncio.create_task(news.next())
    await asyncio.sleep(5)
    assert not reader.done()
    news.add(1)
    news.add(2)
    assert await reader == 1
    assert await news.next() == 2


@pytest.mark.parametrize("when", ["before the news", "with the news", "after the news"], ids=str)
async def test_a_reader_that_was_cancelled_may_ask_again(when: str) -> None:
    """Nothing is lost by that."""
    news: News[int] = News()
    reader = asyncio.create_task(news.next())
    await asyncio.sleep(0)
    if when == "before the news":
        reader.cancel()
        await asyncio.wait([reader])
    elif when == "with the news":
        reader.cancel()
    news.add(1)
    if when == "after the news":
        reader.cancel()
    await asyncio.wait([reader])
    assert reader.cancelled()
    news.add(2)
    assert [await news.next() for _ in range(2)] == [1, 2]
    again = asyncio.create_task(news.next())
    await asyncio.sleep(1)
    news.add(3)
    assert await again == 3
