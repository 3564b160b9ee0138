"""The clients that the fleet compares. Each waits as its documentation recommends, with its own defaults.

Each SDK appears twice: with its own wait, and with its status requests under a `JobPoller` that knows the quota.

A client is an async context manager. Given the service, it yields `wait(job_id)`, which returns when the client has
noticed that the job is finished, and raises the client's exception when the client gives up. One client object, with
one connection pool, serves all waits of a run; the caller creates one task per job.

Every wait has the same deadline, because a lost response could otherwise block a run forever. playai_async and runwayml
have a deadline of 600 s by default; the other clients run inside `asyncio.timeout`.

Each client imports its library itself, so that nothing but the service runs beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import aiohttp
import attrs

from bench.fleet.sdks import SDKS, Sdk

DEADLINE = 600.0
"""Seconds that a wait may take."""

INTERVAL = 2.0
"""Seconds between two polls of the hand-written loops."""

HEADERS = {"Authorization": "Bearer key", "X-USER-ID": "user"}


@attrs.frozen(kw_only=True)
class Service:
    """The address of the service, and what a client may know about it.

    Attributes:
        url: The base URL at which `bench.fleet.shapes` serves the jobs.
        quota: Requests per window, for the client that knows the quota; None: unlimited.
        window: The length of a window in seconds.
    """

    url: str
    quota: int | None
    window: float = 60.0


Wait = Callable[[UUID], Awaitable[None]]
ClientFactory = Callable[[Service], AbstractAsyncContextManager[Wait]]


@asynccontextmanager
async def playai_async_known(service: Service) -> AsyncIterator[Wait]:
    """This library with a known quota."""
    from playai_async import Pacing, PlayAISession

    pacing = Pacing(requests_per_window=service.quota, window=service.window)
    async with PlayAISession("key", "user", base_url=service.url, pacing=pacing) as playai:

        async def wait(job_id: UUID) -> None:
            (await playai.wait_for_completion(job_id)).raise_for_failure()

        yield wait


@asynccontextmanager
async def playai_async_unknown(service: Service) -> AsyncIterator[Wait]:
    """This library with an unknown quota, which it has to learn."""
    from playai_async import PlayAISession

    async with PlayAISession("key", "user", base_url=service.url) as playai:

        async def wait(job_id: UUID) -> None:
            (await playai.wait_for_completion(job_id)).raise_for_failure()

        yield wait


@asynccontextmanager
async def aiohttp_loop(service: Service) -> AsyncIterator[Wait]:
    """A hand-written loop: poll, sleep, poll again; it also sleeps after a 429."""
    async with aiohttp.ClientSession(service.url, headers=HEADERS) as http:

        async def wait(job_id: UUID) -> None:
            async with asyncio.timeout(DEADLINE):
                while True:
                    async with http.get(f"/api/v1/tts/{job_id}") as response:
                        if response.status != 429:
                            response.raise_for_status()
                            if is_done(await response.json()):
                                return
                    await asyncio.sleep(INTERVAL)

        yield wait


@asynccontextmanager
async def aiohttp_tenacity(service: Service) -> AsyncIterator[Wait]:
    """The same loop with tenacity around each request: retries a 429 forever, with exponential and jittered pauses."""
    from tenacity import AsyncRetrying, retry_if_exception, wait_random_exponential

    def throttled(error: BaseException) -> bool:
        return isinstance(error, aiohttp.ClientResponseError) and error.status == 429

    async with aiohttp.ClientSession(service.url, headers=HEADERS, raise_for_status=True) as http:

        async def ask(job_id: UUID) -> object:
            async with http.get(f"/api/v1/tts/{job_id}") as response:
                return await response.json()

        async def wait(job_id: UUID) -> None:
            async with asyncio.timeout(DEADLINE):
                while True:
                    # tenacity's documentation recommends this strategy for clients that compete for one resource.
                    patient = AsyncRetrying(
                        retry=retry_if_exception(throttled), wait=wait_random_exponential(multiplier=1, max=60)
                    )
                    if is_done(await patient(ask, job_id)):
                        return
                    await asyncio.sleep(INTERVAL)

        yield wait


@asynccontextmanager
async def runwayml(service: Service) -> AsyncIterator[Wait]:
    """runwayml: a task with a method that waits; polls every 4.5 to 7.5 s."""
    from runwayml import AsyncRunwayML

    async with AsyncRunwayML(api_key="key", base_url=service.url) as client:

        async def wait(job_id: UUID) -> None:
            task = await client.text_to_speech.create(
                model="eleven_multilingual_v2",
                prompt_text=str(job_id),
                voice={"type": "runway-preset", "preset_id": "Maya"},
            )
            await task.wait_for_task_output()

        yield wait


@asynccontextmanager
async def openai(service: Service) -> AsyncIterator[Wait]:
    """openai: a file of a vector store, polled every second; one of its `poll` helpers that is not deprecated.

    `max_wait_seconds` keeps its default, None, because it would use the machine's clock and not the loop's.
    """
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="key", base_url=f"{service.url}/v1") as client:

        async def wait(job_id: UUID) -> None:
            async with asyncio.timeout(DEADLINE):
                file = await client.vector_stores.files.create(file_id=str(job_id), vector_store_id="vs_bench")
                await client.vector_stores.files.poll(file.id, vector_store_id="vs_bench")

        yield wait


@asynccontextmanager
async def azure_core(service: Service) -> AsyncIterator[Wait]:
    """azure-core: a long-running operation, polled every 30 s, with the policies of the generated clients."""
    from azure.core import AsyncPipelineClient
    from azure.core.pipeline.policies import AsyncRetryPolicy, RequestIdPolicy
    from azure.core.polling import AsyncLROPoller
    from azure.core.polling.async_base_polling import AsyncLROBasePolling
    from azure.core.rest import HttpRequest

    policies = [RequestIdPolicy(), AsyncRetryPolicy()]
    async with AsyncPipelineClient(service.url, policies=policies) as client:

        async def wait(job_id: UUID) -> None:
            async with asyncio.timeout(DEADLINE):
                request = HttpRequest("POST", f"{service.url}/azure/jobs", json={"id": str(job_id)})
                begun = await client.send_request(request, _return_pipeline_response=True)
                await AsyncLROPoller(client, begun, lambda response: response, AsyncLROBasePolling())

        yield wait


@asynccontextmanager
async def replicate(service: Service) -> AsyncIterator[Wait]:
    """replicate: a prediction, polled every 0.5 s."""
    from replicate.client import Client

    client = Client(api_token="key", base_url=service.url)  # noqa: S106 - the service accepts any token

    async def wait(job_id: UUID) -> None:
        async with asyncio.timeout(DEADLINE):
            prediction = await client.predictions.async_create(version="bench", input={"text": str(job_id)})
            await prediction.async_wait()

    yield wait  # this client has no method to close it


@asynccontextmanager
async def fal_client(service: Service) -> AsyncIterator[Wait]:
    """fal-client: a queued request, polled every 0.1 s, and a last request for the result."""
    import httpx
    from fal_client import AsyncRequestHandle

    async with httpx.AsyncClient(headers={"Authorization": "Key key"}, timeout=120.0) as http:

        async def wait(job_id: UUID) -> None:
            url = f"{service.url}/fal/requests/{job_id}"
            handle = AsyncRequestHandle(
                request_id=str(job_id),
                response_url=url,
                status_url=f"{url}/status",
                cancel_url=f"{url}/cancel",
                client=http,
            )
            async with asyncio.timeout(DEADLINE):
                await handle.get()

        yield wait


def under_job_poller(sdk: Sdk) -> ClientFactory:
    """Return a client that sends the status requests of an SDK with a `JobPoller`."""

    @asynccontextmanager
    async def client(service: Service) -> AsyncIterator[Wait]:
        from playai_async import Pacing
        from playai_async.jobs import JobPoller

        pacing = Pacing(requests_per_window=service.quota, window=service.window)
        async with (
            sdk(service.url) as status,
            JobPoller(status.fetch, is_done=status.is_done, pacing=pacing) as jobs,
        ):

            async def wait(job_id: UUID) -> None:
                key = await status.create(job_id)
                await jobs.wait_for_completion(key)
                if status.result_of is not None:
                    await jobs.get(status.result_of(key))

            yield wait

    return client


def is_done(answer: object) -> bool:
    """Return whether a response shows a finished job."""
    match answer:
        case {"output": {"status": status}}:
            return bool(status != "IN_PROGRESS")
    raise ValueError("the response is not a job")


OWN_WAITS: dict[str, ClientFactory] = {
    "runwayml": runwayml,
    "openai": openai,
    "azure-core": azure_core,
    "replicate": replicate,
    "fal-client": fal_client,
}

JOB_POLLERS = {sdk: f"{sdk}, JobPoller" for sdk in OWN_WAITS}
"""For each SDK, the name of the client that puts it under a `JobPoller`."""

CLIENTS: dict[str, ClientFactory] = {
    "playai_async, quota known": playai_async_known,
    "playai_async, quota unknown": playai_async_unknown,
    "aiohttp loop, 2 s": aiohttp_loop,
    "aiohttp loop with tenacity": aiohttp_tenacity,
    **{
        name: client
        for sdk, own_wait in OWN_WAITS.items()
        for name, client in ((sdk, own_wait), (JOB_POLLERS[sdk], under_job_poller(SDKS[sdk])))
    },
}
