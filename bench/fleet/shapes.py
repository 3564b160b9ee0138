"""Adapters that serve the emulator's jobs in the formats of other services, so that their SDKs can wait for them.

A route receives an SDK's status request, sends PlayAI's own request to the emulator, and responds in the format that
the SDK expects. Any other status, above all a 429, is passed on with a body that all SDKs can read. So one quota
counts the polls of all clients. Creating a job sends nothing: the SDK passes the id of an existing job as its text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import aiohttp
import attrs
from aiohttp import web

HEADERS = {"Authorization": "Bearer key", "X-USER-ID": "user"}


@attrs.frozen
class Job:
    """What an adapter may know of a job."""

    id: str
    created_at: str = "1970-01-01T00:00:00Z"
    done: bool = False


Shape = Callable[[Job], Mapping[str, Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def shapes(url: str, *, latency: float = 0.0) -> AsyncIterator[str]:
    """Serve the jobs of the emulator at `url` in PlayAI's and in the other formats, and yield the base URL.

    Args:
        url: The base URL of the emulator.
        latency: Seconds that a status request takes.
    """

    def translated(shape: Shape) -> Handler:
        return delayed(latency, lambda request: translate(http, shape, request))

    async with aiohttp.ClientSession(
        url, headers=HEADERS, connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v1/tts/{job_id}", delayed(latency, lambda request: pass_on(http, request))),
                web.post("/v1/text_to_speech", runway_task),
                web.get("/v1/tasks/{job_id}", translated(runway_status)),
                web.post("/v1/vector_stores/{store}/files", openai_file),
                web.get("/v1/vector_stores/{store}/files/{job_id}", translated(openai_status)),
                web.post("/azure/jobs", azure_operation),
                web.get("/azure/operations/{job_id}", translated(azure_status)),
                web.post("/v1/predictions", replicate_prediction),
                web.get("/v1/predictions/{job_id}", translated(replicate_status)),
                web.get("/fal/requests/{job_id}/status", translated(fal_status)),
                web.get("/fal/requests/{job_id}", translated(fal_result)),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


def delayed(latency: float, handler: Handler) -> Handler:
    """Return a handler that responds a little later."""

    async def respond(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(latency / 2)
        response = await handler(request)
        await asyncio.sleep(latency / 2)
        return response

    return respond


async def pass_on(http: aiohttp.ClientSession, request: web.Request) -> web.Response:
    """Ask the emulator for a job and respond in the same format."""
    async with http.get(request.path) as response:
        body = await response.read()
        return web.Response(body=body, status=response.status, content_type=response.content_type)


async def translate(http: aiohttp.ClientSession, shape: Shape, request: web.Request) -> web.Response:
    """Ask the emulator for a job and respond in another format."""
    job_id = request.match_info["job_id"]
    async with http.get(f"/api/v1/tts/{job_id}") as response:
        answer = await response.json()
        if response.status != 200:
            return web.json_response(refusal(answer), status=response.status)
    job = Job(job_id, answer["createdAt"], answer["output"]["status"] == "COMPLETED")
    return web.json_response(shape(job))


def refusal(reason: object) -> Mapping[str, Any]:
    """Return the body of an error with the fields that the SDKs look for. One of them fails on PlayAI's bare text."""
    return {"detail": str(reason), "error": {"code": "refused", "message": str(reason)}}


def audio(job: Job) -> str:
    """Return a URL for the result. No client downloads it."""
    return f"https://audio.playai.example/{job.id}.mp3"


async def runway_task(request: web.Request) -> web.Response:
    """Respond like Runway to a new task."""
    return web.json_response({"id": (await request.json())["promptText"]})


def runway_status(job: Job) -> Mapping[str, Any]:
    """Format a job as a Runway task."""
    task = {"id": job.id, "createdAt": job.created_at}
    if job.done:
        return {**task, "status": "SUCCEEDED", "output": [audio(job)], "cost": {"credits": 1}}
    return {**task, "status": "RUNNING", "progress": 0.5, "estimatedCost": {"credits": 1}}


async def openai_file(request: web.Request) -> web.Response:
    """Respond like OpenAI to a new file of a vector store."""
    return web.json_response(openai_status(Job((await request.json())["file_id"])))


def openai_status(job: Job) -> Mapping[str, Any]:
    """Format a job as a file of a vector store."""
    return {
        "id": job.id,
        "object": "vector_store.file",
        "created_at": int(datetime.fromisoformat(job.created_at).timestamp()),
        "vector_store_id": "vs_bench",
        "status": "completed" if job.done else "in_progress",
        "usage_bytes": 48_000 if job.done else 0,
        "last_error": None,
    }


async def azure_operation(request: web.Request) -> web.Response:
    """Respond like an Azure service to a request that starts a long-running operation."""
    operation = request.url.with_path(f"/azure/operations/{(await request.json())['id']}")
    return web.json_response({"status": "NotStarted"}, status=202, headers={"Operation-Location": str(operation)})


def azure_status(job: Job) -> Mapping[str, Any]:
    """Format a job as an Azure operation."""
    operation = {"id": job.id, "createdDateTime": job.created_at}
    if job.done:
        return {**operation, "status": "Succeeded", "result": {"url": audio(job)}}
    return {**operation, "status": "Running"}


async def replicate_prediction(request: web.Request) -> web.Response:
    """Respond like Replicate to a new prediction."""
    body = await request.json()
    return web.json_response(replicate_status(Job(body["input"]["text"])), status=201)


def replicate_status(job: Job) -> Mapping[str, Any]:
    """Format a job as a Replicate prediction."""
    return {
        "id": job.id,
        "model": "bench/bench",
        "version": "bench",
        "status": "succeeded" if job.done else "processing",
        "input": {"text": job.id},
        "output": audio(job) if job.done else None,
        "logs": "",
        "error": None,
        "metrics": {},
        "created_at": job.created_at,
        "started_at": job.created_at,
        "completed_at": job.created_at if job.done else None,
        "urls": {},
    }


def fal_status(job: Job) -> Mapping[str, Any]:
    """Format a job as a request in fal's queue."""
    status = {"request_id": job.id, "logs": None}
    return {**status, "status": "COMPLETED", "metrics": {}} if job.done else {**status, "status": "IN_PROGRESS"}


def fal_result(job: Job) -> Mapping[str, Any]:
    """Format the result of a job, which fal serves at a separate URL."""
    return {"audio": {"url": audio(job)}}
