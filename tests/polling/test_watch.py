"""Who waits: the objects that the poller moves about, each by itself."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from uuid import UUID

import pytest

from playai_async import (
    Completed,
    Failed,
    InProgress,
    NotFoundError,
    PlayAIError,
    Polling,
    TtsJob,
    Unknown,
    WaitTimeoutError,
)
from playai_async._runtime import SessionErrors
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._polling.watch import (
    ChangeWaiter,
    FutureWaiter,
    GroupWaiter,
    Mailbox,
    Waiter,
    Watch,
    WatchRegistry,
)
from playai_async.jobs._scheduling.request import DirectRequest, Failure, Outcome, Success, unwrap

JOB_ID = UUID("6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f")
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ERROR = NotFoundError("No such job.", status=404)
FAILED = Failure(ERROR)


def a_job(output: Completed | Failed | InProgress | Unknown | None = None) -> TtsJob:
    """Make a job in some state."""
    return TtsJob(id=JOB_ID, created_at=NOON, input={}, completed_at=None, output=output or InProgress())


def a_watch(polling: Polling | None = None, *waiters: Waiter, job_id: UUID = JOB_ID) -> Watch:
    """Make a watch that some wait with."""
    polling = polling or Polling()
    watch = Watch(job_id, polling, Backoff(poll_rule(polling), polling.max_failures), unsent, bool, print)
    for waiter in waiters:
        waiter.watch = watch
        watch.waiters.add(waiter)
    return watch


async def unsent(*_: object) -> TtsJob:
    """Make no request: here only answers are handed over."""
    raise NotImplementedError


# Outcomes


def test_an_outcome_is_a_job_or_an_error_that_is_raised() -> None:
    """The error itself."""
    job = a_job()
    assert unwrap(Success(job, done=False)) is job
    with pytest.raises(NotFoundError) as caught:
        unwrap(Failure(ERROR))
    assert caught.value is ERROR


def test_an_unexpected_error_becomes_a_documented_one() -> None:
    """With the bug as its cause; a documented error stays as it is."""
    bug = ZeroDivisionError("a secret")
    error = SessionErrors().wrap(bug, JOB_ID)
    assert type(error) is PlayAIError
    assert (str(error), error.job_id) == (f"Waiting for job {JOB_ID} failed unexpectedly (ZeroDivisionError).", JOB_ID)
    assert error.__cause__ is bug
    assert SessionErrors().wrap(ERROR, JOB_ID) is ERROR


@pytest.mark.parametrize("kind", ["call", "caller"], ids=str)
async def test_a_waiter_gets_one_result_unless_it_was_cancelled(kind: str) -> None:
    """A future that was cancelled, or told already, is left as it is."""
    for gone in (False, True):
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if gone:
            future.cancel()
        if kind == "call":
            call = DirectRequest(unsent, JOB_ID, 0.0, future)
            call.deliver(FAILED)
            call.deliver(Success(a_job(), done=True))
        else:
            caller = FutureWaiter(future)
            caller.on_end(FAILED)
            caller.on_end(Success(a_job(), done=True))
        assert future.cancelled() is gone
        assert gone or future.result() is FAILED


# When a poll is due


def with_deadline(last_poll_at: float, lead: float = 1.0) -> Waiter:
    """Make a waiter whose last poll is to be sent at some time."""
    waiter = Waiter()
    waiter.last_poll_at, waiter.lead = last_poll_at, lead
    return waiter


@pytest.mark.parametrize(
    ("last_calls", "due"),
    [((), 15.0), ((100.0,), 15.0), ((12.0,), 12.0), ((14.0, 12.0), 12.0), ((9.0,), 10.0), ((7.0,), 15.0)],
    ids=["no deadline", "far away", "near", "two", "passed while under way", "served by the poll that ended"],
)
def test_a_poll_is_due_after_the_pause_or_just_before_a_deadline(last_calls: tuple[float, ...], due: float) -> None:
    """Whichever is earlier; the last poll was sent at 8 s, and ended at 10 s."""
    watch = a_watch(None, *[with_deadline(last_poll_at) for last_poll_at in last_calls])
    watch.sent_at = 8.0
    assert watch.due_after(10.0, 5.0) == due


@pytest.mark.parametrize(("last", "due"), [(True, 15.0), (False, 10.0)], ids=["the last poll of some", "of nobody"])
def test_one_last_poll_serves_all_whose_own_would_follow_within_their_lead(last: bool, due: float) -> None:
    """A hundred deadlines need no hundred polls."""
    watch = a_watch(None, *[with_deadline(8.0 + 0.1 * number) for number in range(1, 10)])
    watch.sent_at, watch.last_poll = 8.0, last
    assert watch.due_after(10.0, 5.0) == due


def test_a_waiter_without_deadline_asks_for_no_last_poll() -> None:
    """Its pauses are all there is."""
    watch = a_watch(None, Waiter())
    assert watch.due_after(10.0, math.inf) == math.inf


# What is waited for


def test_watches_are_found_by_job_and_equal_settings() -> None:
    """The very settings, or others that are equal; no others."""
    watches = WatchRegistry()
    polling = Polling(initial=2.0)
    watch = a_watch(polling)
    assert watches.find(JOB_ID, polling) is None
    watches.add(watch)
    assert watches.find(JOB_ID, polling) is watches.find(JOB_ID, Polling(initial=2.0)) is watch
    assert watches.find(JOB_ID, Polling(initial=3.0)) is None
    assert watches.find(UUID(int=1), polling) is None


def test_a_wait_strategy_is_equal_to_itself_alone() -> None:
    """Two functions may do anything."""
    watches = WatchRegistry()

    def strategy(_: object) -> float:
        return 1.0

    watch = a_watch(Polling(wait=strategy))
    watches.add(watch)
    assert watches.find(JOB_ID, Polling(wait=strategy)) is watch
    assert watches.find(JOB_ID, Polling(wait=lambda _: 1.0)) is None


def test_one_job_may_be_waited_for_under_several_settings() -> None:
    """Each is a watch of its own, and the job is one."""
    watches = WatchRegistry()
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
    watches = WatchRegistry()
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
    waiter.on_change(a_job())
    with pytest.raises(NotImplementedError):
        waiter.on_end(FAILED)


async def test_a_change_waiter_keeps_each_change_and_the_end() -> None:
    """In their order; the poller passes changes on, and nothing else."""
    waiter = ChangeWaiter(Mailbox())
    queued, going = a_job(Unknown("QUEUED")), a_job()
    for job in (queued, going, queued):
        waiter.on_change(job)
    waiter.on_end(FAILED)
    assert [await waiter.mailbox.next() for _ in range(4)] == [
        (False, queued),
        (False, going),
        (False, queued),
        (True, FAILED),
    ]


async def test_members_are_told_apart_by_their_index() -> None:
    """In the order of their ends; a job that is not done is nothing to them."""
    news: Mailbox[tuple[int, Outcome]] = Mailbox()
    members = [GroupWaiter(news, index) for index in range(3)]
    members[1].on_change(a_job())
    done = Success(a_job(Failed()), done=True)
    members[2].on_end(done)
    members[0].on_end(FAILED)
    assert [await news.next() for _ in range(2)] == [(2, done), (0, FAILED)]


# The timeout error


@pytest.mark.parametrize(
    ("job", "seen"), [(None, "no answer yet"), (a_job(), "last seen InProgress")], ids=["no answer", "a job"]
)
def test_the_timeout_error_names_what_was_seen(job: TtsJob | None, seen: str) -> None:
    """The time, the polls and the reason are those of this wait."""
    why = "; throttled for 5 s more"
    error = SessionErrors().timed_out(JOB_ID, job=job, last_error=ERROR, elapsed=30.5, polls=7, why=why)
    assert isinstance(error, WaitTimeoutError)
    assert str(error) == (
        f"Job {JOB_ID} was not done after 30.5 s (polls: 7; {seen}; throttled for 5 s more);"
        " it goes on and can be waited for again."
    )
    assert (error.job, error.last_error, error.elapsed, error.polls, error.job_id) == (job, ERROR, 30.5, 7, JOB_ID)


def test_a_waiter_counts_the_polls_since_it_joined() -> None:
    """The watch is shared."""
    waiter, watch = Waiter(), a_watch()
    watch.polls, watch.throttled = 2, 1
    waiter.join(watch, 100.0)
    watch.polls = 9
    assert (waiter.polls, waiter.throttled_before, waiter.started) == (7, 1, 100.0)


# Mailbox


async def test_news_come_in_order_however_slow_the_reader() -> None:
    """None is lost, and what is there is had without waiting."""
    news: Mailbox[int] = Mailbox()
    for number in range(5):
        news.add(number)
    assert [await news.next() for _ in range(3)] == [0, 1, 2]
    news.add(5)
    assert [await news.next() for _ in range(3)] == [3, 4, 5]


async def test_a_reader_waits_for_news() -> None:
    """Several that come at once wake it once, and are all there."""
    news: Mailbox[int] = Mailbox()
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
    news: Mailbox[int] = Mailbox()
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
