"""The service as a list of answers: aioresponses, made to work with current aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch
from uuid import UUID

import aiohttp
import attrs
from aioresponses import CallbackResult, aioresponses
from yarl import URL

API_KEY = "ak-0123456789abcdef"
USER_ID = "user-fedcba9876543210"
JOB_ID = UUID("6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f")
OTHER_ID = UUID("00000000-1111-4222-8333-444444444444")
BASE_URL = "https://api.play.ai"

IN_PROGRESS = {"status": "IN_PROGRESS"}
FAILED = {"status": "FAILED"}
COMPLETED = {
    "status": "COMPLETED",
    "url": "https://audio.example/a.mp3?signature=s",
    "contentType": "audio/mpeg",
    "fileSize": 48_000,
    "duration": 3.5,
}


def job_json(output: dict[str, Any] = IN_PROGRESS, job_id: UUID = JOB_ID) -> dict[str, Any]:
    """A job as the service writes it."""
    done = output["status"] in {"COMPLETED", "FAILED"}
    return {
        "id": str(job_id),
        "createdAt": "2026-01-02T03:04:05.678Z",
        "input": {"text": "spoken words", "voice": "v"},
        "completedAt": "2026-01-02T03:05:00Z" if done else None,
        "output": output,
    }


@attrs.frozen
class Answer:
    """One answer of the scripted service."""

    status: int = 200
    payload: Any = None
    body: bytes | str = b""
    headers: dict[str, str] = attrs.field(factory=dict[str, str])
    exception: BaseException | None = None
    takes: float = 0.0


def job(output: dict[str, Any] = IN_PROGRESS, job_id: UUID = JOB_ID) -> Answer:
    """A good answer."""
    return Answer(payload=job_json(output, job_id))


def created(output: dict[str, Any] = IN_PROGRESS, job_id: UUID = JOB_ID) -> Answer:
    """A good answer to a request to create a job."""
    return Answer(201, payload=job_json(output, job_id))


def throttled(retry_after: str | None = None) -> Answer:
    """A 429 as the contract has it."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Answer(429, payload="Rate limit exceeded.", headers=headers)


def lost() -> Answer:
    """A connection that broke."""
    return Answer(exception=aiohttp.ServerDisconnectedError())


class _Mock(aioresponses):
    """Replaces `ClientSession._request` by a function, since the mock of aioresponses costs 2 ms for each test."""

    def __init__(self) -> None:
        super().__init__()

        async def request(*args: Any, **kwargs: Any) -> aiohttp.ClientResponse:
            return await self._request_mock(*args, **kwargs)

        self.patcher = patch.object(aiohttp.ClientSession, "_request", request)  # type: ignore[assignment]  # a patch, too


class ScriptedService:
    """Answers each job's requests in the order given, the last answer for ever; notes when each request came."""

    def __init__(self) -> None:
        self._mock = _Mock()
        self.arrivals: list[float] = []
        self.requests: list[dict[str, Any]] = []
        self.under_way = 0
        self.most_under_way = 0

    def __enter__(self) -> Self:
        self._mock.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._mock.stop()

    def creates(self, *answers: Answer) -> None:
        """Script what requests to create a job are answered with."""
        self._mock.post(f"{BASE_URL}/api/v1/tts", callback=self._callback(list(answers)), repeat=True)

    def answers(self, *answers: Answer, job_id: UUID = JOB_ID, base_url: str = BASE_URL) -> None:
        """Script what a job's requests are answered with."""
        # One matcher with the list in it: aioresponses does not use up a matcher whose answer is an exception.
        self._mock.get(f"{base_url}/api/v1/tts/{job_id}", callback=self._callback(list(answers)), repeat=True)

    @property
    def pauses(self) -> list[float]:
        """The seconds between each request and the next."""
        return [round(later - earlier, 6) for earlier, later in zip(self.arrivals, self.arrivals[1:], strict=False)]

    def _callback(self, answers: list[Answer]) -> Callable[..., Any]:
        async def reply(url: URL, **kwargs: Any) -> CallbackResult:
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.arrivals.append(asyncio.get_running_loop().time())
            self.requests.append({"url": url, **kwargs})
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                await asyncio.sleep(answer.takes)
            finally:
                self.under_way -= 1
            if answer.exception is not None:
                raise answer.exception
            return CallbackResult(
                status=answer.status,
                payload=answer.payload,
                body=answer.body,
                headers=answer.headers,
                response_class=_Response,
            )

        return reply


class _Response(aiohttp.ClientResponse):
    """The double does not know the `stream_writer` that aiohttp asks for since 3.14."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", _NothingSent())
        super().__init__(*args, **kwargs)


class _NothingSent:
    output_size = 0
