"""One status request with each client, its own retries switched off.

Each function takes the address of a service, and raises what the client raises. Each imports its client itself, so that
a process has only those that it needs.
"""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from unittest import mock


def limit_for(url: str) -> float:
    """Return the seconds until a client gives up. A busy machine may need long for a reply."""
    return 0.25 if url.endswith("/hang") else 30.0


async def with_aiohttp(url: str) -> None:
    """aiohttp, which raises for a status when asked to."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=limit_for(url))
    async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as http, http.get(url) as response:
        await response.json()


async def with_httpx(url: str) -> None:
    """A plain client of httpx."""
    import httpx

    async with httpx.AsyncClient(timeout=limit_for(url)) as http:
        (await http.get(url)).raise_for_status()


async def with_requests(url: str) -> None:
    """requests, in a thread."""
    import requests

    def get() -> None:
        requests.get(url, timeout=limit_for(url)).raise_for_status()

    await asyncio.to_thread(get)


async def with_urllib3(url: str) -> None:
    """urllib3, in a thread; it raises for no status."""
    import urllib3

    def get() -> None:
        with urllib3.PoolManager(retries=False, timeout=limit_for(url)) as http:
            response = http.request("GET", url)
            if response.status != 200:
                raise UrllibStatusError(response)

    await asyncio.to_thread(get)


class UrllibStatusError(Exception):
    """What a user of urllib3 might raise."""

    def __init__(self, response: Any) -> None:
        super().__init__(response.status)
        self.response = response


async def with_openai(url: str) -> None:
    """openai: a batch."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(api_key="key", base_url=url, max_retries=0, timeout=limit_for(url)) as client:
        await client.batches.retrieve("a")


async def with_anthropic(url: str) -> None:
    """anthropic: a batch of messages."""
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(api_key="key", base_url=url, max_retries=0, timeout=limit_for(url)) as client:
        await client.messages.batches.retrieve("a")


async def with_runwayml(url: str) -> None:
    """runwayml: a task."""
    from runwayml import AsyncRunwayML

    async with AsyncRunwayML(api_key="key", base_url=url, max_retries=0, timeout=limit_for(url)) as client:
        await client.tasks.retrieve(str(uuid.UUID(int=1)))


async def with_replicate(url: str) -> None:
    """replicate: a prediction. Its client repeats some statuses unless its transport raises for them."""
    import httpx
    from replicate.client import Client

    class Transport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            response = await super().handle_async_request(request)
            if response.status_code in {429, 503, 504}:
                await response.aread()
                raise httpx.HTTPStatusError("refused", request=request, response=response)
            return response

    async with Transport() as transport:
        client = Client(api_token="key", base_url=url, timeout=httpx.Timeout(limit_for(url)), transport=transport)  # noqa: S106
        await client.predictions.async_get("a")


async def with_fal_client(url: str) -> None:
    """fal-client: a request in a queue. There is no option for its retries, nor for its timeout of two minutes."""
    import fal_client
    import fal_client.client
    import httpx

    with mock.patch.multiple(fal_client.client, MAX_ATTEMPTS=1, QUEUE_POLL_TIMEOUT=limit_for(url)):
        async with httpx.AsyncClient() as http:
            await fal_client.AsyncRequestHandle("a", url, f"{url}/status", f"{url}/cancel", http).status()


async def with_azure_core(url: str) -> None:
    """azure-core: a pipeline without a retry policy, as the generated clients use it."""
    from azure.core import AsyncPipelineClient
    from azure.core.rest import HttpRequest

    async with AsyncPipelineClient[Any, Any](url, policies=[]) as client:
        response = await client.send_request(
            HttpRequest("GET", url), connection_timeout=limit_for(url), read_timeout=limit_for(url), stream=False
        )
        response.raise_for_status()


AWS: Mapping[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
}


def aws_config(config: Callable[..., Any], url: str) -> Any:
    """Return the settings of an AWS client without retries."""
    limit = limit_for(url)
    return config(connect_timeout=limit, read_timeout=limit, retries={"total_max_attempts": 1})


async def with_botocore(url: str) -> None:
    """botocore, in a thread: a job of AWS Batch."""
    from botocore.config import Config

    def describe() -> None:
        client: Any = botocore_session().create_client("batch", endpoint_url=url, config=aws_config(Config, url), **AWS)
        try:
            client.describe_jobs(jobs=["a"])
        finally:
            client.close()

    await asyncio.to_thread(describe)


async def with_aiobotocore(url: str) -> None:
    """aiobotocore: a job of AWS Batch."""
    from aiobotocore.config import AioConfig

    config = aws_config(AioConfig, url)
    async with aiobotocore_session().create_client("batch", endpoint_url=url, config=config, **AWS) as client:
        await client.describe_jobs(jobs=["a"])


@functools.cache
def botocore_session() -> Any:
    """Return a session. It keeps the description of the service, which takes longer to read than a request."""
    import botocore.session

    return botocore.session.Session()


@functools.cache
def aiobotocore_session() -> Any:
    """Return a session, as `botocore_session` does."""
    from aiobotocore.session import get_session

    return get_session()


async def with_google_api_core(url: str) -> None:
    """google-api-core over HTTP, as its generated REST clients use it: requests in a thread."""
    import requests
    from google.api_core import exceptions

    def get() -> None:
        response = requests.get(url, timeout=limit_for(url))
        if response.status_code >= 400:
            raise exceptions.from_http_response(response)

    await asyncio.to_thread(get)


REQUESTS: Mapping[str, Callable[[str], Coroutine[None, None, None]]] = {
    "aiohttp": with_aiohttp,
    "aiobotocore": with_aiobotocore,
    "anthropic": with_anthropic,
    "azure.core": with_azure_core,
    "botocore": with_botocore,
    "fal_client": with_fal_client,
    "google.api_core": with_google_api_core,
    "httpx": with_httpx,
    "openai": with_openai,
    "replicate": with_replicate,
    "requests": with_requests,
    "runwayml": with_runwayml,
    "urllib3": with_urllib3,
}
"""By the module that a client is imported as."""
