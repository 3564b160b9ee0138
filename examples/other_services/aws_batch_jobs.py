"""Wait for AWS Batch jobs with one rate limit for all of them.

AWS_DEFAULT_REGION=... python aws_batch_jobs.py JOB_ID...
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller

FINISHED = {"SUCCEEDED", "FAILED"}
PACING = Pacing(requests_per_window=600)  # requests per minute that your account allows to this program
POLLING = Polling(initial=5, maximum=30, timeout=24 * 3600)
NO_RETRIES = AioConfig(retries={"total_max_attempts": 1})  # the poller retries, and counts every request


async def main(job_ids: list[str]) -> None:
    session = get_session()
    async with session.create_client("batch", config=NO_RETRIES) as client:  # pyright: ignore[reportUnknownMemberType]

        async def fetch(job_id: str) -> dict[str, Any]:
            found = (await client.describe_jobs(jobs=[job_id]))["jobs"]
            if not found:
                raise LookupError(f"There is no job {job_id}.")
            return dict(found[0])

        async with JobPoller(
            fetch,
            is_done=lambda job: job["status"] in FINISHED,
            polling=POLLING,
            pacing=PACING,
        ) as jobs:
            async for job in jobs.as_completed(job_ids):
                print(job["jobId"], job["status"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
