"""A text-to-speech backend with aiohttp. Set PLAYAI_API_KEY and PLAYAI_USER_ID.

POST /speech with {"text": "Hello.", "voice": "a-voice"} creates a job;
GET /speech/{job_id}?wait=20 waits for the job, at most 20 seconds (maximum: 25);
GET /speech/{job_id}/events streams its changes as server-sent events.

To try it in a clone, run `make example` once to install what it needs. Then run `.venv/bin/playai-async emulate` in one
terminal, its `export` lines in another terminal, and there `.venv/bin/python examples/aiohttp_backend.py`.

Under another name than localhost, set ALLOWED_HOSTS to that name, or to several names with commas.
"""

import json
import logging
import math
import os
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from http import HTTPStatus
from uuid import UUID

from aiohttp import web
from aiohttp.typedefs import Handler

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

PLAYAI = web.AppKey("PLAYAI", PlayAISession)
MAX_WAIT = 25  # seconds; proxies close connections that are idle for longer, often after 30 s
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").lower().replace(" ", "").split(",")
# Without the last header, nginx buffers the stream.
STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
STATUSES: dict[type[PlayAIError], int] = {
    InvalidParametersError: 400,
    NotFoundError: 404,
    RateLimitedError: 503,
    SessionClosedError: 503,
    WaitTimeoutError: 503,  # no poll in time, because the quota is used up
}


async def playai_session(app: web.Application) -> AsyncIterator[None]:
    async with PlayAISession() as app[PLAYAI]:
        yield


async def close_session(app: web.Application) -> None:
    # aiohttp waits for handlers before it cleans up. An open stream would delay it for all of `shutdown_timeout`.
    await app[PLAYAI].aclose()


@web.middleware
async def handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPError as error:
        error.text, error.content_type = json.dumps({"error": error.reason}), "application/json"
        raise
    except PlayAIError as error:
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
        if status >= 500:
            logging.warning("%s %s: %s", request.method, request.path, error)
        headers = {"Retry-After": retry_after(request.app[PLAYAI])} if status == 503 else None
        return web.json_response({"error": HTTPStatus(status).phrase}, status=status, headers=headers)


def retry_after(playai: PlayAISession) -> str:
    return str(max(1, math.ceil(playai.stats.paused_for)))


@web.middleware
async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
    # A page of another site may have a name that resolves to 127.0.0.1. Its requests have that name as their host.
    host = re.sub(r":\d*$", "", request.headers.get("Host", ""))
    if host.lower() not in ALLOWED_HOSTS:
        raise web.HTTPBadRequest(reason="this is not a host of this server")
    return await handler(request)


async def create(request: web.Request) -> web.Response:
    try:
        body = await request.json()
        parameters = TtsParameters(body["text"], body["voice"])
        job = await request.app[PLAYAI].create_job(parameters, timeout=MAX_WAIT)
    except (LookupError, RecursionError, TypeError, ValueError):
        raise web.HTTPBadRequest(reason="text and voice are needed, as JSON") from None
    return web.json_response(to_json(job), status=201, headers={"Location": f"/speech/{job.id}"})


async def state(request: web.Request) -> web.Response:
    try:
        seconds = min(max(int(request.query.get("wait", "20")), 1), MAX_WAIT)
    except ValueError:
        raise web.HTTPBadRequest(reason="wait must be a number of seconds") from None
    try:
        job = await request.app[PLAYAI].wait_for_completion(job_id_of(request), timeout=seconds)
    except WaitTimeoutError as error:
        if error.job is None:
            raise
        return web.json_response(to_json(error.job))  # not done yet; the client asks again
    return web.json_response(to_json(job))


async def events(request: web.Request) -> web.StreamResponse:
    async with aclosing(request.app[PLAYAI].watch(job_id_of(request))) as states:
        job = await anext(states)  # an error at this point still gets its own status
        response = web.StreamResponse(headers=STREAM)
        await response.prepare(request)
        await response.write(to_event(job))
        # If a stream ends early, the EventSource reconnects. The page closes the EventSource when the job is done.
        with suppress(PlayAIError):
            async for job in states:
                await response.write(to_event(job))
    return response


def job_id_of(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["job_id"])
    except ValueError:
        raise web.HTTPNotFound from None


def to_json(job: TtsJob) -> dict[str, object]:
    fields: dict[str, object] = {"id": str(job.id), "status": job.output.status, "done": job.done}
    if isinstance(job.output, Completed):
        fields |= {"url": job.output.url, "seconds": job.output.duration}
    return fields


def to_event(job: TtsJob) -> bytes:
    return f"data: {json.dumps(to_json(job))}\n\n".encode()


def make_app() -> web.Application:
    app = web.Application(middlewares=[handle_errors, check_host])
    app.cleanup_ctx.append(playai_session)
    app.on_shutdown.append(close_session)
    app.router.add_post("/speech", create)
    app.router.add_get("/speech/{job_id}", state)
    app.router.add_get("/speech/{job_id}/events", events, allow_head=False)  # HEAD must not get the stream
    return app


if __name__ == "__main__":
    # Without `handler_cancellation`, a handler keeps waiting after its client has disconnected.
    port = int(os.environ.get("PORT", "8080"))
    web.run_app(make_app(), host="127.0.0.1", port=port, handler_cancellation=True, shutdown_timeout=10.0)
