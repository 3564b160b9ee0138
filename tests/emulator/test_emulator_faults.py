"""Faults: misbehaviour on request."""

import asyncio
import errno
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Slow, Status
from playai_async.emulator._http import send_response
from playai_async.emulator._service.audio import AudioFile
from playai_async.emulator._service.messages import Response
from tests.emulator.plain_client import CREDENTIALS, PARAMETERS, PlainClient

pytestmark = pytest.mark.looptime


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Status(503), 503, {"errorMessage": "Something went wrong.", "errorId": "INTERNAL_ERROR"}),
        (Status(429), 429, "Rate limit exceeded. Please wait a few moments and try again."),
        (Status(403, {"errorId": "UNSUPPORTED_PLAN"}), 403, {"errorId": "UNSUPPORTED_PLAN"}),
        (Status(500, []), 500, []),
    ],
    ids=["documented body", "documented 429", "given body", "given empty body"],
)
async def test_status_responds_with_the_status(
    emulator: Emulator, client: PlainClient, fault: Fault, status: int, body: Any
) -> None:
    """The body is the given one, or the one that the contract documents for the status."""
    emulator.inject(fault)
    reply = await client.ask(emulator.add_job())
    assert (reply.status, reply.json) == (status, body)


async def test_status_sends_bytes_unchanged(emulator: Emulator, client: PlainClient) -> None:
    """The caller's headers override the default headers."""
    emulator.inject(Status(502, b"<h1>Bad gateway</h1>", headers={"Content-Type": "text/html", "X-A": "b"}))
    reply = await client.ask(emulator.add_job())
    assert (reply.status, reply.body) == (502, b"<h1>Bad gateway</h1>")
    assert (reply.headers["Content-Type"], reply.headers["X-A"]) == ("text/html", "b")


async def test_status_can_redirect(emulator: Emulator, client: PlainClient) -> None:
    """Below 400 the contract documents no body, so none is sent."""
    emulator.inject(Status(302, headers={"Location": "http://127.0.0.1:9/"}))
    reply = await client.ask(emulator.add_job())
    assert (reply.status, reply.headers["Location"], reply.body) == (302, "http://127.0.0.1:9/", b"")


async def test_malformed_html_is_a_page(emulator: Emulator, client: PlainClient) -> None:
    """It looks like the page of a proxy, with status 200."""
    emulator.inject(Malformed("html"))
    reply = await client.ask(emulator.add_job())
    assert (reply.status, reply.headers["Content-Type"], reply.body[:9]) == (200, "text/html", b"<!doctype")


async def test_malformed_truncated_is_the_beginning_of_the_document(emulator: Emulator, client: PlainClient) -> None:
    """The HTTP message is complete, its JSON is not."""
    job_id = emulator.add_job()
    emulator.inject(Malformed())
    reply, good = await client.ask(job_id), await client.ask(job_id)
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert good.body.startswith(reply.body)
    with pytest.raises(json.JSONDecodeError):
        assert reply.json


async def test_malformed_other_id_is_another_job(emulator: Emulator, client: PlainClient) -> None:
    """Everything except the id is correct."""
    job_id = emulator.add_job()
    emulator.inject(Malformed("other_id"))
    reply, good = (await client.ask(job_id)).json, (await client.ask(job_id)).json
    assert reply.pop("id") != good.pop("id")
    assert reply == good


async def test_malformed_wrong_types_keeps_the_shape(emulator: Emulator, client: PlainClient) -> None:
    """The fields exist, but their values have the wrong types."""
    emulator.inject(Malformed("wrong_types"))
    job = (await client.ask(emulator.add_job())).json
    assert isinstance(job["createdAt"], int)
    assert isinstance(job["output"]["fileSize"], str)


async def test_malformed_can_be_any_bytes(emulator: Emulator, client: PlainClient) -> None:
    """So a test can send any body."""
    emulator.inject(Malformed(b"\xff"))
    reply = await client.ask(emulator.add_job())
    assert (reply.status, reply.headers["Content-Type"], reply.body) == (200, "application/json", b"\xff")


@pytest.mark.parametrize("job_id", ["11111111-2222-4333-8444-555555555555", "bad"], ids=["unknown", "no uuid"])
async def test_malformed_replaces_any_response(emulator: Emulator, client: PlainClient, job_id: str) -> None:
    """If there is no job, a placeholder is distorted."""
    emulator.inject(Malformed("wrong_types"))
    reply = await client.ask(job_id)
    assert (reply.status, set(reply.json)) == (200, {"id", "createdAt", "input", "completedAt", "output"})


async def test_clear_faults_releases_requests_that_hang(emulator: Emulator, client: PlainClient) -> None:
    """The response is the one that was due on arrival, however long ago that was."""
    job_id = emulator.add_job(duration=5.0)
    emulator.inject(Hang())
    asking = asyncio.create_task(client.ask(job_id))
    await asyncio.sleep(3600.0)
    assert not asking.done()
    emulator.clear_faults()
    assert (await asking).json["output"]["status"] == "IN_PROGRESS"


async def test_hang_ends_when_the_client_disconnects(emulator: Emulator, client: PlainClient) -> None:
    """No handler outlives its client."""
    emulator.inject(Hang())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await client.ask(emulator.add_job())
    await asyncio.sleep(0.1)
    assert emulator.stats.in_flight == 0


async def test_clear_faults_does_not_release_later_requests(emulator: Emulator, client: PlainClient) -> None:
    """A request that meets a new Hang does hang."""
    emulator.clear_faults()
    emulator.inject(Hang())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await client.ask(emulator.add_job())


async def test_slow_takes_the_given_time(emulator: Emulator, client: PlainClient) -> None:
    """The response is complete in the end."""
    loop = asyncio.get_running_loop()
    job_id = emulator.add_job()
    good = await client.ask(job_id)
    began = loop.time()
    emulator.inject(Slow(7.0))
    reply = await client.ask(job_id)
    assert loop.time() - began == pytest.approx(7.0, abs=1e-3)
    assert (reply.status, reply.body) == (200, good.body)


async def test_slow_sends_at_an_even_pace(emulator: Emulator) -> None:
    """Single bytes arrive so evenly that no read timeout passes between two of them."""
    loop = asyncio.get_running_loop()
    job_id = emulator.add_job(duration=100.0)
    emulator.inject(Slow(10.0))
    arrived: list[float] = []
    async with (
        aiohttp.ClientSession(headers=CREDENTIALS) as session,
        session.get(f"{emulator.base_url}/api/v1/tts/{job_id}") as response,
    ):
        async for chunk, _ in response.content.iter_chunks():
            arrived.extend([loop.time()] * len(chunk))
    assert len(arrived) == response.content_length
    pauses = [later - earlier for earlier, later in pairwise(arrived)]
    assert max(pauses) == pytest.approx(10.0 / len(arrived), abs=1e-3)


async def test_slow_applies_to_errors_too(emulator: Emulator, client: PlainClient) -> None:
    """It delays the response that is due, whatever it is."""
    emulator.inject(Slow(1.0))
    assert (await client.ask("bad")).status == 400


async def test_slow_ends_when_the_client_disconnects(emulator: Emulator, client: PlainClient) -> None:
    """The rest of the response is dropped without an error."""
    emulator.inject(Slow(60.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await client.ask(emulator.add_job())
    await asyncio.sleep(1.0)
    assert emulator.stats.in_flight == 0


async def test_reset_resets_the_connection_before_a_response(emulator: Emulator, client: PlainClient) -> None:
    """It is a TCP reset, not a normal close. Twice, because aiohttp retries a GET by itself."""
    emulator.inject(Reset(), times=2)
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await client.ask(emulator.add_job())
    assert caught.value.errno == errno.ECONNRESET


async def test_reset_midway_interrupts_the_body(emulator: Emulator, client: PlainClient) -> None:
    """The client has received the status, the headers and half of the body."""
    emulator.inject(Reset(midway=True))
    with pytest.raises(aiohttp.ClientPayloadError, match="reset"):
        await client.ask(emulator.add_job())


async def test_a_fault_is_met_the_given_number_of_times(emulator: Emulator, client: PlainClient) -> None:
    """After that, responses are normal again."""
    job_id = emulator.add_job()
    emulator.inject(Status(500), times=2)
    assert [(await client.ask(job_id)).status for _ in range(3)] == [500, 500, 200]


async def test_faults_are_met_in_the_order_planned(emulator: Emulator, client: PlainClient) -> None:
    """The next fault applies once the one before is used up."""
    job_id = emulator.add_job()
    emulator.inject(Status(500))
    emulator.inject(Status(502))
    assert [(await client.ask(job_id)).status for _ in range(3)] == [500, 502, 200]


async def test_a_fault_without_a_count_lasts_until_cleared(emulator: Emulator, client: PlainClient) -> None:
    """This emulates an outage."""
    job_id = emulator.add_job()
    emulator.inject(Status(500), times=None)
    before = [(await client.ask(job_id)).status for _ in range(3)]
    emulator.clear_faults()
    assert [*before, (await client.ask(job_id)).status] == [500, 500, 500, 200]


async def test_a_fault_of_one_job_does_not_affect_other_jobs(emulator: Emulator, client: PlainClient) -> None:
    """Requests for other jobs do not use it up either."""
    ill, well = emulator.add_job(), emulator.add_job()
    emulator.inject(Status(500), job_id=ill)
    assert [(await client.ask(job_id)).status for job_id in (well, ill, ill)] == [200, 500, 200]


async def test_a_fault_applies_to_its_endpoint_only(emulator: Emulator, client: PlainClient) -> None:
    """Requests to one endpoint do not use up the faults of another; the default is status requests."""
    job_id = emulator.add_job()
    emulator.inject(Status(500))
    emulator.inject(Status(502), endpoint="create")
    emulator.inject(Status(504), endpoint="audio", job_id=job_id)
    for status, audio, created in ((500, 504, 502), (200, 200, 201)):
        assert (await client.fetch(emulator.link_of(emulator.add_job()))).status == 200
        assert (await client.create()).status == created
        assert (await client.ask(job_id)).status == status
        assert (await client.fetch(emulator.link_of(job_id))).status == audio


async def test_status_creates_no_job(emulator: Emulator, client: PlainClient) -> None:
    """It stands for a service that failed before it did anything, but the request spends its quota."""
    emulator.create_quota = 1
    emulator.inject(Status(503), endpoint="create")
    assert ((await client.create()).status, emulator.jobs) == (503, ())
    assert (await client.create()).status == 429


@pytest.mark.parametrize("fault", [Reset(), Reset(midway=True)], ids=repr)
async def test_reset_creates_a_job_that_the_client_does_not_know(
    emulator: Emulator, client: PlainClient, fault: Fault
) -> None:
    """A client that simply creates it again pays twice."""
    emulator.inject(fault, endpoint="create")
    with pytest.raises(aiohttp.ClientError):
        await client.create()
    assert len(emulator.jobs) == 1


async def test_hang_creates_a_job_too(emulator: Emulator, client: PlainClient) -> None:
    """The response, if it is ever sent, shows the job at its creation."""
    emulator.inject(Hang(), endpoint="create")
    creating = asyncio.create_task(client.create())
    await asyncio.sleep(60.0)
    (job_id,) = emulator.jobs
    emulator.clear_faults()
    job = (await creating).json
    assert (job["id"], job["output"]["status"]) == (str(job_id), "IN_PROGRESS")


async def test_a_slow_response_has_the_created_job(emulator: Emulator, client: PlainClient) -> None:
    """Only later than usual."""
    emulator.inject(Slow(60.0), endpoint="create")
    reply = await client.create()
    assert (reply.status, [reply.json["id"]]) == (201, [str(job_id) for job_id in emulator.jobs])


async def test_malformed_distorts_the_created_job(emulator: Emulator, client: PlainClient) -> None:
    """The job exists, but not under the id in the response."""
    emulator.inject(Malformed("other_id"), endpoint="create")
    reply = await client.create()
    (job_id,) = emulator.jobs
    assert (reply.status, reply.json["input"]) == (201, PARAMETERS)
    assert reply.json["id"] != str(job_id)


async def test_malformed_replaces_an_error_of_a_creation(emulator: Emulator, client: PlainClient) -> None:
    """No job is created, and a placeholder is distorted."""
    emulator.inject(Malformed("wrong_types"), endpoint="create")
    reply = await client.create({})
    assert (reply.status, emulator.jobs) == (201, ())
    assert reply.json["createdAt"] == 1_700_000_000


async def test_audio_can_be_redirected(emulator: Emulator, client: PlainClient) -> None:
    """Object stores redirect, within the host or to others."""
    job_id = emulator.add_job()
    emulator.inject(Status(307, headers={"Location": emulator.link_of(job_id)}), endpoint="audio")
    first = await client.fetch(emulator.link_of(job_id))
    assert (first.status, first.body) == (307, b"")
    assert (await client.fetch(first.headers["Location"])).body == emulator.audio_of(job_id)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_audio_can_hang(emulator: Emulator, client: PlainClient, method: str) -> None:
    """Until the faults are cleared."""
    job_id = emulator.add_job()
    emulator.inject(Hang(), endpoint="audio")
    fetching = asyncio.create_task(client.fetch(emulator.link_of(job_id), method))
    await asyncio.sleep(3600.0)
    assert not fetching.done()
    emulator.clear_faults()
    assert (await fetching).body == (emulator.audio_of(job_id) if method == "GET" else b"")


async def test_audio_can_be_slow(emulator: Emulator) -> None:
    """In even pieces, however long the file is; a HEAD takes as long without any."""
    loop = asyncio.get_running_loop()
    job_id = emulator.add_job()
    emulator.inject(Slow(100.0), endpoint="audio", times=2)
    arrived: list[float] = []
    async with aiohttp.ClientSession() as session:
        async with session.get(emulator.link_of(job_id)) as response:
            body = b""
            async for chunk in response.content.iter_any():
                body += chunk
                arrived.append(loop.time())
        assert body == emulator.audio_of(job_id)
        assert loop.time() == pytest.approx(100.0, abs=1e-3)
        assert max(later - earlier for earlier, later in pairwise(arrived)) < 0.2
        async with session.head(emulator.link_of(job_id)) as response:
            assert response.content_length == len(body)


@pytest.mark.parametrize("characters", [45, 5_000], ids=["short", "long"])
@pytest.mark.parametrize("wanted", [{}, {"Range": "bytes=1000-"}], ids=["whole", "range"])
async def test_audio_can_be_interrupted_midway(emulator: Emulator, characters: int, wanted: Mapping[str, str]) -> None:
    """Half of the response has arrived, so a download can resume from there."""
    job_id = emulator.add_job(input={"text": "x" * characters})
    emulator.inject(Reset(midway=True), endpoint="audio")
    due = emulator.audio_of(job_id)[1000 if wanted else 0 :]
    body = b""
    async with aiohttp.ClientSession() as session, session.get(emulator.link_of(job_id), headers=wanted) as response:
        with pytest.raises(aiohttp.ClientPayloadError, match="reset"):
            async for chunk in response.content.iter_any():
                body += chunk
    assert body == due[: len(due) // 2]


@pytest.mark.parametrize("fault", [None, Slow(50.0), Reset(midway=True)], ids=repr)
async def test_audio_is_not_sent_after_a_disconnect(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, fault: Fault | None
) -> None:
    """The handler ends and logs nothing."""
    if fault:
        emulator.inject(fault, endpoint="audio")
    async with aiohttp.ClientSession() as session:
        async with session.get(emulator.link_of(emulator.add_job(input={"text": "x" * 50_000}))) as response:
            await response.content.readany()
            response.close()
        await asyncio.sleep(100.0)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("fault", "arguments"),
    [
        (Hang, {}),
        ("hang", {}),
        (Hang(), {"times": 0}),
        (Hang(), {"times": 1.5}),
        (Hang(), {"job_id": "11111111-2222-4333-8444-555555555555"}),
        (Hang(), {"endpoint": "delete"}),
        (Hang(), {"endpoint": None}),
        (Hang(), {"endpoint": "create", "job_id": UUID("11111111-2222-4333-8444-555555555555")}),
        (Malformed(), {"endpoint": "audio"}),
    ],
    ids=[
        "class",
        "text",
        "no times",
        "half a time",
        "id as text",
        "unknown endpoint",
        "no endpoint",
        "id of a job to be",
        "malformed audio",
    ],
)
async def test_a_fault_that_no_request_could_meet_is_refused(
    emulator: Emulator, fault: Any, arguments: Mapping[str, Any]
) -> None:
    """Otherwise the test would silently prove nothing."""
    with pytest.raises((TypeError, ValueError)):
        emulator.inject(fault, **arguments)


@pytest.mark.parametrize(
    ("fault", "argument"),
    [
        (Status, 100),
        (Status, 600),
        (Status, "503"),
        (Slow, -1.0),
        (Slow, "1"),
        (Malformed, "xml"),
        (Malformed, []),
    ],
    ids=["interim", "beyond", "status as text", "negative", "seconds as text", "unknown", "list"],
)
def test_an_invalid_fault_is_refused(fault: Any, argument: Any) -> None:
    """At construction, where the mistake is."""
    with pytest.raises((TypeError, ValueError)):
        fault(argument)


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        (Slow(1.0), b"{}"),
        (Reset(midway=True), b"{}"),
        (None, AudioFile(header=b"", tune=b"la", start=0, stop=2)),
    ],
    ids=["slow", "reset", "long"],
)
async def test_a_disconnect_before_the_headers_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, fault: Fault | None, body: bytes | AudioFile
) -> None:
    """The connection may be lost after the request has arrived and before aiohttp cancels its handler."""

    async def prepare(*_: object) -> None:
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")

    monkeypatch.setattr(web.StreamResponse, "prepare", prepare)
    request = make_mocked_request("GET", "/", transport=Mock())
    answering = asyncio.create_task(send_response(request, Response(200, body, {}), fault, asyncio.Event()))
    await asyncio.wait([answering], timeout=5.0)
    if isinstance(fault, Reset):
        assert answering.cancel(), "it waits for aiohttp to cancel it"
    else:
        assert answering.result().status == 200
