"""A server that sends given bytes and nothing else: for answers that no HTTP server would send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs


@attrs.define
class RawServer:
    """What it sends, and what it was sent."""

    answer: bytes
    base_url: str = ""
    requests: list[bytes] = attrs.field(factory=list[bytes])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            self.requests.append(await reader.read(65_536))
            writer.write(self.answer)
            await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def raw_server(answer: bytes) -> AsyncIterator[RawServer]:
    """Send some bytes on each connection, and then close it."""
    raw = RawServer(answer)
    server = await asyncio.start_server(raw._serve, "127.0.0.1", 0)
    raw.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield raw
