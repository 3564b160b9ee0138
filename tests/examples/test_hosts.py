"""The backends answer under their own hosts only, so that a foreign name that resolves to 127.0.0.1 is of no use."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestServer

from examples import aiohttp_backend, starlette_backend
from examples.fastapi_backend.app import create_app
from playai_async.emulator import Emulator

ROOT = Path(__file__).parents[2]

UNREACHABLE = {"DATABASE_URL": "host=127.0.0.1 port=9", "REDIS_URL": "redis://127.0.0.1:9"}

Ask = Callable[[str, str], Awaitable[int]]


def asked_by_asgi(app: Any) -> Ask:
    """Ask an app without a server and without its lifespan, which no check of a host may need."""

    async def ask(host: str, path: str) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            return (await client.get(path, headers={"Host": host})).status_code

    return ask


@asynccontextmanager
async def with_aiohttp() -> AsyncIterator[Ask]:
    """The backend with aiohttp, on a socket."""

    async def ask(host: str, path: str) -> int:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"GET {path} HTTP/1.0\r\n{f'Host: {host}' if host else 'X: y'}\r\n\r\n".encode())
        status = (await reader.readline()).split()[1]
        writer.close()
        await writer.wait_closed()
        return int(status)

    async with TestServer(aiohttp_backend.make_app()) as server:
        yield ask


@asynccontextmanager
async def with_starlette() -> AsyncIterator[Ask]:
    """The backend with Starlette."""
    yield asked_by_asgi(starlette_backend.app)


@asynccontextmanager
async def with_fastapi() -> AsyncIterator[Ask]:
    """The backend with FastAPI."""
    yield asked_by_asgi(create_app())


@asynccontextmanager
async def with_scale_out() -> AsyncIterator[Ask]:
    """The web process of the example with several processes."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in UNREACHABLE.items():
            patch.setenv(name, value)
        yield asked_by_asgi(importlib.import_module("examples.scale_out.app").app)


every_backend = pytest.mark.parametrize("backend", [with_aiohttp, with_starlette, with_fastapi, with_scale_out])

OWN = ["localhost", "127.0.0.1", "[::1]", "LocalHost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"]

FOREIGN = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example:8080",
    "evil-localhost",
    "www.localhost",
    "127.0.0.2",
    "10.0.0.1:8080",
    "[::2]:8080",
    "[fe80::1]",
    "::1",
    "[::1",
    "localhost@evil.example",
    "evil.example#localhost",
    "localhost:evil",
    "*",
    "",
]


@every_backend
@pytest.mark.parametrize("host", OWN)
async def test_the_own_hosts_are_answered(emulator: Emulator, backend: Any, host: str) -> None:
    """With any port."""
    async with backend() as ask:
        assert await ask(host, "/nothing") == 404


@every_backend
@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/nothing", "/speech/11111111-2222-4333-8444-555555555555"])
async def test_a_foreign_host_is_refused(emulator: Emulator, backend: Any, host: str, path: str) -> None:
    """Whatever is asked for, and before the service is asked."""
    async with backend() as ask:
        assert await ask(host, path) == 400
    assert emulator.stats.requests == 0


PROGRAM = """
import importlib, sys
for name in sys.argv[1:]:
    print(name, *importlib.import_module(name).ALLOWED_HOSTS)
"""


def test_the_environment_names_other_hosts() -> None:
    """In production, a backend has another name than localhost."""
    modules = ["aiohttp_backend", "starlette_backend", "fastapi_backend.app", "scale_out.app"]
    settings = {**UNREACHABLE, "PLAYAI_API_KEY": "k", "PLAYAI_USER_ID": "u", "ALLOWED_HOSTS": "a.example, b.example"}
    command = [sys.executable, "-c", PROGRAM, *(f"examples.{module}" for module in modules)]
    done = subprocess.run(  # noqa: S603 - our own program
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"examples.{module} a.example b.example" for module in modules]
