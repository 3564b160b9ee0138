"""Wait for requests in fal's queue with one rate limit for all of them.

FAL_KEY=... python fal_requests.py APPLICATION REQUEST_ID...
"""

from __future__ import annotations

import asyncio
import sys

import fal_client
import fal_client.client

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller

PACING = Pacing(requests_per_window=600)  # requests per minute that your account allows to this program
POLLING = Polling(initial=0.5, maximum=10, timeout=3600)

fal_client.client.MAX_ATTEMPTS = 1  # the poller retries, and counts every request; the client has no option for it


async def main(application: str, request_ids: list[str]) -> None:
    client = fal_client.AsyncClient()

    async def fetch(request_id: str) -> fal_client.Status:
        return await client.status(application, request_id)

    async with JobPoller(
        fetch,
        is_done=lambda status: isinstance(status, fal_client.Completed),
        polling=POLLING,
        pacing=PACING,
    ) as jobs:
        for request_id, status in zip(request_ids, await jobs.wait_for_all(request_ids), strict=True):
            print(request_id, status)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
