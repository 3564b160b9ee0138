"""Callers whose own tasks are at work in a session, and what becomes of them when it closes."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from playai_async import SessionClosedError
from playai_async._audio.cancel_scopes import Visitors
from tests.support.clock import now

JOB_ID = UUID(int=1)


async def visit(visitors: Visitors, cleaned: list[str]) -> None:
    """Stay for long, and take two seconds to clean up."""
    async with visitors.inside(JOB_ID):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            cleaned.append("up")


async def test_who_is_inside_is_shown_out() -> None:
    """Wherever they are, with an error that names their job; and may take their time to clean up."""
    visitors, cleaned = Visitors(), list[str]()
    visits = [asyncio.create_task(visit(visitors, cleaned)) for _ in range(3)]
    await asyncio.sleep(1)
    visitors.interrupt()
    closing = asyncio.create_task(visitors.gone())
    outcomes = await asyncio.gather(*visits, return_exceptions=True)
    assert [(type(outcome), getattr(outcome, "job_id", None)) for outcome in outcomes] == [
        (SessionClosedError, JOB_ID)
    ] * 3
    assert cleaned == ["up"] * 3
    await closing


async def test_showing_out_again_waits_for_the_same() -> None:
    """Whoever asks second, or gave up the first time, sees the last one leave too."""
    visitors = Visitors()
    visiting = asyncio.create_task(visit(visitors, []))
    await asyncio.sleep(1)
    visitors.interrupt()
    first = asyncio.create_task(visitors.gone())
    await asyncio.sleep(0.5)
    first.cancel()
    visitors.interrupt()
    await asyncio.gather(visitors.gone(), visitors.gone())
    assert now() == pytest.approx(3.0, abs=0.01)
    with pytest.raises(SessionClosedError):
        await visiting


async def test_nobody_gets_in_after_that() -> None:
    """Not even for a moment."""
    visitors = Visitors()
    visitors.interrupt()
    await visitors.gone()
    with pytest.raises(SessionClosedError):
        async with visitors.inside(None):
            pytest.fail("this must not be reached")


@pytest.mark.parametrize("error", [TimeoutError("mine"), ValueError("mine")], ids=repr)
async def test_an_error_of_their_own_is_left_as_it_is(error: Exception) -> None:
    """Also where it looks like an interruption."""
    visitors = Visitors()
    with pytest.raises(type(error), match="mine") as caught:
        async with visitors.inside(None):
            raise error
    assert caught.value is error


async def test_a_cancellation_is_none_of_ours() -> None:
    """It passes through."""
    visitors = Visitors()
    task = asyncio.create_task(visit(visitors, []))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    visitors.interrupt()
    await visitors.gone()
