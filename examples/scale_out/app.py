"""The web process: it creates a job and a durable wait for each text, and returns the results that are stored.

No request waits for a job. So any web process can be stopped, and each can respond for jobs that another one created.
"""

import contextlib
import logging
import math
import os
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import psycopg
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import JSONResponse
from procrastinate.exceptions import ConnectorException
from psycopg.rows import class_row
from pydantic import BaseModel, StringConstraints

from playai_async import InvalidParametersError, PlayAIError, RateLimitedError, TtsParameters, WaitTimeoutError

from .waits import opened, playai, pool, waits

CREATE_TIMEOUT = 25
"""Seconds: proxies close connections that are idle for longer, often after 30 s."""

ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").replace(" ", "").split(",")
"""The names of this server. A page of another site may have a name that resolves to 127.0.0.1 (DNS rebinding)."""

VOICE = "s3://voice-cloning-zero-shot/d9ff78ba-d016-47f6-b0ef-dd630f59414e/female-cs/manifest.json"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=5_000)]
log = logging.getLogger(__name__)


class SpeechRequest(BaseModel):
    text: Text
    voice: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)] = VOICE


class Speech(BaseModel):
    id: UUID
    state: str = "IN_PROGRESS"
    url: str | None = None
    seconds: float | None = None


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with opened():
        yield


app = FastAPI(title="Speech, scaled out", lifespan=lifespan)
app.add_middleware(TrustedHostMiddleware, allowed_hosts=ALLOWED_HOSTS, www_redirect=False)


@app.post("/speech", status_code=202)
async def speak(wanted: SpeechRequest, request: Request, response: Response) -> Speech:
    async with pool.connection():
        pass  # check this before the job is paid for: without the database, no worker could wait for it
    job = await playai.create_job(TtsParameters(wanted.text, wanted.voice), timeout=CREATE_TIMEOUT)
    # If the process dies here, no worker waits for the job. The client got no response, and tries again.
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO speeches (job_id) VALUES (%s)", (job.id,))
    await waits.defer(job, on_done="store_speech")
    response.headers["Location"] = request.url_for("state", job_id=job.id).path
    return Speech(id=job.id)


@app.get("/speech/{job_id}")
async def state(job_id: UUID, response: Response) -> Speech:
    async with pool.connection() as connection, connection.cursor(row_factory=class_row(Speech)) as cursor:
        await cursor.execute(
            "SELECT job_id AS id, coalesce(state, 'IN_PROGRESS') AS state, url, seconds"
            " FROM speeches LEFT JOIN outcomes USING (job_id) WHERE job_id = %s ORDER BY stored_at LIMIT 1",
            (job_id,),
        )
        speech = await cursor.fetchone()
    if speech is None:
        raise HTTPException(404, "Not found.")
    if speech.state == "IN_PROGRESS":
        response.status_code = 202
    return speech


@app.exception_handler(PlayAIError)
@app.exception_handler(psycopg.OperationalError)
@app.exception_handler(ConnectorException)
async def answer(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, InvalidParametersError):
        return JSONResponse({"detail": "The service did not accept the text or the voice."}, 422)
    log.error("%s: %s", type(error).__name__, error)
    if isinstance(error, PlayAIError) and not isinstance(error, RateLimitedError | WaitTimeoutError):
        return JSONResponse({"detail": "The speech service is not available."}, 502)
    pause = math.ceil(max(1.0, playai.stats.paused_for))
    return JSONResponse({"detail": "The service is busy. Try again later."}, 503, {"Retry-After": str(pause)})
