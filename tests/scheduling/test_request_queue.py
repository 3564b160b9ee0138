"""Whose turn it is: the order of calls and polls, and that what is taken off leaves nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import cast
from uuid import UUID

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import Polling, TtsJob
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._polling.watch import Watch
from playai_async.jobs._scheduling.request import DirectRequest, Outcome
from playai_async.jobs._scheduling.request_queue import RequestQueue, Turn

POLLING = Polling()
RULE = poll_rule(POLLING)
WINDOW = 60.0
YIELD = 6.0
"""Seconds for which a first poll gives way."""

NOBODY = cast("asyncio.Future[Outcome]", None)
"""Who awaits a call whose answer never comes."""


def a_watch(number: int = 0, *, answered: bool = False) -> Watch:
    """Make a watch of a job, answered before or not."""
    return Watch(UUID(int=number), POLLING, Backoff(RULE, 8), unsent, bool, print, answered=answered)


async def unsent(*_: object) -> TtsJob:
    """Make no request: here only queue are taken."""
    raise NotImplementedError


def older(*due: float) -> tuple[RequestQueue, list[Watch]]:
    """Put down polls of jobs that were asked for before."""
    queue, watches = RequestQueue(WINDOW), [a_watch(number, answered=True) for number in range(len(due))]
    for watch, when in zip(watches, due, strict=True):
        queue.schedule(watch, when)
    return queue, watches


def taken(queue: RequestQueue, now: float) -> Iterator[object]:
    """Take all queue that have come."""
    while (errand := queue.take(queue.look(now))) is not None:
        yield errand


async def calls_of(*numbers: int) -> list[DirectRequest]:
    """Make direct calls."""
    loop = asyncio.get_running_loop()
    return [DirectRequest(unsent, UUID(int=number), loop.time(), loop.create_future()) for number in numbers]


def test_where_nothing_is_put_down_it_is_nobodys_turn() -> None:
    """Nor will it be."""
    queue = RequestQueue(WINDOW)
    assert queue.look(1e9) == Turn(None, math.inf, math.inf)
    assert queue.take(queue.look(1e9)) is None
    assert (len(queue), queue.polls, queue.queued(1e9)) == (0, 0, 0)


def test_the_poll_that_has_been_due_longest_is_first() -> None:
    """Whatever the order they were put down in, and none before it is due."""
    queue, (late, early, middle, not_yet) = older(3.0, 1.0, 2.0, 10.1)
    assert list(taken(queue, 10.0)) == [early, middle, late]
    assert (queue.look(10.0).due, queue.take(queue.look(10.1))) == (10.1, not_yet)


def test_polls_of_one_time_keep_their_order() -> None:
    """First come, first served."""
    queue, watches = older(*[1.0] * 10)
    assert list(taken(queue, 1.0)) == watches


async def test_calls_come_before_polls_and_keep_their_order() -> None:
    """Somebody awaits the very next answer."""
    queue, (overdue,) = older(-1_000.0)
    first = a_watch(7)
    queue.add_first(first, -1_000.0)
    calls = await calls_of(3, 1, 2)
    for call in calls:
        queue.add_direct(call)
    assert queue.look(5.0).due == 5.0
    assert list(taken(queue, 5.0)) == [*calls, overdue, first]


async def test_a_call_that_is_dropped_leaves_no_turn() -> None:
    """Twice, or after it was taken, is fine."""
    queue = RequestQueue(WINDOW)
    calls = await calls_of(1, 2, 3)
    for call in calls:
        queue.add_direct(call)
    queue.remove_direct(calls[1])
    queue.remove_direct(calls[1])
    assert len(queue) == queue.queued(0.0) == 2
    assert list(taken(queue, 0.0)) == [calls[0], calls[2]]
    queue.remove_direct(calls[0])


async def test_all_calls_may_be_taken_at_once() -> None:
    """When a session is closed; polls stay."""
    queue, _ = older(1.0)
    calls = await calls_of(2, 1)
    for call in calls:
        queue.add_direct(call)
    assert queue.take_all_direct() == calls
    assert (queue.take_all_direct(), len(queue), queue.polls) == ([], 1, 1)


# Polls with an earliest time


def planned(number: int, earliest: float, due: float, queue: RequestQueue) -> Watch:
    """Put down a poll that may go before it is due."""
    watch = a_watch(number, answered=True)
    queue.schedule(watch, due, earliest)
    return watch


def test_a_poll_may_go_from_its_earliest_time_if_nothing_else_is_due() -> None:
    """And not before."""
    queue = RequestQueue(WINDOW)
    poll = planned(1, 3.0, 9.0, queue)
    assert (queue.look(0.0).due, queue.queued(0.0), queue.take(queue.look(2.9)), len(queue)) == (3.0, 0, None, 1)
    assert (queue.look(3.0).due, queue.queued(3.0), queue.due_up_to(5, 3.0), queue.look(3.0).first_due) == (
        3.0,
        1,
        1,
        9.0,
    )
    assert (queue.take(queue.look(3.0)), poll.entry, len(queue)) == (poll, None, 0)


def test_the_place_of_a_poll_is_when_it_is_due_and_not_its_earliest_time() -> None:
    """Among polls of every kind that may go."""
    queue, (at_five, at_seven) = older(5.0, 7.0)
    first = a_watch(2)
    queue.add_first(first, 0.0)
    late, early = planned(3, 1.0, 8.0, queue), planned(4, 4.0, 5.5, queue)
    assert list(taken(queue, 7.0)) == [at_five, early, first, at_seven, late]


def test_a_poll_that_may_go_but_is_not_due_lets_those_pass_that_are_due() -> None:
    """It goes where nothing is due."""
    queue, (due,) = older(5.0)
    early = planned(1, 2.0, 30.0, queue)
    assert [queue.take(queue.look(5.0)), queue.take(queue.look(5.0))] == [due, early]
    assert queue.look(5.0).first_due == math.inf


def test_an_earliest_time_after_the_due_one_is_the_due_one() -> None:
    """As without it."""
    queue = RequestQueue(WINDOW)
    poll = planned(1, 9.0, 3.0, queue)
    assert (poll.earliest, poll.due, queue.take(queue.look(2.9)), queue.take(queue.look(3.0))) == (3.0, 3.0, None, poll)


def test_a_planned_poll_can_be_moved_and_removed() -> None:
    """Before and after its earliest time."""
    queue = RequestQueue(WINDOW)
    moved, gone = planned(1, 2.0, 9.0, queue), planned(2, 2.0, 9.0, queue)
    queue.schedule(moved, 4.0, moved.earliest)
    assert queue.queued(3.0) == 2
    queue.remove(gone)
    queue.schedule(moved, 5.0, 4.0)
    assert (queue.queued(3.0), queue.polls, queue.look(3.0).due, queue.take(queue.look(4.0))) == (0, 1, 4.0, moved)


# First polls


def test_a_first_poll_goes_at_once_where_nothing_else_is_due() -> None:
    """In the order of their waits."""
    queue, (not_yet,) = older(1.0)
    watches = [a_watch(number) for number in range(1, 4)]
    for watch in watches:
        queue.add_first(watch, 0.0)
    assert queue.look(0.0).due == 0.0
    assert list(taken(queue, 0.0)) == watches
    assert queue.take(queue.look(1.0)) is not_yet


@pytest.mark.parametrize(
    ("due", "yields"),
    [(-1.0, True), (0.0, True), (5.9, True), (6.0, True), (6.1, False)],
    ids=["long before it", "with it", "soon after it", "a tenth of a window after it", "later"],
)
def test_a_first_poll_gives_way_to_polls_that_are_due_soon_after(due: float, yields: bool) -> None:
    """A job that was just created is the least likely to be done; but after a tenth of a window it is as old as any."""
    queue, (poll,) = older(due)
    first = a_watch(1)
    queue.add_first(first, 0.0)
    assert list(taken(queue, 10.0)) == ([poll, first] if yields else [first, poll])


def test_the_time_for_which_a_first_poll_gives_way_is_a_tenth_of_a_window() -> None:
    """Six seconds of sixty, one of ten."""
    queue, first = RequestQueue(10.0), a_watch()
    queue.add_first(first, 3.0)
    assert first.due == 4.0
    assert queue.look(9.0).first_due == 4.0


def test_first_polls_are_not_starved_by_polls() -> None:
    """Ten jobs that are due again a second after each poll, and one request a second: a new one is asked for, too."""
    queue, _ = older(*[0.0] * 10)
    first = a_watch(99)
    queue.add_first(first, 0.0)
    order: list[object] = []
    for second in range(20):
        watch = queue.take(queue.look(float(second)))
        order.append(watch)
        if isinstance(watch, Watch) and watch is not first:
            queue.schedule(watch, second + 1.0)
    assert 10 <= order.index(first) <= 16


def test_polls_are_not_starved_by_first_polls() -> None:
    """However many new jobs come in."""
    queue, (poll,) = older(0.5)
    for number in range(100):
        queue.add_first(a_watch(number), 0.01 * number)
    assert queue.take(queue.look(1.0)) is poll


def test_a_first_poll_that_is_put_down_again_stays_a_first_poll() -> None:
    """After a 429 it is still owed, as old as it was."""
    queue, watch = RequestQueue(WINDOW), a_watch()
    queue.add_first(watch, 0.0)
    assert queue.take(queue.look(0.0)) is watch
    queue.schedule(watch, watch.due)
    assert (watch.due, queue.look(1.0).due, queue.queued(1.0)) == (YIELD, 1.0, 1)
    assert queue.take(queue.look(1.0)) is watch


# Put down, and taken off


@pytest.mark.parametrize("answered", [False, True], ids=["first poll", "later poll"])
def test_a_poll_that_is_put_down_again_has_one_turn(answered: bool) -> None:
    """The later word holds."""
    queue, watch = RequestQueue(WINDOW), a_watch(answered=answered)
    for due in (5.0, 9.0, 7.0):
        queue.schedule(watch, due)
        assert (watch.due, queue.polls) == (due, 1)
    assert list(taken(queue, 7.0)) == [watch]
    assert (watch.entry, queue.take(queue.look(100.0))) == (None, None)


@pytest.mark.parametrize("answered", [False, True], ids=["first poll", "later poll"])
def test_a_poll_that_is_dropped_leaves_no_turn(answered: bool) -> None:
    """Twice, or where none is put down, is fine; it may be put down again."""
    queue, watch = RequestQueue(WINDOW), a_watch(answered=answered)
    queue.remove(watch)
    queue.schedule(watch, 1.0)
    queue.remove(watch)
    queue.remove(watch)
    assert (len(queue), queue.take(queue.look(9.0)), queue.look(9.0).due) == (0, None, math.inf)
    queue.schedule(watch, 2.0)
    assert queue.take(queue.look(9.0)) is watch
    queue.remove(watch)


async def test_what_is_put_down_is_counted() -> None:
    """All of it, or what waits for its turn alone."""
    queue, _ = older(1.0, 2.0, 3.0)
    queue.add_first(a_watch(8), 1.0)
    queue.add_direct((await calls_of(9))[0])
    assert (len(queue), queue.polls) == (5, 4)
    assert [queue.queued(now) for now in (0.0, 1.0, 2.5, 3.0)] == [2, 3, 4, 5]


def test_how_long_the_first_in_the_queue_has_been_due_is_known() -> None:
    """A first poll counts from when it counts as due."""
    queue, _ = older(10.0, 12.0)
    assert queue.look(9.0).first_due == 10.0
    queue.add_first(a_watch(9), 0.0)
    assert queue.look(15.0).first_due == 6.0


def test_a_patient_first_poll_lets_more_polls_pass() -> None:
    """So do waits with a forecast that begin with an id alone: planned polls find more jobs finished."""
    queue, _ = older(10.0, 20.0)
    queue.add_first(patient := a_watch(9), 0.0, patient=True)
    assert patient.due == 2 * YIELD
    assert [queue.take(queue.look(20.0)) for _ in range(2)].index(patient) == 1


@pytest.mark.parametrize("answered", [False, True], ids=["first polls", "later polls"])
def test_thousands_that_are_cancelled_leave_no_hole(answered: bool) -> None:
    """The next turn is the next one's at once, and the heap is small again."""
    queue = RequestQueue(WINDOW)
    watches = [a_watch(number, answered=answered) for number in range(2_001)]
    for number, watch in enumerate(watches):
        queue.schedule(watch, number * 5e-4)
    for watch in watches[:-1]:
        queue.remove(watch)
    assert (len(queue), queue.queued(2.0), queue.look(2.0).first_due) == (1, 1, 1.0)
    assert queue.take(queue.look(2.0)) is watches[-1]
    assert sum(len(heap.entries) for part in (queue._free, queue._polls) for heap in (part._due, part._later)) <= 200


# Whatever happens


@attrs.define
class Naive:
    """What must hold, said with lists: each poll with its time, and whether it is a first one."""

    calls: list[DirectRequest] = attrs.field(factory=list[DirectRequest])
    polls: list[tuple[float, bool, Watch]] = attrs.field(factory=list[tuple[float, bool, Watch]])

    def put(self, watch: Watch, due: float) -> None:
        self.drop(watch)
        self.polls.append((due, not watch.answered, watch))

    def drop(self, watch: Watch) -> None:
        self.polls = [poll for poll in self.polls if poll[2] is not watch]

    def next(self, now: float) -> Watch | DirectRequest | None:
        if self.calls:
            return self.calls.pop(0)
        ready = [poll for poll in self.polls if poll[1] or poll[0] <= now]
        if not ready:
            return None
        watch = min(ready, key=lambda poll: poll[:2])[2]
        self.drop(watch)
        return watch

    def when(self, now: float) -> float:
        if self.calls or any(first for _, first, _ in self.polls):
            return now
        return max(now, min((due for due, _, _ in self.polls), default=math.inf))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["first", "put", "put", "drop", "call", "drop call", "next", "next"]),
        st.integers(0, 11),
        st.integers(-5, 30),
    ),
    max_size=120,
)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(steps=STEPS)
def test_it_does_what_naive_lists_would(steps: list[tuple[str, int, int]]) -> None:
    """Any mixture of putting down, dropping, calling and taking, as time goes on."""
    queue, naive = RequestQueue(WINDOW), Naive()
    watches = [a_watch(number) for number in range(12)]
    calls = [DirectRequest(unsent, UUID(int=number), 0.0, NOBODY) for number in range(12)]
    for now, (step, number, shift) in enumerate(steps):
        watch, call = watches[number], calls[number]
        if step == "first" and not watch.answered:
            queue.add_first(watch, now)
            naive.put(watch, now + YIELD)
        elif step == "put":
            queue.schedule(watch, now + shift)
            naive.put(watch, now + shift)
        elif step == "drop":
            queue.remove(watch)
            naive.drop(watch)
        elif step == "call" and call not in naive.calls:
            queue.add_direct(call)
            naive.calls.append(call)
        elif step == "drop call":
            queue.remove_direct(call)
            naive.calls = [other for other in naive.calls if other is not call]
        elif step == "next":
            errand = queue.take(queue.look(now))
            assert errand is naive.next(now)
            if isinstance(errand, Watch):
                errand.answered = errand.answered or shift > 0
        assert queue.look(now)[1:3] == (naive.when(now), min((due for due, _, _ in naive.polls), default=math.inf))
        assert len(queue) == len(naive.calls) + queue.polls == len(naive.calls) + len(naive.polls)
        assert queue.queued(now) == len(naive.calls) + sum(first or due <= now for due, first, _ in naive.polls)


# Polls that follow a hint


async def test_a_poll_that_follows_a_hint_goes_after_calls_and_before_other_polls() -> None:
    """Also ahead of polls that have been due for longer."""
    queue, (old, hinted) = older(1.0, 50.0)
    (call,) = await calls_of(7)
    queue.put_first(hinted, 10.0)
    assert (queue.polls, queue.queued(10.0), queue.look(0.0).due) == (2, 2, 1.0)
    assert queue.look(10.0).skips_spacing
    queue.add_direct(call)
    assert not queue.look(10.0).skips_spacing
    assert list(taken(queue, 10.0)) == [call, hinted, old]


def test_a_poll_that_follows_a_hint_is_not_taken_before_it_is_due() -> None:
    """After a failure, a hint does not shorten the pause."""
    queue, (old, hinted) = older(1.0, 50.0)
    queue.put_first(hinted, 20.0)
    assert not queue.look(10.0).skips_spacing
    assert list(taken(queue, 10.0)) == [old]
    assert (queue.look(10.0).due, queue.queued(10.0), queue.look(25.0).first_due) == (20.0, 0, 20.0)
    assert list(taken(queue, 20.0)) == [hinted]


def test_while_hints_are_not_trusted_their_polls_go_first_and_wait_for_the_spacing() -> None:
    queue, (old, hinted) = older(1.0, 50.0)
    queue.put_first(hinted, 10.0)
    queue.trusts_hints = False
    assert not queue.look(10.0).skips_spacing
    assert list(taken(queue, 10.0)) == [hinted, old]


def test_a_poll_that_follows_a_hint_can_be_removed() -> None:
    queue, (old, hinted) = older(1.0, 50.0)
    queue.put_first(hinted, 10.0)
    queue.remove(hinted)
    assert list(taken(queue, 100.0)) == [old]


def test_polls_whose_hints_are_forgotten_return_to_their_places() -> None:
    """Answered or not."""
    queue, (old, hinted) = older(1.0, 50.0)
    first = a_watch(3)
    queue.add_first(first, 0.0)
    for poll in (hinted, first):
        queue.put_first(poll, 2.0)
    assert len(list(queue.forgetting_hints())) == 2
    assert (hinted.hinted, hinted.due, first.hinted, first.due) == (False, 50.0, False, YIELD)
    assert list(taken(queue, 10.0)) == [old, first]
    assert queue.look(10.0).due == 50.0
