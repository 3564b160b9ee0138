"""How a request is read from aiohttp, and how an answer leaves by it: whole, drop by drop, or not at all.

What the answer is was decided before.
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


CHUNK_SIZE: Final = 64 * 1024
"""Bytes that are made and written at once of a body that is not held as a whole."""

MAX_PIECES: Final = 1024
"""Byte by byte, a long body would keep the loop busy rather than the client waiting."""

RESET_DELAY: Final = 0.01
"""Seconds between the last bytes of a large body and a reset, which takes away whatever is not read by then."""


async def read_body(request: web.BaseRequest) -> bytes | None:
    """Return a POST's body; None: it is longer than the mebibyte that aiohttp reads of one."""
    if request.method != "POST":
        return b""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def send_response(
    request: web.BaseRequest, answer: Response, fault: Fault | None, release: asyncio.Event
) -> web.StreamResponse:
    """Send an answer as the fault that a request met has it; where it hangs, until it is released."""
    match fault:
        case None | Status() | Malformed():  # which decided what the answer is
            return await _send_whole(request, answer)
        case Hang():
            await release.wait()
            return await _send_whole(request, answer)
        case Slow():
            return await _send_slowly(request, answer, fault.seconds)
        case Reset():
            return await _reset_connection(request, answer, midway=fault.midway)
        case _:
            assert_never(fault)


async def _send_whole(request: web.BaseRequest, answer: Response) -> web.StreamResponse:
    """Send the answer at once."""
    if isinstance(answer.body, bytes):
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response = _response(answer)
    with _ignore_disconnect():
        await response.prepare(request)
        await _write(request, response, answer.body, len(answer.body))
        await response.write_eof()
    return response


async def _send_slowly(request: web.BaseRequest, answer: Response, seconds: float) -> web.StreamResponse:
    """Send the answer byte by byte, evenly over so many seconds; the headers go no later than the first."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = len(answer.body)
    drops = min(size, MAX_PIECES)
    response = _response(answer)
    with _ignore_disconnect():
        await response.prepare(request)
        for drop in range(drops):
            # Each pause is reckoned from the beginning, so that rounding does not add up.
            await asyncio.sleep(began + seconds * (drop + 1) / drops - loop.time())
            await _write(request, response, answer.body, size * (drop + 1) // drops, start=size * drop // drops)
        await response.write_eof()
    return response


async def _reset_connection(request: web.BaseRequest, answer: Response, *, midway: bool) -> web.StreamResponse:
    """Reset the connection, either at once or after half the answer; never returns."""
    # aiohttp drops the transport only when it cancels the handler, so there is one while this runs.
    transport = cast("asyncio.Transport", request.transport)
    # Without this the connection would end in good order (FIN), which a client may take for the body's end.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if midway:
        response = _response(answer)
        with _ignore_disconnect():
            await response.prepare(request)
            await _write(request, response, answer.body, len(answer.body) // 2)
        if not isinstance(answer.body, bytes):
            await asyncio.sleep(RESET_DELAY)
    transport.abort()
    # Neither an answer nor an exception would do: the lost connection cancels this handler.
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def _response(answer: Response) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    return response


async def _write(
    request: web.BaseRequest, response: web.StreamResponse, body: Body, stop: int, *, start: int = 0
) -> None:
    """Write the bytes from `start` to `stop`, in chunks, no faster than the client reads them."""
    if request.method == "HEAD":
        return
    for at in range(start, stop, CHUNK_SIZE):
        await response.write(body[at : min(at + CHUNK_SIZE, stop)])
        # A reader in another process may be so fast that no write ever waits.
        await asyncio.sleep(0)


def _ignore_disconnect() -> contextlib.suppress:
    # A client that has just gone makes a write fail before aiohttp cancels this handler; that is no error.
    return contextlib.suppress(ConnectionError)
