"""Requests leave to the service and to the audio's origin, and to nowhere else."""

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
    """Notes each connection that the loop is asked for, and each name that is to be resolved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect, self._resolve = self._loop.sock_connect, self._loop.getaddrinfo
        self.ports = set[int]()
        self.names = set[str]()
        monkeypatch.setattr(self._loop, "sock_connect", self._noted)
        monkeypatch.setattr(self._loop, "getaddrinfo", self._noted_name)

    async def _noted(self, sock: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1"
        self.ports.add(address[1])
        await self._connect(sock, address)

    async def _noted_name(self, host: str, port: int, **hints: Any) -> Any:
        self.names.add(host)
        return await self._resolve("127.0.0.1", port, **hints)


@pytest.fixture
async def egress(monkeypatch: pytest.MonkeyPatch) -> Egress:
    """Where the loop of the test connects to, on loopback."""
    return Egress(monkeypatch)


@pytest.fixture
async def trap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[RawServer]:
    """A server that the environment offers as a proxy, with a netrc that has a password for everyone."""
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password of-somebody\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with raw_server(b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n") as server:
        for variable in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(variable, server.base_url)
        yield server


def port_of(url: str) -> int:
    """The port of a URL."""
    port = URL(url).port
    assert port is not None
    return port


async def test_from_text_to_file_two_origins_are_asked(
    egress: Egress, trap: RawServer, emulator: Emulator, tmp_path: Path
) -> None:
    """The service and the audio's, whatever proxies the environment offers; the netrc is left alone."""
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        job = await playai.speak(PARAMETERS, tmp_path / "a.mp3")
    assert egress.ports == {port_of(emulator.base_url), port_of(job.output.url)}
    assert {arrival.headers["Authorization"] for arrival in emulator.arrivals} == {f"Bearer {API_KEY}"}
    assert trap.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308], ids=str)
@pytest.mark.parametrize(
    "location", ["{trap}/", "//127.0.0.1:{port}/", "{trap}@127.0.0.1/"], ids=["URL", "host", "user"]
)
async def test_the_service_cannot_send_a_request_elsewhere(
    status: int, location: str, egress: Egress, trap: RawServer, emulator: Emulator
) -> None:
    """Neither one for a job nor one that creates a job."""
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
    """However odd: all of it is path, before the service's own."""
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
async def test_a_job_that_is_no_id_is_no_request(job: str, egress: Egress, emulator: Emulator, tmp_path: Path) -> None:
    """It is refused before a connection is made, and names no file."""
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
    """A host of audio on loopback."""
    async with audio_host() as host:
        yield host


async def test_audio_is_fetched_from_where_its_link_and_redirects_lead(
    egress: Egress, trap: RawServer, host: AudioHost, tmp_path: Path
) -> None:
    """And from nowhere else; the service is not asked for what the job says already."""
    async with audio_host() as other, PlayAISession(API_KEY, USER_ID) as playai:
        host.script = [redirect(other.link)]
        await playai.download(host.job(), tmp_path)
        assert egress.ports == {port_of(host.origin), port_of(other.origin)}
    assert trap.requests == []


@pytest.mark.parametrize("location", ["http://elsewhere.example/a.mp3", "ftp://127.0.0.1/a.mp3", "http://[::1"])
async def test_a_link_that_is_refused_is_not_looked_up(
    location: str, egress: Egress, host: AudioHost, playai: PlayAISession, tmp_path: Path
) -> None:
    """Neither at first nor as a redirect: not even its name is told to a resolver."""
    for job, script in ((host.job(location), []), (host.job(), [redirect(location)])):
        host.script = list(script)
        with pytest.raises(DownloadError):
            await playai.download(job, tmp_path)
    assert egress.ports == {port_of(host.origin)}
    assert egress.names == set()


async def test_the_proxy_of_a_client_session_is_for_the_service_alone(
    egress: Egress, host: AudioHost, tmp_path: Path
) -> None:
    """Audio comes without it: which one it is, aiohttp does not tell."""
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
    """Nothing falls back on a proxy or another host."""
    await emulator.stop()
    async with PlayAISession(API_KEY, USER_ID, base_url=emulator.base_url) as playai:
        with pytest.raises(PlayAIError):
            await playai.get_job(JOB_ID)
    assert egress.ports == {port_of(emulator.base_url)}
    assert trap.requests == []
