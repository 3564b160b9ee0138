"""The FastAPI example under load: five hundred clients in streams on fifty jobs, under a quota, half of whom leave."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from examples.fastapi_backend.app import create_app
from playai_async.emulator import Emulator
from tests.examples.serving import Backend, serving, settled
from tests.support.clock import now

JOBS = 50
CLIENTS = 500
QUOTA = 60
WINDOW = 60.0
LEAVING_BY = 25.0
"""Seconds by which those who leave have left, and no job is done."""


async def test_five_hundred_clients_cost_what_fifty_jobs_cost(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifty poll loops within the quota; who stays is told the end, and who leaves leaves nothing behind."""
    monkeypatch.setenv("PLAYAI_REQUESTS_PER_MINUTE", str(QUOTA))
    emulator.quota = QUOTA
    dice = random.Random(1)  # noqa: S311 - the same course of events each time
    async with serving(create_app()) as backend:
        tasks = asyncio.all_tasks()
        jobs = [emulator.add_job(dice.uniform(LEAVING_BY + 5, 120.0)) for _ in range(JOBS)]
        clients = [asyncio.create_task(end_of(backend, jobs[number % JOBS])) for number in range(CLIENTS)]
        while backend.playai.stats.open_waits < CLIENTS:
            await asyncio.sleep(0.01)
        assert backend.playai.stats.distinct_jobs == JOBS

        dice.shuffle(clients)
        leaving, staying = clients[: CLIENTS // 2], clients[CLIENTS // 2 :]
        times = sorted(dice.uniform(now(), LEAVING_BY) for _ in leaving)
        for left, (at, client) in enumerate(zip(times, leaving, strict=True), start=1):
            await asyncio.sleep(at - now())
            client.cancel()
            await settled()
            assert backend.playai.stats.open_waits == CLIENTS - left, "gone at once, and nobody else"

        assert await asyncio.gather(*staying) == ["COMPLETED"] * len(staying)
        assert backend.playai.stats.open_waits == backend.playai.stats.distinct_jobs == 0
        await settled()
        # The emulator has a task for each connection that the session keeps.
        others = [task for task in asyncio.all_tasks() - tasks if "RequestHandler.start" not in repr(task)]
        assert others == []

    assert emulator.stats.throttled == 0
    assert emulator.stats.requests < CLIENTS / 2
    times = [arrival.at for arrival in emulator.arrivals]
    assert max(sum(at <= other < at + WINDOW for other in times) for at in times) <= QUOTA


async def end_of(backend: Backend, job: UUID) -> str:
    """Follow a job's stream, and return the last state that it tells."""
    status = ""
    async with backend.events(f"/speech/{job}/events") as events:
        async for event in events:
            if event.data:
                assert event.name == "message"
                status = event.data["status"]
    return status
