"""The slots that two kinds of requests share: none stays free while something is due that may go."""

from __future__ import annotations

import asyncio

from playai_async import Pacing
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.log import Log
from playai_async.jobs import Throttled
from playai_async.jobs._engine import Client, build_dispatcher
from playai_async.jobs._errors import JobErrors
from playai_async.jobs._scheduling.dispatcher import Dispatcher
from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from tests.support.clock import now

PROBED_AT = 5.0
"""Seconds: when a probe may go after a 429 at the start; it is stretched by at most a twentieth."""


class BusyError(Exception):
    """The service's 429."""


def two_dispatchers(slots: int) -> tuple[Dispatcher, Dispatcher]:
    """Return what sends two kinds of requests that share some slots."""
    errors = JobErrors()
    client = Client(Lifecycle(errors), errors, lambda _: Throttled(), Emitter(Log()), InFlightLimiter(slots))
    first, second = (build_dispatcher(client, Pacing(1000), operation=name, method="GET") for name in ("one", "two"))
    return first, second


async def refused() -> None:
    """Meet a 429."""
    raise BusyError


def begin(dispatcher: Dispatcher, seconds: float) -> asyncio.Task[float]:
    """Make a request that takes some time; return a task whose result is when it ended."""

    async def request() -> float:
        await dispatcher.call(lambda: asyncio.sleep(seconds), "a", 0.0)
        return now()

    return asyncio.create_task(request())


async def test_a_slot_that_the_other_kind_gives_back_after_a_probe_is_used() -> None:
    """The accepted probe's worker took the next request, and its other slot was in use at that moment."""
    polls, creations = two_dispatchers(2)
    await polls.request(refused, "a", 0.0)
    probe, slow, due = begin(polls, 2.0), begin(polls, 100.0), begin(polls, 1.0)
    await asyncio.sleep(PROBED_AT + 1.0)
    creation = begin(creations, 10.0)
    assert await probe < 8.0
    assert await due == await creation + 1.0
    slow.cancel()
