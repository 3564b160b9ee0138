"""A service on loopback that does wrong on cue, at any moment of a connection: what the fault matrix is run on.

A *fault* is what happens to one connection, as seen from its far end. `connecting`, `on_accept`, `asked`, `in_body` and
`idle` say when, and so make a *plan* of it: for the next connection, or for all. What needs no connection, a name that
is not resolved and a port that nobody listens on, is a plan already.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, TypeAlias
from uuid import UUID

import aiohttp
import attrs
import pytest
import trustme
from aiohttp.abc import AbstractResolver, ResolveResult

from tests.support.scripted import COMPLETED, IN_PROGRESS, JOB_ID, job_json

HOST = "service.test"
AUDIO = bytes(range(256)) * 1_000

IDLE_FOR = 0.5
"""Seconds after which an idle connection meets its fault."""

AWAY_FOR = 0.25
"""Seconds for which a service that restarts is away."""

_DROPS = 16
"""Pieces in which a slow answer comes: single bytes, and then the rest. Each byte by itself would only take longer."""

_TCPConnector = aiohttp.TCPConnector
_JOB_ID = re.compile(rb"^GET /api/v1/tts/([-0-9a-f]+)")
_CONTENT_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@attrs.frozen
class Certificates:
    """Who the service may say that it is.

    Attributes:
        trusted: What the service shows.
        untrusted: What somebody in its place would show.
        clients: What clients trust.
    """

    trusted: ssl.SSLContext
    untrusted: ssl.SSLContext
    clients: ssl.SSLContext

    @classmethod
    def made(cls) -> Certificates:
        """Make new ones, which takes a quarter of a second."""
        trusted, untrusted = (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2))
        authority = trustme.CA()
        authority.issue_cert(HOST).configure_cert(trusted)
        trustme.CA().issue_cert(HOST).configure_cert(untrusted)
        clients = ssl.create_default_context()
        authority.configure_trust(clients)
        return cls(trusted, untrusted, clients)


class Names(AbstractResolver):
    """Resolves every name to loopback, or so many times not.

    Attributes:
        failing: How many more look-ups fail.
    """

    def __init__(self) -> None:
        self.failing = 0.0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Look a name up."""
        if self.failing > 0:
            self.failing -= 1
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is held."""


class WallClock:
    """The time of day, which may be set; what counts seconds must not look at it."""

    def __init__(self) -> None:
        self._time = time.time
        self._off = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self._time() + self._off

    def step(self) -> None:
        """Set it a year ahead, or back."""
        self._off = -31_536_000.0 if self._off > 0 else 31_536_000.0


@attrs.define(eq=False)
class Line:
    """The far end of one connection.

    Attributes:
        service: Whose it is.
        reader, writer: Its streams.
        rest: What is still to be sent of the right answer; None before there was a request.
    """

    service: FaultyService
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    rest: bytes | None = None

    async def request(self) -> None:
        """Read the next request, and think of the right answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        await self.reader.readexactly(0 if length is None else int(length[1]))
        self.service.arrivals.append(asyncio.get_running_loop().time())
        self.rest = self.service.answer_to(head)

    async def send(self, data: bytes) -> None:
        """Send what need not be right."""
        self.writer.write(data)
        await self.writer.drain()

    async def send_half(self) -> None:
        """Send the head and half the body of the right answer."""
        assert self.rest is not None
        head, body = self.rest.split(b"\r\n\r\n", 1)
        half = len(head) + 4 + len(body) // 2
        await self.send(self.rest[:half])
        self.rest = self.rest[half:]

    async def finish(self, *, over: float = 0.0) -> None:
        """Do all that is left to do right, at once or over some seconds."""
        if self.rest is None:
            await self.request()
        rest = self.rest or b""
        if over:
            for place in range(_DROPS):
                await self.send(rest[place : place + 1])
                await asyncio.sleep(over / _DROPS)
            rest = rest[_DROPS:]
        await self.send(rest)
        self.rest = b""

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        while await self.reader.read(65_536):
            pass

    async def serve(self) -> None:
        """Answer one request after the other, as planned or else as is right."""
        while not (self.writer.is_closing() or self.reader.at_eof()):
            self.rest = None
            await self.service.next_fault()(self)

    async def relay(self, port: int, *, over: float = 0.0) -> None:
        """Be a wire to another server, with some seconds for the first of what comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self.service.fronts[writer.get_extra_info("sockname")[1]] = self.writer
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(self.reader, writer))
                group.create_task(_pump(reader, self.writer, over=over))
        finally:
            writer.close()


Fault: TypeAlias = Callable[[Line], Awaitable[None]]


class Plan(Protocol):
    """What makes a service do wrong, once or for as long as it lasts."""

    async def __call__(self, service: FaultyService, *, lasting: bool) -> None:
        """Let it begin."""


@attrs.define(eq=False)
class FaultyService:
    """The service, and the audio's host; everything is right that is not planned otherwise.

    Attributes:
        certificates: For TLS, or None.
        done_after: Seconds from the first request until the job is done.
        names: What its host's name is looked up with.
        wall_clock: What everybody takes the time of day from.
        arrivals: When each request was read.
        met: How many faults connections have met.
        fronts: What the client's connection is, by the port of the wire behind it.
    """

    certificates: Certificates | None = None
    done_after: float = 5.0
    names: Names = attrs.field(factory=Names)
    wall_clock: WallClock = attrs.field(factory=WallClock)
    arrivals: list[float] = attrs.field(factory=list[float])
    met: int = 0
    fronts: dict[int, asyncio.StreamWriter] = attrs.field(factory=dict[int, asyncio.StreamWriter])
    port: int = 0
    _listener: asyncio.Server | None = None
    _inside: list[asyncio.Server] = attrs.field(factory=list[asyncio.Server])
    _place: socket.socket = attrs.field(factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    _faults: dict[str, tuple[Fault, bool]] = attrs.field(factory=dict[str, tuple[Fault, bool]])
    _lines: dict[Line, asyncio.Task[None] | None] = attrs.field(factory=dict[Line, "asyncio.Task[None] | None"])
    _restarts: set[asyncio.Task[None]] = attrs.field(factory=set["asyncio.Task[None]"])

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}" if self.certificates is None else f"https://{HOST}:{self.port}"

    def connector(self, **options: Any) -> aiohttp.BaseConnector:
        """Make a client's connector that finds and trusts this service; to be put in the place of aiohttp's."""
        if self.certificates is None:
            return _TCPConnector(**options)
        return _TCPConnector(resolver=self.names, ssl=self.certificates.clients, **options)

    def plan(self, where: str, fault: Fault, *, lasting: bool) -> None:
        """Let the next connection, or all of them, meet a fault, `serving` or `connecting`."""
        self._faults[where] = fault, lasting

    def next_fault(self, where: str = "serving") -> Fault:
        """Return what the next connection meets."""
        right: Fault = Line.finish if where == "serving" else _connected
        fault, lasting = self._faults.get(where, (right, True))
        self.met += fault is not right
        if not lasting:
            del self._faults[where]
        return fault

    def answer_to(self, head: bytes) -> bytes:
        """Return the right answer to a request."""
        if b"/audio" in head:
            return http("200 OK", AUDIO, "Content-Type: audio/mpeg")
        done = asyncio.get_running_loop().time() >= self.arrivals[0] + self.done_after
        output = {**COMPLETED, "url": f"{self.base_url}/audio", "fileSize": len(AUDIO)} if done else IN_PROGRESS
        status = "201 Created" if head.startswith(b"POST") else "200 OK"
        asked_for = _JOB_ID.search(head)
        job_id = JOB_ID if asked_for is None else UUID(asked_for[1].decode())
        return http(status, json.dumps(job_json(output, job_id)).encode())

    async def heal(self) -> None:
        """Do no wrong any more."""
        self._faults.clear()
        self.names.failing = 0
        if self._listener is None:
            await self.start()

    async def start(self) -> None:
        """Listen, where it listened before."""
        if not self.port:
            self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._place.bind(("127.0.0.1", 0))  # and no more: so the port stays ours while nobody listens
            self.port = self._place.getsockname()[1]
        certificates = self.certificates
        if certificates is not None and not self._inside:
            for context in (certificates.trusted, certificates.untrusted):
                self._inside.append(await asyncio.start_server(self._secured, "127.0.0.1", 0, ssl=context))
        self._listener = await asyncio.start_server(self._accepted, "127.0.0.1", self.port, reuse_port=True)

    async def stop(self) -> None:
        """Go away, and all connections with it."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for line in self._lines:
            with contextlib.suppress(
                AttributeError
            ):  # Python 3.11.2 forgets the protocol of a TLS connection that ended
                line.writer.transport.abort()

    async def back_later(self) -> None:
        """Listen again in a moment."""
        restart = asyncio.create_task(self._start_again())
        self._restarts.add(restart)
        restart.add_done_callback(self._restarts.discard)

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.stop()
        tasks = [*self._restarts, *filter(None, self._lines.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.listen_no_more()

    def listen_no_more(self) -> None:
        """Take no further connection, for good; those that are there stay."""
        for server in filter(None, [self._listener, *self._inside]):
            server.close()
        self._listener = None
        self._inside.clear()
        self._place.close()

    async def relay_inside(self, line: Line, *, trusted: bool = True, over: float = 0.0) -> None:
        """Let a connection through to where TLS is spoken."""
        port: int = self._inside[0 if trusted else 1].sockets[0].getsockname()[1]
        await line.relay(port, over=over)

    async def _start_again(self) -> None:
        await asyncio.sleep(AWAY_FOR)
        await self.start()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._on_line(Line(self, reader, writer), self.next_fault("connecting"))

    async def _secured(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._on_line(Line(self, reader, writer), Line.serve)

    async def _on_line(self, line: Line, served: Fault) -> None:
        self._lines[line] = asyncio.current_task()
        try:
            # Its own end included, at which asyncio would log a task that was cancelled.
            with contextlib.suppress(OSError, EOFError, ExceptionGroup, asyncio.CancelledError):
                await served(line)
        finally:
            line.writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await line.writer.wait_closed()
            del self._lines[line]


def http(status: str, body: bytes = b"", *headers: str, length: int | str | None = None) -> bytes:
    """Write an answer, with the length of its body or another one; an empty text leaves the length out."""
    length = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers]
    if length != "":
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def interim(code: str) -> bytes:
    """Write an answer that is to be followed by another."""
    return f"HTTP/1.1 {code} Status\r\n\r\n".encode()


# When a fault happens to a connection.


def on_accept(fault: Fault) -> Plan:
    """As soon as there is a connection, before any request is read."""
    return _serving(fault)


def asked(fault: Fault) -> Plan:
    """In place of an answer."""

    async def act(line: Line) -> None:
        await line.request()
        await fault(line)

    return _serving(act)


def in_body(fault: Fault) -> Plan:
    """After the head and half the body."""

    async def act(line: Line) -> None:
        await line.request()
        await line.send_half()
        await fault(line)

    return _serving(act)


def idle(fault: Fault) -> Plan:
    """A moment after an answer, while the connection is kept for the next request."""

    async def act(line: Line) -> None:
        await line.finish()
        await asyncio.sleep(IDLE_FOR)
        await fault(line)

    return _serving(act)


def connecting(fault: Fault) -> Plan:
    """Before TLS is agreed on."""

    async def plan(service: FaultyService, *, lasting: bool) -> None:
        service.plan("connecting", fault, lasting=lasting)

    return plan


def _serving(fault: Fault) -> Plan:
    async def plan(service: FaultyService, *, lasting: bool) -> None:
        service.plan("serving", fault, lasting=lasting)

    return plan


# What may happen to a connection.


async def reset(line: Line) -> None:
    """Cut it with a TCP reset."""
    line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.writer.transport.abort()


async def closed(line: Line) -> None:
    """Close it, in an orderly way."""
    line.writer.close()


async def silent(line: Line) -> None:
    """Say nothing more, as a machine that has lost its power."""
    await line.gone()


async def deaf(line: Line) -> None:
    """Read nothing, so that what is sent fills the buffers."""
    transport = line.writer.transport
    assert isinstance(transport, asyncio.Transport)  # which can
    transport.pause_reading()
    await asyncio.Event().wait()


def slow(seconds: float) -> Fault:
    """Take some seconds for what is left of the answer, byte by byte."""

    async def act(line: Line) -> None:
        await line.finish(over=seconds)

    return act


def slow_handshake(seconds: float) -> Fault:
    """Take some seconds for the service's part of the handshake, byte by byte."""

    async def act(line: Line) -> None:
        await line.service.relay_inside(line, over=seconds)

    return act


async def untrusted(line: Line) -> None:
    """Show a certificate that somebody else has signed."""
    await line.service.relay_inside(line, trusted=False)


async def garbled_tls(line: Line) -> None:
    """Damage what is sent beneath TLS."""
    front = line.service.fronts[line.writer.get_extra_info("peername")[1]]
    front.write(b"no record of TLS")
    await line.gone()


def says(*data: bytes, then: Fault = closed) -> Fault:
    """Send some bytes whatever is asked; then read the request, if that was not done, and close the connection."""

    async def act(line: Line) -> None:
        for piece in data:
            await line.send(piece)
        if line.rest is None:
            await line.request()
        await then(line)

    return act


def in_a_moment(fault: Fault) -> Fault:
    """Wait until what was sent has been read."""

    async def act(line: Line) -> None:
        await asyncio.sleep(AWAY_FOR)
        await fault(line)

    return act


def first_says(data: bytes) -> Fault:
    """Send some bytes, and then the right answer."""

    async def act(line: Line) -> None:
        await line.send(data)
        await line.finish()

    return act


def answers(change: Callable[[bytes], bytes], *, then: Fault = closed) -> Fault:
    """Answer with what is made of the right body."""

    async def act(line: Line) -> None:
        assert line.rest is not None
        await line.send(change(line.rest.split(b"\r\n\r\n", 1)[1]))
        await then(line)

    return act


async def clock_steps(line: Line) -> None:
    """Set the clock on the wall by a year, back and forth, and do right."""
    line.service.wall_clock.step()
    if line.service.certificates is None or line.writer.get_extra_info("ssl_object") is not None:
        await line.finish()
    else:
        await line.service.relay_inside(line)


# What happens to the service as a whole.


async def restarts(line: Line) -> None:
    """Go away, and come back in a moment."""
    await line.service.stop()
    await line.service.back_later()


async def goes_away(line: Line) -> None:
    """Go away for good."""
    await line.service.stop()


def restarting(when: Callable[[Fault], Plan]) -> Plan:
    """Restart, or stop for good where it is to last."""

    async def plan(service: FaultyService, *, lasting: bool) -> None:
        await when(goes_away if lasting else restarts)(service, lasting=False)

    return plan


async def not_listening(service: FaultyService, *, lasting: bool) -> None:
    """Refuse connections, for a moment or for ever."""
    await service.stop()
    service.met += 1
    if not lasting:
        await service.back_later()


async def not_resolved(service: FaultyService, *, lasting: bool) -> None:
    """Have no address, when first asked or ever."""
    service.names.failing = float("inf") if lasting else 1
    service.met += 1


@contextlib.asynccontextmanager
async def faulty_service(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates | None = None, *, done_after: float = 5.0
) -> AsyncIterator[FaultyService]:
    """Run such a service, whose host clients find and trust; at the end no socket may be left of it, nor of them."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    service = FaultyService(certificates, done_after)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", service.wall_clock)
        patch.setattr(aiohttp, "TCPConnector", service.connector)
        await service.start()
        try:
            yield service
        finally:
            await service.close()
            for _ in range(10):
                await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


async def _connected(line: Line) -> None:
    if line.service.certificates is None:
        await line.serve()
    else:
        await line.service.relay_inside(line)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, over: float = 0.0) -> None:
    """Carry bytes from one to the other until either ends."""
    drops = _DROPS if over else 0
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            for place in range(min(drops, len(data))):
                writer.write(data[place : place + 1])
                await asyncio.sleep(over / _DROPS)
            writer.write(data[drops:])
            drops = 0
            await writer.drain()
    writer.close()
