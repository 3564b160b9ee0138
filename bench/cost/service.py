"""The service for `bench.cost`, in its own process: the emulator, and adapters for the SDKs of other services.

There is no quota, and the jobs never finish, so every wait stays open. Answers `urls`, `requests` and `in_flight`.
"""

from __future__ import annotations

import asyncio
import math
import time
from uuid import UUID

from bench.fleet.shapes import shapes
from playai_async.emulator import Emulator
from tools.processes import ANSWER_TIMEOUT, Child, read_arguments, serve_commands


def job_ids(count: int) -> list[UUID]:
    """Return the ids of the jobs of a run, the same in all processes."""
    return [UUID(int=(1 << 127) + number) for number in range(count)]


def await_requests(service: Child, count: int) -> None:
    """Wait until the service has received a number of requests.

    Raises:
        RuntimeError: The requests did not arrive in time.
    """
    last = time.monotonic() + ANSWER_TIMEOUT
    while (found := service.ask("requests")) < count:
        if time.monotonic() > last:
            raise RuntimeError(f"{found} requests arrived within {ANSWER_TIMEOUT:.0f} s, expected {count}")
        time.sleep(0.05)


async def serve(count: int) -> None:
    """Run the service with a number of jobs."""
    async with Emulator(history=1) as emulator, shapes(emulator.base_url) as shaped_url:
        for job_id in job_ids(count):
            emulator.add_job(duration=math.inf, job_id=job_id)

        async def urls() -> list[str]:
            return [emulator.base_url, shaped_url]

        async def requests() -> int:
            return emulator.stats.requests

        async def in_flight() -> int:
            return emulator.stats.in_flight

        await serve_commands({"urls": urls, "requests": requests, "in_flight": in_flight})


if __name__ == "__main__":
    asyncio.run(serve(read_arguments()))
