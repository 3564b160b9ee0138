"""The single-file examples as programs, copied out of the repository, in real time."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from playai_async.emulator import Emulator, Hang
from tests.examples.copies import Site
from tools.servers.machine import free_port

ENDS = {"aiohttp_backend.py": 0, "starlette_backend.py": -signal.SIGTERM}
"""The exit status of each after a SIGTERM, as its server has it."""


@pytest.mark.parametrize("name", ENDS)
def test_a_program_makes_speech_and_ends_waits_and_streams(name: str, site: Site) -> None:
    """When a client disconnects, and on SIGTERM."""
    site.copy(name)
    asyncio.run(_used_and_ended(name, site))


async def _used_and_ended(name: str, site: Site) -> None:
    async with Emulator() as emulator, asyncio.timeout(30.0), _running(name, site, emulator) as (process, client):
        assert math.isclose(await _spoken(client), 0.4)
        hung, endless = emulator.add_job(), emulator.add_job(math.inf)
        emulator.inject(Hang(), job_id=hung)
        for path in (f"/speech/{hung}", f"/speech/{hung}/events"):
            leaving = asyncio.create_task(client.get(path))
            await _until(emulator, in_flight=1)
            leaving.cancel()
            async with asyncio.timeout(5.0):  # half of what the session gives to a request
                await _until(emulator, in_flight=0)
            emulator.inject(Hang(), job_id=hung)
        async with client.get(f"/speech/{endless}/events") as stream:
            assert await stream.content.readline() != b""
            process.terminate()
            async with asyncio.timeout(5.0):  # half of what both give to handlers and streams
                assert await stream.content.read() == b"\n"
                assert await process.wait() == ENDS[name]


async def _spoken(client: aiohttp.ClientSession) -> float:
    """Post a text, wait until its speech is completed, and return its duration in seconds."""
    async with client.post("/speech", json={"text": "Hello.", "voice": "a-voice"}) as created:
        assert created.status in {201, 202}
        path = created.headers["Location"]
    while True:
        async with client.get(path) as answer:
            speech = await answer.json()
        if "COMPLETED" in {speech.get("status"), speech.get("state")}:
            seconds: float = speech.get("seconds") or speech.get("duration")
            return seconds
        await asyncio.sleep(0.05)


async def _until(emulator: Emulator, *, in_flight: int) -> None:
    while emulator.stats.in_flight != in_flight:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _running(
    name: str, site: Site, emulator: Emulator
) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    port = free_port()
    settings = {"PLAYAI_API_KEY": "key", "PLAYAI_USER_ID": "user", "PLAYAI_BASE_URL": emulator.base_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", name),
        cwd=site.directory,
        env={**site.environment, **settings, "PORT": str(port)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            while True:
                try:
                    async with client.get("/"):
                        break
                except aiohttp.ClientConnectorError:
                    assert process.returncode is None
                    await asyncio.sleep(0.05)
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
