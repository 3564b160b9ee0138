"""How many requests are under way: who gets a slot, and that none is lost."""

from __future__ import annotations

import asyncio

import pytest

from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from tests.support.clock import now


async def test_those_who_wait_are_served_in_their_order() -> None:
    """One slot after the other, each as it is given back."""
    limiter, served = InFlightLimiter(2), list[int]()

    async def hold(number: int) -> None:
        async with limiter.one():
            served.append(number)
            await asyncio.sleep(1)

    await asyncio.gather(*(hold(number) for number in range(7)))
    assert served == list(range(7))
    assert now() == pytest.approx(4, abs=0.01)
    assert not limiter.full


def test_who_is_asked_may_leave_a_slot_to_the_next() -> None:
    """And is asked once for each time that they put themselves down; who gives is not asked."""
    limiter, asked = InFlightLimiter(1), list[str]()

    def declines() -> None:
        asked.append("declines")

    def accepts() -> None:
        asked.append("accepts")
        limiter.acquire()

    def gives() -> None:
        asked.append("gives")

    limiter.acquire()
    for ask in (gives, declines, accepts, declines):
        limiter.call_when_free(ask)
    limiter.release(gives)
    assert asked == ["declines", "accepts"]
    assert limiter.full
    limiter.release()
    assert asked == ["declines", "accepts", "gives"]
    limiter.acquire()
    limiter.release()
    assert len(asked) == 3


@pytest.mark.parametrize("handed_over", [False, True], ids=["still waiting", "just handed over"])
async def test_a_cancelled_one_gives_the_slot_to_the_next(*, handed_over: bool) -> None:
    """Whether it was theirs already or not."""
    limiter = InFlightLimiter(1)
    limiter.acquire()

    async def hold() -> None:
        async with limiter.one():
            await asyncio.sleep(1)

    first, second = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0.1)
    if handed_over:
        limiter.release()
    first.cancel()
    if not handed_over:
        limiter.release()
    await second
    assert first.cancelled()
    assert not limiter.full
