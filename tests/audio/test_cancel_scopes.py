"""Callers whose own tasks are at work in a session, and what becomes of them when it closes."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from playai_async import SessionClosedError
from playai_async._audio.cancel_scopes import CancelScopes
from playai_async._runtime import SessionErrors
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from tests.support.clock import now

JOB_ID = UUID(int=1)


def new_scopes(*, closed: bool = False) -> CancelScopes:
    """Make the scopes of a session."""
    lifecycle = Lifecycle(SessionErrors())
    lifecycle.closed = closed
    return CancelScopes(lifecycle)


async def visit(scopes: CancelScopes, cleaned: list[str]) -> None:
    """Stay for long, and take two seconds to clean up."""
    async with scopes.enter(JOB_ID):
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(2)
            cleaned.append("up")


async def test_who_is_inside_is_shown_out() -> None:
    """Wherever they are, with an error that names their job; and may take their time to clean up."""
    scopes, cleaned = new_scopes(), list[str]()
    visits = [asyncio.create_task(visit(scopes, cleaned)) for _ in range(3)]
    await asyncio.sleep(1)
    scopes.cancel_all()
    closing = asyncio.create_task(scopes.join())
    outcomes = await asyncio.gather(*visits, return_exceptions=True)
    assert [(type(outcome), getattr(outcome, "job_id", None)) for outcome in outcomes] == [
        (SessionClosedError, JOB_ID)
    ] * 3
    assert cleaned == ["up"] * 3
    await closing


async def test_showing_out_again_waits_for_the_same() -> None:
    """Whoever asks second, or gave up the first time, sees the last one leave too."""
    scopes = new_scopes()
    visiting = asyncio.create_task(visit(scopes, []))
    await asyncio.sleep(1)
    scopes.cancel_all()
    first = asyncio.create_task(scopes.join())
    await asyncio.sleep(0.5)
    first.cancel()
    scopes.cancel_all()
    await asyncio.gather(scopes.join(), scopes.join())
    assert now() == pytest.approx(3.0, abs=0.01)
    with pytest.raises(SessionClosedError):
        await visiting


async def test_a_closed_session_lets_nobody_in() -> None:
    """Not even for a moment."""
    scopes = new_scopes(closed=True)
    with pytest.raises(SessionClosedError):
        async with scopes.enter(None):
            pytest.fail("this must not be reached")


@pytest.mark.parametrize("error", [TimeoutError("mine"), ValueError("mine")], ids=repr)
async def test_an_error_of_their_own_is_left_as_it_is(error: Exception) -> None:
    """Also where it looks like an interruption."""
    scopes = new_scopes()
    with pytest.raises(type(error), match="mine") as caught:
        async with scopes.enter(None):
            raise error
    assert caught.value is error


async def test_a_cancellation_is_none_of_ours() -> None:
    """It passes through."""
    scopes = new_scopes()
    task = asyncio.create_task(visit(scopes, []))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    scopes.cancel_all()
    await scopes.join()
