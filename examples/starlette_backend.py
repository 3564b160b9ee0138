"""A backend that makes speech, with Starlette; PLAYAI_API_KEY and PLAYAI_USER_ID must be set.

POST /speech with {"text": "Hello.", "voice": "a-voice"} creates a job;
GET /speech/{job_id}?wait=20 waits for it, for so many seconds, 25 at most;
GET /speech/{job_id}/events tells of its changes, as server-sent events.

In a clone, after `make example` has installed what it needs: `.venv/bin/playai-async emulate` in one terminal, its
`export` lines in another, then `.venv/bin/python examples/starlette_backend.py`.
"""

import asyncio
import json
import logging
import math
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from typing import TypedDict, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from playai_async import (
    Completed,
    InvalidParametersError,
    NotFoundError,
    PlayAIError,
    PlayAISession,
    RateLimitedError,
    SessionClosedError,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)

LONGEST_WAIT = 25  # seconds: proxies give up on a request that is silent for longer, often after 30
STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # or nginx collects a response before it passes it on
STATUSES: dict[type[PlayAIError], int] = {
    InvalidParametersError: 400,
    NotFoundError: 404,
    RateLimitedError: 503,
    SessionClosedError: 503,
    WaitTimeoutError: 503,  # of a job's state, once nothing at all was heard in time: the quota is spent
}
T = TypeVar("T")


class State(TypedDict):
    playai: PlayAISession


@asynccontextmanager
async def one_session(_app: Starlette) -> AsyncIterator[State]:
    async with PlayAISession() as playai:
        yield {"playai": playai}


async def unless_gone(request: Request[State], work: Awaitable[T]) -> T:
    # Starlette lets a handler whose client has gone go on, with its wait.
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(client_gone(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client has gone")  # which nobody reads
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))


async def client_gone(request: Request[State]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
    if status >= 500:
        logging.warning("%s %s: %s", request.method, request.url.path, error)
    headers = {"Retry-After": pause(request.state.playai)} if status == 503 else None
    return JSONResponse({"error": HTTPStatus(status).phrase}, status, headers)


def pause(playai: PlayAISession) -> str:
    return str(max(1, math.ceil(playai.stats.paused_for)))


async def create(request: Request[State]) -> Response:
    try:
        wanted = await request.json()
        parameters = TtsParameters(wanted["text"], wanted["voice"])
        job = await unless_gone(request, request.state["playai"].create_job(parameters, timeout=LONGEST_WAIT))
    except ClientDisconnect:
        raise HTTPException(499, "the client has gone") from None
    except (KeyError, RecursionError, TypeError, ValueError):
        raise HTTPException(400, "text and voice are needed, as JSON") from None
    return JSONResponse(shown(job), 201, headers={"Location": f"/speech/{job.id}"})


async def state(request: Request[State]) -> Response:
    try:
        seconds = min(max(int(request.query_params.get("wait", "20")), 1), LONGEST_WAIT)
    except ValueError:
        raise HTTPException(400, "wait must be a number of seconds") from None
    waiting = request.state["playai"].wait_for_completion(request.path_params["job_id"], timeout=seconds)
    try:
        job = await unless_gone(request, waiting)
    except WaitTimeoutError as error:
        if error.job is None:
            raise
        return JSONResponse(shown(error.job))  # not done yet: the client asks again
    return JSONResponse(shown(job))


async def events(request: Request[State]) -> Response:
    states = request.state["playai"].watch(request.path_params["job_id"])
    job = await unless_gone(request, anext(states))  # what is wrong by now is answered with a status
    return StreamingResponse(stream(job, states), media_type="text/event-stream", headers=STREAM)


async def stream(first: TtsJob, states: AsyncGenerator[TtsJob, None]) -> AsyncIterator[str]:
    async with aclosing(states):
        yield event_of(first)
        # A stream that ends early is opened again by its EventSource, which the page closes once the job is done.
        with suppress(PlayAIError):
            async for job in states:
                yield event_of(job)


def shown(job: TtsJob) -> dict[str, object]:
    fields: dict[str, object] = {"id": str(job.id), "status": job.output.status, "done": job.done}
    if isinstance(job.output, Completed):
        fields |= {"url": job.output.url, "seconds": job.output.duration}
    return fields


def event_of(job: TtsJob) -> str:
    return f"data: {json.dumps(shown(job))}\n\n"


app = Starlette(
    routes=[
        Route("/speech", create, methods=["POST"]),
        Route("/speech/{job_id:uuid}", state),
        Route("/speech/{job_id:uuid}/events", events),
    ],
    exception_handlers={PlayAIError: answer_error, HTTPException: answer_error},
    lifespan=one_session,
)


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn waits for open streams before it ends the lifespan, and a stream would hold it for all of its time.
        await self.lifespan.state["playai"].aclose()
        await super().shutdown(sockets)


if __name__ == "__main__":
    config = uvicorn.Config(app, port=int(os.environ.get("PORT", "8080")), timeout_graceful_shutdown=10)
    with suppress(KeyboardInterrupt):
        Server(config).run()
