"""The backend: it creates jobs from texts, and clients wait for a job by long polling or in a stream.

All requests share one session, which lives as long as the app. Only the session sends requests to PlayAI. It reads its
key and user id from `PLAYAI_API_KEY` and `PLAYAI_USER_ID`. Under another name than localhost, set `ALLOWED_HOSTS`.
If PlayAI can reach this server, set `WEBHOOK_BASE_URL` to its address, such as https://speech.example. PlayAI calls the
server when a job is done, so its end is noticed sooner.
"""

import asyncio
import contextlib
import json
import logging
import math
import os
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, StringConstraints
from starlette.requests import ClientDisconnect

from playai_async import (
    Completed,
    InvalidParametersError,
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    RateLimitedError,
    SessionClosedError,
    TtsJob,
    TtsParameters,
    WaitTimeoutError,
)

MAX_WAIT = 25
"""Seconds that a request may wait: proxies close connections that are idle for longer, often after 30 s."""

ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").replace(" ", "").split(",")
"""The names of this server. A page of another site may have a name that resolves to 127.0.0.1 (DNS rebinding)."""

VOICE = "s3://voice-cloning-zero-shot/d9ff78ba-d016-47f6-b0ef-dd630f59414e/female-cs/manifest.json"

MAX_WEBHOOK_BODY = 65_536
"""Bytes. The body of a webhook is a few hundred bytes."""

PAGE = Path(__file__).with_name("index.html")

T = TypeVar("T")
log = logging.getLogger(__name__)
router = APIRouter()


def create_app() -> FastAPI:
    """Create the app; `uvicorn --factory` can call this function too."""
    app = FastAPI(title="Speech", lifespan=lifespan)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=ALLOWED_HOSTS, www_redirect=False)
    app.include_router(router)
    for kind in ERROR_RESPONSES:
        app.add_exception_handler(kind, answer)
    return app


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    """Keep one session open while the app runs."""
    # This process's share of the quota. Without it, the session learns the quota.
    share = os.environ.get("PLAYAI_REQUESTS_PER_MINUTE")
    base, secret = os.environ.get("WEBHOOK_BASE_URL"), secrets.token_urlsafe(32)
    async with PlayAISession(pacing=Pacing(requests_per_window=int(share) if share else None)) as playai:
        yield {
            "playai": playai,
            "webhook_secret": secret,
            "webhook_url": f"{base.rstrip('/')}/webhooks/{secret}" if base else None,
            "told": deque[UUID](maxlen=1_000),  # the jobs whose webhook was called while somebody waited for them
        }


async def session_of(request: Request) -> PlayAISession:
    """Return the session, for handlers."""
    playai: PlayAISession = request.state.playai
    return playai


Session = Annotated[PlayAISession, Depends(session_of)]


class SpeechRequest(BaseModel):
    """The text to speak, and the voice."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=5_000)]
    voice: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] = VOICE


class Speech(BaseModel):
    """A job as clients see it."""

    id: UUID
    status: str
    done: bool
    url: str | None = None
    content_type: str | None = None
    duration: float | None = None
    noticed_by: Literal["webhook", "polling"] | None = None

    @classmethod
    def of(cls, job: TtsJob) -> Self:
        """Convert a job."""
        speech = cls(id=job.id, status=job.output.status, done=job.done)
        if isinstance(job.output, Completed):
            speech.url, speech.content_type = job.output.url, job.output.content_type
            speech.duration = job.output.duration
        return speech


class Problem(BaseModel):
    """The body of an error response."""

    detail: str


ERROR_SCHEMAS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such job"},
    422: {"model": Problem, "description": "The request is not valid, or the service rejected it"},
    502: {"model": Problem, "description": "The service is not available"},
    503: {
        "model": Problem,
        "description": "The quota is used up, or the server is shutting down",
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}},
    },
}
"""The error responses in the schema. Otherwise FastAPI documents its own 422, and no other errors."""

INVALID_SCHEMA: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "The request is not valid",
        # Not `model`, which FastAPI would document as a stream.
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""The same for a stream, which sends all other errors as events."""


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Send the page."""
    return FileResponse(PAGE)


@router.post("/speech", status_code=202, responses=ERROR_SCHEMAS)
async def speak(wanted: SpeechRequest, request: Request, response: Response, playai: Session) -> Speech:
    """Create a job."""
    # Not cancelled when the client disconnects: the request may have created a job, which costs the same anyway.
    parameters = TtsParameters(wanted.text, wanted.voice, web_hook_url=request.state.webhook_url)
    job = await playai.create_job(parameters, timeout=MAX_WAIT)
    response.headers["Location"] = request.url_for("state", job_id=job.id).path
    return Speech.of(job)


@router.get("/speech/{job_id}", responses=ERROR_SCHEMAS | {202: {"model": Speech, "description": "Not done yet"}})
async def state(
    job_id: UUID,
    request: Request,
    response: Response,
    playai: Session,
    wait: Annotated[int, Query(ge=0, le=MAX_WAIT)] = 0,
) -> Speech:
    """Return a job: at once, or when the job is done, or after `wait` seconds."""
    job = await while_connected(request, latest(playai, job_id, wait))
    response.status_code = 200 if job.done else 202
    return Speech.of(job)


async def latest(playai: PlayAISession, job_id: UUID, seconds: int) -> TtsJob:
    """Return the job, done if it finishes within a number of seconds."""
    if not seconds:
        async with asyncio.timeout(MAX_WAIT):  # one request, but it may have to wait for the quota
            return await playai.get_job(job_id)
    try:
        return await playai.wait_for_completion(job_id, timeout=seconds)
    except WaitTimeoutError as late:
        if late.job is None:
            raise  # no poll succeeded, so the state of the job is unknown
        return late.job


async def while_connected(request: Request, wait: Coroutine[Any, Any, T]) -> T:
    """Await something as long as the client is connected.

    FastAPI does not stop a handler when its client disconnects.
    """
    waiting, leaving = asyncio.create_task(wait), asyncio.create_task(disconnection(request))
    try:
        await asyncio.wait((waiting, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    finally:
        waiting.cancel()
        leaving.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def disconnection(request: Request) -> None:
    """Wait until the client disconnects."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def watched(job_id: UUID, playai: Session) -> AsyncIterator[AsyncGenerator[TtsJob, None]]:
    """Watch a job until the response ends.

    This is a dependency, because FastAPI closes dependencies with the response. It does not close a streamed generator
    if the client disconnects at the wrong moment; the garbage collector does that later.
    """
    async with contextlib.aclosing(playai.watch(job_id)) as states:
        yield states


@router.get("/speech/{job_id}/events", response_class=EventSourceResponse, responses=INVALID_SCHEMA)
async def events(
    states: Annotated[AsyncGenerator[TtsJob, None], Depends(watched)], request: Request
) -> AsyncIterable[ServerSentEvent]:
    """Stream the states of a job up to the final one; an error is sent as a last event, `problem`."""
    try:
        async for job in states:
            speech = Speech.of(job)
            if job.done:
                speech.noticed_by = "webhook" if job.id in request.state.told else "polling"
            yield ServerSentEvent(data=speech)
    except PlayAIError as error:  # the response has started, so its status cannot change
        status, detail = problem(error)
        yield ServerSentEvent(event="problem", data={"status": status, "detail": detail})


@router.post("/webhooks/{secret}", status_code=204, include_in_schema=False)
async def webhook(secret: str, request: Request, playai: Session) -> None:
    """Take a hint that a job may be done. Only its id is read: anybody could have sent the rest."""
    if not secrets.compare_digest(secret.encode(), request.state.webhook_secret.encode()):
        raise HTTPException(404)
    body = bytearray()
    async with asyncio.timeout(MAX_WAIT):
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_WEBHOOK_BODY:
                raise HTTPException(413)
    # Whatever the body is, the response is the same, so that nobody learns which jobs there are.
    with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError, SessionClosedError):
        job_id = json.loads(body)["id"]
        if playai.hint(job_id):
            request.state.told.append(UUID(job_id))


BUSY = (503, "The service is busy. Try again later.")

ERROR_RESPONSES: Mapping[type[Exception], tuple[int, str]] = {
    RequestValidationError: (422, "The request is not valid."),  # FastAPI's own response repeats the text
    InvalidParametersError: (422, "The service did not accept the text or the voice."),
    NotFoundError: (404, "There is no such job."),
    RateLimitedError: BUSY,
    WaitTimeoutError: BUSY,
    TimeoutError: BUSY,
    SessionClosedError: (503, "The server is shutting down. Try again."),
    ClientDisconnect: (499, "The client has disconnected."),
    # A wrong key, the plan, or an outage: nothing that the client can fix.
    PlayAIError: (502, "The speech service is not available."),
}


def problem(error: Exception) -> tuple[int, str]:
    """Return the status and the message for an error; the message is never the error's own text."""
    if isinstance(error, WaitTimeoutError) and error.last_error is not None:
        error = error.last_error  # what kept the session from an answer: a 429, or an outage
    status, detail = next(ERROR_RESPONSES[kind] for kind in type(error).__mro__ if kind in ERROR_RESPONSES)
    if status == 502:
        log.error("%s", error)  # contains neither the key nor the text
    return status, detail


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Respond to a request that failed."""
    status, detail = problem(error)
    pause = math.ceil(max(1.0, request.state.playai.stats.paused_for))
    headers = {"Retry-After": str(pause)} if status == 503 else None
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers)
