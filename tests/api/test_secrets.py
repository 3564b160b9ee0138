"""The key and the user id appear nowhere: in no repr, log record, exception, traceback or pickle."""

from __future__ import annotations

import asyncio
import gc
import html
import json
import logging
import pickle
import re
import traceback
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from types import CoroutineType, FunctionType, ModuleType

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import (
    ConfigurationError,
    InvalidParametersError,
    Pacing,
    PlayAIError,
    PlayAISession,
    Polling,
    TransportError,
    TtsParameters,
)
from playai_async._api.credentials import Credentials
from playai_async._models import job_id_of
from playai_async.emulator import Emulator, Hang, Malformed, Reset, Status
from tests.support.raw_server import raw_server
from tests.support.scripted import JOB_ID
from tests.support.secret_checks import API_KEY, USER_ID, assert_error_hides, assert_hidden, assert_no_piece_shows

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
        Status(403, body=f"<p>{html.escape(API_KEY)} {USER_ID.replace('+', '&#43;')}</p>".encode()),
        Reset(),
    ],
    ids=["401", "429", "500", "302", "no JSON", "no job", "at the cut", "HTML", "reset"],
)
async def test_no_error_shows_a_secret(
    fault: Status | Malformed | Reset, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if the service echoes the secret, and with the locals of every frame."""
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
async def test_no_cause_shows_a_secret(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Errors of aiohttp contain the headers of the request, or quote the response."""
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


LONG_KEY = "ak-0123456789abcdefghijklmnopqrstuvwxyzQWERTY"
CUT = LONG_KEY[:-1].encode()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nno such key: " + CUT,
        b"HTTP/1.1 401 No\r\nConnection: close\r\n\r\nno such key: " + CUT,
        b"HTTP/1.1 401 No\r\nContent-Length: %d\r\nConnection: close\r\n\r\nno such key: " % (13 + len(CUT))
        + CUT
        + b"Y",
        b'HTTP/1.1 401 No\r\nConnection: close\r\n\r\n{"errorMessage": "bad key ' + CUT + b'"}',
        b"HTTP/1.1 401 No\r\nConnection: close\r\n\r\n" + f"no such key: {LONG_KEY}".encode("utf-16-le"),
        b"HTTP/1.1 200 OK\r\nX-Echo: " + b"x" * 60 + LONG_KEY.encode() + b"y" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 60 + LONG_KEY.encode() + b"y" * 9_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX Echo\x01: Bearer " + CUT + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + LONG_KEY[5:].encode() + b"\x01: y\r\n\r\n",
        b"Authorization: Bearer " + CUT,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz" + CUT,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz" + LONG_KEY[5:].encode() + b"\r\n",
    ],
    ids=[
        *(
            "to the close",
            "401 to the close",
            "by its length",
            "in the message",
            "UTF-16",
            "long header",
            "long reason",
        ),
        *("bad header", "end of a bad header", "no HTTP", "bad chunk", "end of a bad chunk"),
    ],
)
async def test_no_part_of_a_truncated_secret_is_shown(answer: bytes) -> None:
    """Truncated by the server, by a lost connection, or by aiohttp when it quotes the response."""
    async with raw_server(answer) as server, PlayAISession(LONG_KEY, USER_ID, base_url=server.base_url) as playai:
        with pytest.raises(PlayAIError) as caught:
            await playai.get_job(JOB_ID)
    assert_no_piece_shows(caught.value, LONG_KEY)


async def assert_hidden_in_errors_of_middlewares(
    emulator: Emulator, error_of: Callable[[dict[str, str]], Exception]
) -> None:
    """Raise an error that contains the headers from the caller's middleware, and check what the caller sees."""

    async def fail(request: aiohttp.ClientRequest, _: object) -> aiohttp.ClientResponse:
        raise error_of(dict(request.headers))

    async with (
        aiohttp.ClientSession(middlewares=(fail,)) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http_session) as playai,
    ):
        with pytest.raises(TransportError, match=type(error_of({})).__name__) as caught:
            await playai.get_job(JOB_ID)
    assert isinstance(caught.value.__cause__, aiohttp.ClientError)
    assert_error_hides(caught.value)


async def test_a_cause_that_contains_headers_is_replaced(emulator: Emulator) -> None:
    """For example an error of a middleware in the caller's client session."""
    await assert_hidden_in_errors_of_middlewares(emulator, LookupError)


@pytest.mark.parametrize("grouped", [False, True], ids=["by itself", "in a group"])
@pytest.mark.parametrize("noted", [True, False], ids=["a note", "a cause"])
async def test_notes_causes_and_groups_show_no_secret(emulator: Emulator, *, noted: bool, grouped: bool) -> None:
    """They are printed together with the error."""

    def error_of(headers: dict[str, str]) -> Exception:
        failure = RuntimeError("no such thing")
        if noted:
            failure.add_note(f"in {headers}")
        else:
            failure.__cause__ = LookupError(headers)
        return ExceptionGroup("several", [OSError("one"), failure]) if grouped else failure

    await assert_hidden_in_errors_of_middlewares(emulator, error_of)


async def test_an_unknown_status_is_logged_without_a_secret(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    """The status is redacted before it is logged."""
    job_id = emulator.add_job()
    emulator.set_output(job_id, {"status": f"WAITING for {API_KEY}\n" + "x" * 1000})
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        await playai.get_job(job_id)
    assert "[hidden]" in caplog.text
    assert "\n" not in caplog.records[-1].getMessage()
    assert len(caplog.records[-1].getMessage()) < 400
    assert_hidden(caplog.text)


async def test_no_record_of_any_logger_shows_a_secret(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """At DEBUG and in asyncio's debug mode, for the loggers of this library, aiohttp and asyncio."""
    caplog.set_level(logging.DEBUG)
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.0
    polling = Polling(timeout=60, max_failures=3)
    for fault in (Status(429, body=ECHO), Status(500, body=ECHO), Reset(), Reset(midway=True), Malformed("html")):
        emulator.inject(fault)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=Pacing(window=1.0)) as playai:
        await playai.speak(TtsParameters(text="spoken words", voice="v"), tmp_path / "a.mp3", polling=Polling())
        emulator.inject(Hang())
        emulator.inject(Status(401, body=ECHO))
        with pytest.raises(PlayAIError):
            await playai.wait_for_completion(emulator.add_job(), polling=polling)
        doomed = asyncio.create_task(playai.wait_for_completion(emulator.add_job(1_000), polling=polling))
        await asyncio.sleep(5)
        doomed.cancel()
    loop.set_debug(False)
    names = {record.name for record in caplog.records}
    assert {"asyncio", "playai_async"} <= names
    assert_hidden(caplog.text + repr([vars(record) for record in caplog.records]))


async def test_no_repr_of_a_session_and_its_parts_shows_a_secret(emulator: Emulator, tmp_path: Path) -> None:
    """Every object that the session references, while it is working."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        wait = asyncio.create_task(playai.wait_for_completion(emulator.add_job(30)))
        await playai.speak(TtsParameters(text="spoken words", voice="v"), tmp_path)
        ours = [thing for thing in reachable_from(playai) if type(thing).__module__.startswith("playai_async")]
        kinds = {type(thing).__name__ for thing in ours}
        assert {"Credentials", "Transport", "Contract", "Poller", "Pacer", "Watch", "Downloader", "Creator"} <= kinds
        for thing in ours:
            assert_hidden(repr(thing) + str(thing))
        await wait


ELSEWHERE = (type, ModuleType, CoroutineType, asyncio.AbstractEventLoop, Emulator)
"""What leads to all that there is, and to the tests, which hold the secrets."""


def reachable_from(root: object) -> list[object]:
    """Return all objects that are referenced by attributes, contents or closures."""
    found: dict[int, object] = {}
    todo = [root]
    while todo:
        thing = todo.pop()
        if id(thing) not in found and not isinstance(thing, ELSEWHERE):
            found[id(thing)] = thing
            todo += (thing.__closure__ or ()) if isinstance(thing, FunctionType) else gc.get_referents(thing)
    return list(found.values())


async def test_the_warning_about_an_unclosed_session_shows_no_secret(emulator: Emulator) -> None:
    """The warning contains the repr of the session, and its source is the session."""
    playai = PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url)
    await playai.get_job(emulator.add_job())
    await playai._runtime._parts.transport.close()  # type: ignore[union-attr]  # otherwise aiohttp would warn, too
    with pytest.warns(ResourceWarning) as caught:
        del playai
        gc.collect()
    for warning in caught:
        assert_hidden(f"{warning} {warning.message} {warning.source!r}")


@pytest.mark.parametrize("arguments", [(f"{API_KEY} x", USER_ID), (API_KEY, f"{USER_ID}\n"), (f"{API_KEY}é", USER_ID)])
def test_a_rejected_key_is_not_shown(arguments: tuple[str, str]) -> None:
    """Only the locals of the frames in the traceback contain it."""
    with pytest.raises(ConfigurationError) as caught:
        PlayAISession(*arguments)
    assert_hidden("".join(traceback.format_exception(caught.value)))
    assert_hidden(repr(caught.value) + repr(vars(caught.value)) + pickle.dumps(caught.value, 0).decode("latin-1"))


async def test_secrets_are_sent_in_their_headers_only() -> None:
    """Once each, and neither in the request line nor in the body."""
    key = "".join(map(chr, range(ord("!"), ord("~") + 1)))
    async with (
        raw_server(b"HTTP/1.1 400 \r\nContent-Length: 0\r\n\r\n") as server,
        PlayAISession(key, USER_ID, base_url=server.base_url + "/a/b") as playai,
    ):
        with pytest.raises(InvalidParametersError):
            await playai.get_job(JOB_ID)
        with pytest.raises(InvalidParametersError):
            await playai.create_job(TtsParameters(text="spoken words", voice="v"))
    assert len(server.requests) == 2
    for request in server.requests:
        head, _, body = request.partition(b"\r\n\r\n")
        line, *headers = head.decode().split("\r\n")
        assert [header for header in headers if key in header] == [f"Authorization: Bearer {key}"]
        assert [header for header in headers if USER_ID in header] == [f"X-USER-ID: {USER_ID}"]
        assert_hidden(line + body.decode())


@settings(derandomize=True, database=None, max_examples=200)
@given(text=st.text() | st.text(alphabet=st.sampled_from("aA \r\n\t\0\x7f\x85\u2028:ïé")))
def test_no_key_and_no_user_id_can_start_another_header(text: str) -> None:
    """A value is rejected, or it is the complete value of its header."""
    for field, header, scheme in (("api_key", "Authorization", "Bearer "), ("user_id", "X-USER-ID", "")):
        try:
            credentials = Credentials.checked(**{"api_key": "key", "user_id": "user", field: text})
        except ConfigurationError:
            assert not text.isascii() or not text.isprintable() or " " in text or not text
            continue
        value = credentials.headers()[header]
        assert value.startswith(scheme)
        assert re.fullmatch(r"[!-~]+", value.removeprefix(scheme))
        assert text.endswith(value.removeprefix(scheme))
        assert list(credentials.headers()) == ["Authorization", "X-USER-ID"]


@settings(derandomize=True, database=None, max_examples=100)
@given(text=st.text() | st.uuids().map(str) | st.from_regex(r"[0-9a-f-]{32,40}[\r\n?#/ ]?"))
def test_no_job_id_can_change_the_request(text: str) -> None:
    """A value is rejected, or it is a UUID in the path."""
    try:
        job_id = job_id_of(text)
    except ValueError:
        return
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", str(job_id))
    assert str(job_id) == text.lower()
