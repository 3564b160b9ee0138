"""The Starlette backend under uvicorn, against the emulator."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import aiohttp
import attrs
import pytest
import uvicorn

from examples.starlette_backend import Server, app
from playai_async import PlayAISession
from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Status

pytest_plugins = ["playai_async.testing"]

UNKNOWN = "11111111-2222-4333-8444-555555555555"
WANTED = {"text": "Hello.", "voice": "a-voice"}


@attrs.frozen
class Backend:
    """The backend, and a client of it."""

    server: Server
    serving: asyncio.Task[None]
    client: aiohttp.ClientSession

    @property
    def open_waits(self) -> int:
        """How many waits the backend's session has."""
        playai: PlayAISession = self.server.lifespan.state["playai"]
        return playai.stats.open_waits

    async def close(self) -> None:
        """Shut the server down, as a signal does."""
        self.server.should_exit = True
        await self.serving


@asynccontextmanager
async def served() -> AsyncIterator[Backend]:
    """Serve the backend as `python examples/starlette_backend.py` does."""
    server = Server(uvicorn.Config(app, port=0, timeout_graceful_shutdown=10, log_config=None))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.001)
    host, port = server.servers[0].sockets[0].getsockname()
    async with aiohttp.ClientSession(f"http://{host}:{port}") as client:
        backend = Backend(server, serving, client)
        yield backend
    await backend.close()


@pytest.fixture
async def backend(playai_emulator: Emulator) -> AsyncIterator[Backend]:
    """The backend; its server looks around by the clock of the fixtures, and so not until the test is over."""
    async with served() as backend:
        yield backend


async def data_of(stream: aiohttp.ClientResponse) -> list[str]:
    """Read server-sent events to the end, and return the status that each tells."""
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    events = (await stream.text()).split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: "))["status"] for event in events]


async def read(backend: Backend, path: str) -> str:
    """Get all of an answer."""
    async with backend.client.get(path) as answer:
        return await answer.text()


async def test_a_speech_is_made(playai_emulator: Emulator, backend: Backend) -> None:
    """From the text to the audio."""
    created = await backend.client.post("/speech", json=WANTED)
    assert created.status == 201
    speech = await (await backend.client.get(created.headers["Location"])).json()
    assert (speech["status"], speech["seconds"]) == ("COMPLETED", 0.4)
    assert speech["url"].startswith(playai_emulator.audio_url)


@pytest.mark.parametrize("wait", ["1", "3", "-5"])
async def test_a_wait_ends_and_may_be_begun_again(playai_emulator: Emulator, backend: Backend, wait: str) -> None:
    """A job that is not done is in progress, and no error."""
    job_id = playai_emulator.add_job(5.0, fails=True)
    answer = await backend.client.get(f"/speech/{job_id}", params={"wait": wait})
    assert (answer.status, (await answer.json())["status"]) == (200, "IN_PROGRESS")
    assert asyncio.get_running_loop().time() == pytest.approx(max(int(wait), 1), abs=0.11)
    answer = await backend.client.get(f"/speech/{job_id}")
    assert (answer.status, (await answer.json())["status"]) == (200, "FAILED")


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_job_that_is_not_there_is_not_found(backend: Backend, job_id: str, path: str) -> None:
    """Whether the service says so or the id is none; an EventSource does not connect again after it."""
    assert (await backend.client.get(f"/speech/{job_id}{path}")).status == 404


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"nonsense", b'{"text": "", "voice": "a-voice"}', b'{"text": "Hello.", "voice": 7}'],
    ids=repr,
)
async def test_a_speech_that_cannot_be_made_is_refused(
    playai_emulator: Emulator, backend: Backend, body: bytes
) -> None:
    """Before anybody is paid for it."""
    answer = await backend.client.post("/speech", data=body)
    assert (answer.status, playai_emulator.arrivals) == (400, ())


@pytest.mark.parametrize("wait", ["soon", "1.5", "nan", ""])
async def test_a_wait_that_is_no_number_is_refused(playai_emulator: Emulator, backend: Backend, wait: str) -> None:
    """It is the client's mistake."""
    answer = await backend.client.get(f"/speech/{playai_emulator.add_job()}", params={"wait": wait})
    assert (answer.status, playai_emulator.arrivals) == (400, ())


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Status(400), 400),
        (Status(401), 502),
        (Status(403), 502),
        (Status(429, headers={"Retry-After": "1"}), 503),
        (Status(500), 502),
        (Malformed(), 502),
        (Reset(), 502),
        (Hang(), 502),
    ],
    ids=["400", "401", "403", "429", "500", "malformed", "reset", "hang"],
)
async def test_what_comes_of_a_creation_has_a_status(
    playai_emulator: Emulator, backend: Backend, fault: Fault, status: int
) -> None:
    """The client's mistakes are the client's, a spent quota is for a while, and the rest is a bad gateway."""
    playai_emulator.inject(fault, times=None, endpoint="create")
    answer = await backend.client.post("/speech", json=WANTED)
    assert (answer.status, await answer.json()) == (status, {"error": HTTPStatus(status).phrase})


async def test_silence_is_a_gateway_timeout(playai_emulator: Emulator, backend: Backend) -> None:
    """Where nothing was heard of the job in time, nothing can be said of it."""
    playai_emulator.quota = 0
    assert (await backend.client.get(f"/speech/{playai_emulator.add_job()}?wait=2")).status == 504


async def test_events_tell_of_each_change(playai_emulator: Emulator, backend: Backend) -> None:
    """The first at once, the last one closes the stream."""
    async with backend.client.get(f"/speech/{playai_emulator.add_job(5.0)}/events") as stream:
        assert asyncio.get_running_loop().time() < 0.2
        assert await data_of(stream) == ["IN_PROGRESS", "COMPLETED"]
    async with backend.client.get(f"/speech/{playai_emulator.add_job(5.0, fails=True)}/events") as stream:
        assert await data_of(stream) == ["IN_PROGRESS", "FAILED"]


async def test_a_stream_ends_where_its_wait_does(playai_emulator: Emulator, backend: Backend) -> None:
    """An EventSource connects again, and hears why by a status."""
    job_id = playai_emulator.add_job(math.inf)
    async with backend.client.get(f"/speech/{job_id}/events") as stream:
        playai_emulator.inject(Status(403), times=2)
        assert await data_of(stream) == ["IN_PROGRESS"]
    assert (await backend.client.get(f"/speech/{job_id}/events")).status == 502


@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_client_that_goes_lets_go_of_its_wait(playai_emulator: Emulator, backend: Backend, path: str) -> None:
    """Others that wait for the job go on; after the last one, nobody asks for it."""
    job_id = playai_emulator.add_job(5.0)
    staying = asyncio.create_task(read(backend, f"/speech/{job_id}"))
    leaving = [asyncio.create_task(read(backend, f"/speech/{job_id}{path}")) for _ in range(20)]
    await asyncio.sleep(2.0)
    assert backend.open_waits == 21
    for client in leaving:
        client.cancel()
    await asyncio.sleep(0.1)
    assert backend.open_waits == 1
    assert "COMPLETED" in await staying
    assert backend.open_waits == 0


@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_client_that_goes_before_the_first_answer_lets_go_too(
    playai_emulator: Emulator, backend: Backend, path: str
) -> None:
    """Of a stream, nothing has been sent by then."""
    playai_emulator.inject(Hang(), times=None)
    leaving = asyncio.create_task(read(backend, f"/speech/{playai_emulator.add_job()}{path}"))
    await asyncio.sleep(1.0)
    assert backend.open_waits == 1
    leaving.cancel()
    await asyncio.sleep(0.1)
    assert backend.open_waits == 0
    assert playai_emulator.stats.in_flight == 0


async def test_a_client_that_goes_while_a_job_is_created_is_not_waited_for(
    playai_emulator: Emulator, backend: Backend
) -> None:
    """Behind a spent quota, its request is never sent again."""
    playai_emulator.inject(Status(429), endpoint="create")
    leaving = asyncio.create_task(backend.client.post("/speech", json=WANTED))
    await asyncio.sleep(1.0)
    leaving.cancel()
    await asyncio.sleep(10.0)
    assert playai_emulator.jobs == ()


async def test_shutdown_ends_waits_and_streams_at_once(playai_emulator: Emulator) -> None:
    """What was open is answered, and nothing takes the time that uvicorn waits for it."""
    async with served() as backend:
        job_id = playai_emulator.add_job(math.inf)
        waiting = asyncio.create_task(backend.client.get(f"/speech/{job_id}"))
        streaming = asyncio.create_task(backend.client.get(f"/speech/{job_id}/events"))
        await asyncio.sleep(2.0)
        assert backend.open_waits == 2
        began = asyncio.get_running_loop().time()
        await backend.close()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert (await waiting).status == 503
        assert await data_of(await streaming) == ["IN_PROGRESS"]
        assert backend.open_waits == 0
