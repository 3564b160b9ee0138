"""The service in a process of its own, for `bench.cost`: the emulator, and its jobs in the shapes for the SDKs.

There is no quota, and the jobs are endless, so that every wait stays open. Answers `urls`, `requests` and `in_flight`.
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
    """Return the jobs of a run, the same for server and client."""
    return [UUID(int=(1 << 127) + number) for number in range(count)]


def await_requests(service: Child, count: int) -> None:
    """Wait until the service has had so many requests.

    Raises:
        RuntimeError: It did not have them in time.
    """
    last = time.monotonic() + ANSWER_TIMEOUT
    while (found := service.ask("requests")) < count:
        if time.monotonic() > last:
            raise RuntimeError(f"{found} requests in {ANSWER_TIMEOUT:.0f} s, and not the {count} that were to come")
        time.sleep(0.05)


async def serve(count: int) -> None:
    """Be the service, with so many jobs."""
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
