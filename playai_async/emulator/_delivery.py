"""How a request is read from aiohttp, and how an answer leaves by it: whole, drop by drop, or not at all.

What the answer is was decided before.
"""

import asyncio
import contextlib
import socket
import struct
from typing import Final, assert_never, cast

from aiohttp import web

from playai_async.emulator._answers import Answer, Body
from playai_async.emulator._faults import Fault, Hang, Malformed, Reset, Slow, Status

CHUNK: Final = 64 * 1024
"""Bytes that are made and written at once of a body that is not held as a whole."""

MOST_DROPS: Final = 1024
"""Byte by byte, a long body would keep the loop busy rather than the client waiting."""

TIME_TO_READ: Final = 0.01
"""Seconds between the last bytes of a large body and a reset, which takes away whatever is not read by then."""


async def body_of(request: web.BaseRequest) -> bytes | None:
    """Return a POST's body; None: it is longer than the mebibyte that aiohttp reads of one."""
    if request.method != "POST":
        return b""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None


async def deliver(
    request: web.BaseRequest, answer: Answer, fault: Fault | None, released: asyncio.Event
) -> web.StreamResponse:
    """Send an answer as the fault that a request met has it; where it hangs, until it is released."""
    match fault:
        case None | Status() | Malformed():  # which decided what the answer is
            return await _whole(request, answer)
        case Hang():
            await released.wait()
            return await _whole(request, answer)
        case Slow():
            return await _dripping(request, answer, fault.seconds)
        case Reset():
            return await _cut(request, answer, midway=fault.midway)
        case _:
            assert_never(fault)


async def _whole(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send the answer at once."""
    if isinstance(answer.body, bytes):
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
    response = _response(answer)
    with _client_may_go():
        await response.prepare(request)
        await _write(request, response, answer.body, len(answer.body))
        await response.write_eof()
    return response


async def _dripping(request: web.BaseRequest, answer: Answer, seconds: float) -> web.StreamResponse:
    """Send the answer byte by byte, evenly over so many seconds; the headers go no later than the first."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = len(answer.body)
    drops = min(size, MOST_DROPS)
    response = _response(answer)
    with _client_may_go():
        await response.prepare(request)
        for drop in range(drops):
            # Each pause is reckoned from the beginning, so that rounding does not add up.
            await asyncio.sleep(began + seconds * (drop + 1) / drops - loop.time())
            await _write(request, response, answer.body, size * (drop + 1) // drops, start=size * drop // drops)
        await response.write_eof()
    return response


async def _cut(request: web.BaseRequest, answer: Answer, *, midway: bool) -> web.StreamResponse:
    """Reset the connection, either at once or after half the answer; never returns."""
    # aiohttp drops the transport only when it cancels the handler, so there is one while this runs.
    transport = cast("asyncio.Transport", request.transport)
    # Without this the connection would end in good order (FIN), which a client may take for the body's end.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if midway:
        response = _response(answer)
        with _client_may_go():
            await response.prepare(request)
            await _write(request, response, answer.body, len(answer.body) // 2)
        if not isinstance(answer.body, bytes):
            await asyncio.sleep(TIME_TO_READ)
    transport.abort()
    # Neither an answer nor an exception would do: the lost connection cancels this handler.
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


def _response(answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    return response


async def _write(
    request: web.BaseRequest, response: web.StreamResponse, body: Body, stop: int, *, start: int = 0
) -> None:
    """Write the bytes from `start` to `stop`, in chunks, no faster than the client reads them."""
    if request.method == "HEAD":
        return
    for at in range(start, stop, CHUNK):
        await response.write(body[at : min(at + CHUNK, stop)])
        # A reader in another process may be so fast that no write ever waits.
        await asyncio.sleep(0)


def _client_may_go() -> contextlib.suppress:
    # A client that has just gone makes a write fail before aiohttp cancels this handler; that is no error.
    return contextlib.suppress(ConnectionError)
