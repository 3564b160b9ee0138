"""What is due when: the order in which it is taken, and that what is taken off leaves nothing."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async.jobs._scheduling.delay_queue import DelayQueue, Entry


class Incomparable:
    """An item that must never be asked which is the lesser."""

    def __lt__(self, other: object) -> bool:
        raise AssertionError

    __gt__ = __le__ = __ge__ = __lt__

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    __hash__ = None  # type: ignore[assignment]  # the point of the class


def size_of(queue: DelayQueue[Any]) -> int:
    """Count the entries of a queue, gaps included."""
    return len(queue._due.entries) + len(queue._later.entries)


def taken(queue: DelayQueue[str], now: float = 1e300) -> list[str]:
    """Take all that is due."""
    found: list[str] = []
    while (item := queue.take(now)) is not None:
        found.append(item)
    return found


def test_nothing_is_due_in_an_empty_timetable() -> None:
    """Nor will it ever be."""
    queue: DelayQueue[str] = DelayQueue()
    assert (queue.first_due(), queue.take(math.inf)) == (math.inf, None)


def test_items_are_taken_in_the_order_of_their_times() -> None:
    """Whatever the order they were added in."""
    queue: DelayQueue[str] = DelayQueue()
    for when in (3.0, 1.0, 2.0, -1.0):
        queue.add(when, str(when))
    assert taken(queue) == ["-1.0", "1.0", "2.0", "3.0"]


def test_items_of_one_time_are_taken_in_the_order_they_were_added() -> None:
    """First come, first served; a discarded one in between changes nothing."""
    queue: DelayQueue[str] = DelayQueue()
    places = [queue.add(1.0, name) for name in "abcdefgh"]
    queue.discard(places[2])
    assert taken(queue) == list("abdefgh")


def test_an_item_is_due_at_its_time_and_not_before() -> None:
    """To the last bit."""
    queue: DelayQueue[str] = DelayQueue()
    queue.add(1.0, "a")
    assert queue.take(math.nextafter(1.0, 0.0)) is None
    assert queue.take(1.0) == "a"
    assert queue.take(1.0) is None


def test_an_item_may_be_put_down_for_ever() -> None:
    """It is due when there is no end of time, and can be taken off."""
    queue: DelayQueue[str] = DelayQueue()
    place = queue.add(math.inf, "a")
    assert (queue.first_due(), queue.take(1e300)) == (math.inf, None)
    queue.discard(place)
    assert queue.take(1e300) is None


def test_what_is_discarded_is_not_taken() -> None:
    """Nor does the time of it count."""
    queue: DelayQueue[str] = DelayQueue()
    first = queue.add(1.0, "a")
    queue.add(2.0, "b")
    queue.discard(first)
    assert queue.first_due() == 2.0
    assert taken(queue) == ["b"]


def test_discarding_twice_or_after_taking_does_nothing() -> None:
    """Whoever lets go need not know what happened meanwhile."""
    queue: DelayQueue[str] = DelayQueue()
    gone, kept = queue.add(1.0, "a"), queue.add(2.0, "b")
    assert queue.take(1.0) == "a"
    for _ in range(1_000):
        queue.discard(gone)
    queue.discard(kept)
    queue.discard(kept)
    queue.add(3.0, "c")
    assert taken(queue) == ["c"]


def test_items_are_never_compared() -> None:
    """They may be anything."""
    queue: DelayQueue[Incomparable] = DelayQueue()
    places = [queue.add(1.0, Incomparable()) for _ in range(100)]
    for place in places[::2]:
        queue.discard(place)
    assert sum(queue.take(1.0) is not None for _ in range(100)) == 50


def test_what_is_discarded_is_let_go_at_once() -> None:
    """A wait that was cancelled must not live on until its deadline."""
    queue: DelayQueue[Incomparable] = DelayQueue()
    place = queue.add(1e9, Incomparable())
    queue.discard(place)
    assert not any(isinstance(part, Incomparable) for part in place)


def test_its_length_is_the_number_of_items() -> None:
    """Whatever gaps there are in the heap."""
    queue: DelayQueue[str] = DelayQueue()
    assert queue.size == 0
    places = [queue.add(float(number), "item") for number in range(500)]
    assert queue.size == 500
    for number, place in enumerate(places[:300], 1):
        queue.discard(place)
        queue.discard(place)
        assert queue.size == 500 - number
    assert queue.take(1e9) == "item"
    assert queue.size == 199


def test_items_that_are_due_are_counted() -> None:
    """To the last bit, and without those that were taken off."""
    queue: DelayQueue[str] = DelayQueue()
    places = [queue.add(when, "item") for when in (5.0, 1.0, 3.0, 3.0, math.inf)]
    assert [queue.count(now) for now in (0.0, 1.0, math.nextafter(3.0, 0.0), 3.0, 1e9)] == [0, 1, 1, 3, 4]
    queue.discard(places[2])
    queue.discard(places[1])
    assert [queue.count(now) for now in (1e9, math.inf)] == [2, 3]


def test_ten_thousand_adds_and_discards_keep_the_heap_small() -> None:
    """A backend opens and cancels waits all day, each with a deadline ten minutes ahead."""
    queue: DelayQueue[str] = DelayQueue()
    kept = [queue.add(float(number), "kept") for number in range(10)]
    largest = 0
    for number in range(10_000):
        queue.discard(queue.add(1_000.0 + number, "gone"))
        largest = max(largest, size_of(queue))
    assert largest <= 200
    assert len(taken(queue)) == len(kept)


def test_what_was_passed_over_no_longer_counts_as_a_gap() -> None:
    """Whether gaps go by being passed over or by a sweep, the heap stays small afterwards."""
    queue: DelayQueue[str] = DelayQueue()
    for number in range(1_000):
        queue.discard(queue.add(float(number), "gone"))
        queue.add(float(number), "taken")
        assert queue.take(float(number)) == "taken"
    for place in [queue.add(2_000.0, "gone") for _ in range(1_000)]:
        queue.discard(place)
    assert size_of(queue) <= 200


def test_sweeping_keeps_order_and_places() -> None:
    """A place that was given out before a sweep is good after it."""
    queue: DelayQueue[str] = DelayQueue()
    kept = [queue.add(float(number % 7), f"{number % 7}{number:03}") for number in range(100)]
    for place in [queue.add(3.0, "gone") for _ in range(1_000)]:
        queue.discard(place)
    assert size_of(queue) < 300
    queue.discard(kept[50])
    expected = sorted(f"{number % 7}{number:03}" for number in range(100) if number != 50)
    assert taken(queue) == expected


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "discard", "take", "first"]), st.integers(0, 20)), max_size=300
)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(operations=OPERATIONS, bulk=st.integers(0, 150))
def test_it_does_what_a_sorted_list_would(operations: list[tuple[str, int]], bulk: int) -> None:
    """Any mixture of adding, discarding, taking and asking, with or without sweeps between."""
    queue: DelayQueue[int] = DelayQueue()
    places: list[Entry] = []
    model: list[tuple[float, int]] = []
    for operation, number in [("add", 10)] * bulk + [("discard", 3)] * bulk + operations:
        if operation == "add":
            item = len(places) + 1
            places.append(queue.add(float(number), item))
            model.append((float(number), item))
        elif operation == "discard" and places:
            index = number * len(places) // 21
            queue.discard(places[index])
            model = [entry for entry in model if entry[1] != index + 1]
        elif operation == "take":
            due = min((entry for entry in model if entry[0] <= number), default=None)
            assert queue.take(float(number)) == (None if due is None else due[1])
            model = [entry for entry in model if entry != due]
        assert queue.first_due() == min((when for when, _ in model), default=math.inf)
        assert (queue.size, queue.count(10.0)) == (len(model), sum(when <= 10.0 for when, _ in model))


def test_counting_the_due_items_looks_at_each_once() -> None:
    """A snapshot of a session with fifty thousand waits takes no longer than that of one with a few."""
    queue: DelayQueue[int] = DelayQueue()
    for number in range(50_000):
        queue.add(float(number), number)
    assert queue.count(9_999.0) == 10_000
    looked_at = queue._later.entries[:]
    assert [queue.count(9_999.0) for _ in range(10)] == [10_000] * 10
    assert queue._later.entries == looked_at
    assert len(queue._due) == 10_000


def test_what_is_added_for_a_time_that_was_counted_is_due() -> None:
    """In its order, though its time has passed."""
    queue: DelayQueue[str] = DelayQueue()
    later, early = queue.add(30.0, "later"), queue.add(5.0, "early")
    assert queue.count(10.0) == 1
    queue.add(1.0, "overdue")
    gone = queue.add(2.0, "gone")
    queue.discard(gone)
    assert (queue.count(10.0), queue.size, queue.first_due()) == (2, 3, 1.0)
    assert [queue.take(10.0) for _ in range(3)] == ["overdue", "early", None]
    queue.discard(early)
    assert (queue.size, queue.first_due()) == (1, 30.0)
    queue.discard(later)
    assert (queue.size, queue.first_due()) == (0, math.inf)
