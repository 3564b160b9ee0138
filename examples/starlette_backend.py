"""A text-to-speech backend with Starlette. Set PLAYAI_API_KEY and PLAYAI_USER_ID.

POST /speech with {"text": "Hello.", "voice": "a-voice"} creates a job;
GET /speech/{job_id}?wait=20 waits for the job, at most 20 seconds (maximum: 25);
GET /speech/{job_id}/events streams its changes as server-sent events.

To try it in a clone, run `make example` once to install what it needs. Then run `.venv/bin/playai-async emulate` in one
terminal, its `export` lines in another terminal, and there `.venv/bin/python examples/starlette_backend.py`.

Under another name than localhost, set ALLOWED_HOSTS to that name, or to several names with commas.
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
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
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

MAX_WAIT = 25  # seconds; proxies close connections that are idle for longer, often after 30 s
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").replace(" ", "").split(",")
STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the last one keeps nginx from buffering
STATUSES: dict[type[PlayAIError], int] = {
    InvalidParametersError: 400,
    NotFoundError: 404,
    RateLimitedError: 503,
    SessionClosedError: 503,
    WaitTimeoutError: 503,  # no poll in time, because the quota is used up
}
T = TypeVar("T")


class State(TypedDict):
    playai: PlayAISession


@asynccontextmanager
async def playai_session(_app: Starlette) -> AsyncIterator[State]:
    async with PlayAISession() as playai:
        yield {"playai": playai}


async def unless_disconnected(request: Request[State], work: Awaitable[T]) -> T:
    # Starlette does not stop a handler when its client disconnects.
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(client_disconnected(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client has disconnected")
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait((working, leaving))


async def client_disconnected(request: Request[State]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def handle_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
    if status >= 500:
        logging.warning("%s %s: %s", request.method, request.url.path, error)
    headers = {"Retry-After": retry_after(request.state.playai)} if status == 503 else None
    return JSONResponse({"error": HTTPStatus(status).phrase}, status, headers)


def retry_after(playai: PlayAISession) -> str:
    return str(max(1, math.ceil(playai.stats.paused_for)))


async def create(request: Request[State]) -> Response:
    try:
        body = await request.json()
        parameters = TtsParameters(body["text"], body["voice"])
        job = await unless_disconnected(request, request.state["playai"].create_job(parameters, timeout=MAX_WAIT))
    except ClientDisconnect:
        raise HTTPException(499, "the client has disconnected") from None
    except (KeyError, RecursionError, TypeError, ValueError):
        raise HTTPException(400, "text and voice are needed, as JSON") from None
    return JSONResponse(to_json(job), 201, headers={"Location": f"/speech/{job.id}"})


async def state(request: Request[State]) -> Response:
    try:
        seconds = min(max(int(request.query_params.get("wait", "20")), 1), MAX_WAIT)
    except ValueError:
        raise HTTPException(400, "wait must be a number of seconds") from None
    waiting = request.state["playai"].wait_for_completion(request.path_params["job_id"], timeout=seconds)
    try:
        job = await unless_disconnected(request, waiting)
    except WaitTimeoutError as error:
        if error.job is None:
            raise
        return JSONResponse(to_json(error.job))  # not done yet; the client asks again
    return JSONResponse(to_json(job))


async def events(request: Request[State]) -> Response:
    states = request.state["playai"].watch(request.path_params["job_id"])
    job = await unless_disconnected(request, anext(states))  # an error at this point still gets its own status
    return StreamingResponse(stream(job, states), media_type="text/event-stream", headers=STREAM)


async def stream(first: TtsJob, states: AsyncGenerator[TtsJob, None]) -> AsyncIterator[str]:
    async with aclosing(states):
        yield to_event(first)
        # If a stream ends early, the EventSource reconnects. The page closes the EventSource when the job is done.
        with suppress(PlayAIError):
            async for job in states:
                yield to_event(job)


def to_json(job: TtsJob) -> dict[str, object]:
    fields: dict[str, object] = {"id": str(job.id), "status": job.output.status, "done": job.done}
    if isinstance(job.output, Completed):
        fields |= {"url": job.output.url, "seconds": job.output.duration}
    return fields


def to_event(job: TtsJob) -> str:
    return f"data: {json.dumps(to_json(job))}\n\n"


app = Starlette(
    routes=[
        Route("/speech", create, methods=["POST"]),
        Route("/speech/{job_id:uuid}", state),
        Route("/speech/{job_id:uuid}/events", events),
    ],
    # A page of another site may have a name that resolves to 127.0.0.1. Its requests have that name as their host.
    middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=ALLOWED_HOSTS, www_redirect=False)],
    exception_handlers={PlayAIError: handle_error, HTTPException: handle_error},
    lifespan=playai_session,
)


class Server(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn waits for open streams before it ends the lifespan, and open streams wait for the session.
        await self.lifespan.state["playai"].aclose()
        await super().shutdown(sockets)


if __name__ == "__main__":
    config = uvicorn.Config(app, port=int(os.environ.get("PORT", "8080")), timeout_graceful_shutdown=10)
    with suppress(KeyboardInterrupt):
        Server(config).run()
