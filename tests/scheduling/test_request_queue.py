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
from playai_async.jobs._polling.backoff import Backoff, retrying_for
from playai_async.jobs._polling.watch import Call, Home, Outcome, Watch
from playai_async.jobs._scheduling.request_queue import Turns

POLLING = Polling()
RULE = retrying_for(POLLING)
WINDOW = 60.0
YIELD = 6.0
"""Seconds for which a first poll gives way."""

NOWHERE = cast("Home", None)
"""What a watch belongs to that is never polled."""

NOBODY = cast("asyncio.Future[Outcome]", None)
"""Who awaits a call whose answer never comes."""


def a_watch(number: int = 0, *, answered: bool = False) -> Watch:
    """Make a watch of a job, answered before or not."""
    return Watch(UUID(int=number), POLLING, Backoff(RULE, 8), NOWHERE, answered=answered)


async def unsent() -> TtsJob:
    """Make no request: here only turns are taken."""
    raise NotImplementedError


def older(*due: float) -> tuple[Turns, list[Watch]]:
    """Put down polls of jobs that were asked for before."""
    turns, watches = Turns(WINDOW), [a_watch(number, answered=True) for number in range(len(due))]
    for watch, when in zip(watches, due, strict=True):
        turns.put(watch, when)
    return turns, watches


def taken(turns: Turns, now: float) -> Iterator[Watch | Call]:
    """Take all turns that have come."""
    while (errand := turns.next(now)) is not None:
        yield errand


async def calls_of(*numbers: int) -> list[Call]:
    """Make direct calls."""
    loop = asyncio.get_running_loop()
    return [Call(unsent, UUID(int=number), loop.time(), loop.create_future()) for number in numbers]


def test_where_nothing_is_put_down_it_is_nobodys_turn() -> None:
    """Nor will it be."""
    turns = Turns(WINDOW)
    assert (turns.next(1e9), turns.when(0.0), turns.waited(1e9)) == (None, math.inf, 0.0)
    assert (len(turns), turns.polls, turns.queued(1e9)) == (0, 0, 0)


def test_the_poll_that_has_been_due_longest_is_first() -> None:
    """Whatever the order they were put down in, and none before it is due."""
    turns, (late, early, middle, not_yet) = older(3.0, 1.0, 2.0, 10.1)
    assert list(taken(turns, 10.0)) == [early, middle, late]
    assert (turns.when(10.0), turns.next(10.1)) == (10.1, not_yet)


def test_polls_of_one_time_keep_their_order() -> None:
    """First come, first served."""
    turns, watches = older(*[1.0] * 10)
    assert list(taken(turns, 1.0)) == watches


async def test_calls_come_before_polls_and_keep_their_order() -> None:
    """Somebody awaits the very next answer."""
    turns, (overdue,) = older(-1_000.0)
    first = a_watch(7)
    turns.put_first(first, -1_000.0)
    calls = await calls_of(3, 1, 2)
    for call in calls:
        turns.add_call(call)
    assert turns.when(5.0) == 5.0
    assert list(taken(turns, 5.0)) == [*calls, overdue, first]


async def test_a_call_that_is_dropped_leaves_no_turn() -> None:
    """Twice, or after it was taken, is fine."""
    turns = Turns(WINDOW)
    calls = await calls_of(1, 2, 3)
    for call in calls:
        turns.add_call(call)
    turns.drop_call(calls[1])
    turns.drop_call(calls[1])
    assert len(turns) == turns.queued(0.0) == 2
    assert list(taken(turns, 0.0)) == [calls[0], calls[2]]
    turns.drop_call(calls[0])


async def test_all_calls_may_be_taken_at_once() -> None:
    """When a session is closed; polls stay."""
    turns, _ = older(1.0)
    calls = await calls_of(2, 1)
    for call in calls:
        turns.add_call(call)
    assert turns.take_calls() == calls
    assert (turns.take_calls(), len(turns), turns.polls) == ([], 1, 1)


# First polls


def test_a_first_poll_goes_at_once_where_nothing_else_is_due() -> None:
    """In the order of their waits."""
    turns, (not_yet,) = older(1.0)
    watches = [a_watch(number) for number in range(1, 4)]
    for watch in watches:
        turns.put_first(watch, 0.0)
    assert turns.when(0.0) == 0.0
    assert list(taken(turns, 0.0)) == watches
    assert turns.next(1.0) is not_yet


@pytest.mark.parametrize(
    ("due", "yields"),
    [(-1.0, True), (0.0, True), (5.9, True), (6.0, True), (6.1, False)],
    ids=["long before it", "with it", "soon after it", "a tenth of a window after it", "later"],
)
def test_a_first_poll_gives_way_to_polls_that_are_due_soon_after(due: float, yields: bool) -> None:
    """A job that was just created is the least likely to be done; but after a tenth of a window it is as old as any."""
    turns, (poll,) = older(due)
    first = a_watch(1)
    turns.put_first(first, 0.0)
    assert list(taken(turns, 10.0)) == ([poll, first] if yields else [first, poll])


def test_the_time_for_which_a_first_poll_gives_way_is_a_tenth_of_a_window() -> None:
    """Six seconds of sixty, one of ten."""
    turns, first = Turns(10.0), a_watch()
    turns.put_first(first, 3.0)
    assert first.due == 4.0
    assert (turns.waited(4.0), turns.waited(9.0)) == (0.0, 5.0)


def test_first_polls_are_not_starved_by_polls() -> None:
    """Ten jobs that are due again a second after each poll, and one request a second: a new one is asked for, too."""
    turns, _ = older(*[0.0] * 10)
    first = a_watch(99)
    turns.put_first(first, 0.0)
    order: list[Watch | Call | None] = []
    for second in range(20):
        watch = turns.next(float(second))
        order.append(watch)
        if isinstance(watch, Watch) and watch is not first:
            turns.put(watch, second + 1.0)
    assert 10 <= order.index(first) <= 16


def test_polls_are_not_starved_by_first_polls() -> None:
    """However many new jobs come in."""
    turns, (poll,) = older(0.5)
    for number in range(100):
        turns.put_first(a_watch(number), 0.01 * number)
    assert turns.next(1.0) is poll


def test_a_first_poll_that_is_put_down_again_stays_a_first_poll() -> None:
    """After a 429 it is still owed, as old as it was."""
    turns, watch = Turns(WINDOW), a_watch()
    turns.put_first(watch, 0.0)
    assert turns.next(0.0) is watch
    turns.put(watch, watch.due)
    assert (watch.due, turns.when(1.0), turns.queued(1.0)) == (YIELD, 1.0, 1)
    assert turns.next(1.0) is watch


# Put down, and taken off


@pytest.mark.parametrize("answered", [False, True], ids=["first poll", "later poll"])
def test_a_poll_that_is_put_down_again_has_one_turn(answered: bool) -> None:
    """The later word holds."""
    turns, watch = Turns(WINDOW), a_watch(answered=answered)
    for due in (5.0, 9.0, 7.0):
        turns.put(watch, due)
        assert (watch.due, turns.polls) == (due, 1)
    assert list(taken(turns, 7.0)) == [watch]
    assert (watch.place, turns.next(100.0)) == (None, None)


@pytest.mark.parametrize("answered", [False, True], ids=["first poll", "later poll"])
def test_a_poll_that_is_dropped_leaves_no_turn(answered: bool) -> None:
    """Twice, or where none is put down, is fine; it may be put down again."""
    turns, watch = Turns(WINDOW), a_watch(answered=answered)
    turns.drop(watch)
    turns.put(watch, 1.0)
    turns.drop(watch)
    turns.drop(watch)
    assert (len(turns), turns.next(9.0), turns.when(9.0)) == (0, None, math.inf)
    turns.put(watch, 2.0)
    assert turns.next(9.0) is watch
    turns.drop(watch)


async def test_what_is_put_down_is_counted() -> None:
    """All of it, or what waits for its turn alone."""
    turns, _ = older(1.0, 2.0, 3.0)
    turns.put_first(a_watch(8), 1.0)
    turns.add_call((await calls_of(9))[0])
    assert (len(turns), turns.polls) == (5, 4)
    assert [turns.queued(now) for now in (0.0, 1.0, 2.5, 3.0)] == [2, 3, 4, 5]


def test_how_long_the_first_in_the_queue_has_been_due_is_known() -> None:
    """A first poll counts from when it counts as due."""
    turns, _ = older(10.0, 12.0)
    assert [turns.waited(now) for now in (9.0, 10.0, 15.0)] == [0.0, 0.0, 5.0]
    turns.put_first(a_watch(9), 0.0)
    assert turns.waited(15.0) == 9.0


@pytest.mark.parametrize("answered", [False, True], ids=["first polls", "later polls"])
def test_ten_thousand_that_are_cancelled_leave_no_hole(answered: bool) -> None:
    """The next turn is the next one's at once, and the heap is small again."""
    turns = Turns(WINDOW)
    watches = [a_watch(number, answered=answered) for number in range(10_001)]
    for number, watch in enumerate(watches):
        turns.put(watch, number * 1e-4)
    for watch in watches[:-1]:
        turns.drop(watch)
    assert (len(turns), turns.queued(2.0), turns.waited(2.0)) == (1, 1, 1.0)
    assert turns.next(2.0) is watches[-1]
    assert len(turns._first_polls._entries) + len(turns._polls._entries) <= 200


# Whatever happens


@attrs.define
class Naive:
    """What must hold, said with lists: each poll with its time, and whether it is a first one."""

    calls: list[Call] = attrs.field(factory=list[Call])
    polls: list[tuple[float, bool, Watch]] = attrs.field(factory=list[tuple[float, bool, Watch]])

    def put(self, watch: Watch, due: float) -> None:
        self.drop(watch)
        self.polls.append((due, not watch.answered, watch))

    def drop(self, watch: Watch) -> None:
        self.polls = [poll for poll in self.polls if poll[2] is not watch]

    def next(self, now: float) -> Watch | Call | None:
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
        return min((due for due, _, _ in self.polls), default=math.inf)


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
    turns, naive = Turns(WINDOW), Naive()
    watches = [a_watch(number) for number in range(12)]
    calls = [Call(unsent, UUID(int=number), 0.0, NOBODY) for number in range(12)]
    for now, (step, number, shift) in enumerate(steps):
        watch, call = watches[number], calls[number]
        if step == "first" and not watch.answered:
            turns.put_first(watch, now)
            naive.put(watch, now + YIELD)
        elif step == "put":
            turns.put(watch, now + shift)
            naive.put(watch, now + shift)
        elif step == "drop":
            turns.drop(watch)
            naive.drop(watch)
        elif step == "call" and call not in naive.calls:
            turns.add_call(call)
            naive.calls.append(call)
        elif step == "drop call":
            turns.drop_call(call)
            naive.calls = [other for other in naive.calls if other is not call]
        elif step == "next":
            errand = turns.next(now)
            assert errand is naive.next(now)
            if isinstance(errand, Watch):
                errand.answered = errand.answered or shift > 0
        assert turns.when(now) == naive.when(now)
        assert turns.waited(now) == max(0.0, now - min((due for due, _, _ in naive.polls), default=math.inf))
        assert len(turns) == len(naive.calls) + turns.polls == len(naive.calls) + len(naive.polls)
        assert turns.queued(now) == len(naive.calls) + sum(first or due <= now for due, first, _ in naive.polls)
