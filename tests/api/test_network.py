"""Waits and calls over real sockets: how the network and the service may fail, and what the session does."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import socket
import tracemalloc
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from playai_async import (
    APIStatusError,
    Completed,
    ConfigurationError,
    InvalidResponseError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    RateLimitedError,
    TransportError,
    TtsParameters,
    UnexpectedServiceError,
)
from playai_async._api.credentials import Credentials
from playai_async._api.tracing import TraceGuard
from playai_async._api.transport import Transport
from playai_async._telemetry.emitter import Emitter
from playai_async.emulator import Emulator, Hang, Malformed, Reset, Slow, Status
from tests.support.clock import now
from tests.support.contract_checks import OpenAPIChecker
from tests.support.raw_server import raw_server
from tests.support.scripted import API_KEY, COMPLETED, JOB_ID, USER_ID, job_json

MIB = 1024 * 1024


async def test_a_wait_survives_every_transient_failure(emulator: Emulator, playai: PlayAISession) -> None:
    """A minute of 429s, a restart, resets, hangs, and HTML with status 200. The wait returns the right job."""
    job_id = emulator.add_job(duration=200)
    wait = asyncio.create_task(playai.wait_for_completion(job_id, polling=Polling(max_failures=8)))

    emulator.inject(Status(429), times=None)
    await asyncio.sleep(60)
    assert playai.stats.throttled >= 10
    emulator.clear_faults()

    await asyncio.sleep(10)
    await emulator.stop()
    await asyncio.sleep(5)
    await emulator.start()
    await asyncio.sleep(20)

    for fault, times in ((Reset(), 2), (Hang(), 1), (Malformed("html"), 1), (Reset(midway=True), 2)):
        emulator.inject(fault, times=times)
    await asyncio.sleep(90)  # enough for six polls, at most 12 s apart, and a hang of 10 s
    assert playai.stats.transient_failures >= 6
    assert not wait.done()

    finished = await wait
    assert finished.id == job_id
    assert isinstance(finished.output, Completed)
    assert 200 <= now() <= 215


async def test_one_request_at_a_time_from_the_first_429_until_the_gate_reopens() -> None:
    """Fifty waits exceed a quota. Requests in flight end, then one probe follows the other."""
    async with (
        Emulator(quota=20, window=60.0) as emulator,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai,
    ):
        jobs = [emulator.add_job(duration=15) for _ in range(50)]
        waits = [asyncio.create_task(playai.wait_for_completion(job_id)) for job_id in jobs]
        async with asyncio.timeout(60):
            while not emulator.stats.throttled or emulator.stats.in_flight:
                await asyncio.sleep(0.05)
        emulator.reset_stats()
        emulator.inject(Slow(0.5), times=None)  # so that overlapping probes would be noticed
        async with asyncio.timeout(65):
            while playai.stats.pause_reason is not None:
                assert playai.stats.pause_reason == "throttled"
                assert emulator.stats.most_in_flight <= 1
                await asyncio.sleep(0.25)
        probes = [arrival.at for arrival in emulator.arrivals if arrival.status == 429]
        assert len(probes) >= 5
        assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(probes))
        emulator.clear_faults()
        finished = await asyncio.gather(*waits)
    assert [job.id for job in finished] == jobs


async def test_every_request_conforms_to_the_contract(emulator: Emulator, playai: PlayAISession) -> None:
    """Checked against the OpenAPI description."""
    jobs = [emulator.add_job(duration=number) for number in range(5)]
    await asyncio.gather(*(playai.wait_for_completion(job_id) for job_id in jobs), playai.get_job(jobs[0]))
    checker = OpenAPIChecker(emulator.base_url)
    assert len(emulator.arrivals) > 5
    for arrival in emulator.arrivals:
        checker.assert_conforms(arrival)
        assert arrival.headers["User-Agent"].startswith("playai-async/")


async def test_a_hanging_request_times_out_exactly(emulator: Emulator) -> None:
    """The timeouts of aiohttp would round up to a whole second."""
    emulator.inject(Hang(), times=None)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, request_timeout=6.3) as playai:
        start = now()
        with pytest.raises(TransportError, match="the request timed out") as caught:
            await playai.get_job(emulator.add_job())
    assert now() - start == pytest.approx(6.3, abs=0.01)
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_a_cancellation_at_the_very_time_of_the_timeout_is_a_cancellation(emulator: Emulator) -> None:
    """As with `asyncio.timeout`: the timeout takes back its own request to cancel the task, and no other."""
    emulator.inject(Hang())
    transport = Transport(
        Credentials.checked(API_KEY, USER_ID),
        request_timeout=6.3,
        connections=1,
        http_session=None,
        trace_guard=TraceGuard(Emitter()),
    )
    try:
        request = asyncio.ensure_future(transport.get(URL(emulator.base_url) / "api/v1/tts" / str(JOB_ID)))
        await asyncio.sleep(0)  # the clock of the request starts
        asyncio.get_running_loop().call_later(6.3, request.cancel)
        with pytest.raises(asyncio.CancelledError):
            await request
    finally:
        await transport.close()


async def test_queueing_does_not_count_towards_the_request_timeout(emulator: Emulator) -> None:
    """A poll that is queued behind slow polls does not time out."""
    emulator.inject(Slow(4.0), times=None)
    job_id = emulator.add_job()
    async with PlayAISession(
        API_KEY, USER_ID, base_url=emulator.base_url, request_timeout=5.0, pacing=Pacing(max_in_flight=1)
    ) as playai:
        jobs = await asyncio.gather(*(playai.get_job(job_id) for _ in range(4)))
        assert playai.stats.transient_failures == 0
    assert len(jobs) == 4


async def test_a_slow_response_times_out(emulator: Emulator, playai: PlayAISession) -> None:
    """Bytes that arrive slowly do not extend the timeout."""
    emulator.inject(Slow(1000.0))
    start = now()
    with pytest.raises(TransportError):
        await playai.get_job(emulator.add_job())
    assert now() - start == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_never_followed(status: int, emulator: Emulator, playai: PlayAISession) -> None:
    """It would send the user id to another host. The wait ends with the status."""
    async with Emulator() as elsewhere:
        job_id = emulator.add_job()
        emulator.inject(Status(status, headers={"Location": f"{elsewhere.base_url}/api/v1/tts/{job_id}"}))
        with pytest.raises(APIStatusError) as caught:
            await playai.wait_for_completion(job_id)
        assert caught.value.status == status
        assert elsewhere.stats.requests == 0


async def test_a_reply_may_have_8_mib(emulator: Emulator, playai: PlayAISession) -> None:
    """The limit is exact."""
    document = json.dumps(job_json(COMPLETED)).encode()
    emulator.inject(Malformed(document.ljust(8 * MIB)))
    assert (await playai.get_job(JOB_ID)).id == JOB_ID
    emulator.inject(Malformed(document.ljust(8 * MIB + 1)))
    with pytest.raises(InvalidResponseError, match="longer than"):
        await playai.get_job(JOB_ID)


async def test_the_limit_counts_decompressed_bytes(emulator: Emulator, playai: PlayAISession) -> None:
    """60 kB decompress to 64 MiB, of which hardly more than the limit is decompressed."""
    bomb = gzip.compress(b" " * (64 * MIB))
    for status, error in ((200, InvalidResponseError), (500, UnexpectedServiceError)):
        emulator.inject(Status(status, body=bomb, headers={"Content-Encoding": "gzip"}))
        tracemalloc.start()
        try:
            with pytest.raises(error) as caught:
                await playai.get_job(JOB_ID)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert most < 16 * MIB
        assert isinstance(caught.value, InvalidResponseError | APIStatusError)
        assert caught.value.excerpt == " " * 199 + "…"


async def test_other_tasks_run_while_a_reply_is_decompressed(emulator: Emulator, playai: PlayAISession) -> None:
    """The whole body may be ready at once, so the transport yields after each megabyte."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    others = asyncio.create_task(take_turns())
    taken = list[int]()
    for size in (1, 1, 8 * MIB):  # the first request connects
        emulator.inject(Status(200, body=gzip.compress(b" " * size), headers={"Content-Encoding": "gzip"}))
        turns = 0
        with pytest.raises(InvalidResponseError):
            await playai.get_job(JOB_ID)
        taken.append(turns)
    others.cancel()
    assert taken[2] >= taken[1] + 8


DOCUMENT = json.dumps(job_json(COMPLETED)).encode()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", TransportError),
        (b"not HTTP at all\r\n\r\n", TransportError),
        (b"HTTP/1.1 200 OK\r\n", TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + DOCUMENT, TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + DOCUMENT[:10], InvalidResponseError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + DOCUMENT, TransportError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + DOCUMENT, TransportError),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + DOCUMENT, TransportError),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n" + DOCUMENT, TransportError),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", PlayAIError),
        (b"HTTP/1.1 204 No Content\r\n\r\n", InvalidResponseError),
        (b'HTTP/1.1 429 Too Many\r\nContent-Length: 5000\r\nRetry-After: 7\r\n\r\n"Rate', RateLimitedError),
        (b"HTTP/1.1 429 Too Many\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nwrong", RateLimitedError),
        (b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n<htm", UnexpectedServiceError),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", UnexpectedServiceError),
    ],
    ids=[
        "nothing",
        "no HTTP",
        "half a head",
        "cut short",
        "length too small",
        "length negative",
        "bad chunk",
        "no gzip",
        "huge header",
        "101",
        "204",
        "429 cut short",
        "429 no gzip",
        "503 cut short",
        "999",
    ],
)
async def test_an_odd_response_is_a_documented_error(answer: bytes, error: type[PlayAIError]) -> None:
    """It never hangs and raises no other exception. The status counts even if the body is broken."""
    async with (
        raw_server(answer) as server,
        PlayAISession(API_KEY, USER_ID, base_url=server.base_url) as playai,
    ):
        with pytest.raises(error) as caught:
            await playai.get_job(JOB_ID)
    assert caught.value.job_id == JOB_ID


async def test_retry_after_counts_even_if_the_body_of_the_429_is_broken() -> None:
    """The headers are enough."""
    head = b"HTTP/1.1 429 Too Many\r\nContent-Length: 5000\r\nRetry-After: 7\r\n\r\n"
    async with (
        raw_server(head) as server,
        PlayAISession(API_KEY, USER_ID, base_url=server.base_url) as playai,
    ):
        with pytest.raises(RateLimitedError) as caught:
            await playai.get_job(JOB_ID)
        assert caught.value.retry_after == 7.0
        assert 7.0 <= playai.stats.paused_for <= 7.5


async def test_a_refused_connection_is_a_transport_error() -> None:
    """Its cause is aiohttp's own error."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with PlayAISession(API_KEY, USER_ID, base_url=base_url) as playai:
            with pytest.raises(TransportError, match="no connection") as caught:
                await playai.get_job(JOB_ID)
    assert isinstance(caught.value.__cause__, aiohttp.ClientConnectorError)


class _NoNames(AbstractResolver):
    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(-2, "Name or service not known")

    async def close(self) -> None:
        """Nothing is held."""


async def test_a_host_name_that_is_not_resolved_is_a_transport_error() -> None:
    """The message differs from that of a refused connection."""
    connector = aiohttp.TCPConnector(resolver=_NoNames())
    async with (
        aiohttp.ClientSession(connector=connector) as http_session,
        PlayAISession(API_KEY, USER_ID, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match="host name was not resolved"):
            await playai.get_job(JOB_ID)


@pytest.mark.parametrize("base_url", [None, "https://speech.example"])
async def test_only_a_failure_at_the_default_address_says_that_the_service_closed(base_url: str | None) -> None:
    connector = aiohttp.TCPConnector(resolver=_NoNames())
    async with (
        aiohttp.ClientSession(connector=connector) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError) as caught:
            await playai.get_job(JOB_ID)
    assert ("reported closed" in str(caught.value)) == ("PLAYAI_BASE_URL" in str(caught.value)) == (base_url is None)


async def test_a_failed_tls_handshake_is_a_transport_error() -> None:
    """The server here does not speak TLS."""
    async with (
        raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server,
        PlayAISession(API_KEY, USER_ID, base_url=server.base_url.replace("http:", "https:")) as playai,
    ):
        with pytest.raises(TransportError, match="TLS failed"):
            await playai.get_job(JOB_ID)


async def test_aiohttp_does_not_retry_a_request(emulator: Emulator, playai: PlayAISession) -> None:
    """By default, aiohttp retries a GET whose connection is lost, and the service would count two requests."""
    job_id = emulator.add_job()
    emulator.inject(Reset())
    with pytest.raises(TransportError, match="connection was lost") as caught:
        await playai.get_job(job_id)
    assert isinstance(caught.value.__cause__, aiohttp.ClientOSError)
    assert emulator.stats.requests == playai.stats.requests == 1


async def test_requests_are_limited_by_the_callers_connection_pool(emulator: Emulator) -> None:
    """Waiting for a connection would count towards the request timeout."""
    emulator.inject(Slow(0.8), times=None)
    job_id = emulator.add_job()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as http_session,
        PlayAISession(
            API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session, request_timeout=1
        ) as playai,
    ):
        await asyncio.gather(*(playai.get_job(job_id) for _ in range(6)))
        assert playai.stats.transient_failures == 0
    assert emulator.stats.most_in_flight == 2


async def test_a_compressed_response_is_decompressed_in_any_client_session(emulator: Emulator) -> None:
    """Even if the caller's client session has decompression switched off."""
    body = gzip.compress(DOCUMENT)
    emulator.inject(Status(200, body=body, headers={"Content-Encoding": "gzip"}))
    async with (
        aiohttp.ClientSession(auto_decompress=False) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        assert (await playai.get_job(JOB_ID)).done


async def test_a_netrc_password_for_the_service_is_a_configuration_error(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `trust_env`, aiohttp would send it instead of the key. The error is raised at once and not retried."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password of-mine\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        aiohttp.ClientSession(trust_env=True) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        parameters = TtsParameters(text="spoken words", voice="v")
        for number, call in enumerate(
            (playai.get_job(JOB_ID), playai.wait_for_completion(JOB_ID), playai.create_job(parameters)), 1
        ):
            with pytest.raises(ConfigurationError, match=r"netrc has a password for 127\.0\.0\.1") as caught:
                await call
            assert "of-mine" not in repr(caught.value) + repr(caught.value.__cause__)
            assert playai.stats.requests == number
        netrc.write_text("machine elsewhere.example login me password of-mine\n")
        await playai.get_job(emulator.add_job())
    assert emulator.stats.requests == 1


async def test_an_error_of_the_callers_middleware_is_a_transport_error(emulator: Emulator) -> None:
    """The next request may succeed."""

    async def fail(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        raise ValueError("no such thing")

    async with (
        aiohttp.ClientSession(trust_env=True, middlewares=[fail]) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match="ValueError"):
            await playai.get_job(JOB_ID)


async def test_hundreds_of_jobs_finish(emulator: Emulator, playai: PlayAISession) -> None:
    """Many waits at once share the connection pool, and each gets its own job."""
    jobs = [emulator.add_job(duration=number % 7, fails=number % 50 == 0) for number in range(400)]
    finished = await asyncio.gather(*(playai.wait_for_completion(job_id) for job_id in jobs))
    assert [job.id for job in finished] == jobs
    assert sum(isinstance(job.output, Completed) for job in finished) == 392
    assert emulator.stats.most_in_flight <= 32
