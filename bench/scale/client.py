"""One process of `bench.scale.shared_quota`: waits for the jobs that it is given, and reports the result."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import playai_async.contrib.redis
from playai_async import Pacing, PlayAIError, PlayAISession, Polling
from playai_async.contrib.redis import RedisQuota

CLOCK_KEY = "bench:clock"
"""The key in Redis that holds the seconds by which its clock is wrong."""

_STEPPED = f"""(function()
    local time = redis.call('TIME')
    return {{time[1] + (redis.call('GET', '{CLOCK_KEY}') or '0'), time[2]}}
end)()"""


def step_clock() -> None:
    """Let the script read a clock that this bench can step."""
    module: Any = playai_async.contrib.redis
    module.SCRIPT = module.SCRIPT.replace("redis.call('TIME')", _STEPPED)


async def wait_for(arguments: dict[str, Any]) -> dict[str, Any]:
    """Wait for jobs, and return the result."""
    pacing = Pacing(
        requests_per_window=arguments["quota"],
        window=arguments["window"],
        shared=None if arguments["redis"] is None else RedisQuota(arguments["redis"]),
    )
    scale = arguments["window"] / 60
    polling = Polling(initial=scale, maximum=10 * scale, timeout=None)
    async with PlayAISession(
        "a-key", "a-user", base_url=arguments["base_url"], pacing=pacing, polling=polling
    ) as playai:
        print("ready", flush=True)
        ids = json.loads(await asyncio.to_thread(sys.stdin.readline))
        began = time.monotonic()
        found = await playai.wait_for_all(ids, return_exceptions=True)
        stats = playai.stats
        return {
            "seconds": time.monotonic() - began,
            "waits": len(ids),
            "lost": sum(isinstance(each, PlayAIError) for each in found),
            "requests": stats.requests,
            "throttled": stats.throttled,
        }


if __name__ == "__main__":
    step_clock()
    print(json.dumps(asyncio.run(wait_for(json.loads(sys.argv[1])))), flush=True)
