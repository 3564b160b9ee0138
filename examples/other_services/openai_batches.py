"""Wait for OpenAI batches with one rate limit for all of them.

OPENAI_API_KEY=... python openai_batches.py BATCH_ID...
"""

from __future__ import annotations

import asyncio
import sys

from openai import AsyncOpenAI

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller

FINISHED = {"completed", "failed", "expired", "cancelled"}
PACING = Pacing(requests_per_window=60)  # requests per minute that your account allows to this program
POLLING = Polling(initial=5, maximum=60, timeout=24 * 3600)  # a batch takes up to a day


async def main(batch_ids: list[str]) -> None:
    async with (
        AsyncOpenAI(max_retries=0) as client,  # the poller retries, and counts every request
        JobPoller(
            client.batches.retrieve,
            is_done=lambda batch: batch.status in FINISHED,
            polling=POLLING,
            pacing=PACING,
        ) as jobs,
    ):
        async for batch in jobs.as_completed(batch_ids):
            print(batch.id, batch.status, batch.output_file_id)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
