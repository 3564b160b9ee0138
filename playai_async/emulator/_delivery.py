"""How an answer leaves by aiohttp: whole, drop by drop, or not at all.

What the answer is was decided before.
"""

import asyncio
import contextlib
import socket
import struct
from typing import cast

from aiohttp import web

from playai_async.emulator._answers import Answer


def whole(answer: Answer) -> web.Response:
    """Return the answer for aiohttp to send at once."""
    return web.Response(status=answer.status, body=answer.body, headers=answer.headers)


async def dripping(request: web.BaseRequest, answer: Answer, seconds: float) -> web.StreamResponse:
    """Send the answer byte by byte, evenly over so many seconds; the headers go no later than the first."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    size = len(answer.body)
    response = await _begin(request, answer)
    # A client that has just gone makes a write fail before aiohttp cancels this handler; that is no error.
    with contextlib.suppress(ConnectionError):
        for index in range(size):
            # Each pause is reckoned from the beginning, so that rounding does not add up.
            await asyncio.sleep(began + seconds * (index + 1) / size - loop.time())
            await response.write(answer.body[index : index + 1])
        await response.write_eof()
    return response


async def cut(request: web.BaseRequest, answer: Answer, *, midway: bool) -> web.StreamResponse:
    """Reset the connection, either at once or after half the answer; never returns."""
    # aiohttp drops the transport only when it cancels the handler, so there is one while this runs.
    transport = cast("asyncio.Transport", request.transport)
    # Without this the connection would end in good order (FIN), which a client may take for the body's end.
    linger = struct.pack("ii", 1, 0)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if midway:
        response = await _begin(request, answer)
        await response.write(answer.body[: len(answer.body) // 2])
    transport.abort()
    # Neither an answer nor an exception would do: the lost connection cancels this handler.
    never: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await never


async def _begin(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    return response
