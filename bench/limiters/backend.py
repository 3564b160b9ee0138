"""A small HTTP service for the runs against real limiters, in its own process.

Each response says what time it is; the client knows by that whether a job is finished, so nothing is kept here. The
path decides which limiter of the `limits` library protects it, and how long a request takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiohttp import web
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)

from tools.processes import read_arguments, serve_commands

STRATEGIES: Mapping[str, type[RateLimiter]] = {
    "fixed": FixedWindowRateLimiter,
    "moving": MovingWindowRateLimiter,
    "counter": SlidingWindowCounterRateLimiter,
}

NO_LIMIT, SLOW = "plain", "slow"
"""Further paths: without a limiter of this process, and the same with requests that take some time."""


def application(quota: int, window: int, takes: float) -> web.Application:
    """Return the application."""
    item: RateLimitItem = RateLimitItemPerSecond(quota, window)
    limiters = {name: strategy(MemoryStorage()) for name, strategy in STRATEGIES.items()}

    async def handle(request: web.Request) -> web.Response:
        kind = request.match_info["kind"]
        if kind in limiters and not limiters[kind].hit(item, request.headers["X-Key"]):
            return web.Response(status=429)
        if kind == SLOW:
            await asyncio.sleep(takes)
        return web.json_response({"now": time.monotonic()})

    served = web.Application()
    served.router.add_get("/{kind}/", handle)
    return served


async def main(quota: int, window: int, takes: float) -> None:
    """Serve on a free port of loopback until the parent ends."""
    runner = web.AppRunner(application(quota, window, takes), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()

    async def port() -> int:
        return int(runner.addresses[0][1])

    await serve_commands({"port": port})
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(*read_arguments()))
