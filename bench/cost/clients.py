"""The clients whose cost is compared. All of them poll at the same rate and through 32 connections.

A client is an async context manager. Given the service and the pause between polls, it yields `wait(job_id)`, which
polls that job until it is finished. One client object serves all waits; the caller creates one task per job. Details
that matter for a fair comparison:

- *playai_async* polls with `tenacity.wait_fixed`, or with its own pauses if jitter is requested.
- *aiohttp loop* is a typical hand-written loop: one `ClientSession` with its default cookie jar and timeout, the URL
  as an f-string, `response.json()`, a check of the status, `asyncio.sleep`, and `asyncio.timeout` around the loop.
- *aiohttp loop with tenacity* adds `AsyncRetrying` around each request, for transient errors.
- The SDKs are the published packages, used as their documentation recommends, but with at most 32 connections and no
  timeout for waiting for a connection. runwayml's pause of 4.5 to 7.5 s is fixed. replicate is left out: with 1,000
  waits, one measurement of its connection pool takes minutes.
- *without opentelemetry* and *with a listener* are for `bench.cost.telemetry`: this library without that package, and
  with a tracer and a meter that record everything. In *playai_async* the package is installed but not set up.
- *bare task* polls nothing: one task per job that sleeps, so no client can be lighter.

Each client imports its library itself, so that a process contains no library but the one that it measures.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import attrs

CONNECTIONS = 32
"""The default of playai_async."""

DEADLINE = 7_200.0
"""Seconds that a wait may take; longer than any run."""

KEY, USER = "a-key-of-the-bench", "a-user-of-the-bench"


@attrs.frozen(kw_only=True)
class Setting:
    """The addresses of the service, and the polling rate.

    Attributes:
        url: The base URL of PlayAI's API.
        shaped_url: The base URL at which `bench.fleet.shapes` serves the same jobs to the SDKs of other services.
        pause: Seconds between two polls of a job.
        jitter: The fraction by which each pause varies, if the client can do that.
    """

    url: str
    shaped_url: str
    pause: float
    jitter: float = 0.0


Wait = Callable[[UUID], Awaitable[object]]
ClientFactory = Callable[[Setting], AbstractAsyncContextManager[Wait]]


@asynccontextmanager
async def playai_async(setting: Setting) -> AsyncIterator[Wait]:
    """This library."""
    from tenacity import wait_fixed

    from playai_async import Pacing, PlayAISession, Polling

    if setting.jitter:
        polling = Polling(initial=setting.pause, maximum=setting.pause, jitter=setting.jitter, timeout=DEADLINE)
    else:
        polling = Polling(wait=wait_fixed(setting.pause), timeout=DEADLINE)
    pacing = Pacing(max_in_flight=CONNECTIONS)
    async with PlayAISession(KEY, USER, base_url=setting.url, polling=polling, pacing=pacing) as playai:
        yield playai.wait_for_completion


@asynccontextmanager
async def without_opentelemetry(setting: Setting) -> AsyncIterator[Wait]:
    """This library without the package opentelemetry."""
    hidden: dict[str, object] = {"opentelemetry": None}  # makes an import of the package fail
    vars(sys)["modules"].update(hidden)
    async with playai_async(setting) as wait:
        yield wait


@asynccontextmanager
async def with_a_listener(setting: Setting) -> AsyncIterator[Wait]:
    """This library with the OpenTelemetry SDK, which discards finished spans."""
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    async with playai_async(setting) as wait:
        yield wait


@asynccontextmanager
async def aiohttp_loop(setting: Setting) -> AsyncIterator[Wait]:
    """A hand-written loop."""
    import aiohttp

    headers = {"Authorization": f"Bearer {KEY}", "X-USER-ID": USER}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as http:

        async def wait(job_id: UUID) -> object:
            async with asyncio.timeout(DEADLINE):
                while True:
                    async with http.get(f"{setting.url}/api/v1/tts/{job_id}") as response:
                        response.raise_for_status()
                        job = await response.json()
                    if job["output"]["status"] != "IN_PROGRESS":
                        return job
                    await asyncio.sleep(pause_of(setting))

        yield wait


@asynccontextmanager
async def aiohttp_tenacity(setting: Setting) -> AsyncIterator[Wait]:
    """The same loop with tenacity around each request."""
    import aiohttp
    from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    headers = {"Authorization": f"Bearer {KEY}", "X-USER-ID": USER}
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, headers=headers, raise_for_status=True) as http:

        async def ask(job_id: UUID) -> dict[str, dict[str, object]]:
            async with http.get(f"{setting.url}/api/v1/tts/{job_id}") as response:
                answer: dict[str, dict[str, object]] = await response.json()
                return answer

        async def wait(job_id: UUID) -> object:
            async with asyncio.timeout(DEADLINE):
                while True:
                    retrying = AsyncRetrying(
                        retry=retry_if_exception_type((aiohttp.ClientError, TimeoutError)),
                        wait=wait_random_exponential(multiplier=1, max=60),
                        stop=stop_after_attempt(8),
                        reraise=True,
                    )
                    job: dict[str, dict[str, object]] = await retrying(ask, job_id)
                    if job["output"]["status"] != "IN_PROGRESS":
                        return job
                    await asyncio.sleep(pause_of(setting))

        yield wait


@asynccontextmanager
async def runwayml(setting: Setting) -> AsyncIterator[Wait]:
    """runwayml: a task with a method that waits; polls every 4.5 to 7.5 s, whatever the setting."""
    import httpx
    from runwayml import AsyncRunwayML, DefaultAsyncHttpxClient

    http = DefaultAsyncHttpxClient(limits=httpx.Limits(max_connections=CONNECTIONS), timeout=DEADLINE)
    async with AsyncRunwayML(api_key=KEY, base_url=setting.shaped_url, http_client=http, timeout=DEADLINE) as client:

        async def wait(job_id: UUID) -> object:
            task = await client.text_to_speech.create(
                model="eleven_multilingual_v2",
                prompt_text=str(job_id),
                voice={"type": "runway-preset", "preset_id": "Maya"},
            )
            return await task.wait_for_task_output(timeout=DEADLINE)

        yield wait


@asynccontextmanager
async def openai(setting: Setting) -> AsyncIterator[Wait]:
    """openai: a file of a vector store."""
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    httpx2 = importlib.import_module("httpx2")  # a dependency of openai
    http = DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=CONNECTIONS), timeout=DEADLINE)
    async with AsyncOpenAI(
        api_key=KEY, base_url=f"{setting.shaped_url}/v1", http_client=http, timeout=DEADLINE
    ) as client:

        async def wait(job_id: UUID) -> object:
            file = await client.vector_stores.files.create(file_id=str(job_id), vector_store_id="vs_bench")
            return await client.vector_stores.files.poll(
                file.id,
                vector_store_id="vs_bench",
                poll_interval_ms=int(setting.pause * 1_000),
                max_wait_seconds=DEADLINE,
            )

        yield wait


@asynccontextmanager
async def azure_core(setting: Setting) -> AsyncIterator[Wait]:
    """azure-core: a long-running operation, with the policies of the generated clients."""
    import aiohttp
    from azure.core import AsyncPipelineClient
    from azure.core.pipeline.policies import AsyncRetryPolicy, RequestIdPolicy
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.core.polling import AsyncLROPoller
    from azure.core.polling.async_base_polling import AsyncLROBasePolling
    from azure.core.rest import HttpRequest

    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as http:
        transport = AioHttpTransport(session=http, session_owner=False)
        policies = [RequestIdPolicy(), AsyncRetryPolicy()]
        async with AsyncPipelineClient(setting.shaped_url, policies=policies, transport=transport) as client:

            async def wait(job_id: UUID) -> object:
                request = HttpRequest("POST", f"{setting.shaped_url}/azure/jobs", json={"id": str(job_id)})
                begun = await client.send_request(request, _return_pipeline_response=True)
                polling = AsyncLROBasePolling(timeout=setting.pause)
                return await AsyncLROPoller(client, begun, lambda response: response, polling)

            yield wait


@asynccontextmanager
async def fal_client(setting: Setting) -> AsyncIterator[Wait]:
    """fal-client: a queued request.

    `AsyncClient.submit` would ask fal's own host, so the handle that it returns is made here.
    """
    import httpx
    from fal_client import AsyncRequestHandle

    limits = httpx.Limits(max_connections=CONNECTIONS)
    async with httpx.AsyncClient(headers={"Authorization": f"Key {KEY}"}, timeout=DEADLINE, limits=limits) as http:

        async def wait(job_id: UUID) -> object:
            url = f"{setting.shaped_url}/fal/requests/{job_id}"
            handle = AsyncRequestHandle(
                request_id=str(job_id),
                response_url=url,
                status_url=f"{url}/status",
                cancel_url=f"{url}/cancel",
                client=http,
            )
            return await handle.get(interval=setting.pause)

        yield wait


@asynccontextmanager
async def bare_task(_: Setting) -> AsyncIterator[Wait]:
    """A task that sleeps."""

    async def wait(_: UUID) -> object:
        await asyncio.sleep(DEADLINE)
        return None

    yield wait


def pause_of(setting: Setting) -> float:
    """Return the next pause of a hand-written loop."""
    if not setting.jitter:
        return setting.pause
    return setting.pause * random.uniform(1 - setting.jitter, 1 + setting.jitter)  # noqa: S311 - spreads load


POLLS_NOTHING = "bare task"

SDKS = ("runwayml", "openai", "azure-core", "fal-client")

CLIENTS: dict[str, ClientFactory] = {
    "playai_async": playai_async,
    "without opentelemetry": without_opentelemetry,
    "with a listener": with_a_listener,
    "aiohttp loop": aiohttp_loop,
    "aiohttp loop with tenacity": aiohttp_tenacity,
    "runwayml": runwayml,
    "openai": openai,
    "azure-core": azure_core,
    "fal-client": fal_client,
    POLLS_NOTHING: bare_task,
}
