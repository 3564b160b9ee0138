"""How asynchronous tests of a FastAPI or Starlette app may look, without a server: docs/testing.md shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from examples.fastapi_backend.app import create_app
from playai_async.emulator import Emulator

pytest_plugins = ["playai_async.testing"]


@pytest_asyncio.fixture
async def client(playai_emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app in this process. httpx does not run the lifespan, so the test does."""
    app = create_app()
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_takes_its_time(playai_emulator: Emulator, client: httpx.AsyncClient) -> None:
    """A request ends after 25 s, and the client sends another."""
    playai_emulator.job_duration = 60.0
    created = await client.post("/speech", json={"text": "Hello."})
    answers = [await client.get(created.headers["Location"], params={"wait": 25}) for _ in range(3)]
    assert [(answer.status_code, answer.json()["status"]) for answer in answers] == [
        (202, "IN_PROGRESS"),
        (202, "IN_PROGRESS"),
        (200, "COMPLETED"),
    ]
    # The third request polls from 50 s on, with pauses of up to 6.1 s where the job ends.
    assert 60.0 <= asyncio.get_running_loop().time() <= 66.1
