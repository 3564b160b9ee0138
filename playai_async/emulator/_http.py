"""HTTP on loopback: a server that can be restarted, and how a response is sent on its connections.

Together with `_emulator.py` and `_webhooks.py`, the only module that uses aiohttp. The service and the faults have
decided what the response is; here it is sent at once, slowly, late or not at all.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias, assert_never, cast

from aiohttp import web

from playai_async.emulator._faults import Fault, Hang, Malformed, Reset, Slow, Status
from playai_async.emulator._service.messages import Body, Response

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

CHUNK_SIZE: Final = 64 * 1024
"""Bytes of a generated body that are written at once."""

MAX_PIECES: Final = 1024
"""Pieces of a slow response. Sent byte by byte, a long body would keep the loop busy instead of the client waiting."""

RESET_DELAY: Final = 0.01
"""Seconds between the last bytes of a large body and a reset, which discards all bytes that are not yet read."""


BACKLOG: Final = 1024
"""Connections that may wait to be accepted. With fewer, those of a burst would wait a second of real time for TCP."""

SHUTDOWN_TIMEOUT: Final = 1.0
"""Seconds that a handler may take to end after its connection has been aborted."""


class Listener:
    """An HTTP server that can be stopped and started again.

    Args:
        handler: Answers the requests.
        host: The loopback address to listen on.
        port: The port to listen on; 0: a free port, kept from the first start on.
    """

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self._handler = handler
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._protocols: web.Server | None = None
        self._closing: set[web.Server] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> bool:
        """Whether the server listens."""
        return self._socket is not None

    @property
    def url(self) -> str:
        """The URL of the server; `RuntimeError` if the port is not known yet."""
        if not self._port:
            raise RuntimeError("the emulator has no address before its first start")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    def now(self) -> float:
        """Return the loop time; `RuntimeError` in a loop other than the server's."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            # Usually a test and its fixtures have different loops. Requests would then wait for a response in vain.
            raise RuntimeError("the emulator runs in another event loop")
        return loop.time()

    def bind(self) -> None:
        """Start to listen; `OSError` if the port is in use. Connections wait until `serve()` accepts them."""
        # Not asyncio's `create_server(host, port)`: if it is cancelled, its listening sockets are lost.
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._socket = socket.create_server((self._host, self._port), family=family, backlog=BACKLOG)
        self._port = self._socket.getsockname()[1]
        self._loop = asyncio.get_running_loop()

    async def serve(self) -> None:
        """Accept connections; do nothing if the server was closed in the meantime."""
        if self._socket is None:
            return
        # With handler_cancellation, a handler that hangs ends when its client disconnects or when stop() aborts it.
        # Without auto_decompress, a body that cannot be decompressed is the client's error, not aiohttp's.
        protocols = web.Server(self._handler, handler_cancellation=True, auto_decompress=False, access_log=None)
        loop = asyncio.get_running_loop()
        # Given a socket and told not to serve yet, create_server() never suspends, so it cannot be cancelled.
        self._server = await loop.create_server(protocols, sock=self._socket, backlog=BACKLOG, start_serving=False)
        self._protocols = protocols
        await self._server.start_serving()

    def close(self) -> None:
        """Stop listening and abort all connections at once; do nothing if the server does not listen."""
        listening, self._socket = self._socket, None
        server, self._server = self._server, None
        protocols, self._protocols = self._protocols, None
        if protocols is not None:
            self._closing.add(protocols)
            _abort_connections(protocols)
        if server is not None:
            server.close()
        elif listening is not None:
            listening.close()

    async def wait_closed(self) -> None:
        """Wait until the handlers of all connections have ended, also those of a wait that was cancelled."""
        for protocols in tuple(self._closing):
            await asyncio.sleep(0)  # a connection that was just accepted is known in the next iteration
            _abort_connections(protocols)
            await protocols.shutdown(SHUTDOWN_TIMEOUT)
            self._closing.discard(protocols)


def _abort_connections(protocols: web.Server) -> None:
    # Without this, shutdown() would wait for each handler until its timeout.
    for connection in protocols.connections:
        if connection.transport is not None:
            connection.transport.abort()


async def read_body(request: web.BaseRequest) -> bytes | None:
    """Return the body of a POST; None if it is longer than 1 MiB, which is aiohttp's limit."""
    if request.method != "POST":
        return b""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def send_response(
    request: web.BaseRequest, response: Response, fault: Fault | None, release: asyncio.Event
) -> web.StreamResponse:
    """Send a response in the way that the fault requires; a response that hangs is sent once `release` is set."""
    match fault:
        case None | Status() | Malformed():  # apply_fault() has replaced the response
            return await _send_at_once(request, response)
        case Hang():
            await release.wait()
            return await _send_at_once(request, response)
        case Slow():
            return await _send_slowly(request, response, fault.seconds)
        case Reset():
            return await _reset_connection(request, response, midway=fault.midway)
        case _:
            assert_never(fault)


async def _send_at_once(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    if isinstance(response.body, bytes):
        return web.Response(status=response.status, body=response.body, headers=response.headers)
    stream = _stream(response)
    with _ignore_disconnect():
        await stream.prepare(request)
        await _write(request, stream, response.body, len(response.body))
        await stream.write_eof()
    return stream


async def _send_slowly(request: web.BaseRequest, response: Response, seconds: float) -> web.StreamResponse:
    """Send the body in pieces at an even pace; the headers go out with the first piece or before."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = len(response.body)
    pieces = min(size, MAX_PIECES)
    stream = _stream(response)
    with _ignore_disconnect():
        await stream.prepare(request)
        for piece in range(pieces):
            # Each pause is computed from the beginning, so that rounding errors do not add up.
            await asyncio.sleep(began + seconds * (piece + 1) / pieces - loop.time())
            await _write(request, stream, response.body, size * (piece + 1) // pieces, start=size * piece // pieces)
        await stream.write_eof()
    return stream


async def _reset_connection(request: web.BaseRequest, response: Response, *, midway: bool) -> web.StreamResponse:
    """Reset the connection, either at once or after half of the body; never returns."""
    # aiohttp drops the transport only when it cancels the handler, so there is a transport while this runs.
    transport = cast("asyncio.Transport", request.transport)
    # Without SO_LINGER the connection would close normally (FIN), which a client may take for the end of the body.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if midway:
        stream = _stream(response)
        with _ignore_disconnect():
            await stream.prepare(request)
            await _write(request, stream, response.body, len(response.body) // 2)
        if not isinstance(response.body, bytes):
            await asyncio.sleep(RESET_DELAY)
    transport.abort()
    # Neither a response nor an exception would be right: aiohttp cancels this handler when the connection is lost.
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def _stream(response: Response) -> web.StreamResponse:
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.content_length = len(response.body)
    return stream


async def _write(
    request: web.BaseRequest, stream: web.StreamResponse, body: Body, stop: int, *, start: int = 0
) -> None:
    """Write the bytes from `start` to `stop` in chunks, no faster than the client reads."""
    if request.method == "HEAD":
        return
    for at in range(start, stop, CHUNK_SIZE):
        await stream.write(body[at : min(at + CHUNK_SIZE, stop)])
        # A client in another process may read so fast that no write ever yields to the loop.
        await asyncio.sleep(0)


def _ignore_disconnect() -> contextlib.suppress:
    # When a client has just disconnected, a write fails before aiohttp cancels the handler. That is not an error.
    return contextlib.suppress(ConnectionError)
