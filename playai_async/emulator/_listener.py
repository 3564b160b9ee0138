"""A port to listen on, and the connections that come in by it.

What is done with a request is its handler's affair.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """An HTTP server that can be stopped and started again.

    Args:
        handler: What answers the requests.
        host: The loopback address to listen on.
        port: The port to listen on; 0: a free one, kept from the first start on.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._runner: web.ServerRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._runner is not None

    @property
    def url(self) -> str:
        """Where it listens; a `RuntimeError` if there is no port yet."""
        if not self._port:
            raise RuntimeError("the emulator has no address before its first start")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def now(self) -> float:
        """Return the loop's time; a `RuntimeError` in another loop than the one it listens in."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            # Most often a test and its fixtures have a loop each. Requests would then wait for an answer in vain.
            raise RuntimeError("the emulator runs in another event loop than this")
        return loop.time()

    async def start(self) -> None:
        """Listen; an `OSError` if the port is taken."""
        # Cancelling handlers is what frees a hung one when its client goes, or when stop() cuts it off.
        # Bodies stay as they came: one that cannot be decompressed would be aiohttp's error rather than the client's.
        server = web.Server(self._handler, handler_cancellation=True, auto_decompress=False, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        # A burst of connections beyond the backlog would wait a real second each for TCP to try again.
        await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        self._port = runner.addresses[0][1]
        self._runner = runner
        self._loop = asyncio.get_running_loop()

    async def stop(self) -> None:
        """Stop listening and cut every connection; nothing if it does not listen."""
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None:
            return
        for site in runner.sites:
            await site.stop()
        # Left to itself, cleanup() would first give every handler its time to end.
        for transport in [c.transport for c in runner.server.connections if c.transport is not None]:
            transport.abort()
        await runner.cleanup()
