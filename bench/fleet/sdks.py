"""The status requests of the SDKs, for a `JobPoller`: what each SDK's own wait does, but without the wait.

An SDK is an async context manager. Given the base URL of `bench.fleet.shapes`, it yields a `StatusClient`. The SDK's
own retries of status requests are switched off as in `examples/other_services`: the poller repeats these requests, and
counts all of them. Jobs are created as in the SDK's own wait.

Each SDK imports its library itself, so that no other SDK is in its process.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import attrs


@attrs.frozen(kw_only=True)
class StatusClient:
    """What a `JobPoller` needs of an SDK.

    Attributes:
        create: Creates a job and returns its key. The service does not count this request.
        fetch: Makes one request, and returns the job or raises.
        is_done: Returns whether a job is finished.
        result_of: Returns the key with which `fetch` requests the result of a job, if that is a separate request.
    """

    create: Callable[[UUID], Awaitable[Hashable]]
    fetch: Callable[[Any], Awaitable[Any]]
    is_done: Callable[[Any], bool]
    result_of: Callable[[Any], Hashable] | None = None


Sdk = Callable[[str], AbstractAsyncContextManager[StatusClient]]


@asynccontextmanager
async def runwayml(url: str) -> AsyncIterator[StatusClient]:
    """runwayml: `tasks.retrieve`."""
    from runwayml import AsyncRunwayML

    async with AsyncRunwayML(api_key="key", base_url=url) as client:

        async def create(job_id: UUID) -> str:
            task = await client.text_to_speech.create(
                model="eleven_multilingual_v2",
                prompt_text=str(job_id),
                voice={"type": "runway-preset", "preset_id": "Maya"},
            )
            return task.id

        yield StatusClient(
            create=create,
            fetch=client.with_options(max_retries=0).tasks.retrieve,
            is_done=lambda task: task.status in {"SUCCEEDED", "FAILED", "CANCELLED"},
        )


@asynccontextmanager
async def openai(url: str) -> AsyncIterator[StatusClient]:
    """openai: `vector_stores.files.retrieve`."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="key", base_url=f"{url}/v1") as client:
        files = client.with_options(max_retries=0).vector_stores.files

        async def create(job_id: UUID) -> str:
            file = await client.vector_stores.files.create(file_id=str(job_id), vector_store_id="vs_bench")
            return file.id

        async def fetch(file_id: str) -> Any:
            return await files.retrieve(file_id, vector_store_id="vs_bench")

        yield StatusClient(create=create, fetch=fetch, is_done=lambda file: file.status != "in_progress")


@asynccontextmanager
async def azure_core(url: str) -> AsyncIterator[StatusClient]:
    """azure-core: a request to the URL in `Operation-Location`."""
    from azure.core import AsyncPipelineClient
    from azure.core.pipeline.policies import AsyncRetryPolicy, RequestIdPolicy
    from azure.core.rest import HttpRequest

    policies = [RequestIdPolicy(), AsyncRetryPolicy()]
    async with AsyncPipelineClient(url, policies=policies) as client:

        async def create(job_id: UUID) -> str:
            begun = await client.send_request(HttpRequest("POST", f"{url}/azure/jobs", json={"id": str(job_id)}))
            operation: str = begun.headers["Operation-Location"]
            return operation

        async def fetch(operation: str) -> Any:
            response = await client.send_request(HttpRequest("GET", operation), retry_total=0)
            response.raise_for_status()
            return response.json()

        yield StatusClient(
            create=create,
            fetch=fetch,
            is_done=lambda operation: operation["status"] in {"Succeeded", "Failed", "Canceled"},
        )


@asynccontextmanager
async def replicate(url: str) -> AsyncIterator[StatusClient]:
    """replicate: `predictions.async_get`."""
    import httpx
    from replicate.client import Client

    class NoRetries(httpx.AsyncHTTPTransport):
        """Raises for the statuses that the client retries, because it has no option to switch retries off."""

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if response.status_code in {429, 503, 504}:
                await response.aread()
                message = f"{response.status_code} for {request.url}"
                raise httpx.HTTPStatusError(message, request=request, response=response)
            return response

    async with NoRetries() as transport:
        client = Client(api_token="key", base_url=url, transport=transport)  # noqa: S106 - the service accepts any

        async def create(job_id: UUID) -> str:
            prediction = await client.predictions.async_create(version="bench", input={"text": str(job_id)})
            return prediction.id

        yield StatusClient(
            create=create,
            fetch=client.predictions.async_get,
            is_done=lambda prediction: prediction.status in {"succeeded", "failed", "canceled", "aborted"},
        )


@asynccontextmanager
async def fal_client(url: str) -> AsyncIterator[StatusClient]:
    """fal-client: `status`, and then a request for the result, as in the SDK's `get`."""
    import fal_client.client
    import httpx
    from fal_client import AsyncRequestHandle, Completed

    fal_client.client.MAX_ATTEMPTS = 1  # there is no option for it
    async with httpx.AsyncClient(headers={"Authorization": "Key key"}, timeout=120.0) as http:

        async def create(job_id: UUID) -> str:
            return str(job_id)  # like the SDK's own wait, which begins with the handle of a request

        async def fetch(key: str) -> Any:
            if key.startswith(url):
                response = await http.get(key)
                response.raise_for_status()
                return response.json()
            job_url = f"{url}/fal/requests/{key}"
            handle = AsyncRequestHandle(
                request_id=key,
                response_url=job_url,
                status_url=f"{job_url}/status",
                cancel_url=f"{job_url}/cancel",
                client=http,
            )
            return await handle.status()

        yield StatusClient(
            create=create,
            fetch=fetch,
            is_done=lambda status: isinstance(status, Completed),
            result_of=lambda request_id: f"{url}/fal/requests/{request_id}",
        )


SDKS: dict[str, Sdk] = {
    "runwayml": runwayml,
    "openai": openai,
    "azure-core": azure_core,
    "replicate": replicate,
    "fal-client": fal_client,
}
