"""Requests go to the service and to the host of the audio, and to nowhere else."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest
from yarl import URL

from playai_async import APIStatusError, DownloadError, PlayAIError, PlayAISession, TtsParameters
from playai_async.emulator import Emulator, Status
from tests.support.audio_host import AudioHost, audio_host, redirect
from tests.support.raw_server import RawServer, raw_server
from tests.support.scripted import API_KEY, JOB_ID, USER_ID

PARAMETERS = TtsParameters(text="spoken words", voice="v")


class Egress:
    """Records each connection and each name lookup of the event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect, self._resolve = self._loop.sock_connect, self._loop.getaddrinfo
        self.ports = set[int]()
        self.names = set[str]()
        monkeypatch.setattr(self._loop, "sock_connect", self._record)
        monkeypatch.setattr(self._loop, "getaddrinfo", self._record_name)

    async def _record(self, sock: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1"
        self.ports.add(address[1])
        await self._connect(sock, address)

    async def _record_name(self, host: str, port: int, **hints: Any) -> Any:
        self.names.add(host)
        return await self._resolve("127.0.0.1", port, **hints)


@pytest.fixture
async def egress(monkeypatch: pytest.MonkeyPatch) -> Egress:
    """Records where the test's event loop connects to. Every name resolves to loopback."""
    return Egress(monkeypatch)


@pytest.fixture
async def trap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[RawServer]:
    """A server that the environment offers as a proxy, and a netrc with a password for every host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password of-somebody\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw_server(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n") as server:
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, server.base_url)
        yield server


def port_of(url: str) -> int:
    """Return the port of a URL."""
    port = URL(url).port
    assert port is not None
    return port


async def test_speak_connects_to_the_service_and_the_audio_host_only(
    egress: Egress, trap: RawServer, emulator: Emulator, tmp_path: Path
) -> None:
    """Proxies in the environment and the netrc are ignored."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job = await playai.speak(PARAMETERS, tmp_path / "a.mp3")
    assert egress.ports == {port_of(emulator.base_url), port_of(job.output.url)}
    assert {arrival.headers["Authorization"] for arrival in emulator.arrivals} == {f"Bearer {API_KEY}"}
    assert trap.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308], ids=str)
@pytest.mark.parametrize(
    "location", ["{trap}/", "//127.0.0.1:{port}/", "{trap}@127.0.0.1/"], ids=["URL", "host", "user"]
)
async def test_the_service_cannot_redirect_a_request(
    status: int, location: str, egress: Egress, trap: RawServer, emulator: Emulator
) -> None:
    """Neither a status request nor a creation."""
    where = location.format(trap=trap.base_url, port=port_of(trap.base_url))
    fault = Status(status, headers={"Location": where, "Refresh": f"0; url={where}"})
    emulator.inject(fault, times=None)
    emulator.inject(fault, times=None, endpoint="create")
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        for request in (playai.get_job(JOB_ID), playai.wait_for_completion(JOB_ID), playai.create_job(PARAMETERS)):
            with pytest.raises(APIStatusError):
                await request
    assert egress.ports == {port_of(emulator.base_url)}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/a/b",
        "/..;@elsewhere.example",
        "//elsewhere.example",
        "/@elsewhere.example/",
        "/%2f%2felsewhere.example",
        "/a?",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_path_of_a_base_url_does_not_change_its_host(path: str, host: str, egress: Egress) -> None:
    """Any path is only a prefix of the service's own paths."""
    async with raw_server(b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n") as server:
        port = port_of(server.base_url)
        async with PlayAISession(API_KEY, USER_ID, base_url=f"http://{host}:{port}{path}") as playai:
            with pytest.raises(APIStatusError):
                await playai.get_job(JOB_ID)
        (request,) = server.requests
    assert egress.ports == {port}
    assert egress.names <= {"localhost"}
    assert request.splitlines()[0].endswith(f"/api/v1/tts/{JOB_ID} HTTP/1.1".encode())
    assert f"\r\nHost: {host}:{port}\r\n".encode() in request


@pytest.mark.parametrize(
    "job",
    ["../x", "@elsewhere.example", f"{JOB_ID}/../x", f"{JOB_ID}?x", f"{JOB_ID}\r\nHost: x", f"//{JOB_ID}"],
)
async def test_an_invalid_job_id_sends_no_request(job: str, egress: Egress, emulator: Emulator, tmp_path: Path) -> None:
    """It is rejected before a connection is made, and no file is created."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        for named in (job, attrs.evolve(AudioHost().job(), id=job)):  # type: ignore[arg-type]  # as a caller's may be
            with pytest.raises(ValueError, match="not a job id"):
                await playai.get_job(named)
            with pytest.raises(ValueError, match="not a job id"):
                await playai.download(named, tmp_path)
    assert egress.ports == set()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
async def host() -> AsyncIterator[AudioHost]:
    """An audio host on loopback."""
    async with audio_host() as host:
        yield host


async def test_audio_is_fetched_from_its_url_and_its_redirects_only(
    egress: Egress, trap: RawServer, host: AudioHost, tmp_path: Path
) -> None:
    """No status request is sent if the job has a URL."""
    async with audio_host() as other, PlayAISession(API_KEY, USER_ID) as playai:
        host.script = [redirect(other.link)]
        await playai.download(host.job(), tmp_path)
        assert egress.ports == {port_of(host.origin), port_of(other.origin)}
    assert trap.requests == []


@pytest.mark.parametrize("location", ["http://elsewhere.example/a.mp3", "ftp://127.0.0.1/a.mp3", "http://[::1"])
async def test_a_rejected_url_is_not_resolved(
    location: str, egress: Egress, host: AudioHost, playai: PlayAISession, tmp_path: Path
) -> None:
    """Neither the URL of the job nor a redirect. Not even a resolver learns the host name."""
    for job, script in ((host.job(location), []), (host.job(), [redirect(location)])):
        host.script = list(script)
        with pytest.raises(DownloadError):
            await playai.download(job, tmp_path)
    assert egress.ports == {port_of(host.origin)}
    assert egress.names == set()


async def test_a_proxy_of_the_client_session_is_used_for_the_service_only(
    egress: Egress, host: AudioHost, tmp_path: Path
) -> None:
    """The proxy of a client session is not public in aiohttp, so downloads cannot use it."""
    async with (
        raw_server(b"HTTP/1.1 502 \r\nContent-Length: 0\r\n\r\n") as proxy,
        aiohttp.ClientSession(proxy=proxy.base_url) as http_session,
        PlayAISession(API_KEY, USER_ID, base_url="http://127.0.0.1:9", http_session=http_session) as playai,
    ):
        with pytest.raises(PlayAIError):
            await playai.get_job(JOB_ID)
        assert egress.ports == {port_of(proxy.base_url)}
        await playai.download(host.job(), tmp_path)
        assert egress.ports == {port_of(proxy.base_url), port_of(host.origin)}
        assert len(proxy.requests) == 1


async def test_a_failed_request_is_not_sent_elsewhere(egress: Egress, trap: RawServer, emulator: Emulator) -> None:
    """There is no fallback to a proxy or to another host."""
    await emulator.stop()
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        with pytest.raises(PlayAIError):
            await playai.get_job(JOB_ID)
    assert egress.ports == {port_of(emulator.base_url)}
    assert trap.requests == []
