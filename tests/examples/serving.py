"""An app on a real server, in the test's own loop and so in virtual time, and a client to talk to it.

No client of a framework's own will do: those neither stream an answer nor tell the app that they have gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp
import attrs
import uvicorn
from starlette.applications import Starlette

from examples.fastapi_backend.server import Server
from playai_async import PlayAISession

STEPS = 50
"""Rounds of the loop in which a client and a server of one loop have seen what the other did."""


@attrs.define
class Event:
    """A server-sent event, or a comment."""

    name: str = "message"
    data: Any = None
    comment: str = ""


@attrs.define
class Backend:
    """A running server, and a client of it."""

    server: uvicorn.Server
    running: asyncio.Task[None]
    client: aiohttp.ClientSession

    @property
    def playai(self) -> PlayAISession:
        """The app's one session."""
        playai: PlayAISession = self.server.lifespan.state["playai"]
        return playai

    async def stop(self) -> None:
        """End the server as a signal does."""
        self.server.should_exit = True
        await self.running

    async def get(self, path: str) -> aiohttp.ClientResponse:
        """Ask for something; a cancellation cuts the connection."""
        return await self.client.get(path)

    async def post(self, text: str) -> aiohttp.ClientResponse:
        """Ask for a speech; a cancellation cuts the connection."""
        return await self.client.post("/speech", json={"text": text})

    @contextlib.asynccontextmanager
    async def events(self, path: str) -> AsyncIterator[AsyncGenerator[Event, None]]:
        """Open a stream of events; leaving the block cuts the connection."""
        async with self.client.get(path) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
            async with contextlib.aclosing(events_of(response)) as events:
                yield events
            response.close()


async def events_of(response: aiohttp.ClientResponse) -> AsyncGenerator[Event, None]:
    """Read the events of a stream to its end."""
    event = Event()
    async for line in response.content:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            event.name = value
        elif field == "data":
            event.data = json.loads(value)
        elif value:
            event.comment = value
        else:
            yield event
            event = Event()


@contextlib.asynccontextmanager
async def serving(app: Starlette, kind: type[uvicorn.Server] = Server, *, grace: int = 5) -> AsyncIterator[Backend]:
    """Serve an app on loopback, and end the server as a signal does."""
    server = kind(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=grace))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector, timeout=timeout) as client:
        backend = Backend(server, running, client)
        try:
            yield backend
        finally:
            await backend.stop()


async def settled() -> None:
    """Let client and server see what the other did, in no time at all."""
    for _ in range(STEPS):
        await asyncio.sleep(0)
