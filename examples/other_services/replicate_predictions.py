"""Wait for Replicate predictions with one rate limit for all of them.

REPLICATE_API_TOKEN=... python replicate_predictions.py PREDICTION_ID...
"""

from __future__ import annotations

import asyncio
import sys

import httpx
from replicate.client import Client

from playai_async import Pacing, Polling
from playai_async.jobs import JobPoller

FINISHED = {"succeeded", "failed", "canceled", "aborted"}
PACING = Pacing(requests_per_window=600)  # requests per minute that your account allows to this program
POLLING = Polling(initial=0.5, maximum=10, timeout=3600)


class NoRetries(httpx.AsyncHTTPTransport):
    """Raises for the statuses that the client retries, because the client has no option to switch retries off.

    The exception contains the response, so the poller sees `Retry-After`.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if response.status_code in {429, 503, 504}:
            await response.aread()
            message = f"{response.status_code} for {request.url}"
            raise httpx.HTTPStatusError(message, request=request, response=response)
        return response


async def main(prediction_ids: list[str]) -> None:
    async with (
        NoRetries() as transport,  # the poller retries, and counts every request
        JobPoller(
            Client(transport=transport).predictions.async_get,
            is_done=lambda prediction: prediction.status in FINISHED,
            polling=POLLING,
            pacing=PACING,
        ) as jobs,
    ):
        async for prediction in jobs.as_completed(prediction_ids):
            print(prediction.id, prediction.status, prediction.output)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
