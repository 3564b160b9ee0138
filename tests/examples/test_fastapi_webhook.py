"""The webhook route of the FastAPI example: what it takes, what it refuses, and what it believes."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from examples.fastapi_backend.app import MAX_WEBHOOK_BODY, create_app
from playai_async.emulator import Emulator
from tests.examples.serving import Backend, serving
from tests.support.clock import now

BODIES = [
    b"",
    b"not JSON",
    b"\xff\xfe",
    b"[" * 60_000,
    b"9" * 10_000,
    b"null",
    b"[]",
    b"{}",
    b'{"id": null}',
    b'{"id": 5}',
    b'{"id": ["x"]}',
    b'{"id": "nonsense"}',
    b'{"id": "00000000-1111-4222-8333-444444444444"}',
]


def path_of(backend: Backend) -> str:
    """Return the secret path of a server."""
    return f"/webhooks/{backend.server.lifespan.state['webhook_secret']}"


async def call(backend: Backend, body: bytes, path: str | None = None) -> int:
    """Call the webhook, and return the status of the response."""
    async with backend.client.post(path_of(backend) if path is None else path, data=body) as response:
        await response.read()
        return response.status


def body_for(job_id: UUID) -> bytes:
    """Return what the service sends, and something that is not true."""
    return json.dumps(
        {"version": "2", "id": str(job_id), "status": "complete", "url": "https://evil.example/"}
    ).encode()


async def test_a_call_ends_the_wait_at_once(emulator: Emulator) -> None:
    """What the client gets is what the service says when it is asked."""
    async with serving(create_app()) as backend:
        job = emulator.add_job(10.5)
        async with backend.events(f"/speech/{job}/events") as events:
            assert (await anext(events)).data["status"] == "IN_PROGRESS"
            await asyncio.sleep(emulator.finishes_at(job) - now())
            assert await call(backend, body_for(job)) == 204
            last = (await anext(events)).data
        assert now() - emulator.finishes_at(job) < 0.5
        assert (last["status"], last["noticed_by"]) == ("COMPLETED", "webhook")
        assert "evil" not in last["url"]


async def test_a_call_that_is_false_changes_nothing(emulator: Emulator) -> None:
    """The job is polled once more, and goes on."""
    async with serving(create_app()) as backend:
        job = emulator.add_job(math.inf)
        async with backend.events(f"/speech/{job}/events") as events:
            assert (await anext(events)).data["status"] == "IN_PROGRESS"
            await asyncio.sleep(7.0)
            before = emulator.stats.requests
            assert await call(backend, body_for(job)) == 204
            await asyncio.sleep(0.5)
            assert emulator.stats.requests == before + 1
            assert backend.playai.stats.open_waits == 1


async def test_without_a_call_the_job_is_found_by_polling(emulator: Emulator) -> None:
    """Webhooks may be lost."""
    async with serving(create_app()) as backend:
        job = emulator.add_job(3.0)
        async with backend.events(f"/speech/{job}/events") as events:
            last = [event.data async for event in events][-1]
        assert (last["status"], last["noticed_by"]) == ("COMPLETED", "polling")


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
async def test_the_response_is_the_same_whatever_the_body(emulator: Emulator, body: bytes) -> None:
    """Nobody learns anything, and nothing is asked of the service."""
    async with serving(create_app()) as backend:
        assert await call(backend, body) == 204
        assert emulator.stats.requests == 0


async def test_a_huge_body_is_refused(emulator: Emulator) -> None:
    """It is not read to its end."""
    async with serving(create_app()) as backend:
        assert await call(backend, b" " * (MAX_WEBHOOK_BODY + 1)) == 413


@pytest.mark.parametrize("path", ["/webhooks/guess", "/webhooks/%C3%A9", "/webhooks/", "/webhooks"], ids=str)
async def test_another_path_is_not_found(emulator: Emulator, path: str) -> None:
    """The secret is all that keeps strangers out."""
    async with serving(create_app()) as backend:
        job = emulator.add_job(math.inf)
        assert await call(backend, body_for(job), path) == 404
        assert backend.playai.stats.hints_ignored == 0


async def test_a_body_that_does_not_come_is_not_waited_for_without_end(emulator: Emulator) -> None:
    """As for any other request."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(3_600.0)

    async with serving(create_app()) as backend:
        async with backend.client.post(path_of(backend), data=slow()) as response:
            assert response.status == 503
        assert now() < 60.0


async def test_a_call_during_the_shutdown_does_no_harm(emulator: Emulator) -> None:
    """The session is closed before the server."""
    async with serving(create_app()) as backend:
        await backend.playai.aclose()
        assert await call(backend, body_for(emulator.add_job(1.0))) == 204


async def test_the_secret_differs_between_processes_and_is_no_part_of_the_schema(emulator: Emulator) -> None:
    async with serving(create_app()) as one, serving(create_app()) as other:
        assert path_of(one) != path_of(other)
        assert len(path_of(one)) > 40
        async with one.client.get("/openapi.json") as response:
            assert "webhooks" not in await response.text()


@pytest.mark.parametrize(
    ("base", "named"), [("https://speech.example/", True), ("https://speech.example", True), ("", False)], ids=str
)
async def test_a_job_is_created_with_the_address_of_the_webhook_if_there_is_one(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, base: str, named: bool
) -> None:
    monkeypatch.setenv("WEBHOOK_BASE_URL", base)
    async with serving(create_app()) as backend:
        async with await backend.post("Hello.") as response:
            assert response.status == 202
        url = json.loads(emulator.arrivals[0].body).get("webHookUrl")
        assert url == (f"https://speech.example{path_of(backend)}" if named else None)
