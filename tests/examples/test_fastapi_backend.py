"""The FastAPI example does what it is an example of: it shares, lets go, ends, and answers errors as it should."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from typing import Any, Protocol
from uuid import UUID

import aiohttp
import pytest
import uvicorn

from examples.fastapi_backend import app as example
from examples.fastapi_backend.app import MAX_WAIT, create_app
from examples.fastapi_backend.server import Server
from playai_async import (
    ConfigurationError,
    DownloadError,
    ForbiddenError,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    UnauthorizedError,
    UnexpectedServiceError,
    WaitTimeoutError,
)
from playai_async.emulator import Emulator, Fault, Hang, Malformed, Reset, Status
from tests.examples.serving import Backend, Event, serving, settled
from tests.support.clock import now
from tests.support.scripted import API_KEY, USER_ID

NOWHERE = UUID("00000000-1111-4222-8333-444444444444")
SECRET = "what only the service says"
SLOWEST_POLL = 12.0
"""Seconds between two polls of the usual `Polling`, at most."""


class Serve(Protocol):
    """Starts the example."""

    async def __call__(self, kind: type[uvicorn.Server] = Server, *, grace: int = 5) -> Backend: ...


@pytest.fixture
async def serve(emulator: Emulator) -> AsyncIterator[Serve]:
    """Starts the example in a test; a server that a fixture starts would go by the clock of the fixtures."""
    async with contextlib.AsyncExitStack() as running:

        async def start(kind: type[uvicorn.Server] = Server, *, grace: int = 5) -> Backend:
            return await running.enter_async_context(serving(create_app(), kind, grace=grace))

        yield start


def statuses(events: list[Event]) -> list[str]:
    """The states that a stream told."""
    return [event.data["status"] for event in events if event.name == "message" and event.data]


# Creating and asking


async def test_a_text_becomes_a_job_that_can_be_asked_for(serve: Serve, emulator: Emulator) -> None:
    """202, the job as JSON, and where to ask for it."""
    backend = await serve()
    async with backend.client.post("/speech", json={"text": " Hello. ", "voice": "a-voice"}) as response:
        assert response.status == 202
        job = await response.json()
        location = response.headers["Location"]
    assert (job["status"], job["done"], job["url"]) == ("IN_PROGRESS", False, None)
    assert location == f"/speech/{job['id']}"
    async with backend.client.get(location, params={"wait": MAX_WAIT}) as response:
        assert response.status == 200
        job = await response.json()
    assert (job["status"], job["done"], job["content_type"]) == ("COMPLETED", True, "audio/wav")
    async with backend.client.get(job["url"]) as audio:
        assert await audio.read() == emulator.audio_of(UUID(job["id"]))
    assert b'"a-voice"' in emulator.arrivals[0].body
    assert b'"Hello."' in emulator.arrivals[0].body


async def test_a_text_without_a_voice_gets_one(serve: Serve, emulator: Emulator) -> None:
    """So that a page needs nothing but the text."""
    backend = await serve()
    async with backend.client.post("/speech", json={"text": "Hello."}) as response:
        assert response.status == 202
    assert example.VOICE.encode() in emulator.arrivals[0].body


async def test_a_wait_ends_as_soon_as_the_job_does(serve: Serve, emulator: Emulator) -> None:
    """200 with the finished job, after the next poll."""
    backend = await serve()
    began, job = now(), emulator.add_job(6.0)
    async with backend.client.get(f"/speech/{job}", params={"wait": 25}) as response:
        assert (response.status, (await response.json())["status"]) == (200, "COMPLETED")
    assert 6.0 <= now() - began < 12.0


async def test_a_job_that_failed_is_done(serve: Serve, emulator: Emulator) -> None:
    """200: there is nothing to wait for."""
    backend = await serve()
    async with backend.client.get(f"/speech/{emulator.add_job(fails=True)}") as response:
        assert (response.status, (await response.json())["status"]) == (200, "FAILED")


async def test_a_wait_ends_with_the_last_state_when_its_time_is_over(serve: Serve, emulator: Emulator) -> None:
    """202, at the second: a client asks again, and a proxy never sees a silent request."""
    backend = await serve()
    job, began = emulator.add_job(math.inf), now()
    async with backend.client.get(f"/speech/{job}", params={"wait": 10}) as response:
        assert (response.status, (await response.json())["status"]) == (202, "IN_PROGRESS")
    assert now() - began == pytest.approx(10.0, abs=0.1)


async def test_no_wait_is_one_request(serve: Serve, emulator: Emulator) -> None:
    """At once, and done or not."""
    backend = await serve()
    job, began = emulator.add_job(math.inf), now()
    async with backend.client.get(f"/speech/{job}") as response:
        assert (response.status, (await response.json())["status"]) == (202, "IN_PROGRESS")
    assert emulator.requests_of(job) == 1
    assert now() - began < 0.1


async def test_twenty_visitors_cost_what_one_costs(serve: Serve, emulator: Emulator) -> None:
    """In streams or not, they share the session and so its polls."""
    backend = await serve()
    job = emulator.add_job(5.0)

    async def ask() -> str:
        async with backend.client.get(f"/speech/{job}", params={"wait": 25}) as response:
            return str((await response.json())["status"])

    async def stream() -> str:
        async with backend.events(f"/speech/{job}/events") as events:
            return statuses([event async for event in events])[-1]

    ends = await asyncio.gather(*(ask() for _ in range(10)), *(stream() for _ in range(10)))
    assert set(ends) == {"COMPLETED"}
    assert emulator.requests_of(job) <= 5


async def test_the_share_of_the_quota_is_in_the_environment(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several processes behind one key are given a part each."""
    monkeypatch.setenv("PLAYAI_REQUESTS_PER_MINUTE", "15")
    async with serving(create_app()) as backend:
        assert backend.playai.stats.quota == 15


async def test_without_a_key_it_does_not_start() -> None:
    """And says which variable to set, rather than answer each request with an error."""
    app = create_app()
    with pytest.raises(ConfigurationError, match="set PLAYAI_API_KEY in the environment"):
        async with app.router.lifespan_context(app):
            pass


async def test_the_page_is_served(serve: Serve) -> None:
    """It is all there is to the browser's side."""
    backend = await serve()
    async with backend.client.get("/") as response:
        assert (response.status, response.content_type) == (200, "text/html")
        assert "EventSource(" in await response.text()


# Streams


async def test_a_stream_tells_each_state_and_ends(serve: Serve, emulator: Emulator) -> None:
    """The first at once, the final one last; nothing in between is told twice, and no proxy may keep it back."""
    backend = await serve()
    job, began = emulator.add_job(30.0), now()
    async with backend.client.get(f"/speech/{job}/events") as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert (response.headers["Cache-Control"], response.headers["X-Accel-Buffering"]) == ("no-cache", "no")
    async with backend.events(f"/speech/{job}/events") as events:
        first = await anext(events)
        assert now() - began < 0.1
        assert first.data["status"] == "IN_PROGRESS"
        rest = [event async for event in events]
    assert statuses(rest) == ["COMPLETED"]
    assert now() - began < 30.0 + SLOWEST_POLL


async def test_a_state_that_nobody_knows_is_told_as_it_is(serve: Serve, emulator: Emulator) -> None:
    """The service may grow, and the page shows it."""
    backend = await serve()
    job = emulator.add_job(8.0)
    emulator.set_output(job, {"status": "QUEUED"})
    async with backend.events(f"/speech/{job}/events") as events:
        assert (await anext(events)).data["status"] == "QUEUED"
        emulator.set_output(job, None)
        assert statuses([event async for event in events])[-1] == "COMPLETED"


async def test_a_silent_stream_is_kept_alive(serve: Serve, emulator: Emulator) -> None:
    """A comment every 15 seconds, which no client shows: proxies cut what is silent for long."""
    backend = await serve()
    job = emulator.add_job(50.0)
    async with backend.events(f"/speech/{job}/events") as events:
        assert [event.comment async for event in events].count("ping") >= 3


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(None, 404, id="no such job"),
        pytest.param(Status(401), 502, id="the key is refused"),
        pytest.param(Status(500), 502, id="the service fails"),
        pytest.param(Malformed(), 502, id="the service talks nonsense"),
    ],
)
async def test_a_stream_ends_with_what_went_wrong(
    serve: Serve, emulator: Emulator, fault: Fault | None, status: int
) -> None:
    """As an event of its own: an EventSource shows a page neither the status nor the body of an answer."""
    backend = await serve()
    if fault is not None:
        emulator.inject(fault, times=None)
    async with backend.events(f"/speech/{NOWHERE}/events") as events:
        (last,) = [event async for event in events if not event.comment]
    assert last == Event("problem", {"status": status, "detail": words_for(status)})


def words_for(status: int) -> str:
    """What a client is told with a status that one kind of error has."""
    (words,) = {words for code, words in example.ERROR_RESPONSES.values() if code == status}
    return words


# Clients that go


async def assert_nobody_asks_for(job: UUID, backend: Backend, emulator: Emulator) -> None:
    """Fail if a wait is left, or the job is polled all the same."""
    assert backend.playai.stats.open_waits == 0
    requests = emulator.requests_of(job)
    await asyncio.sleep(60)
    assert emulator.requests_of(job) == requests


async def test_a_client_that_goes_lets_go_of_its_wait(serve: Serve, emulator: Emulator) -> None:
    """At once, and nobody is asked for the job any more."""
    backend = await serve()
    job = emulator.add_job(math.inf)
    asking = asyncio.create_task(backend.get(f"/speech/{job}?wait=25"))
    await asyncio.sleep(1.5)
    assert backend.playai.stats.open_waits == 1
    asking.cancel()
    await settled()
    await assert_nobody_asks_for(job, backend, emulator)


async def test_a_client_that_leaves_its_stream_lets_go_of_its_wait(serve: Serve, emulator: Emulator) -> None:
    """The same for a stream, in the middle of a pause between two polls."""
    backend = await serve()
    job = emulator.add_job(math.inf)
    async with backend.events(f"/speech/{job}/events") as events:
        await anext(events)
        assert backend.playai.stats.open_waits == 1
    await settled()
    await assert_nobody_asks_for(job, backend, emulator)


async def test_a_client_that_goes_leaves_the_others_waiting(serve: Serve, emulator: Emulator) -> None:
    """Who shares a job's polls does not end them."""
    backend = await serve()
    job = emulator.add_job(20.0)
    async with backend.events(f"/speech/{job}/events") as staying:
        await anext(staying)
        async with backend.events(f"/speech/{job}/events") as leaving:
            await anext(leaving)
        await settled()
        assert backend.playai.stats.open_waits == 1
        assert statuses([event async for event in staying]) == ["COMPLETED"]


async def test_a_client_that_goes_without_having_read_lets_go_of_its_wait(serve: Serve, emulator: Emulator) -> None:
    """Its events pile up, and the stream stands still in the middle of handing one on."""
    backend = await serve()
    job = emulator.add_job(math.inf)
    gone, stuck = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            stuck.set()
            await asyncio.Event().wait()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "method": "GET", "query_string": b""}
    headers = [(b"host", b"localhost")]
    scope |= {"path": f"/speech/{job}/events", "headers": headers, "state": backend.server.lifespan.state}
    serving_it = asyncio.create_task(backend.server.config.loaded_app(scope, receive, send))
    await stuck.wait()
    for number in range(6):
        emulator.set_output(job, {"status": f"STATE-{number}"})
        await asyncio.sleep(SLOWEST_POLL)
    assert backend.playai.stats.open_waits == 1
    gone.set()
    await asyncio.wait([serving_it])
    with contextlib.suppress(ExceptionGroup):  # FastAPI stumbles over a full stream that it closes itself
        await serving_it
    assert backend.playai.stats.open_waits == 0


async def test_a_job_is_made_though_its_client_goes(serve: Serve, emulator: Emulator) -> None:
    """Once it is asked for: to break off would not save it, and only lose its id."""
    backend = await serve()
    emulator.inject(Hang(), endpoint="create")
    asking = asyncio.create_task(backend.post("Hello."))
    await asyncio.sleep(1)
    asking.cancel()
    await settled()
    emulator.clear_faults()
    await settled()
    assert len(emulator.jobs) == 1
    assert emulator.arrivals[0].status == 201


# Going down


async def test_open_streams_do_not_hold_the_server(serve: Serve, emulator: Emulator) -> None:
    """It ends within a second, with a last event for each stream and an answer for each wait."""
    backend = await serve()
    job = emulator.add_job(math.inf)
    async with backend.events(f"/speech/{job}/events") as events:
        await anext(events)
        asking = asyncio.create_task(backend.get(f"/speech/{job}?wait=25"))
        await asyncio.sleep(1)
        assert backend.playai.stats.open_waits == 2
        began = now()
        await backend.stop()
        assert now() - began < 1
        (last,) = [event async for event in events]
        closing = example.ERROR_RESPONSES[SessionClosedError]
        assert last == Event("problem", {"status": 503, "detail": closing[1]})
        response = await asking
        assert (response.status, (await response.json())["detail"]) == closing
        assert response.headers["Retry-After"] == "1"
    assert backend.playai.stats.open_waits == 0


async def test_a_job_in_the_making_does_not_hold_the_server(serve: Serve, emulator: Emulator) -> None:
    """Who asked for it is told to try again."""
    backend = await serve()
    emulator.inject(Hang(), endpoint="create")
    asking = asyncio.create_task(backend.post("Hello."))
    await asyncio.sleep(1)
    began = now()
    await backend.stop()
    assert now() - began < 1
    assert (await asking).status == 503


async def test_another_server_ends_after_its_grace_period(serve: Serve, emulator: Emulator) -> None:
    """Uvicorn's own waits for as long as it is told to, and then cancels: streams break off, and no wait is left."""
    job = emulator.add_job(math.inf)
    async with (
        serving(create_app(), uvicorn.Server, grace=3) as backend,
        backend.events(f"/speech/{job}/events") as events,
    ):
        await anext(events)
        asking = asyncio.create_task(backend.get(f"/speech/{job}?wait=25"))
        await asyncio.sleep(1)
        began = now()
        await backend.stop()
        assert 3 <= now() - began < 4
        assert (await asking).status == 500
        with pytest.raises(aiohttp.ClientPayloadError):
            await anext(events)
        assert backend.playai.stats.open_waits == 0


# Errors

CREATION = [
    pytest.param(Status(400), 422, id="400"),
    pytest.param(Status(401), 502, id="401"),
    pytest.param(Status(403), 502, id="403"),
    pytest.param(Status(404), 404, id="404"),
    pytest.param(Status(418), 502, id="418"),
    pytest.param(Status(429), 503, id="429"),
    pytest.param(Status(500), 502, id="500"),
    pytest.param(Malformed(), 502, id="nonsense"),
    pytest.param(Reset(), 502, id="a lost connection"),
]


@pytest.mark.parametrize(("fault", "status"), CREATION)
async def test_an_error_of_a_creation_is_answered(
    serve: Serve, emulator: Emulator, fault: Fault, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Within the time of a request, in words of our own; what the operator must mend is in the log."""
    backend = await serve()
    emulator.inject(fault, times=None, endpoint="create")
    began = now()
    async with backend.client.post("/speech", json={"text": "Hello."}) as response:
        assert response.status == status
        assert (await response.json()).keys() == {"detail"}
        assert ("Retry-After" in response.headers) == (status == 503)
        seen = await response.text() + caplog.text
    assert now() - began <= MAX_WAIT + 0.1
    assert [record.levelname for record in caplog.records if record.name == example.log.name] == (
        ["ERROR"] if status == 502 else []
    )
    assert not any(secret in seen for secret in (API_KEY, USER_ID, "Hello."))


async def test_a_creation_without_a_connection_is_logged(
    serve: Serve, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    backend = await serve()
    await emulator.stop()
    async with backend.client.post("/speech", json={"text": "Hello."}) as response:
        assert (response.status, await response.json()) == (502, {"detail": words_for(502)})
    (record,) = [record for record in caplog.records if record.name == example.log.name]
    assert "no connection to 127.0.0.1" in record.getMessage()


@pytest.mark.parametrize("wait", [0, 25])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(None, 404, id="no such job"),
        pytest.param(Status(401), 502, id="401"),
        pytest.param(Status(403), 502, id="403"),
    ],
)
async def test_an_error_of_a_wait_is_answered(
    serve: Serve, emulator: Emulator, fault: Fault | None, status: int, wait: int
) -> None:
    """At once, waiting or not."""
    backend = await serve()
    if fault is not None:
        emulator.inject(fault, times=None)
    began = now()
    async with backend.client.get(f"/speech/{NOWHERE}", params={"wait": wait}) as response:
        assert (response.status, await response.json()) == (status, {"detail": words_for(status)})
    assert now() - began < 0.1


async def test_a_refusal_for_the_quota_is_passed_on(serve: Serve, emulator: Emulator) -> None:
    """At once, with the time until the session asks again."""
    backend = await serve()
    emulator.quota = 0
    async with backend.client.get(f"/speech/{emulator.add_job()}") as response:
        assert response.status == 503
        assert int(response.headers["Retry-After"]) == math.ceil(backend.playai.stats.paused_for) > 1


@pytest.mark.parametrize("wait", [0, 20])
async def test_a_spent_quota_holds_a_request_for_so_long(serve: Serve, emulator: Emulator, wait: int) -> None:
    """A client is told to come again, in the time that a proxy grants."""
    backend = await serve()
    emulator.inject(Status(429, headers={"Retry-After": "100"}))
    job = emulator.add_job()
    async with backend.client.get(f"/speech/{job}") as refused:
        assert refused.status == 503
        assert 100 <= int(refused.headers["Retry-After"]) <= 110
    began = now()
    async with backend.client.get(f"/speech/{job}", params={"wait": wait}) as response:
        assert response.status == 503
    assert now() - began == pytest.approx(wait or MAX_WAIT, abs=0.1)
    assert backend.playai.stats.open_waits == 0
    assert emulator.stats.requests == 1


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("GET", "/speech/nonsense", None, id="no id"),
        pytest.param("GET", "/speech/nonsense/events", None, id="no id of a stream"),
        pytest.param("GET", f"/speech/{NOWHERE}?wait=-1", None, id="less than no time"),
        pytest.param("GET", f"/speech/{NOWHERE}?wait={MAX_WAIT + 1}", None, id="too long"),
        pytest.param("GET", f"/speech/{NOWHERE}?wait=nan", None, id="no time"),
        pytest.param("POST", "/speech", "{}", id="no text"),
        pytest.param("POST", "/speech", '{"text": " "}', id="a blank text"),
        pytest.param("POST", "/speech", '{"text": "\\ud800"}', id="half a character"),
        pytest.param("POST", "/speech", '{"text": "Hello.", "voice": ""}', id="no voice"),
        pytest.param("POST", "/speech", '{"text": "%s"}' % ("x" * 5_001), id="a long text"),
        pytest.param("POST", "/speech", "{", id="no JSON"),
    ],
)
async def test_a_wrong_request_is_refused_and_goes_no_further(
    serve: Serve, emulator: Emulator, method: str, path: str, body: str | None
) -> None:
    """422, in the form of all other errors; the service is asked for nothing."""
    backend = await serve()
    headers = {"Content-Type": "application/json"}
    async with backend.client.request(method, path, data=body, headers=headers) as response:
        assert (response.status, (await response.json()).keys()) == (422, {"detail"})
    assert emulator.stats.requests == 0


async def test_the_schema_promises_what_is_answered(serve: Serve, emulator: Emulator) -> None:
    """Each status of each request and no other, and for each its kind and its fields."""
    backend = await serve()
    async with backend.client.get("/openapi.json") as response:
        schema = await response.json()
    done, endless = emulator.add_job(0.0), emulator.add_job(math.inf)
    post, get, events = ("post", "/speech"), ("get", "/speech/{id}"), ("get", "/speech/{id}/events")
    asked: list[tuple[tuple[str, str], object, Fault | None]] = [
        *((post, text, None) for text in ("Hello.", "")),
        *((get, job, None) for job in (done, endless, NOWHERE, "nonsense")),
        *((events, job, None) for job in (done, "nonsense")),
        # The last one holds what comes after it.
        *((call, endless, Status(status)) for status in (401, 404, 429) for call in (post, get)),
    ]
    promised = {
        (method, path.replace("job_id", "id")): operation["responses"]
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }
    seen: dict[tuple[str, str], set[str]] = {call: set() for call in promised}
    for (method, path), value, fault in asked:
        emulator.clear_faults()
        if fault:
            emulator.inject(fault, times=None, endpoint="create" if method == "post" else "status")
        body = {"text": str(value)} if method == "post" else None
        async with backend.client.request(method, path.format(id=value), json=body) as response:
            seen[method, path].add(str(response.status))
            promise = promised[method, path][str(response.status)]
            (media,) = promise["content"]
            assert response.content_type == media
            assert ("Retry-After" in response.headers) == ("Retry-After" in promise.get("headers", ()))
            if media == "application/json":
                name = promise["content"][media]["schema"]["$ref"].rpartition("/")[2]
                assert (await response.json()).keys() == schema["components"]["schemas"][name]["properties"].keys()
    assert seen == {call: set(responses) for call, responses in promised.items()}


def test_every_error_of_the_library_has_an_answer() -> None:
    """Those that are not in the table by themselves are there by what they are."""
    expected: dict[type[PlayAIError], int] = {
        ConfigurationError: 502,
        SessionClosedError: 503,
        TransportError: 502,
        InvalidResponseError: 502,
        InvalidParametersError: 422,
        UnauthorizedError: 502,
        ForbiddenError: 502,
        NotFoundError: 404,
        RateLimitedError: 503,
        UnexpectedServiceError: 502,
        WaitTimeoutError: 503,
        DownloadError: 502,
    }
    found = {kind: example.problem(an_error(kind)) for kind in expected}
    assert {kind: status for kind, (status, _) in found.items()} == expected
    assert not any(SECRET in detail for _, detail in found.values())


def an_error(kind: type[PlayAIError]) -> PlayAIError:
    """An error of a kind, whatever its constructor asks for."""
    error = kind.__new__(kind, SECRET)
    vars(error)["last_error"] = None
    return error
