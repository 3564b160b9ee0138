"""How the tests of a backend may look: those of the one with aiohttp, as docs/testing.md shows them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples.aiohttp_backend import make_app
from playai_async.emulator import Emulator, Status

pytest_plugins = ["playai_async.testing"]

Backend = TestClient[web.Request, web.Application]


@pytest_asyncio.fixture
async def backend(playai_emulator: Emulator) -> AsyncIterator[Backend]:
    """A client of the backend, on a real socket."""
    server = TestServer(make_app())
    async with TestClient(server, timeout=aiohttp.ClientTimeout()) as client:
        yield client


# From here on, as in docs/testing.md.


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_is_made(playai_emulator: Emulator, backend: Backend) -> None:
    """From the text to the audio."""
    created = await backend.post("/speech", json={"text": "Hello.", "voice": "a-voice"})
    assert created.status == 201
    done = await backend.get(created.headers["Location"])
    speech = await done.json()
    assert (speech["status"], speech["seconds"]) == ("COMPLETED", 0.4)
    assert speech["url"].startswith(playai_emulator.audio_url)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_takes_its_time(playai_emulator: Emulator, backend: Backend) -> None:
    """A request ends after 20 s, and the client sends another."""
    job_id = playai_emulator.add_job(duration=45.0)
    answers = [await backend.get(f"/speech/{job_id}?wait=20") for _ in range(3)]
    statuses = [(await answer.json())["status"] for answer in answers]
    assert statuses == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_may_fail(playai_emulator: Emulator, backend: Backend) -> None:
    """A failed job is a state, not an error of the backend."""
    job_id = playai_emulator.add_job(duration=5.0, fails=True)
    answer = await backend.get(f"/speech/{job_id}")
    assert (answer.status, (await answer.json())["status"]) == (200, "FAILED")


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_storm_of_429s_is_waited_out(playai_emulator: Emulator, backend: Backend) -> None:
    """All clients wait, and none of them sees a 429."""
    job_id = playai_emulator.add_job(duration=5.0)
    playai_emulator.inject(Status(429), times=3)
    answers = await asyncio.gather(*(backend.get(f"/speech/{job_id}?wait=25") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert playai_emulator.stats.requests < 10


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_service_that_is_down_is_a_bad_gateway(playai_emulator: Emulator, backend: Backend) -> None:
    """The session retries first. The eighth failure in a row is an error."""
    job_id = playai_emulator.add_job()
    playai_emulator.inject(Status(503), times=None)
    assert (await backend.get(f"/speech/{job_id}?wait=25")).status == 502
    playai_emulator.clear_faults()
    assert (await backend.get(f"/speech/{job_id}?wait=25")).status == 200
