"""Connections: each creation has its own, and what a failure to connect, or to stay connected, says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn
from uuid import UUID

import aiohttp
import attrs
import pytest

from playai_async import (
    ConfigurationError,
    PlayAIError,
    PlayAISession,
    Polling,
    SessionClosedError,
    TransportError,
    TtsParameters,
)
from playai_async.emulator import Emulator, Slow
from tests.support.clock import now
from tests.support.raw_server import raw_server
from tests.support.scripted import API_KEY, JOB_ID, OTHER_ID, USER_ID, job_json

PARAMETERS = TtsParameters("spoken words", "v")
LARGE = TtsParameters("spoken words " * 200_000, "v")
MAY_EXIST = "The job may exist all the same."


def http(status: str, job_id: UUID) -> bytes:
    """Write a reply with a job, which keeps the connection open."""
    body = json.dumps(job_json(job_id=job_id)).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@attrs.define
class ChattyServer:
    """Keeps connections open, whatever the request says, and sends a second reply that nobody asked for."""

    base_url: str = ""
    posts: list[bytes] = attrs.field(factory=list[bytes])
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    length = int(head.lower().split(b"content-length:")[1].split()[0])
                    self.posts.append(await reader.readexactly(length))
                    writer.write(http("201 Created", UUID(int=len(self.posts))))
                else:
                    writer.write(http("200 OK", JOB_ID))
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(http("201 Created", OTHER_ID))
        writer.close()


@pytest.fixture
async def chatty() -> AsyncIterator[ChattyServer]:
    """A chatty server on loopback."""
    chatty = ChattyServer()
    server = await asyncio.start_server(chatty.serve, "127.0.0.1", 0)
    chatty.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield chatty


@pytest.mark.parametrize("parameters", [PARAMETERS, LARGE], ids=["short", "long"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "the caller's"])
async def test_no_stray_answer_is_taken_for_a_new_job(
    own: bool, parameters: TtsParameters, chatty: ChattyServer
) -> None:
    """Not one on a connection of polls, and not one on the connection of an earlier creation."""
    async with aiohttp.ClientSession() as http_session:
        options: dict[str, Any] = {} if own else {"http_session": http_session}
        async with PlayAISession(API_KEY, USER_ID, base_url=chatty.base_url, **options) as playai:
            await playai.get_job(JOB_ID)
            await asyncio.sleep(0.2)
            for number in (1, 2, 3):
                assert (await playai.create_job(parameters)).id == UUID(int=number)
                await asyncio.sleep(0.2)
    assert len(chatty.posts) == 3
    assert json.loads(chatty.posts[0])["text"] == parameters.text
    assert chatty.connections == 4


# Proxies


@attrs.define
class Proxy:
    """A proxy that does wrong."""

    address: str
    requests: list[bytes]


@contextlib.asynccontextmanager
async def proxy_that(answer: bytes) -> AsyncIterator[tuple[Proxy, aiohttp.ClientSession]]:
    """Run a proxy that sends some bytes and closes the connection, and a client session that uses it."""
    async with (
        raw_server(answer) as raw,
        aiohttp.ClientSession(proxy=raw.base_url.replace("//", "//me:of-mine@")) as http_session,
    ):
        yield Proxy(raw.base_url.removeprefix("http://"), raw.requests), http_session


def no(status: str) -> bytes:
    """Write a refusal."""
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (no("407 Proxy Authentication Required"), "no connection through the proxy {proxy}, which answered 407"),
        (no("301 Moved"), "no connection through the proxy {proxy}, which answered 301"),
        (no("400 Bad"), "no connection through the proxy {proxy}, which answered 400"),
        (no("429 Busy"), "no connection through the proxy {proxy}, which answered 429"),
        (no("502 Bad Gateway"), "no connection through the proxy {proxy}, which answered 502"),
        (no("999 Odd"), "no connection through the proxy {proxy}, which answered 999"),
        (b"", "the connection was lost while connecting"),
        (b"HTTP/1.1 2", "the connection was lost while connecting"),
        (b"nonsense\r\n\r\n", "the response is not HTTP while connecting"),
        (b"HTTP/1.1 200 OK\r\n\r\nnot TLS", "no connection to api.play.example:443"),
    ],
    ids=["407", "301", "400", "429", "502", "999", "nothing", "cut", "not HTTP", "not TLS"],
)
async def test_a_request_that_a_proxy_refuses_was_not_sent(answer: bytes, words: str) -> None:
    """The error says so, names the proxy, and not its password. A creation is sent again."""
    async with proxy_that(answer) as (proxy, http_session):
        polling = Polling(initial=1.0, max_failures=2)
        async with PlayAISession(
            API_KEY, USER_ID, base_url="https://api.play.example", http_session=http_session, polling=polling
        ) as playai:
            with pytest.raises(TransportError) as caught:
                await playai.create_job(PARAMETERS)
            assert words.format(proxy=proxy.address) in str(caught.value)
            assert MAY_EXIST not in str(caught.value)
            assert not caught.value.maybe_received
            assert [request.split()[0] for request in proxy.requests] == [b"CONNECT"] * 3
            assert "of-mine" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
            with pytest.raises(TransportError) as caught:
                await playai.get_job(JOB_ID)
            assert not caught.value.maybe_received
            assert caught.value.job_id == JOB_ID


async def test_a_proxy_that_is_away_is_named() -> None:
    """As a proxy, and not as the service."""
    async with raw_server(b"") as raw:
        address = raw.base_url.removeprefix("http://")
    async with (
        aiohttp.ClientSession(proxy=f"http://{address}") as http_session,
        PlayAISession(
            API_KEY, USER_ID, http_session=http_session, polling=Polling(initial=1.0, max_failures=1)
        ) as playai,
    ):
        with pytest.raises(TransportError, match=f"no connection to the proxy {address} ") as caught:
            await playai.create_job(PARAMETERS)
    assert not caught.value.maybe_received


class SocksError(Exception):
    """What the connector of another library raises."""


class BrokenConnector(aiohttp.TCPConnector):
    """A connector that raises, or hangs, before it has a connection."""

    connecting: Callable[[], Any]

    async def _create_connection(self, *_: Any, **__: Any) -> NoReturn:
        await self.connecting()
        raise AssertionError


@contextlib.asynccontextmanager
async def connecting_as(connecting: Callable[[], Any], base_url: str) -> AsyncIterator[PlayAISession]:
    """Make a session whose connections come about in some way."""
    connector = BrokenConnector()
    connector.connecting = connecting
    async with (
        aiohttp.ClientSession(connector=connector) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=base_url, http_session=http_session) as playai,
    ):
        yield playai


@pytest.mark.parametrize(
    "error",
    [SocksError("no"), ConnectionResetError(104, "reset"), aiohttp.ServerDisconnectedError(), EOFError()],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_connector_raises_was_not_sent(error: Exception, emulator: Emulator) -> None:
    """A connector for SOCKS has exceptions of its own."""

    async def fail() -> NoReturn:
        raise error

    async with connecting_as(fail, emulator.base_url) as playai:
        with pytest.raises(TransportError, match=" while connecting ") as caught:
            await playai.create_job(PARAMETERS)
        assert not caught.value.maybe_received
        assert MAY_EXIST not in str(caught.value)
        assert playai.stats.requests == 9
    assert emulator.stats.requests == 0


async def test_a_middleware_that_sends_twice_may_have_created_a_job(emulator: Emulator) -> None:
    """Even if its second attempt got no connection: the service may have received the first."""

    async def retry(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        response.close()
        await emulator.stop()
        return await handler(request)

    async with (
        aiohttp.ClientSession(middlewares=[retry]) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match=MAY_EXIST) as caught:
            await playai.create_job(PARAMETERS)
        assert caught.value.maybe_received
        assert playai.stats.requests == 1


# A client session that cannot be used


async def calls_of(playai: PlayAISession) -> list[object]:
    """Make each kind of request, and return how it ends."""
    calls = (playai.get_job(JOB_ID), playai.wait_for_completion(JOB_ID), playai.create_job(PARAMETERS))
    return list(await asyncio.gather(*calls, return_exceptions=True))


def test_a_client_session_of_another_loop_is_refused() -> None:
    """Before anything is sent. The session itself can be entered and closed."""

    async def make() -> aiohttp.ClientSession:
        return aiohttp.ClientSession()

    async def use(http_session: aiohttp.ClientSession) -> None:
        async with (
            Emulator() as emulator,
            PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
        ):
            for error in await calls_of(playai):
                assert isinstance(error, ConfigurationError)
                assert "http_session belongs to another event loop" in str(error)
                assert "may exist" not in str(error)
            assert emulator.stats.requests == 0

    with asyncio.Runner() as runner, asyncio.Runner() as other:
        http_session = runner.run(make())
        other.run(use(http_session))
        runner.run(http_session.close())


async def test_a_client_session_that_was_closed_before_is_refused(emulator: Emulator) -> None:
    """Nothing was sent, so no job may exist."""
    async with (
        aiohttp.ClientSession() as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        await http_session.close()
        for error in await calls_of(playai):
            assert isinstance(error, SessionClosedError)
            assert "passed as http_session is closed" in str(error)
            assert "may exist" not in str(error)


async def closed_during(playai: PlayAISession, http_session: aiohttp.ClientSession) -> list[PlayAIError]:
    """Close a client session while it is used, and return what comes of a poll and of a creation, at once."""
    calls = asyncio.gather(playai.get_job(JOB_ID), playai.create_job(PARAMETERS), return_exceptions=True)
    await asyncio.sleep(0.5)
    await http_session.close()
    closed = now()
    errors = [error for error in await calls if isinstance(error, PlayAIError)]
    assert now() - closed <= 0.11
    assert [type(error) for error in errors] == [SessionClosedError] * 2
    assert errors[0].job_id == JOB_ID
    return errors


@pytest.mark.parametrize("slow_head", [True, False], ids=["headers", "body"])
async def test_closing_the_client_session_is_reported_at_once(slow_head: bool) -> None:
    """Not after the request timeout. A job may exist."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            if not slow_head:
                writer.write(http("201 Created", JOB_ID)[:-20])
            await reader.read()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, aiohttp.ClientSession() as http_session:
        base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with PlayAISession(API_KEY, USER_ID, base_url=base_url, http_session=http_session) as playai:
            _, error = await closed_during(playai, http_session)
    assert str(error).endswith(MAY_EXIST)
    assert error.job_id == (None if slow_head else JOB_ID), "the part of the reply that came names the job"


async def test_closing_the_client_session_while_connecting_is_reported_at_once(emulator: Emulator) -> None:
    """The connector goes on connecting."""
    async with connecting_as(asyncio.Event().wait, emulator.base_url) as playai:
        http_session = playai._runtime._http_session  # pyright: ignore[reportPrivateUsage]
        assert http_session is not None
        await closed_during(playai, http_session)


async def test_closing_the_client_session_while_a_connection_is_waited_for_is_reported_at_once(
    emulator: Emulator,
) -> None:
    """The connector cancels that wait, which is not a cancellation of the caller's."""
    emulator.inject(Slow(100.0), times=None)
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):

        async def take_connection() -> None:
            async with http_session.get(emulator.base_url) as response:
                await response.read()

        others = [asyncio.create_task(take_connection()) for _ in range(2)]
        await asyncio.sleep(0.1)
        await closed_during(playai, http_session)
        for other in others:
            other.cancel()
        await asyncio.wait(others)


# Errors that cannot be shown


class UnprintableError(Exception):
    """An exception of the caller's whose text cannot be had."""

    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


class UnprintableValueError(ValueError):
    """The same, of a kind that aiohttp raises, too."""

    __repr__ = __str__ = UnprintableError.__repr__


@pytest.mark.parametrize(
    "error",
    [
        UnprintableError(),
        UnprintableValueError(),
        ExceptionGroup("several", [UnprintableError()]),
        aiohttp.ClientResponseError(None, ()),  # type: ignore[arg-type]  # tests the mistake
        aiohttp.ClientHttpProxyError(None, ()),  # type: ignore[arg-type]  # tests the mistake
        aiohttp.ClientConnectorError(None, OSError()),  # type: ignore[arg-type]  # tests the mistake
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_that_cannot_be_shown_is_a_transport_error(error: Exception, emulator: Emulator) -> None:
    """A middleware of the caller's may raise anything."""

    async def fail(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise error

    async with (
        aiohttp.ClientSession(trust_env=True, middlewares=[fail]) as http_session,
        PlayAISession(
            API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session, polling=Polling(max_failures=1)
        ) as playai,
    ):
        for failure in await calls_of(playai):
            assert isinstance(failure, TransportError)
            assert type(error).__name__ in str(failure)
            assert repr(failure.__cause__)
