"""The aiohttp backend on a real server, against the emulator; docs/testing.md and docs/web-backends.md show parts."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from examples.aiohttp_backend import PLAYAI, make_app
from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Status

pytest_plugins = ["playai_async.testing"]

UNKNOWN = "11111111-2222-4333-8444-555555555555"
WANTED = {"text": "Hello.", "voice": "a-voice"}

Backend = TestClient[web.Request, web.Application]


@pytest_asyncio.fixture
async def backend(playai_emulator: Emulator) -> AsyncIterator[Backend]:
    """A client of the backend, on a real socket."""
    async with TestClient(TestServer(make_app())) as client:
        yield client


def open_waits(backend: Backend) -> int:
    """How many waits the backend's session has."""
    assert backend.app is not None
    return backend.app[PLAYAI].stats.open_waits


async def data_of(stream: aiohttp.ClientResponse) -> list[str]:
    """Read server-sent events to the end, and return the status that each tells."""
    assert stream.headers["Content-Type"] == "text/event-stream"
    events = (await stream.text()).split("\n\n")
    assert events.pop() == ""
    assert all(event.startswith("data: ") for event in events)
    return [json.loads(event.removeprefix("data: "))["status"] for event in events]


# From here on, as in docs/testing.md.


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_is_made(playai_emulator: Emulator, backend: Backend) -> None:
    """From the text to the audio."""
    created = await backend.post("/speech", json={"text": "Hello.", "voice": "a-voice"})
    assert created.status == 201
    done = await backend.get(created.headers["Location"])
    speech = await done.json()
    assert (speech["status"], speech["seconds"]) == ("COMPLETED", 0.4)
    assert speech["url"].startswith(playai_emulator.audio_url)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_takes_its_time(playai_emulator: Emulator, backend: Backend) -> None:
    """A request ends after its wait, and the speech is asked for again."""
    job_id = playai_emulator.add_job(duration=45.0)
    statuses = [(await (await backend.get(f"/speech/{job_id}?wait=20")).json())["status"] for _ in range(3)]
    assert statuses == ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_speech_may_fail(playai_emulator: Emulator, backend: Backend) -> None:
    """Which is a state, and not an error of the backend's."""
    job_id = playai_emulator.add_job(duration=5.0, fails=True)
    answer = await backend.get(f"/speech/{job_id}")
    assert (answer.status, (await answer.json())["status"]) == (200, "FAILED")


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_storm_of_429s_is_waited_out(playai_emulator: Emulator, backend: Backend) -> None:
    """All visitors are held together, and none of them is told of it."""
    job_id = playai_emulator.add_job(duration=5.0)
    playai_emulator.inject(Status(429), times=3)
    answers = await asyncio.gather(*(backend.get(f"/speech/{job_id}?wait=60") for _ in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert playai_emulator.stats.requests < 10


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_service_that_is_down_is_a_bad_gateway(playai_emulator: Emulator, backend: Backend) -> None:
    """Once it was down for longer than the session bears with."""
    job_id = playai_emulator.add_job()
    playai_emulator.inject(Status(503), times=None)
    assert (await backend.get(f"/speech/{job_id}?wait=60")).status == 502
    playai_emulator.clear_faults()
    assert (await backend.get(f"/speech/{job_id}?wait=60")).status == 200


# And what else the example promises.


@pytest.mark.parametrize("wait", ["1", "60", "0", "-5", "3600"])
async def test_a_wait_is_bounded(playai_emulator: Emulator, backend: Backend, wait: str) -> None:
    """Between a second and a minute, whatever is asked for."""
    answer = await backend.get(f"/speech/{playai_emulator.add_job(math.inf)}", params={"wait": wait})
    assert (answer.status, (await answer.json())["status"]) == (200, "IN_PROGRESS")
    assert asyncio.get_running_loop().time() == pytest.approx(min(max(int(wait), 1), 60))


@pytest.mark.parametrize("job_id", [UNKNOWN, "nonsense"])
@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_job_that_is_not_there_is_not_found(backend: Backend, job_id: str, path: str) -> None:
    """Whether the service says so or the id is none; an EventSource does not connect again after it."""
    assert (await backend.get(f"/speech/{job_id}{path}")).status == 404


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"nonsense", b'{"text": "", "voice": "a-voice"}', b'{"text": "Hello.", "voice": 7}'],
    ids=repr,
)
async def test_a_speech_that_cannot_be_made_is_refused(
    playai_emulator: Emulator, backend: Backend, body: bytes
) -> None:
    """Before anybody is paid for it."""
    answer = await backend.post("/speech", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status, playai_emulator.arrivals) == (400, ())


@pytest.mark.parametrize("wait", ["soon", "1.5", "nan", ""])
async def test_a_wait_that_is_no_number_is_refused(playai_emulator: Emulator, backend: Backend, wait: str) -> None:
    """It is the client's mistake."""
    answer = await backend.get(f"/speech/{playai_emulator.add_job()}", params={"wait": wait})
    assert (answer.status, playai_emulator.arrivals) == (400, ())


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
    playai_emulator: Emulator, backend: Backend, fault: Fault, status: int
) -> None:
    """The client's mistakes are the client's, a spent quota is for a while, and the rest is a bad gateway."""
    playai_emulator.inject(fault, times=None, endpoint="create")
    answer = await backend.post("/speech", json=WANTED)
    assert (answer.status, await answer.json()) == (status, {"error": HTTPStatus(status).phrase})


async def test_silence_is_a_gateway_timeout(playai_emulator: Emulator, backend: Backend) -> None:
    """Where nothing was heard of the job in time, nothing can be said of it."""
    playai_emulator.quota = 0
    assert (await backend.get(f"/speech/{playai_emulator.add_job()}")).status == 504


async def test_events_tell_of_each_change(playai_emulator: Emulator, backend: Backend) -> None:
    """The first at once, the last one closes the stream."""
    async with backend.get(f"/speech/{playai_emulator.add_job(30.0)}/events") as stream:
        assert asyncio.get_running_loop().time() == 0.0
        assert await data_of(stream) == ["IN_PROGRESS", "COMPLETED"]
    async with backend.get(f"/speech/{playai_emulator.add_job(30.0, fails=True)}/events") as stream:
        assert await data_of(stream) == ["IN_PROGRESS", "FAILED"]


async def test_a_stream_ends_where_its_wait_does(playai_emulator: Emulator, backend: Backend) -> None:
    """An EventSource connects again, and hears why by a status."""
    job_id = playai_emulator.add_job(math.inf)
    async with backend.get(f"/speech/{job_id}/events") as stream:
        playai_emulator.inject(Status(503), times=None)
        assert await data_of(stream) == ["IN_PROGRESS"]
    assert (await backend.get(f"/speech/{job_id}/events")).status == 502


@pytest.mark.parametrize("path", ["", "/events"], ids=["state", "events"])
async def test_a_client_that_goes_lets_go_of_its_wait(playai_emulator: Emulator, backend: Backend, path: str) -> None:
    """Others that wait for the job go on; after the last one, nobody asks for it."""
    job_id = playai_emulator.add_job(50.0)
    staying = asyncio.create_task(backend.get(f"/speech/{job_id}?wait=60"))
    leaving = [asyncio.create_task(read(backend, f"/speech/{job_id}{path}?wait=60")) for _ in range(20)]
    await asyncio.sleep(10.0)
    assert open_waits(backend) == 21
    for client in leaving:
        client.cancel()
    await asyncio.sleep(0.1)
    assert open_waits(backend) == 1
    assert (await staying).status == 200
    assert open_waits(backend) == 0


async def read(backend: Backend, path: str) -> str:
    """Get all of an answer."""
    async with backend.get(path) as answer:
        return await answer.text()


async def test_a_client_that_goes_while_a_job_is_created_is_not_waited_for(
    playai_emulator: Emulator, backend: Backend
) -> None:
    """Behind a spent quota, its request is never sent."""
    playai_emulator.create_quota = 0
    leaving = asyncio.create_task(backend.post("/speech", json=WANTED))
    await asyncio.sleep(1.0)
    leaving.cancel()
    playai_emulator.create_quota = None
    await asyncio.sleep(120.0)
    assert playai_emulator.jobs == ()


async def test_shutdown_ends_waits_and_streams_at_once(playai_emulator: Emulator, backend: Backend) -> None:
    """What was open is answered, and nothing takes the time that handlers are given to end."""
    job_id = playai_emulator.add_job(math.inf)
    waiting = asyncio.create_task(backend.get(f"/speech/{job_id}?wait=60"))
    streaming = asyncio.create_task(backend.get(f"/speech/{job_id}/events"))
    await asyncio.sleep(10.0)
    assert open_waits(backend) == 2
    began = asyncio.get_running_loop().time()
    await backend.server.close()
    assert asyncio.get_running_loop().time() - began < 1.0
    assert (await waiting).status == 503
    assert await data_of(await streaming) == ["IN_PROGRESS"]
    assert open_waits(backend) == 0
