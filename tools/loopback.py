"""The network between a client and a server on loopback, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

ONE_WAY = (0.01, 0.1)
"""Seconds that a request, and its response, take."""


@asynccontextmanager
async def network(seed: int) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield an HTTP session with latency in both directions."""
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret

    async def delayed(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        await asyncio.sleep(rng.uniform(*ONE_WAY))
        response = await handler(request)
        await asyncio.sleep(rng.uniform(*ONE_WAY))
        return response

    async with aiohttp.ClientSession(middlewares=[delayed], connector=aiohttp.TCPConnector(limit=100)) as http:
        yield http
