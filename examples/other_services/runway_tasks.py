"""Wait for Runway tasks with one rate limit for all of them.

RUNWAYML_API_SECRET=... python runway_tasks.py TASK_ID...
"""

from __future__ import annotations

import asyncio
import sys

from runwayml import AsyncRunwayML

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller

FINISHED = {"SUCCEEDED", "FAILED", "CANCELLED"}
PACING = Pacing(requests_per_window=60)  # requests per minute that your account allows to this program
POLLING = Polling(initial=5, multiplier=1, jitter=0.5, timeout=1800)  # Runway asks for 5 s between polls, with jitter


async def main(task_ids: list[str]) -> None:
    async with (
        AsyncRunwayML(max_retries=0) as client,  # the poller retries, and counts every request
        JobPoller(
            client.tasks.retrieve,
            is_done=lambda task: task.status in FINISHED,
            polling=POLLING,
            pacing=PACING,
        ) as jobs,
    ):
        async for task in jobs.as_completed(task_ids):
            print(task.id, task.status, *(task.output if task.status == "SUCCEEDED" else ()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
