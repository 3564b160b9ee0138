"""The key and the user id appear nowhere: representations, log records, exceptions, tracebacks, pickles."""

from __future__ import annotations

import json
import logging
import urllib.parse

import aiohttp
import pytest

from playai_async import Pacing, PlayAIError, PlayAISession, Polling, TransportError
from playai_async.emulator import Emulator, Malformed, Reset, Status
from tests.raw_server import raw_server
from tests.scripted import JOB_ID
from tests.secret_checks import API_KEY, USER_ID, assert_error_hides, assert_hidden

ECHO = {"errorMessage": f"bad key {API_KEY} of {USER_ID}", "errorId": f"{API_KEY}"}


@pytest.mark.parametrize(
    "fault",
    [
        Status(401, body=ECHO),
        Status(429, body=f"slow down, {API_KEY}"),
        Status(500, body=f"<p>{API_KEY}</p>".encode()),
        Status(302, body=ECHO, headers={"Location": f"https://elsewhere/?key={urllib.parse.quote(API_KEY)}"}),
        Malformed(f"{API_KEY} {USER_ID}".encode()),
        Malformed(json.dumps({"id": API_KEY, USER_ID: [API_KEY]}).encode()),
        Malformed((" " * 195 + API_KEY).encode()),
        Reset(),
    ],
    ids=["401", "429", "500", "302", "no JSON", "no job", "at the cut", "reset"],
)
async def test_no_error_shows_a_secret(
    fault: Status | Malformed | Reset, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the service echoes it, and with the locals of every frame."""
    caplog.set_level(logging.DEBUG)
    emulator.inject(fault, times=None)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=Pacing(window=1.0)) as playai:
        with pytest.raises(PlayAIError) as caught:
            await playai.wait_for_completion(JOB_ID, polling=Polling(timeout=30, max_failures=2))
        assert_error_hides(caught.value)
        assert_hidden(repr(playai) + repr(vars(playai)) + repr(playai.stats))
    assert_hidden(caplog.text + repr([vars(record) for record in caplog.records]))


@pytest.mark.parametrize(
    "answer",
    [
        b"no HTTP " + API_KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + API_KEY.encode() + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Echo: " + API_KEY.encode() + b"\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 " + API_KEY.encode() + b"\r\nContent-Encoding: gzip\r\n\r\n" + API_KEY.encode(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + API_KEY.encode() + b"\r\n\r\n",
        b"",
    ],
    ids=["status line", "header", "cut short", "no gzip", "no chunks", "nothing"],
)
async def test_no_lower_error_shows_a_secret(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """The errors of aiohttp carry the request's headers, or quote what the server sent."""
    caplog.set_level(logging.DEBUG)
    async with (
        raw_server(answer) as server,
        PlayAISession(API_KEY, USER_ID, base_url=server.base_url) as playai,
    ):
        with pytest.raises(PlayAIError) as caught:
            await playai.get_job(JOB_ID)
    assert caught.value.__cause__ is not None
    assert_error_hides(caught.value)
    assert_hidden(caplog.text)


async def test_a_lower_error_that_quotes_headers_is_replaced(emulator: Emulator) -> None:
    """Such as one raised by the tracing of the caller's own client session."""

    async def fail(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        raise LookupError(dict(params.headers))

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(fail)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match="LookupError") as caught:
            await playai.get_job(JOB_ID)
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert_error_hides(caught.value)


@pytest.mark.parametrize("noted", [True, False], ids=["a note", "a cause"])
async def test_what_is_printed_with_a_lower_error_shows_no_secret(emulator: Emulator, *, noted: bool) -> None:
    """A note on it, and what it came of: whoever prints the error prints these, too."""

    async def fail(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        failure = RuntimeError("no such thing")
        if noted:
            failure.add_note(f"in {dict(params.headers)}")
        raise failure from (None if noted else LookupError(dict(params.headers)))

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(fail)
    async with (
        aiohttp.ClientSession(trace_configs=[trace]) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match="RuntimeError") as caught:
            await playai.get_job(JOB_ID)
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert_error_hides(caught.value)


async def test_an_unknown_status_is_logged_without_a_secret(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The service's own words are redacted in the one place where they are logged."""
    job_id = emulator.add_job()
    emulator.set_output(job_id, {"status": f"WAITING for {API_KEY}\n" + "x" * 1000})
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        await playai.get_job(job_id)
    assert "[hidden]" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()
    assert len(caplog.records[-1].getMessage()) < 400
    assert_hidden(caplog.text)
