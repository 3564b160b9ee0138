"""Downloads over real sockets: complete or not at all, and never with credentials."""

from __future__ import annotations

import asyncio
import email.utils
import errno
import functools
import logging
import socket
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from playai_async import (
    DownloadError,
    Failed,
    InProgress,
    JobFailedError,
    NotFoundError,
    Pacing,
    PlayAIError,
    PlayAISession,
    SessionClosedError,
    TtsJob,
    TtsParameters,
    UnexpectedServiceError,
)
from playai_async._audio import disk as disk_module
from playai_async._audio.files import PartFile
from playai_async.emulator import Emulator, Hang, Slow, Status
from tests.support.audio_host import (
    AUDIO,
    AudioHost,
    answer,
    audio_host,
    breaks_off_after,
    falls_silent_after,
    redirect,
)
from tests.support.clock import now
from tests.support.files import files_left
from tests.support.raw_server import raw_server
from tests.support.scripted import API_KEY, JOB_ID, USER_ID

SIZE = len(AUDIO)
OLD = b"what was there before"


@pytest.fixture
async def host() -> AsyncIterator[AudioHost]:
    """An audio host on loopback."""
    async with audio_host() as host:
        yield host


@pytest.fixture
async def playai() -> AsyncIterator[PlayAISession]:
    """A session that sends no API requests."""
    async with PlayAISession(API_KEY, USER_ID, request_timeout=10.0) as playai:
        yield playai


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A destination that exists already."""
    path = tmp_path / "speech.mp3"
    path.write_bytes(OLD)
    return path


def assert_untouched(path: Path) -> None:
    """Check that nothing was overwritten or left behind."""
    assert path.read_bytes() == OLD
    assert list(path.parent.iterdir()) == [path]


async def failure_of(playai: PlayAISession, job: TtsJob, path: Path) -> DownloadError:
    """Return the error of a download that fails, and check that it left nothing behind."""
    with pytest.raises(DownloadError) as caught:
        await playai.download(job, path)
    assert caught.value.job_id == JOB_ID
    assert str(caught.value).startswith(f"The audio of job {JOB_ID} could not be downloaded: ")
    assert "Signature" not in repr(caught.value) + repr(caught.value.__cause__), "a signed URL is a secret"
    assert_untouched(path)
    return caught.value


# Requests and destinations


async def test_a_file_is_replaced_by_the_complete_audio(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """Nothing is left beside it, and the signed URL is sent unchanged."""
    assert await playai.download(host.job(), path) == path
    assert path.read_bytes() == AUDIO
    assert list(path.parent.iterdir()) == [path]
    assert [seen.target for seen in host.seen] == ["/a.mp3?Signature=s%2Bx~&Expires=1"]


async def test_in_a_directory_the_file_is_named_by_the_job(
    host: AudioHost, playai: PlayAISession, tmp_path: Path
) -> None:
    """By the id and the content type of the job, never by the URL or the host."""
    host.script = [redirect("/..%2f..%2fevil.sh?x=../../evil")]
    found = await playai.download(host.job(kind="audio/wav; codec=1"), str(tmp_path))
    assert found == tmp_path / f"{JOB_ID}.wav"
    assert [path.name for path in tmp_path.iterdir()] == [f"{JOB_ID}.wav"]


async def test_an_id_costs_one_status_request(emulator: Emulator, tmp_path: Path) -> None:
    """The URL of a finished job is used directly."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        for job in (emulator.add_job(), str(emulator.add_job())):
            path = await playai.download(job, tmp_path)
            assert path.stat().st_size == (await playai.get_job(job)).raise_for_failure().output.file_size
        assert emulator.stats.requests == 4


async def test_a_job_that_is_not_completed_cannot_be_downloaded(emulator: Emulator, tmp_path: Path) -> None:
    """Given as a job or by its id. Nothing is written."""
    failed, endless = emulator.add_job(fails=True), emulator.add_job(float("inf"))
    unknown = "00000000-0000-4000-8000-000000000000"
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        for job in (failed, await playai.get_job(failed)):
            with pytest.raises(JobFailedError, match=f"{failed} failed"):
                await playai.download(job, tmp_path)
        for job in (endless, await playai.get_job(endless)):
            with pytest.raises(ValueError, match=f"{endless} is not done"):
                await playai.download(job, tmp_path)
        with pytest.raises(NotFoundError):
            await playai.download(unknown, tmp_path)
    assert files_left(tmp_path) == []


@pytest.mark.parametrize(
    ("job", "destination", "on_progress", "error"),
    [
        ("no id", "x", None, ValueError),
        (7, "x", None, TypeError),
        (JOB_ID, 7, None, TypeError),
        (JOB_ID, b"x", None, TypeError),
        (JOB_ID, "x", 7, TypeError),
        (JOB_ID, "nowhere/x", None, FileNotFoundError),
        (JOB_ID, "nowhere/", None, FileNotFoundError),
    ],
    ids=["no id", "no job", "no path", "bytes", "no callable", "no directory", "no directory of that name"],
)
async def test_invalid_arguments_are_rejected_before_a_request(
    job: Any,
    destination: Any,
    on_progress: Any,
    error: type[Exception],
    playai: PlayAISession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The service is not asked for a job whose audio could not be kept."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        await playai.download(job, destination, on_progress=on_progress)
    assert playai.stats.requests == 0


# Credentials


async def test_the_audio_host_never_receives_credentials(host: AudioHost, tmp_path: Path) -> None:
    """Nor does a host that it redirects to. Headers and cookies of the caller are not sent either."""
    async with (
        audio_host() as other,
        aiohttp.ClientSession(
            headers={"Authorization": "Bearer caller", "X-USER-ID": "caller", "X-Mine": "1"},
            cookies={"mine": "1"},
            cookie_jar=aiohttp.CookieJar(unsafe=True),
        ) as http,
    ):
        host.script = [redirect("/elsewhere"), redirect(other.link, 307)]
        for http_session in (None, http):
            async with PlayAISession(API_KEY, USER_ID, http_session=http_session) as playai:
                await playai.download(host.job(), tmp_path)
        assert len(host.seen) == 3
        assert len(other.seen) == 1
    for seen in (*host.seen, *other.seen):
        assert {name.lower() for name in seen.headers} == {"host", "accept", "accept-encoding", "user-agent"}
        assert API_KEY not in repr(seen)
        assert USER_ID not in repr(seen)


async def test_a_netrc_password_is_not_sent_to_the_audio_host(
    host: AudioHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `trust_env`, aiohttp looks up every host in the netrc."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with (
        aiohttp.ClientSession(trust_env=True) as http,
        PlayAISession(API_KEY, USER_ID, http_session=http) as playai,
    ):
        await playai.download(host.job(), tmp_path)
        async with http.get(host.link) as response:
            assert response.status == 200
    assert ["Authorization" in seen.headers for seen in host.seen] == [False, True]


async def test_a_cookie_of_the_audio_host_is_not_kept(host: AudioHost, tmp_path: Path) -> None:
    """Not for a redirect, a retry or another download."""
    host.script = [answer(302, **{"Location": "/b", "Set-Cookie": "id=1"}), answer(503, **{"Set-Cookie": "id=2"})]
    link = host.link.replace("127.0.0.1", "localhost")  # a cookie jar ignores cookies of IP addresses
    async with PlayAISession(API_KEY, USER_ID) as playai:
        for _ in range(2):
            await playai.download(host.job(link), tmp_path)
    assert [seen.target.partition("?")[0] for seen in host.seen] == ["/a.mp3", "/b", "/a.mp3", "/a.mp3"]
    assert not any("Cookie" in seen.headers for seen in host.seen)


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308], ids=str)
async def test_redirects_are_followed(status: int, host: AudioHost, playai: PlayAISession, tmp_path: Path) -> None:
    """Up to five, relative or absolute. The URLs are sent unchanged."""
    host.script = [redirect(f"/{hop}?x=%7e~", status) for hop in range(4)] + [redirect(host.link, status)]
    path = await playai.download(host.job(), tmp_path)
    assert path.read_bytes() == AUDIO
    assert [seen.target for seen in host.seen][1:5] == [f"/{hop}?x=%7e~" for hop in range(4)]


async def test_more_than_five_redirects_are_an_error(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """The sixth is not followed."""
    host.script = [redirect(host.link)] * 100
    assert "more than 5 redirects" in str(await failure_of(playai, host.job(), path))
    assert len(host.seen) == 6


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("http://audio.example/a", "neither https"),
        ("ftp://audio.example/a", "neither https"),
        ("file:///etc/passwd", "no valid host"),
        ("https:///a", "no valid host"),
        ("https://a..b/a", "no valid host"),
        ("https://user:password@audio.example/a", "a user or a password"),
        ("https://user@audio.example/a", "a user or a password"),
        ("https://audio.example/a b", "a space"),
        ("https://audio.example/a\r\nX-Evil: 1", "a line break"),
        ("https://audio.example/\u00e9", "outside ASCII"),
        ("https://audio.example:99999/a", "is not valid"),
        ("", "missing"),
        ("/a", "no valid host"),
    ],
    ids=repr,
)
async def test_an_unsafe_url_is_not_requested(
    link: str, why: str, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Neither the URL of a job nor a redirect."""
    assert why in str(await failure_of(playai, host.job(link), path))
    assert playai.stats.requests == len(host.seen) == 0
    if "\r" not in link and link.isascii() and not link.startswith("/"):
        host.script = [redirect(link)]
        assert why in str(await failure_of(playai, host.job(), path))
        assert len(host.seen) == 1


# Size


@pytest.mark.parametrize("file_size", [0, 1, SIZE - 1, SIZE + 1, 0.5, 1e30], ids=str)
async def test_audio_of_another_size_than_the_job_reports_is_rejected(
    file_size: float, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """`Content-Length` is enough; a retry would return the same size."""
    assert f"its URL returns {SIZE}" in str(await failure_of(playai, host.job(file_size=file_size), path))
    assert len(host.seen) == 1


async def test_audio_without_content_length_must_have_the_size_of_the_job(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """A larger body is an error, and a smaller body is an interrupted attempt that is retried."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    async with raw_server(head + b"x" * 1_000) as raw:
        assert "its URL returns more" in str(await failure_of(playai, host.job(raw.base_url, file_size=999), path))
        assert len(raw.requests) == 1
        why = str(await failure_of(playai, host.job(raw.base_url, file_size=1_001), path))
        assert "the response ended after 1000 of 1001 bytes" in why
        assert len(raw.requests) == 6
        told: list[tuple[int, int | None]] = []
        job = host.job(raw.base_url, file_size=1_000)
        await playai.download(job, path, on_progress=lambda *progress: told.append(progress))
    assert path.read_bytes() == b"x" * 1_000
    assert told[-1] == (1_000, 1_000)


@pytest.mark.parametrize(
    "coding", ["gzip", "x-gzip", "deflate", "compress", "br", "zstd", "GZIP", "aws-chunked, gzip"], ids=str
)
async def test_compressed_audio_is_rejected(coding: str, host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """The size of compressed data is not the size of the audio."""
    host.script = [answer(200, **{"Content-Encoding": coding})]
    assert "encoded" in str(await failure_of(playai, host.job(file_size=8), path))
    assert len(host.seen) == 1


@pytest.mark.parametrize("coding", ["", "aws-chunked", "identity", "utf-8", "aws-chunked, identity"], ids=repr)
async def test_another_content_encoding_is_ignored(
    coding: str, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Object stores serve values that do not change the data."""
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: 5\r\n\r\n"
    async with raw_server(head.encode() + b"audio") as raw:
        await playai.download(host.job(raw.base_url, file_size=5), path)
    assert path.read_bytes() == b"audio"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("size", "ending"),
    [
        (5, b""),
        (5, b"\r\n0\r\n\r\n"),
        (300_000, b""),
        (300_000, b"\r\n"),
        (300_000, b"\r\n0\r\n\r\n"),
        (300_000, b"\r\nnonsense\r\n"),
    ],
    ids=["short", "short and ended", "long", "without the last chunk", "long and ended", "then nonsense"],
)
async def test_a_download_is_complete_when_all_bytes_have_come(
    size: int, ending: bytes, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Even if the connection is lost before the end of the response."""
    audio = AUDIO[:size]
    async with raw_server(CHUNKED + b"%x\r\n" % size + audio + ending) as raw:
        await playai.download(host.job(raw.base_url, file_size=size), path)
        assert len(raw.requests) == 1
    assert path.read_bytes() == audio


async def chunked(request: web.BaseRequest) -> web.StreamResponse:
    """Begin a response whose length is unknown."""
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    return response


async def test_a_host_that_does_not_end_the_response_is_not_waited_for(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """After the last byte of the audio."""

    async def silent(host: AudioHost, request: web.BaseRequest) -> web.StreamResponse:
        await (await chunked(request)).write(host.audio)
        await asyncio.sleep(86_400)
        raise NotImplementedError

    host.script = [silent]
    began = now()
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert now() - began < 1
    assert len(host.seen) == 1


async def test_audio_that_goes_on_after_the_expected_size_is_rejected(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Also if the rest comes a moment later."""

    async def longer(host: AudioHost, request: web.BaseRequest) -> web.StreamResponse:
        response = await chunked(request)
        await response.write(host.audio)
        await asyncio.sleep(0.1)
        await response.write(b"more")
        return response

    host.script = [longer]
    assert "its URL returns more" in str(await failure_of(playai, host.job(), path))


# Attempts


async def test_a_lost_connection_is_resumed(
    host: AudioHost, playai: PlayAISession, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No byte is sent twice, and the pauses grow without progress. The log does not contain the URL."""
    caplog.set_level(logging.DEBUG, "playai_async")
    host.script = [breaks_off_after(100_000), breaks_off_after(200_000), breaks_off_after(0)]
    told: list[int] = []
    began = now()
    await playai.download(host.job(), path, on_progress=lambda received, _: told.append(received))
    assert path.read_bytes() == AUDIO
    assert host.ranges == [None, "bytes=100000-", "bytes=300000-", "bytes=300000-"]
    assert [seen.headers.get("If-Range") for seen in host.seen] == [None, *['"one"'] * 3]
    assert told == sorted(told)
    assert told[-1] == SIZE
    assert 2.0 <= now() - began <= 3.6  # pauses of 0.5, 0.5 and 1 s, and up to half a second more each
    assert "Job 6f1c2d3e-4a5b-4c6d-8e7f-9a0b1c2d3e4f: download interrupted after 300000 bytes." in caplog.messages
    assert "Signature" not in caplog.text


async def test_a_log_filter_that_raises_does_not_break_a_download(
    host: AudioHost,
    playai: PlayAISession,
    path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does any other listener."""

    def broken(_: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    caplog.set_level(logging.DEBUG, "playai_async")
    monkeypatch.setattr(logging.getLogger("playai_async"), "filters", [broken])
    host.script = [breaks_off_after(100_000)]
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO


async def test_without_ranges_a_download_starts_over(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """The reported progress starts over too."""
    host.accepts_ranges = False
    host.script = [breaks_off_after(100_000)]
    told: list[int] = []
    await playai.download(host.job(), path, on_progress=lambda received, _: told.append(received))
    assert path.read_bytes() == AUDIO
    assert host.ranges == [None, None]
    assert told != sorted(told)


async def test_audio_that_changed_meanwhile_starts_over(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """The parts of two versions are never combined."""
    host.script = [breaks_off_after(100_000), breaks_off_after(300_000)]
    task = asyncio.create_task(playai.download(host.job(), path))
    await asyncio.sleep(0.1)
    host.audio, host.etag = AUDIO[::-1], '"two"'
    await task
    assert path.read_bytes() == AUDIO[::-1]
    assert host.ranges == [None, "bytes=100000-", "bytes=300000-"]


async def test_attempts_count_from_the_last_progress(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """A download that breaks off often, but goes on, succeeds."""
    host.script = [answer(503)] * 4 + [breaks_off_after(SIZE // 20)] * 19 + [answer(503)] * 3
    began = now()
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert len(host.seen) == 4 + 19 + 3 + 1
    assert now() - began < 40  # after progress, the pauses are short again


async def test_bytes_that_were_there_before_are_no_progress(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """Where each attempt starts over, a host that always breaks off is given up."""
    host.accepts_ranges = False
    host.script = [breaks_off_after(100_000), breaks_off_after(200_000), *[breaks_off_after(200_000)] * 100]
    assert "in the last of 5 attempts" in str(await failure_of(playai, host.job(), path))
    assert len(host.seen) == 6


LONG_AGO = "Fri, 02 Jan 2026 12:00:00 GMT"


def last_modified_of(text_or_age: str | float) -> str:
    """Return a `Last-Modified`; a number is seconds before now, which is what the host sends in `Date`."""
    if isinstance(text_or_age, str):
        return text_or_age
    return email.utils.formatdate(time.time() - text_or_age, usegmt=True)


@pytest.mark.parametrize(
    ("etag", "last_modified", "condition"),
    [
        ('"strong"', LONG_AGO, '"strong"'),
        ("", LONG_AGO, LONG_AGO),
        ("", "Fri, 02 Jan 2026 12:00:00 -0000", "Fri, 02 Jan 2026 12:00:00 -0000"),
        ('W/"weak"', "", None),
        ('W/"weak"', LONG_AGO, None),
        ("", "", None),
        ("", 0, None),
        ("", 30, None),
        ("", -3_600, None),
        ("", "Fri, 02 Jan\t2026", None),
        ("", "Fri, 02 Jan 99999999999 12:00:00 GMT", None),
        ('"\u00e9"', "", None),
        ('"a" "b"', "", None),
        ("unquoted", "", None),
    ],
    ids=[
        "strong tag",
        "old date",
        "date without zone",
        "weak tag",
        "weak tag and date",
        "neither",
        "date of now",
        "recent date",
        "date to come",
        "odd date",
        "no such year",
        "odd tag",
        "two tags",
        "no tag",
    ],
)
async def test_a_download_is_resumed_only_under_a_strong_validator(
    etag: str, last_modified: str | float, condition: str | None, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Otherwise it starts over, because nothing would tell two versions apart (RFC 9110, 8.8 and 13.1.5)."""
    host.etag, host.last_modified = etag, last_modified_of(last_modified)
    host.script = [breaks_off_after(100_000)]
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert [seen.headers.get("If-Range") for seen in host.seen] == [None, condition]
    assert host.ranges == [None, None if condition is None else "bytes=100000-"]


async def test_a_date_without_the_time_of_the_response_is_no_validator(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """It cannot be told how long the audio has been unchanged."""
    head = f"Accept-Ranges: bytes\r\nLast-Modified: {LONG_AGO}\r\nContent-Length: 5\r\nConnection: close"
    async with raw_server(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n012".encode()) as raw:
        await failure_of(playai, host.job(raw.base_url, file_size=5), path)
    assert not any(b"Range" in request for request in raw.requests)


@pytest.mark.parametrize(
    ("etag", "last_modified"),
    [('"one"', ""), ('W/"one"', ""), ("", LONG_AGO), ("", 0), ("", "")],
    ids=["tag", "weak tag", "old date", "date of now", "neither"],
)
async def test_versions_are_not_mixed_by_a_host_that_ignores_if_range(
    etag: str, last_modified: str | float, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """It serves a range of the new version; the new validator shows that, if there is one."""

    async def changes(host: AudioHost, request: web.BaseRequest) -> web.StreamResponse:
        response = await breaks_off_after(100_000)(host, request)
        host.audio = AUDIO[::-1]
        host.etag = etag.replace("one", "two")
        host.last_modified = host.last_modified.replace("12:00", "12:01")
        host.honours_if_range = False
        return response

    host.etag, host.last_modified = etag, last_modified_of(last_modified)
    host.script = [changes]
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO[::-1]


@pytest.mark.parametrize(
    "wrong",
    [
        answer(416, **{"Content-Range": "bytes */7"}),
        answer(206, **{"Content-Range": f"bytes 100001-{SIZE - 1}/{SIZE}"}),
        answer(206, **{"Content-Range": f"bytes 100000-{SIZE - 1}/{SIZE + 1}"}),
        answer(206, **{"Content-Range": "nonsense"}),
        answer(206, **{"Content-Range": f"bytes 100000-{SIZE - 1}/{SIZE}", "ETag": '"two"'}),
        answer(206, **{"Content-Range": f"bytes 100000-{SIZE - 1}/{SIZE}"}),
        answer(206, **{"Content-Range": f"bytes 100000-{SIZE - 1}/{SIZE}", "ETag": '"one"', "Content-Encoding": "br"}),
        answer(206, **{"Content-Range": f"bytes 100000-99999/{SIZE}", "ETag": '"one"'}),
        answer(206, **{"Content-Range": f"bytes 100000-{SIZE}/{SIZE}", "ETag": '"one"'}),
        answer(206, **{"Content-Range": f"bytes 100000-100003/{SIZE}", "ETag": '"one"'}),
        answer(206),
    ],
    ids=[
        "no range",
        "wrong place",
        "wrong length",
        "nonsense",
        "another",
        "unknown",
        "encoded",
        "ends before it starts",
        "ends after the audio",
        "longer than announced",
        "no place",
    ],
)
async def test_a_wrong_range_starts_over(wrong: Any, host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """No further range is requested from this host."""
    host.script = [breaks_off_after(100_000), wrong]
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert host.ranges == [None, "bytes=100000-", None]


PARTIAL = b'HTTP/1.1 206 Partial Content\r\nETag: "1"\r\n'


async def test_a_shorter_range_than_requested_is_resumed(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """A host may send less than requested. The next attempt requests the rest."""
    async with raw_server(
        b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\nAccept-Ranges: bytes\r\nETag: "1"\r\nConnection: close\r\n\r\n01234'
    ) as raw:
        task = asyncio.create_task(playai.download(host.job(raw.base_url, file_size=10), path))
        for number, rest in enumerate(
            [
                b"Content-Length: 2\r\nContent-Range: bytes 5-6/10\r\n\r\n56",
                b"Content-Length: 3\r\nContent-Range: bytes 7-9/10\r\n\r\n789",
            ]
        ):
            while len(raw.requests) == number:
                await asyncio.sleep(0.1)
            raw.answer = PARTIAL + rest
        await task
    assert path.read_bytes() == b"0123456789"


async def test_an_idle_connection_times_out(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """After the request timeout without data. The next attempt resumes."""
    host.script = [falls_silent_after(100_000), falls_silent_after(0)]
    began = now()
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert host.ranges == [None, "bytes=100000-", "bytes=100000-"]
    assert 21.5 <= now() - began <= 22.5  # two timeouts of 10 s, and pauses of at least 0.5 and 1 s


async def test_slow_audio_does_not_time_out(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """Nine seconds between two bytes are less than the timeout of ten."""

    async def slow(host: AudioHost, request: Any) -> Any:
        response = await host.head(request, host.audio, sent=SIZE - 5)
        for index in range(SIZE - 5, SIZE):
            await asyncio.sleep(9)
            await response.write(AUDIO[index : index + 1])
        return response

    host.script = [slow]
    began = now()
    await playai.download(host.job(), path)
    assert path.read_bytes() == AUDIO
    assert now() - began == pytest.approx(45, abs=0.5)


@pytest.mark.parametrize("status", [408, 429, 500, 503], ids=str)
async def test_a_busy_host_is_retried(status: int, host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """A few times; then the status is the reason of the error."""
    host.script = [answer(status)] * 4
    await playai.download(host.job(), path)
    path.write_bytes(OLD)
    host.seen.clear()
    host.script = [answer(status)] * 100
    assert f"the server answered {status}, in the last of 5 attempts" in str(await failure_of(playai, host.job(), path))
    assert len(host.seen) == 5


@pytest.mark.parametrize("status", [204, 206, 304, 400, 416], ids=str)
async def test_any_other_status_is_an_error_at_once(
    status: int, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """A range that was not requested is one of them."""
    host.script = [answer(status)]
    assert f"the server answered {status}" in str(await failure_of(playai, host.job(), path))
    assert len(host.seen) == 1


async def test_an_unreachable_host_is_retried(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """The error has its cause, without frames that hold the URL."""
    job = host.job("http://127.0.0.1:1/a?Signature=s")
    error = await failure_of(playai, job, path)
    assert "no connection to 127.0.0.1:1 (ClientConnectorError), in the last of 5 attempts" in str(error)
    assert isinstance(error.__cause__, aiohttp.ClientConnectorError)
    assert (error.__cause__.__traceback__, error.__context__) == (None, None)


async def test_a_response_that_is_not_http_is_an_error(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """Its cause does not contain the URL."""
    async with raw_server(b"SSH-2.0-OpenSSH_9.2\r\n") as raw:
        error = await failure_of(playai, host.job(f"{raw.base_url}/a?Signature=s"), path)
    assert "the response is not HTTP" in str(error)


async def test_quotes_of_a_response_are_not_shown(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """Errors of aiohttp quote headers that are too long, which may contain another signed URL."""
    location = b"https://audio.example/a?Signature=" + b"s" * 40_000
    async with raw_server(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n\r\n") as raw:
        error = await failure_of(playai, host.job(raw.base_url), path)
    assert "Signature" not in "".join(traceback.format_exception(error))


# Links that have expired


@pytest.mark.parametrize("status", [401, 403, 404, 410], ids=str)
@pytest.mark.parametrize("given", ["job", "id"])
async def test_an_expired_link_is_fetched_anew(status: int, given: str, emulator: Emulator, tmp_path: Path) -> None:
    """Once, with one status request."""
    emulator.inject(Status(status), endpoint="audio")
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job = await playai.get_job(emulator.add_job())
        emulator.reset_stats()
        path = await playai.download(job if given == "job" else job.id, tmp_path)
        assert path.read_bytes() == emulator.audio_of(job.id)
        assert emulator.stats.requests == (1 if given == "job" else 2)
        assert len(emulator.audio_arrivals) == 2


async def test_a_fresh_link_that_is_refused_is_an_error(emulator: Emulator, path: Path) -> None:
    """After one status request, and not after more."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job = await playai.get_job(emulator.add_job())
        emulator.inject(Status(403), endpoint="audio", times=None)
        emulator.reset_stats()
        with pytest.raises(DownloadError, match=r"has expired or is not valid \(403\), and a fresh one was") as caught:
            await playai.download(job, path)
        assert caught.value.job_id == job.id
        assert emulator.stats.requests == 1
        assert len(emulator.audio_arrivals) == 2
    assert_untouched(path)


@pytest.mark.parametrize(
    ("fault", "kind", "words", "cause"),
    [
        (Status(500), DownloadError, r"\(403\), and no fresh one could be fetched", UnexpectedServiceError),
        (Status(404), DownloadError, r"\(403\), and no fresh one could be fetched", NotFoundError),
        (Status(200, "IN_PROGRESS"), DownloadError, r"\(403\), and the job is not done any more", None),
        (Status(200, "FAILED"), JobFailedError, "failed", None),
    ],
    ids=["no answer", "not found", "in progress", "failed"],
)
async def test_a_link_that_cannot_be_fetched_anew_is_an_error(
    fault: Status,
    kind: type[PlayAIError],
    words: str,
    cause: type[PlayAIError] | None,
    emulator: Emulator,
    path: Path,
) -> None:
    """The error says both, and has what the status request raised as its cause."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job_id = emulator.add_job()
        job = await playai.get_job(job_id)
        emulator.inject(Status(403), endpoint="audio")
        if isinstance(fault.body, str):
            emulator.set_output(job_id, {"status": fault.body})
        else:
            emulator.inject(fault)
        with pytest.raises(kind, match=words) as caught:
            await playai.download(job, path)
        assert caught.value.job_id == job.id
        assert type(caught.value.__cause__) is (type(None) if cause is None else cause)
    assert_untouched(path)


async def test_a_session_that_closes_while_it_fetches_a_link_ends_the_download(emulator: Emulator, path: Path) -> None:
    """With the error of a closed session."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job = await playai.get_job(emulator.add_job())
        emulator.inject(Status(403), endpoint="audio")
        emulator.inject(Hang())
        task = asyncio.create_task(playai.download(job, path))
        await asyncio.sleep(1)
    with pytest.raises(SessionClosedError):
        await task
    assert_untouched(path)


async def test_a_client_session_that_is_closed_while_a_link_is_fetched_ends_the_download(
    emulator: Emulator, path: Path
) -> None:
    """With the error that says so."""
    async with (
        aiohttp.ClientSession() as http,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, http_session=http) as playai,
    ):
        job = await playai.get_job(emulator.add_job())
        emulator.inject(Status(403), endpoint="audio")
        emulator.inject(Hang())
        task = asyncio.create_task(playai.download(job, path))
        await asyncio.sleep(1)
        await http.close()
        with pytest.raises(SessionClosedError, match="aiohttp session"):
            await task
    assert_untouched(path)


async def test_audio_behind_a_fresh_link_starts_over(host: AudioHost, emulator: Emulator, path: Path) -> None:
    """Two links may lead to two versions, whose validators say nothing of each other."""
    async with audio_host() as other, PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        host.script = [breaks_off_after(100_000), answer(403)]
        other.audio = AUDIO[::-1]
        output = {
            "status": "COMPLETED",
            "url": other.link,
            "contentType": "audio/mpeg",
            "fileSize": SIZE,
            "duration": 3,
        }
        emulator.add_job(job_id=JOB_ID)
        emulator.set_output(JOB_ID, output)
        await playai.download(host.job(), path)
        assert other.ranges == [None]
    assert path.read_bytes() == AUDIO[::-1]
    assert host.ranges == [None, "bytes=100000-"]


async def test_links_that_expire_in_the_queue_are_fetched_anew(tmp_path: Path) -> None:
    """A fresh link is used at once, before other downloads go on, and so does not expire in its turn."""
    async with (
        Emulator(link_lifetime=1.0) as emulator,
        PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=Pacing(max_in_flight=2)) as playai,
    ):
        emulator.inject(Slow(1.5), endpoint="audio", times=None)
        jobs = [await playai.get_job(emulator.add_job()) for _ in range(3)]
        await asyncio.gather(*(playai.download(job, tmp_path) for job in jobs))
    assert len(list(tmp_path.iterdir())) == 3


# Long headers


@pytest.mark.parametrize(("size", "fits"), [(31_900, True), (40_000, False)])
async def test_header_lines_may_have_32_kib(
    size: int, fits: bool, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Signed links make long `Location` headers."""
    link = f"{host.link}&Token={'s' * size}"
    async with raw_server(f"HTTP/1.1 302 Found\r\nLocation: {link}\r\nConnection: close\r\n\r\n".encode()) as raw:
        if fits:
            await playai.download(host.job(raw.base_url), path)
        else:
            await failure_of(playai, host.job(raw.base_url), path)
    assert len(host.seen) == fits


# Disks


@pytest.fixture
async def disk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HangingDisk]:
    """A disk that hangs at the next write."""
    disk = HangingDisk(asyncio.get_running_loop())
    monkeypatch.setattr(PartFile, "write", disk.hanging(PartFile.write))
    yield disk
    disk.goes_on.set()


class HangingDisk:
    """Methods that hang until the disk goes on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.hangs, self.goes_on = asyncio.Event(), threading.Event()
        self._loop = loop

    def hanging(self, method: Callable[..., None]) -> Callable[..., None]:
        """Wrap a method."""

        def hang(*args: Any) -> None:
            self._loop.call_soon_threadsafe(self.hangs.set)
            self.goes_on.wait(10)
            method(*args)

        return hang


async def test_a_disk_that_hangs_does_not_hold_up_the_event_loop(
    disk: HangingDisk, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """The host may be silent meanwhile: it is not asked for anything."""
    task = asyncio.create_task(playai.download(host.job(), path))
    await disk.hangs.wait()
    assert not task.done()
    disk.goes_on.set()
    await task
    assert path.read_bytes() == AUDIO
    assert len(host.seen) == 1


@pytest.mark.parametrize("ending", ["cancel", "close"])
async def test_a_download_ends_while_the_disk_hangs(
    ending: str, disk: HangingDisk, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """At once, and the part file is removed."""
    task = asyncio.create_task(playai.download(host.job(), path))
    await disk.hangs.wait()
    if ending == "cancel":
        task.cancel()
    else:
        await playai.aclose()
    with pytest.raises(asyncio.CancelledError if ending == "cancel" else SessionClosedError):
        await task
    assert_untouched(path)


async def test_a_part_file_that_cannot_be_removed_does_not_hold_up_a_cancellation(
    host: AudioHost, playai: PlayAISession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than a second; it is removed as soon as the disk goes on."""
    loop = asyncio.get_running_loop()
    disk = HangingDisk(loop)
    monkeypatch.setattr(disk_module, "DISK_GRACE", 0.0)
    host.script = [falls_silent_after(100_000)]
    removed = asyncio.Event()
    discard = PartFile.discard

    def discard_late(part: PartFile) -> None:
        disk.hanging(discard)(part)
        loop.call_soon_threadsafe(removed.set)

    monkeypatch.setattr(PartFile, "discard", discard_late)
    task = asyncio.create_task(playai.download(host.job(), path))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(list(path.parent.iterdir())) == 2
    disk.goes_on.set()
    await removed.wait()
    assert_untouched(path)


# Errors, cancellation and closing


async def test_a_cause_that_contains_the_url_is_replaced(path: Path) -> None:
    """Errors of aiohttp contain the URL if a connector or a resolver of the caller raises a timeout."""

    class NoTime(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            raise TimeoutError

        async def close(self) -> None:
            """Nothing is held."""

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=NoTime())) as http_session,
        PlayAISession(API_KEY, USER_ID, http_session=http_session) as playai,
    ):
        error = await failure_of(playai, AudioHost().job("https://audio.example/a.mp3?Signature=s"), path)
    assert "the request timed out (ConnectionTimeoutError)" in str(error)
    assert isinstance(error.__cause__, aiohttp.ClientError)
    assert "Signature" not in "".join(traceback.format_exception(error))


async def test_a_cancelled_download_leaves_nothing_behind(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """In the middle of the audio, and in the pause between two attempts."""
    for script, seconds in ((falls_silent_after(100_000), 1.0), (breaks_off_after(100_000), 0.3)):
        host.script = [script]
        task = asyncio.create_task(playai.download(host.job(), path))
        await asyncio.sleep(seconds)
        assert len(list(path.parent.iterdir())) == 2, "a part file is there"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_untouched(path)


async def test_closing_the_session_ends_downloads(host: AudioHost, path: Path) -> None:
    """In the middle of the audio, and in the pause between two attempts. No download starts after that."""
    for script, seconds in ((falls_silent_after(100_000), 1.0), (breaks_off_after(100_000), 0.3)):
        host.script = [script]
        playai = PlayAISession(API_KEY, USER_ID)
        task = asyncio.create_task(playai.download(host.job(), path))
        await asyncio.sleep(seconds)
        await playai.aclose()
        assert task.done()
        with pytest.raises(SessionClosedError) as caught:
            await task
        assert caught.value.job_id == JOB_ID
        assert_untouched(path)
        with pytest.raises(SessionClosedError):
            await playai.download(host.job(), path)


async def test_closing_the_callers_client_session_ends_downloads(host: AudioHost, path: Path) -> None:
    """Before or during a download."""
    http = aiohttp.ClientSession()
    async with PlayAISession(API_KEY, USER_ID, http_session=http) as playai:
        await playai.download(host.job(), path)
        path.write_bytes(OLD)
        host.script = [falls_silent_after(100_000)]
        task = asyncio.create_task(playai.download(host.job(), path))
        await asyncio.sleep(1)
        await http.close()
        with pytest.raises(SessionClosedError, match="aiohttp session"):
            await task
        with pytest.raises(SessionClosedError, match="aiohttp session"):
            await playai.download(host.job(), path)
    assert_untouched(path)


async def test_an_exception_of_on_progress_ends_the_download(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """It is raised unchanged, even if it is a TimeoutError."""
    for error in (ZeroDivisionError("mine"), TimeoutError("mine"), OSError("mine")):

        def on_progress(*_: object, error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error), match="mine") as caught:
            await playai.download(host.job(), path, on_progress=on_progress)
        assert caught.value is error
        assert_untouched(path)
    assert len(host.seen) == 3


async def coroutine_function(*_: object) -> None:
    """Never run."""


async def asynchronous_generator(*_: object) -> AsyncIterator[None]:
    """Never run."""
    yield


class Asynchronous:
    """An object whose calls are coroutines."""

    async def __call__(self, *_: object) -> None:
        """Never run."""


@pytest.mark.parametrize(
    "on_progress",
    [
        coroutine_function,
        asynchronous_generator,
        Asynchronous(),
        Asynchronous().__call__,
        functools.partial(coroutine_function, 1),
        functools.partial(Asynchronous(), 1),
        AsyncMock(),
    ],
    ids=["function", "generator", "object", "method", "partial", "partial of an object", "mock"],
)
async def test_a_coroutine_function_is_not_called_with_the_progress(
    on_progress: Any, host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Nothing would await it. Nothing is sent."""
    with pytest.raises(TypeError, match="plain callable"):
        await playai.download(host.job(), path, on_progress=on_progress)
    with pytest.raises(TypeError, match="plain callable"):
        await playai.speak(TtsParameters("Hi.", "v"), path, on_progress=on_progress)
    assert host.seen == []


async def test_a_callable_that_returns_a_coroutine_ends_the_download(
    host: AudioHost, playai: PlayAISession, path: Path
) -> None:
    """Only its first call shows that. Other results are ignored."""
    with pytest.raises(TypeError, match="plain callable"):
        await playai.download(host.job(), path, on_progress=lambda *_: coroutine_function())
    assert_untouched(path)
    await playai.download(host.job(), path, on_progress=functools.partial(max, 0))
    assert path.read_bytes() == AUDIO


async def test_a_full_disk_raises_os_error(
    host: AudioHost, playai: PlayAISession, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no further attempt."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for step in ("write", "finish"):
        with monkeypatch.context() as patch:
            patch.setattr(PartFile, step, full)
            with pytest.raises(OSError, match="No space left"):
                await playai.download(host.job(), path)
        assert_untouched(path)
    assert len(host.seen) == 2


# Many at once


async def test_downloads_use_at_most_half_of_the_slots(host: AudioHost, emulator: Emulator, tmp_path: Path) -> None:
    """However many there are and however slow they are, a status request is sent at once."""
    pacing = Pacing(max_in_flight=4)
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url, pacing=pacing) as playai:
        host.script = [falls_silent_after(0)] * 10
        tasks = [asyncio.create_task(playai.download(host.job(), tmp_path / str(number))) for number in range(10)]
        await asyncio.sleep(1)
        assert len(host.seen) == 2
        began = now()
        await playai.wait_for_completion(emulator.add_job())
        assert now() - began < 0.5
        host.script = []
        await asyncio.gather(*tasks)
    assert {(tmp_path / str(number)).read_bytes() for number in range(10)} == {AUDIO}


@pytest.mark.parametrize("pool", ["in flight", "total", "per host"])
async def test_a_single_connection_is_not_taken_by_a_download(
    pool: str, host: AudioHost, emulator: Emulator, tmp_path: Path
) -> None:
    """A download has one beside it, so a stalled download does not hold up a poll."""
    resolved: list[str] = []

    class Connector(aiohttp.TCPConnector):
        async def _resolve_host(self, host: str, port: int, traces: Any = None) -> Any:
            resolved.append(f"{host}:{port}")
            return await super()._resolve_host(host, port, traces)

    limits: dict[str, dict[str, Any]] = {"in flight": {}, "total": {"limit": 1}, "per host": {"limit_per_host": 1}}
    async with (
        aiohttp.ClientSession(connector=Connector(**limits[pool])) as http,
        PlayAISession(
            API_KEY,
            USER_ID,
            base_url=emulator.base_url,
            http_session=http,
            pacing=Pacing(max_in_flight=1 if pool == "in flight" else 32),
        ) as playai,
    ):
        host.script = [falls_silent_after(100_000)]
        downloads = [asyncio.create_task(playai.download(host.job(), tmp_path / str(number))) for number in range(3)]
        await asyncio.sleep(1)
        assert len(host.seen) == 1, "one download at a time"
        began = now()
        await playai.wait_for_completion(emulator.add_job())
        assert now() - began < 0.1
        await asyncio.gather(*downloads)
        assert playai.stats.transient_failures == 0
    assert {(tmp_path / str(number)).read_bytes() for number in range(3)} == {AUDIO}
    assert host.origin.removeprefix("http://") in resolved, "by the resolver of the caller"


async def test_every_error_of_a_download_has_the_job_id(host: AudioHost, playai: PlayAISession, path: Path) -> None:
    """As for a wait."""
    host.script = [answer(400)]
    with pytest.raises(PlayAIError) as caught:
        await playai.download(host.job(), path)
    assert caught.value.job_id == JOB_ID


@pytest.mark.parametrize("output", [InProgress(), Failed()], ids=["in progress", "failed"])
async def test_a_closed_session_is_reported_first(output: InProgress | Failed, tmp_path: Path, host: AudioHost) -> None:
    """Whatever the state of the job."""
    playai = PlayAISession(API_KEY, USER_ID)
    await playai.aclose()
    job = host.job()
    with pytest.raises(SessionClosedError):
        await playai.download(TtsJob(job.id, job.created_at, {}, None, output), tmp_path)
