"""One timer for many times, and long work in slicer."""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from playai_async.jobs._scheduling.timers import Timer, TimeSlicer

WHO = contextvars.ContextVar("WHO", default="nobody")


def context_of(name: str) -> contextvars.Context:
    """Make a context in which somebody is named."""
    context = contextvars.Context()
    context.run(WHO.set, name)
    return context


class Bell:
    """An timer that notes when it rang, and in whose context."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.rang: list[float] = []
        self.heard: list[str] = []
        self.timer = Timer(self.loop, context_of("the poller"), self.ring)

    def set(self, after: float) -> None:
        self.timer.set(self.begin + after)

    def ring(self) -> None:
        self.rang.append(round(self.loop.time() - self.begin, 6))
        self.heard.append(WHO.get())


# The timer


async def test_an_alarm_rings_once_at_its_time() -> None:
    """In the context of the timer, not of the code that set it."""
    WHO.set("a caller")
    bell = Bell()
    bell.set(5.0)
    await asyncio.sleep(100)
    assert (bell.rang, bell.heard) == ([5.0], ["the poller"])


class HasteLoop(asyncio.SelectorEventLoop):
    """As uvloop does: what is due at once has a handle that does not know when."""

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]  # as uvloop's
        if when - self.time() < 0.0005:
            return self.call_soon(callback, *args, context=context)
        return super().call_at(when, callback, *args, context=context)


def test_an_alarm_set_anew_while_one_is_due_at_once_rings() -> None:
    """On a loop that takes a short delay for none."""

    async def main() -> list[float]:
        bell = Bell()
        for after in (0.0, 0.01, -1.0, 0.0):
            bell.set(after)
        assert bell.rang == []
        await asyncio.sleep(0)
        return bell.rang

    with asyncio.Runner(loop_factory=HasteLoop) as runner:
        assert len(runner.run(main())) == 1


@pytest.mark.parametrize("times", [(5.0, 9.0), (9.0, 5.0), (5.0, 5.0), (math.inf, 5.0), (5.0, math.inf)], ids=str)
async def test_the_earliest_of_several_times_wins(times: tuple[float, float]) -> None:
    """Whoever is called looks at the clock, and sets it anew."""
    bell = Bell()
    for time in times:
        bell.set(time)
    await asyncio.sleep(100)
    assert bell.rang == [5.0]


async def test_an_early_alarm_is_kept_as_it_is() -> None:
    """Setting it anew at each poll would cost a timer each."""
    bell = Bell()
    bell.set(5.0)
    handle = bell.timer._handle
    for time in range(6, 100):
        bell.set(float(time))
    assert bell.timer._handle is handle
    bell.set(4.0)
    assert handle is not None
    assert handle.cancelled()
    bell.timer.cancel()


async def test_an_alarm_for_no_time_at_all_does_not_ring() -> None:
    """It does not matter when."""
    bell = Bell()
    bell.set(math.inf)
    await asyncio.sleep(1e6)
    assert bell.rang == []


async def test_an_alarm_for_a_time_that_has_passed_rings_in_the_next_round() -> None:
    """Not at once: the code that sets the timer is in the middle of something."""
    bell = Bell()
    bell.set(-1.0)
    assert bell.rang == []
    await asyncio.sleep(0.001)
    assert bell.rang == [0.0]


async def test_an_alarm_that_is_cancelled_does_not_ring() -> None:
    """Twice, or where none is set, is fine; it may be set again."""
    bell = Bell()
    bell.timer.cancel()
    bell.set(5.0)
    bell.timer.cancel()
    bell.timer.cancel()
    bell.set(7.0)
    await asyncio.sleep(100)
    assert bell.rang == [7.0]


async def test_an_alarm_may_be_set_as_it_rings() -> None:
    """For later than the one that rings."""
    bell = Bell()
    again = iter([8.0, 9.0])

    def ring() -> None:
        bell.ring()
        bell.set(next(again, math.inf))

    bell.timer = Timer(bell.loop, context_of("the poller"), ring)
    bell.set(5.0)
    await asyncio.sleep(100)
    assert bell.rang == [5.0, 8.0, 9.0]


# TimeSlicer


class Bench:
    """Work that is counted, and the rounds of the loop it takes."""

    def __init__(self) -> None:
        self.slicer = TimeSlicer(asyncio.get_running_loop(), context_of("the poller"))
        self.done: list[str] = []
        self.heard: set[str] = set()

    def work(self, name: str, steps: int, then: Callable[[], None] | None = None) -> Iterator[None]:
        for _ in range(steps):
            self.done.append(name)
            self.heard.add(WHO.get())
            yield
        if then is not None:
            then()

    def count(self, name: str) -> int:
        return self.done.count(name)


@pytest.mark.parametrize("steps", [0, 1, 199], ids=str)
async def test_work_of_one_slice_is_done_at_once(steps: int) -> None:
    """As a plain call would do it, and nothing is left."""
    bench = Bench()
    ended: list[bool] = []
    bench.slicer.run(bench.work("a", steps, lambda: ended.append(True)))
    assert (bench.count("a"), ended) == (steps, [True])
    with pytest.raises(StopIteration):
        bench.slicer.join().send(None)


async def test_longer_work_is_done_two_hundred_steps_a_round() -> None:
    """By itself, so that ten thousand waits that end at once block nobody."""
    bench = Bench()
    bench.slicer.run(bench.work("a", 1_000))
    counts = [bench.count("a")]
    for _ in range(5):
        await asyncio.sleep(0)
        counts.append(bench.count("a"))
    assert counts == [200, 400, 600, 800, 1_000, 1_000]
    await bench.slicer.join()


async def test_several_works_are_done_in_order() -> None:
    """None begins before all that was begun earlier is done, however short it is."""
    bench = Bench()
    bench.slicer.run(bench.work("a", 500))
    bench.slicer.run(bench.work("b", 300))
    bench.slicer.run(bench.work("c", 10))
    assert [bench.count(name) for name in "abc"] == [200, 0, 0]
    await bench.slicer.join()
    assert "".join(bench.done) == "a" * 500 + "b" * 300 + "c" * 10


async def test_work_may_be_added_by_work() -> None:
    """From a first slice or a later one; it is done after what was begun before."""
    bench = Bench()
    bench.slicer.run(bench.work("a", 500, lambda: bench.slicer.run(bench.work("c", 300))))
    bench.slicer.run(bench.work("b", 1, lambda: bench.slicer.run(bench.work("d", 300))))
    await bench.slicer.join()
    assert [bench.count(name) for name in "abcd"] == [500, 1, 300, 300]


async def test_done_waits_until_nothing_is_left() -> None:
    """Also for what was added meanwhile; where nothing is to do, it does not wait."""
    bench = Bench()
    await bench.slicer.join()
    bench.slicer.run(bench.work("a", 500))
    waiting = asyncio.create_task(bench.slicer.join())
    await asyncio.sleep(0)
    bench.slicer.run(bench.work("b", 2_000))
    assert not waiting.done()
    await waiting
    assert (bench.count("a"), bench.count("b")) == (500, 2_000)


async def test_work_goes_on_when_a_task_that_waits_for_it_is_cancelled() -> None:
    """It is on others' behalf."""
    bench = Bench()
    bench.slicer.run(bench.work("a", 2_000))
    waiting = asyncio.create_task(bench.slicer.join())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert bench.count("a") < 2_000
    await bench.slicer.join()
    assert bench.count("a") == 2_000


async def test_no_virtual_time_passes_while_work_is_done() -> None:
    """Rounds of the loop, no sleeping."""
    bench = Bench()
    begin = asyncio.get_running_loop().time()
    bench.slicer.run(bench.work("a", 4_000))
    await bench.slicer.join()
    assert asyncio.get_running_loop().time() == begin


async def test_what_is_left_is_done_in_a_context_of_its_own() -> None:
    """Only the first slice is a plain call by the code that asks for the work."""
    WHO.set("a caller")
    bench = Bench()
    bench.slicer.run(bench.work("a", 1_000))
    assert bench.heard == {"a caller"}
    bench.heard.clear()
    await bench.slicer.join()
    assert bench.heard == {"the poller"}


async def test_work_that_raises_holds_up_no_other() -> None:
    """The loop hears of it, and goes on with the rest."""
    loop = asyncio.get_running_loop()
    heard: list[object] = []
    loop.set_exception_handler(lambda _, context: heard.append(context["exception"]))
    done: list[int] = []
    bug = ZeroDivisionError()

    def buggy() -> Iterator[None]:
        for _ in range(300):
            yield
        raise bug

    def fine() -> Iterator[None]:
        for step in range(300):
            done.append(step)
            yield

    slicer = TimeSlicer(loop, context_of("the poller"))
    slicer.run(buggy())
    slicer.run(fine())
    await slicer.join()
    assert heard == [bug]
    assert done == list(range(300))


@pytest.mark.parametrize("seconds", [0.0001, 0.004, 1.0], ids=str)
async def test_slow_steps_end_a_round_early(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a hundredth of a second, or one step. Then other tasks of the loop run."""
    loop = asyncio.get_running_loop()
    spent = 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + spent)
    done = list[float]()

    def work() -> Iterator[None]:
        nonlocal spent
        for _ in range(150):
            spent += seconds
            done.append(spent)
            yield

    slicer = TimeSlicer(loop, contextvars.copy_context())
    slicer.run(work())
    in_one_round = min(150, math.ceil(0.01 / seconds))
    assert len(done) == pytest.approx(in_one_round, abs=1)
    while len(done) < 150:
        before = len(done)
        await asyncio.sleep(0)
        assert 1 <= len(done) - before <= in_one_round + 1
    await slicer.join()
