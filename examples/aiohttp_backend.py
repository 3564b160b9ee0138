"""A backend that makes speech, with aiohttp; PLAYAI_API_KEY and PLAYAI_USER_ID must be set.

POST /speech with {"text": "Hello.", "voice": "a-voice"} creates a job;
GET /speech/{job_id}?wait=20 waits for it, for so many seconds, 25 at most;
GET /speech/{job_id}/events tells of its changes, as server-sent events.

In a clone, after `make example` has installed what it needs: `.venv/bin/playai-async emulate` in one terminal, its
`export` lines in another, then `.venv/bin/python examples/aiohttp_backend.py`.
"""

import json
import logging
import math
import os
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
LONGEST_WAIT = 25  # seconds: proxies give up on a request that is silent for longer, often after 30
# Without the last one, nginx collects a response before it passes it on.
STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
STATUSES: dict[type[PlayAIError], int] = {
    InvalidParametersError: 400,
    NotFoundError: 404,
    RateLimitedError: 503,
    SessionClosedError: 503,
    WaitTimeoutError: 503,  # of a job's state, once nothing at all was heard in time: the quota is spent
}


async def one_session(app: web.Application) -> AsyncIterator[None]:
    async with PlayAISession() as app[PLAYAI]:
        yield


async def end_waits(app: web.Application) -> None:
    # aiohttp waits for its handlers before it cleans up, and a stream would hold it for all of `shutdown_timeout`.
    await app[PLAYAI].aclose()


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPError as error:
        error.text, error.content_type = json.dumps({"error": error.reason}), "application/json"
        raise
    except PlayAIError as error:
        status = next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 502)
        if status >= 500:
            logging.warning("%s %s: %s", request.method, request.path, error)
        headers = {"Retry-After": pause(request.app[PLAYAI])} if status == 503 else None
        return web.json_response({"error": HTTPStatus(status).phrase}, status=status, headers=headers)


def pause(playai: PlayAISession) -> str:
    return str(max(1, math.ceil(playai.stats.paused_for)))


async def create(request: web.Request) -> web.Response:
    try:
        wanted = await request.json()
        parameters = TtsParameters(wanted["text"], wanted["voice"])
        job = await request.app[PLAYAI].create_job(parameters, timeout=LONGEST_WAIT)
    except (LookupError, RecursionError, TypeError, ValueError):
        raise web.HTTPBadRequest(reason="text and voice are needed, as JSON") from None
    return web.json_response(shown(job), status=201, headers={"Location": f"/speech/{job.id}"})


async def state(request: web.Request) -> web.Response:
    try:
        seconds = min(max(int(request.query.get("wait", "20")), 1), LONGEST_WAIT)
    except ValueError:
        raise web.HTTPBadRequest(reason="wait must be a number of seconds") from None
    try:
        job = await request.app[PLAYAI].wait_for_completion(id_in(request), timeout=seconds)
    except WaitTimeoutError as error:
        if error.job is None:
            raise
        return web.json_response(shown(error.job))  # not done yet: the client asks again
    return web.json_response(shown(job))


async def events(request: web.Request) -> web.StreamResponse:
    async with aclosing(request.app[PLAYAI].watch(id_in(request))) as states:
        job = await anext(states)  # what is wrong by now is answered with a status
        response = web.StreamResponse(headers=STREAM)
        await response.prepare(request)
        await response.write(event_of(job))
        # A stream that ends early is opened again by its EventSource, which the page closes once the job is done.
        with suppress(PlayAIError):
            async for job in states:
                await response.write(event_of(job))
    return response


def id_in(request: web.Request) -> UUID:
    try:
        return UUID(request.match_info["job_id"])
    except ValueError:
        raise web.HTTPNotFound from None


def shown(job: TtsJob) -> dict[str, object]:
    fields: dict[str, object] = {"id": str(job.id), "status": job.output.status, "done": job.done}
    if isinstance(job.output, Completed):
        fields |= {"url": job.output.url, "seconds": job.output.duration}
    return fields


def event_of(job: TtsJob) -> bytes:
    return f"data: {json.dumps(shown(job))}\n\n".encode()


def make_app() -> web.Application:
    app = web.Application(middlewares=[answer_errors])
    app.cleanup_ctx.append(one_session)
    app.on_shutdown.append(end_waits)
    app.router.add_post("/speech", create)
    app.router.add_get("/speech/{job_id}", state)
    app.router.add_get("/speech/{job_id}/events", events, allow_head=False)  # which would be sent the stream
    return app


if __name__ == "__main__":
    # A handler whose client has gone goes on with its wait, unless `handler_cancellation` is set.
    port = int(os.environ.get("PORT", "8080"))
    web.run_app(make_app(), host="127.0.0.1", port=port, handler_cancellation=True, shutdown_timeout=10.0)
