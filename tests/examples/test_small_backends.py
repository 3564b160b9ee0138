"""What the backends with aiohttp and Starlette promise alike, each on its own server, against the emulator."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp.test_utils import TestClient, TestServer

from examples import aiohttp_backend, starlette_backend
from playai_async import PlayAISession
from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Status
from tests.examples.serving import serving
from tests.support.clock import now

UNKNOWN = "11111111-2222-4333-8444-555555555555"
WANTED = {"text": "Hello.", "voice": "a-voice"}


@attrs.frozen
class Backend:
    """A backend that is being served, and a client of it."""

    client: aiohttp.ClientSession | TestClient[Any, Any]
    playai: PlayAISession
    stop: Callable[[], Awaitable[None]]


@asynccontextmanager
async def with_aiohttp() -> AsyncIterator[Backend]:
    """Serve the one with aiohttp."""
    app = aiohttp_backend.make_app()
    async with TestClient(TestServer(app)) as client:
        yield Backend(client, app[aiohttp_backend.PLAYAI], client.server.close)


@asynccontextmanager
async def with_starlette() -> AsyncIterator[Backend]:
    """Serve the one with Starlette."""
    async with serving(starlette_backend.app, starlette_backend.Server, grace=10) as server:
        yield Backend(server.client, server.playai, server.stop)


Served = Callable[[], Any]


@pytest.fixture(params=[with_aiohttp, with_starlette], ids=["aiohttp", "starlette"])
def served(request: pytest.FixtureRequest, emulator: Emulator) -> Served:
    """Serves one of them, inside the test: uvicorn uses the clock of the event loop that it is started in."""
    served: Served = request.param
    return served


async def read(backend: Backend, path: str) -> str:
    """Get all of an answer."""
    async with backend.client.get(path) as answer:
        return await answer.text()


async def data_of(stream: aiohttp.ClientResponse) -> list[str]:
    """Read server-sent events to the end, and return the status that each tells."""
    assert stream.content_type == "text/event-stream"
    events = (await stream.text()).split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: "))["status"] for event in events]


async def test_a_speech_is_made(emulator: Emulator, served: Served) -> None:
    """From the text to the audio."""
    async with served() as backend:
        created = await backend.client.post("/speech", json=WANTED)
        assert created.status == 201
        speech = await (await backend.client.get(created.headers["Location"])).json()
        assert (speech["status"], speech["done"], speech["seconds"]) == ("COMPLETED", True, 0.4)
        assert speech["url"].startswith(emulator.audio_url)


@pytest.mark.parametrize("wait", ["1", "25", "0", "-5", "3600"])
async def test_a_wait_is_bounded(emulator: Emulator, served: Served, wait: str) -> None:
    """Between a second and what proxies allow, whatever is asked for."""
    async with served() as backend:
        began = now()
        answer = await backend.client.get(f"/speech/{emulator.add_job(math.inf)}", params={"wait": wait})
        assert answer.status == 200
        speech = await answer.json()
        assert (speech["status"], speech["done"]) == ("IN_PROGRESS", False)
        assert now() - began == pytest.approx(min(max(int(wait), 1), 25))


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_job_that_is_not_there_is_not_found(
    served: Served, job_id: str, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether the service says so or the id is none; an EventSource does not connect again after it."""
    async with served() as backend:
        answer = await backend.client.get(f"/speech/{job_id}{path}")
        assert (answer.status, await answer.json()) == (404, {"error": "Not Found"})
    assert [record for record in caplog.records if record.name == "root"] == []


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"nonsense",
        b'{"text": "", "voice": "a-voice"}',
        b'{"text": "Hello.", "voice": 7}',
        rb'{"text": "\ud800", "voice": "a-voice"}',
        b"[" * 200_000,
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_a_speech_that_cannot_be_made_is_refused(emulator: Emulator, served: Served, body: bytes) -> None:
    """Before anybody is paid for it."""
    async with served() as backend:
        answer = await backend.client.post("/speech", data=body, headers={"Content-Type": "application/json"})
        assert (answer.status, emulator.arrivals) == (400, ())
        assert await answer.json() == {"error": "text and voice are needed, as JSON"}


async def test_a_speech_in_no_known_encoding_is_not_made(emulator: Emulator, served: Served) -> None:
    """Starlette reads JSON as UTF-8, whatever is said of it."""
    async with served() as backend:
        body, kind = json.dumps({**WANTED, "text": 7}).encode(), "application/json; charset=nonsense"
        answer = await backend.client.post("/speech", data=body, headers={"Content-Type": kind})
        assert (answer.status, emulator.arrivals) == (400, ())


async def test_the_head_of_a_stream_is_no_stream(emulator: Emulator, served: Served) -> None:
    """A body after it would be taken for the next answer of its connection."""
    async with served() as backend:
        for path in ("/events", ""):
            async with asyncio.timeout(5.0):
                answer = await backend.client.head(f"/speech/{emulator.add_job()}{path}")
                assert await answer.read() == b""
        assert (await backend.client.get(f"/speech/{emulator.add_job()}")).status == 200


async def test_a_client_that_goes_in_the_middle_of_its_wish_is_no_error(
    emulator: Emulator, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged of it, and nothing made."""
    async with served() as backend:
        url = backend.client.make_url("/") if isinstance(backend.client, TestClient) else backend.client._base_url
        assert url is not None
        _, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"POST /speech HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        await asyncio.sleep(1.0)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(1.0)
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert emulator.jobs == ()


@pytest.mark.parametrize("wait", ["soon", "1.5", "nan", ""])
async def test_a_wait_that_is_no_number_is_refused(emulator: Emulator, served: Served, wait: str) -> None:
    """It is the client's mistake."""
    async with served() as backend:
        answer = await backend.client.get(f"/speech/{emulator.add_job()}", params={"wait": wait})
        assert (answer.status, emulator.arrivals) == (400, ())
        assert await answer.json() == {"error": "wait must be a number of seconds"}


async def test_another_method_is_refused(served: Served) -> None:
    """As JSON like all that is refused, with what would be allowed."""
    async with served() as backend:
        answer = await backend.client.get("/speech")
        assert (answer.status, await answer.json()) == (405, {"error": "Method Not Allowed"})
        assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Status(400), 400),
        (Status(401), 502),
        (Status(403), 502),
        (Status(429, headers={"Retry-After": "3"}), 503),
        (Status(500), 502),
        (Malformed(), 502),
        (Reset(), 502),
        (Hang(), 502),
    ],
    ids=["400", "401", "403", "429", "500", "malformed", "reset", "hang"],
)
async def test_what_comes_of_a_creation_has_a_status(
    emulator: Emulator, served: Served, fault: Fault, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's mistakes are the client's, a spent quota is for a while, and the rest is a bad gateway.

    What is not the client's mistake is in the log.
    """
    async with served() as backend:
        emulator.inject(fault, times=None, endpoint="create")
        answer = await backend.client.post("/speech", json=WANTED)
        assert (answer.status, await answer.json()) == (status, {"error": HTTPStatus(status).phrase})
    assert len([record for record in caplog.records if record.name == "root"]) == (status >= 500)


async def test_a_spent_quota_says_when_to_come_back(emulator: Emulator, served: Served) -> None:
    """Within the time that proxies allow, waiting for a job or creating one, with the pause of the session."""
    async with served() as backend:
        emulator.quota = emulator.create_quota = 0
        for asked in (
            backend.client.get(f"/speech/{emulator.add_job()}?wait=3"),
            backend.client.post("/speech", json=WANTED),
        ):
            began = now()
            answer = await asked
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) == math.ceil(backend.playai.stats.paused_for) > 1
            assert now() - began <= 25.1


async def test_events_tell_of_each_change(emulator: Emulator, served: Served) -> None:
    """The first at once, the last one closes the stream, and no proxy may keep them back."""
    async with served() as backend:
        began = now()
        async with backend.client.get(f"/speech/{emulator.add_job(30.0)}/events") as stream:
            assert now() == began
            assert (stream.headers["Cache-Control"], stream.headers["X-Accel-Buffering"]) == ("no-cache", "no")
            assert await data_of(stream) == ["IN_PROGRESS", "COMPLETED"]
        async with backend.client.get(f"/speech/{emulator.add_job(30.0, fails=True)}/events") as stream:
            assert await data_of(stream) == ["IN_PROGRESS", "FAILED"]


async def test_a_stream_ends_where_its_wait_does(emulator: Emulator, served: Served) -> None:
    """An EventSource connects again, and hears why by a status."""
    async with served() as backend:
        job_id = emulator.add_job(math.inf)
        async with backend.client.get(f"/speech/{job_id}/events") as stream:
            emulator.inject(Status(503), times=None)
            assert await data_of(stream) == ["IN_PROGRESS"]
        assert (await backend.client.get(f"/speech/{job_id}/events")).status == 502


@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_client_that_goes_lets_go_of_its_wait(emulator: Emulator, served: Served, path: str) -> None:
    """Others that wait for the job go on; after the last one, nobody asks for it."""
    async with served() as backend:
        job_id = emulator.add_job(12.0)
        staying = asyncio.create_task(backend.client.get(f"/speech/{job_id}?wait=25"))
        leaving = [asyncio.create_task(read(backend, f"/speech/{job_id}{path}?wait=25")) for _ in range(20)]
        await asyncio.sleep(10.0)
        assert backend.playai.stats.open_waits == 21
        for client in leaving:
            client.cancel()
        await asyncio.sleep(0.1)
        assert backend.playai.stats.open_waits == 1
        assert (await (await staying).json())["status"] == "COMPLETED"
        assert backend.playai.stats.open_waits == 0


@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_client_that_goes_before_the_first_answer_lets_go_too(
    emulator: Emulator, served: Served, path: str
) -> None:
    """Of a stream, nothing has been sent by then."""
    async with served() as backend:
        emulator.inject(Hang(), times=None)
        leaving = asyncio.create_task(read(backend, f"/speech/{emulator.add_job()}{path}"))
        await asyncio.sleep(1.0)
        assert backend.playai.stats.open_waits == 1
        leaving.cancel()
        await asyncio.sleep(0.1)
        assert backend.playai.stats.open_waits == 0
        assert emulator.stats.in_flight == 0


async def test_a_client_that_goes_while_a_job_is_created_is_not_waited_for(emulator: Emulator, served: Served) -> None:
    """Behind a spent quota, its request is never sent."""
    async with served() as backend:
        emulator.create_quota = 0
        leaving = asyncio.create_task(backend.client.post("/speech", json=WANTED))
        await asyncio.sleep(1.0)
        leaving.cancel()
        emulator.create_quota = None
        await asyncio.sleep(120.0)
        assert emulator.jobs == ()


async def test_shutdown_ends_waits_and_streams_at_once(emulator: Emulator, served: Served) -> None:
    """What was open is answered, and nothing takes the time that handlers are given to end."""
    async with served() as backend:
        job_id = emulator.add_job(math.inf)
        waiting = asyncio.create_task(backend.client.get(f"/speech/{job_id}?wait=25"))
        streaming = asyncio.create_task(backend.client.get(f"/speech/{job_id}/events"))
        await asyncio.sleep(10.0)
        assert backend.playai.stats.open_waits == 2
        began = now()
        await backend.stop()
        assert now() - began < 1.0
        answer = await waiting
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert await data_of(await streaming) == ["IN_PROGRESS"]
        assert backend.playai.stats.open_waits == 0
