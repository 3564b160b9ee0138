"""Webhooks: what is called when a job ends, what is never called, and what a bad webhook cannot disturb."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import attrs
import pytest
from aiohttp import web

from playai_async.emulator import Emulator, Reset, Status, WebhookCall
from tests.emulator.plain_client import PARAMETERS, PlainClient
from tests.support.clock import now


@attrs.define
class Hook:
    """A webhook on loopback. It records its requests, and answers as `answer` does."""

    port: int
    answer: Callable[[web.BaseRequest], Any]
    requests: list[tuple[float, web.BaseRequest, Any]] = attrs.field(factory=list[tuple[float, web.BaseRequest, Any]])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/done?token=t"

    @property
    def bodies(self) -> list[Any]:
        return [body for _, _, body in self.requests]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((now(), request, json.loads(await request.read())))
        response: web.StreamResponse = await self.answer(request)
        return response


async def ok(_request: web.BaseRequest) -> web.StreamResponse:
    """Answer as a webhook should."""
    return web.Response(status=204)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Hook]:
    """Run a webhook that answers 204."""
    hook = Hook(0, ok)
    server = web.Server(hook.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    hook.port = runner.addresses[0][1]
    yield hook
    for connection in server.connections:
        if connection.transport:
            connection.transport.abort()
    await runner.cleanup()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    """A webhook that answers 204."""
    async with listening() as hook:
        yield hook


async def create(client: PlainClient, url: Any) -> UUID:
    """Create a job with a webhook."""
    reply = await client.create({**PARAMETERS, "webHookUrl": url})
    assert reply.status == 201
    return UUID(reply.json["id"])


async def test_the_webhook_is_called_when_the_job_completes(
    emulator: Emulator, client: PlainClient, hook: Hook
) -> None:
    """Once, with the payload of PlayHT's API. By then the job is completed for those who ask."""

    async def look(_request: web.BaseRequest) -> web.StreamResponse:
        seen.append((await client.ask(emulator.jobs[0])).json["output"])
        return web.Response()

    seen: list[Any] = []
    hook.answer = look
    emulator.job_duration = 30.0
    job_id = await create(client, hook.url)
    await asyncio.sleep(29.9)
    assert (hook.requests, emulator.webhook_calls) == ([], ())
    await asyncio.sleep(1000.0)
    [(at, request, body)] = hook.requests
    assert at == pytest.approx(30.0)
    assert (request.method, request.path_qs, request.headers["Content-Type"]) == (
        "POST",
        "/done?token=t",
        "application/json",
    )
    assert "Authorization" not in request.headers
    url = body.pop("url")
    audio = emulator.audio_of(job_id)
    assert body == {
        "version": "2",
        "id": str(job_id),
        "status": "complete",
        "progress": 1,
        "duration": 0.4,
        "size": len(audio),
    }
    assert emulator.link_of(job_id).partition("?")[0] == url.partition("?")[0]
    assert [(output["status"], output["fileSize"]) for output in seen] == [("COMPLETED", len(audio))]
    payload = {**body, "url": url}
    assert emulator.webhook_calls == (
        WebhookCall(at=30.0, job_id=job_id, url=hook.url, payload=payload, status=200, error=None),
    )


async def test_the_link_of_a_payload_works(emulator: Emulator, client: PlainClient, hook: Hook) -> None:
    """Like the link of a status response."""
    job_id = await create(client, hook.url)
    await asyncio.sleep(5.0)
    assert (await client.fetch(hook.bodies[0]["url"])).body == emulator.audio_of(job_id)


async def test_the_webhook_is_called_when_the_job_fails(emulator: Emulator, client: PlainClient, hook: Hook) -> None:
    """Without the fields of the audio. Jobs that a test adds have webhooks, too."""
    job_id = emulator.add_job(5.0, fails=True, input={**PARAMETERS, "webHookUrl": hook.url})
    await asyncio.sleep(6.0)
    assert hook.bodies == [{"version": "2", "id": str(job_id), "status": "error", "progress": 1}]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"status": "FAILED"}, {"status": "error"}),
        ({"status": "COMPLETED", "url": "u"}, {"status": "complete", "url": "u", "duration": None, "size": None}),
    ],
    ids=["failed", "completed"],
)
async def test_set_output_ends_a_job_for_its_webhook(
    emulator: Emulator, client: PlainClient, hook: Hook, output: Any, expected: Any
) -> None:
    """At once, because status requests show the end at once, and not again when the job itself ends."""
    emulator.job_duration = 30.0
    job_id = await create(client, hook.url)
    await asyncio.sleep(10.0)
    emulator.set_output(job_id, output)
    await asyncio.sleep(100.0)
    emulator.set_output(job_id, None)
    await asyncio.sleep(100.0)
    assert hook.bodies == [{"version": "2", "id": str(job_id), "progress": 1, **expected}]
    assert hook.requests[0][0] == pytest.approx(10.0)


async def test_a_job_that_is_not_shown_as_ended_calls_no_webhook(
    emulator: Emulator, client: PlainClient, hook: Hook
) -> None:
    """Until its actual output is shown again."""
    job_id = await create(client, hook.url)
    emulator.set_output(job_id, {"status": "PAUSED"})
    await asyncio.sleep(100.0)
    assert hook.requests == []
    emulator.set_output(job_id, None)
    await asyncio.sleep(1.0)
    assert [body["status"] for body in hook.bodies] == ["complete"]


async def test_a_job_that_never_ends_calls_no_webhook(emulator: Emulator, client: PlainClient, hook: Hook) -> None:
    """And keeps no task."""
    emulator.job_duration = math.inf
    await create(client, hook.url)
    await asyncio.sleep(1e6)
    assert hook.requests == []


async def test_a_client_that_gets_no_response_may_still_get_the_webhook(
    emulator: Emulator, client: PlainClient, hook: Hook
) -> None:
    """A fault after the creation leaves a job; a `Status` instead of the creation leaves none."""
    emulator.inject(Status(500), endpoint="create")
    await client.create({**PARAMETERS, "webHookUrl": hook.url})
    emulator.inject(Reset(), endpoint="create")
    await asyncio.gather(create(client, hook.url), return_exceptions=True)
    await asyncio.sleep(5.0)
    assert [body["id"] for body in hook.bodies] == [str(job_id) for job_id in emulator.jobs]
    assert len(emulator.jobs) == 1


async def test_many_jobs_that_end_at_once_call_each_webhook_once(
    emulator: Emulator, client: PlainClient, hook: Hook
) -> None:
    """More than a small server accepts at the same time."""
    emulator.job_duration = 30.0
    jobs = {str(await create(client, hook.url)) for _ in range(100)}
    await asyncio.sleep(31.0)
    assert {body["id"] for body in hook.bodies} == jobs
    assert [call.status for call in emulator.webhook_calls] == [204] * len(hook.requests) == [204] * 100


async def test_history_bounds_the_calls_that_are_kept(hook: Hook) -> None:
    """The latest ones; and `reset_stats()` forgets all."""
    async with Emulator(history=2) as emulator:
        jobs = [emulator.add_job(input={"webHookUrl": hook.url}) for _ in range(3)]
        await asyncio.sleep(1.0)
        assert len(hook.requests) == 3
        assert [call.job_id for call in emulator.webhook_calls] == jobs[1:]
        emulator.reset_stats()
        assert emulator.webhook_calls == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "LOCALHOST"])
async def test_hosts_on_loopback_are_called(emulator: Emulator, client: PlainClient, host: str) -> None:
    """By address or by name: what counts is the address that the host resolves to."""
    requests: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"}"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    # On all addresses of IPv4, because 127.0.0.1 is not the only one on loopback.
    server = await asyncio.start_server(answer, "0.0.0.0", 0)  # noqa: S104
    port = server.sockets[0].getsockname()[1]
    await create(client, f"http://{host}:{port}/")
    await asyncio.sleep(5.0)
    server.close()
    await server.wait_closed()
    assert [(call.status, call.error) for call in emulator.webhook_calls] == [(200, None)]
    assert len(requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/",
        "http://0.0.0.0:{port}/",
        "http://[::]:{port}/",
        "http://2130706433:{port}/",
        "http://10.0.0.1:{port}/",
        "http://[::ffff:10.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data",
        "http://rebound.example:{port}/",
        "http://127.0.0.1.rebound.example:{port}/",
        "http://127.0.0.1:{port}@rebound.example:{port}/",
        "http://unknown.example/",
        "file:///etc/passwd",
        "ftp://127.0.0.1:{port}/",
        "//127.0.0.1:{port}/",
        "127.0.0.1:{port}",
        "http://",
        "http://:{port}/",
        "http://[::1",
        "http://127.0.0.1:port/",
        "http://127.0.0.1:99999/",
        "http://" + "a" * 300 + "/",
        "http://\ud83d/",
        " ",
    ],
)
async def test_nothing_else_is_called(
    emulator: Emulator, client: PlainClient, hook: Hook, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The reason is recorded, and a job without its webhook is like any other job."""
    lookup = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **options: Any) -> Any:
        if str(host).endswith("rebound.example"):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]
        if str(host).endswith("unknown.example"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return lookup(host, port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    job_id = await create(client, url.replace("{port}", str(hook.port)))
    await asyncio.sleep(20.0)
    assert hook.requests == []
    [call] = emulator.webhook_calls
    assert (call.job_id, call.status) == (job_id, None)
    assert call.error
    assert (await client.ask(job_id)).json["output"]["status"] == "COMPLETED"


async def test_an_empty_url_is_no_webhook(emulator: Emulator, client: PlainClient) -> None:
    """Nor is one that is no string, in the input of a job that a test adds."""
    await create(client, "")
    emulator.add_job(input={"webHookUrl": 7})
    await asyncio.sleep(5.0)
    assert emulator.webhook_calls == ()


async def test_the_checked_address_is_the_one_that_is_called(
    emulator: Emulator, client: PlainClient, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host with several addresses is called on loopback, or not at all, whatever it resolves to next time."""
    answers = [["10.0.0.1", "127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]]

    def resolve(host: Any, port: Any, *_rest: Any, **_options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for _ in range(3):
        await create(client, f"http://rebound.example:{hook.port}/")
        await asyncio.sleep(5.0)
    assert [call.status for call in emulator.webhook_calls] == [204, None, 204]
    assert "10.0.0.1 is not a loopback address" in str(emulator.webhook_calls[1].error)


async def test_proxies_of_the_environment_are_not_used(
    emulator: Emulator, client: PlainClient, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call must not leave the machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    await create(client, hook.url)
    await asyncio.sleep(5.0)
    assert len(hook.requests) == 1


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 410, 429, 500, 503])
async def test_any_status_is_recorded_and_neither_followed_nor_retried(
    emulator: Emulator, client: PlainClient, hook: Hook, status: int
) -> None:
    """A redirect may lead anywhere."""

    async def answer(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": f"http://127.0.0.1:{hook.port}/", "Retry-After": "1"})

    hook.answer = answer
    await create(client, hook.url)
    await asyncio.sleep(1000.0)
    assert len(hook.requests) == 1
    assert [(call.status, call.error) for call in emulator.webhook_calls] == [(status, None)]


async def hang(_request: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.sleep(1e9)
    raise AssertionError


async def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection."""
    assert request.transport
    request.transport.abort()
    return web.Response()


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    """Send the headers a byte at a time."""
    assert isinstance(request.transport, asyncio.Transport)
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
        request.transport.write(bytes([byte]))
        await asyncio.sleep(1.0)
    return web.Response()


async def nonsense(request: web.BaseRequest) -> web.StreamResponse:
    """Send something that is not HTTP."""
    assert isinstance(request.transport, asyncio.Transport)
    request.transport.write(b"\x00\xff\r\n\r\n" * 9)
    return await hang(request)


async def endless(request: web.BaseRequest) -> web.StreamResponse:
    """Send the headers, and then a body without an end."""
    stream = web.StreamResponse()
    await stream.prepare(request)
    while True:
        await stream.write(b"x" * 1000)
        await asyncio.sleep(1.0)


@pytest.mark.parametrize(
    ("answer", "took", "status"),
    [(hang, 10.0, None), (reset, 0.0, None), (drip, 10.0, None), (nonsense, 0.0, None), (endless, 0.0, 200)],
    ids=["hang", "reset", "drip", "nonsense", "endless body"],
)
async def test_a_bad_webhook_disturbs_nothing(
    emulator: Emulator, client: PlainClient, hook: Hook, answer: Any, took: float, status: int | None
) -> None:
    """It is given ten seconds. Meanwhile, status requests and other webhooks go on."""
    hook.answer = answer
    emulator.job_duration = 5.0
    async with listening() as other:
        jobs = [await create(client, hook.url) for _ in range(40)]
        await create(client, other.url)
        await asyncio.sleep(5.1)
        assert [at for at, _, _ in other.requests] == [pytest.approx(5.0)]
        assert {(await client.ask(job_id)).json["output"]["status"] for job_id in jobs} == {"COMPLETED"}
        assert now() == pytest.approx(5.1)
        in_progress = [call for call in calls_of(emulator, hook) if (call.status, call.error) == (None, None)]
        assert len(in_progress) == (40 if took else 0)
        await asyncio.sleep(2 * took + 0.1)  # at most 32 at once
    assert [call.status for call in calls_of(emulator, hook)] == [status] * 40
    assert all((call.error is None) == bool(status) for call in calls_of(emulator, hook))


def calls_of(emulator: Emulator, hook: Hook) -> list[WebhookCall]:
    """List the calls of one webhook."""
    return [call for call in emulator.webhook_calls if call.url == hook.url]


async def test_a_refused_connection_is_recorded(emulator: Emulator, client: PlainClient) -> None:
    """Nobody listens there."""
    await create(client, "http://127.0.0.1:9/")
    await asyncio.sleep(5.0)
    [call] = emulator.webhook_calls
    assert call.status is None
    assert "Cannot connect" in str(call.error)


async def test_stop_ends_calls_and_start_calls_what_has_ended_meanwhile(
    emulator: Emulator, client: PlainClient, hook: Hook
) -> None:
    """Stopping takes no time and leaves no task. A call that was cut is not made again."""
    hook.answer = hang
    emulator.job_duration = 5.0
    cut = await create(client, hook.url)
    emulator.job_duration = 10.0
    late = await create(client, hook.url)
    emulator.job_duration = 100.0
    later = await create(client, hook.url)
    await asyncio.sleep(6.0)
    await emulator.stop()
    assert now() == 6.0
    assert emulator._webhooks._tasks == {}
    assert [call.error for call in emulator.webhook_calls] == ["the emulator was stopped"]
    hook.answer = ok
    await asyncio.sleep(14.0)
    assert [body["id"] for body in hook.bodies] == [str(cut)]
    await emulator.start()
    await asyncio.sleep(200.0)
    assert [(body["id"], round(at)) for at, _, body in hook.requests] == [
        (str(cut), 5),
        (str(late), 20),
        (str(later), 100),
    ]


async def test_a_job_that_is_added_before_the_start_calls_its_webhook_afterwards(hook: Hook) -> None:
    """At its end, or at the start if that is later. Its output may be set at any time."""
    emulator = Emulator()
    soon, late, failed = (emulator.add_job(each, input={"webHookUrl": hook.url}) for each in (1.0, 20.0, 30.0))
    emulator.set_output(failed, {"status": "FAILED"})
    await asyncio.sleep(10.0)
    async with emulator:
        await asyncio.sleep(100.0)
    assert {(body["id"], body["status"], round(at)) for at, _, body in hook.requests} == {
        (str(soon), "complete", 10),
        (str(late), "complete", 20),
        (str(failed), "error", 10),
    }


async def test_a_stop_at_the_moment_of_a_call_leaves_nothing(hook: Hook) -> None:
    """At whatever step of the call."""
    for steps in range(30):
        async with Emulator() as emulator:
            emulator.add_job(input={"webHookUrl": hook.url})
            for _ in range(steps):
                await asyncio.sleep(0)
        [call] = emulator.webhook_calls
        assert call.status or call.error
