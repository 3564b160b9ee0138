"""The examples as programs: a client that goes, and a signal that ends them. In real time."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from playai_async.emulator import Emulator, Hang

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ENDS = {"aiohttp_backend.py": 0, "starlette_backend.py": -signal.SIGTERM}
"""The exit status of each after a SIGTERM, as its server has it."""


@pytest.mark.parametrize("name", ENDS)
def test_a_program_lets_go_of_waits_and_ends_its_streams(name: str) -> None:
    """Whatever its server does by default."""
    asyncio.run(_used_and_ended(name))


async def _used_and_ended(name: str) -> None:
    async with Emulator() as emulator, asyncio.timeout(30.0), _running(name, emulator) as (process, client):
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


async def _until(emulator: Emulator, *, in_flight: int) -> None:
    while emulator.stats.in_flight != in_flight:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _running(
    name: str, emulator: Emulator
) -> AsyncIterator[tuple[asyncio.subprocess.Process, aiohttp.ClientSession]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"PLAYAI_API_KEY": "key", "PLAYAI_USER_ID": "user", "PLAYAI_BASE_URL": emulator.base_url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLES / name)),
        env={**os.environ, **settings, "PORT": str(port)},
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
