"""The backend: a text becomes a job, and whoever asks for the job waits for it, by long polling or in a stream.

All requests share one session, which lives as long as the app and is the only thing here that asks PlayAI for anything.
Its key and user id are in the environment, as `PLAYAI_API_KEY` and `PLAYAI_USER_ID`.
"""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
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

LONGEST_WAIT = 25
"""Seconds for which a request may be held: proxies give up on one that is silent for longer, often after 30."""

VOICE = "s3://voice-cloning-zero-shot/d9ff78ba-d016-47f6-b0ef-dd630f59414e/female-cs/manifest.json"

PAGE = Path(__file__).with_name("index.html")

T = TypeVar("T")
log = logging.getLogger(__name__)
router = APIRouter()


def create_app() -> FastAPI:
    """Make the app; `uvicorn --factory` can call it, too."""
    app = FastAPI(title="Speech", lifespan=lifespan)
    app.include_router(router)
    for kind in ANSWERS:
        app.add_exception_handler(kind, answer)
    return app


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    """Keep one session open for as long as the app runs."""
    share = os.environ.get("PLAYAI_REQUESTS_PER_MINUTE")  # this process's part of the quota; if not set, it is learned
    async with PlayAISession(pacing=Pacing(requests_per_window=int(share) if share else None)) as playai:
        yield {"playai": playai}


async def session_of(request: Request) -> PlayAISession:
    """Give a handler the session."""
    playai: PlayAISession = request.state.playai
    return playai


Session = Annotated[PlayAISession, Depends(session_of)]


class Wish(BaseModel):
    """What is to be spoken."""

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=5_000)]
    voice: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] = VOICE


class Speech(BaseModel):
    """What a client is told of a job."""

    id: UUID
    status: str
    done: bool
    url: str | None = None
    content_type: str | None = None
    duration: float | None = None

    @classmethod
    def of(cls, job: TtsJob) -> Self:
        """Describe a job."""
        speech = cls(id=job.id, status=job.output.status, done=job.done)
        if isinstance(job.output, Completed):
            speech.url, speech.content_type = job.output.url, job.output.content_type
            speech.duration = job.output.duration
        return speech


class Problem(BaseModel):
    """What a client is told when there is no job to tell of."""

    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No such job"},
    422: {"model": Problem, "description": "Not a valid request, or not one that the service accepts"},
    502: {"model": Problem, "description": "The service cannot do it now"},
    503: {
        "model": Problem,
        "description": "Too much to do, or the server is going down",
        "headers": {"Retry-After": {"description": "Seconds", "schema": {"type": "integer", "minimum": 1}}},
    },
}
"""The problems in the schema, where FastAPI would promise an answer of its own for 422, and no other."""

UNREADABLE: dict[int | str, dict[str, Any]] = {
    422: {
        "description": "Not a valid request",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},  # `model`: as a stream
    }
}
"""The same for a stream, in which all other problems are events."""


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Send the page."""
    return FileResponse(PAGE)


@router.post("/speech", status_code=202, responses=PROBLEMS)
async def speak(wish: Wish, request: Request, response: Response, playai: Session) -> Speech:
    """Create a job."""
    # Not given up when the client goes: what was sent may have made a job, which costs the same without a client.
    job = await playai.create_job(TtsParameters(wish.text, wish.voice), timeout=LONGEST_WAIT)
    response.headers["Location"] = request.url_for("state", job_id=job.id).path
    return Speech.of(job)


@router.get("/speech/{job_id}", responses=PROBLEMS | {202: {"model": Speech, "description": "Not done yet"}})
async def state(
    job_id: UUID,
    request: Request,
    response: Response,
    playai: Session,
    wait: Annotated[int, Query(ge=0, le=LONGEST_WAIT)] = 0,
) -> Speech:
    """Tell a job's state: at once, or when it is done, or after so many seconds."""
    job = await while_connected(request, latest(playai, job_id, wait))
    response.status_code = 200 if job.done else 202
    return Speech.of(job)


async def latest(playai: PlayAISession, job_id: UUID, seconds: int) -> TtsJob:
    """Return the job, if possible done, within so many seconds."""
    if not seconds:
        async with asyncio.timeout(LONGEST_WAIT):  # one request, but a spent quota may hold it
            return await playai.get_job(job_id)
    try:
        return await playai.wait_for_completion(job_id, timeout=seconds)
    except WaitTimeoutError as late:
        if late.job is None:
            raise  # there was not one answer, so that nothing is known of the job
        return late.job


async def while_connected(request: Request, wait: Coroutine[Any, Any, T]) -> T:
    """Await something for as long as the client is there.

    A handler is not told that its client has gone: it would wait on, for nobody.
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
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def watched(job_id: UUID, playai: Session) -> AsyncIterator[AsyncGenerator[TtsJob, None]]:
    """Watch a job for as long as the response lasts.

    As a dependency, since FastAPI ends those with the response; a generator that it streams is left to the garbage
    collector when the client goes at the wrong moment.
    """
    async with contextlib.aclosing(playai.watch(job_id)) as states:
        yield states


@router.get("/speech/{job_id}/events", response_class=EventSourceResponse, responses=UNREADABLE)
async def events(
    states: Annotated[AsyncGenerator[TtsJob, None], Depends(watched)],
) -> AsyncIterable[ServerSentEvent]:
    """Stream a job's states up to the final one; what goes wrong on the way comes as a last event, `problem`."""
    try:
        async for job in states:
            yield ServerSentEvent(data=Speech.of(job))
    except PlayAIError as error:  # the status was sent long ago, and an EventSource would not show it to the page
        status, detail = problem(error)
        yield ServerSentEvent(event="problem", data={"status": status, "detail": detail})


BUSY = (503, "There is more to do than the service allows just now; try again.")

ANSWERS: Mapping[type[Exception], tuple[int, str]] = {
    RequestValidationError: (422, "This is not a valid request."),  # FastAPI's own answer repeats the text
    InvalidParametersError: (422, "The service does not accept this text or this voice."),
    NotFoundError: (404, "There is no such job."),
    RateLimitedError: BUSY,
    WaitTimeoutError: BUSY,
    TimeoutError: BUSY,
    SessionClosedError: (503, "The server is going down; try again."),
    ClientDisconnect: (499, "You have gone."),
    # The key, the plan, an outage: not the client's affair.
    PlayAIError: (502, "The speech service cannot do this now."),
}


def problem(error: Exception) -> tuple[int, str]:
    """Return the status and the words for an error; none of them are the error's own."""
    status, detail = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    if status == 502:
        log.error("%s", error)  # which shows no key and no text
    return status, detail


async def answer(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that met an error."""
    status, detail = problem(error)
    pause = math.ceil(max(1.0, request.state.playai.stats.paused_for))
    headers = {"Retry-After": str(pause)} if status == 503 else None
    return JSONResponse(Problem(detail=detail).model_dump(), status, headers)
