"""A service on loopback that answers as the first part of the path says, for clients of every kind.

It runs in a thread and in real time, because some clients block. Its faults are `/429`, `/dated` (429 with an HTTP
date), `/503`, `/404`, `/garbage` (bytes that are no HTTP), `/cut` (half a reply), `/hang` (no reply) and `/aws` (an
error code of AWS). As a proxy it refuses.
"""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import threading
from collections.abc import Iterator
from http import HTTPStatus

import attrs
import trustme

BODY = b'{"message": "a fault"}'

DATES = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:47 GMT\r\n"
"""A reply that asks to wait for ten seconds."""


@attrs.frozen
class Addresses:
    """Where the service is.

    Attributes:
        http: The service.
        https: The service with a certificate that nobody trusts.
        closed: Where nobody listens.
    """

    http: str
    https: str
    closed: str


def reply(fault: str) -> bytes:
    """Return the bytes of a reply."""
    match fault:
        case "hang":
            return b""
        case "garbage":
            return b"\x15\x03\x01 nonsense\r\n\r\n"
        case "cut":
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        case "dated":
            return answer(429, DATES)
        case "aws":
            return answer(400, "x-amzn-errortype: ThrottlingException\r\n")
        case _:
            return answer(int(fault), "Retry-After: 6.5\r\n")


def answer(status: int, headers: str) -> bytes:
    """Return a whole reply."""
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(BODY)}\r\nConnection: close\r\n\r\n".encode() + BODY


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError):
            request = self.rfile.readline().decode("latin-1")
            while self.rfile.readline().strip():
                pass
            self.wfile.write(reply("407" if request.startswith("CONNECT") else request.split("/")[1].split()[0]))
            if " /hang" in request:
                self.rfile.read()  # until the client closes the connection


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


class _TLSServer(_Server):
    def __init__(self, address: tuple[str, int], handler: type[_Handler]) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(self._context)
        super().__init__(address, handler)

    def get_request(self) -> tuple[ssl.SSLSocket, tuple[str, int]]:
        """Accept a connection; the handshake belongs to its thread."""
        connection, address = super().get_request()
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: object) -> None:
        """Ignore the handshakes that fail."""


@contextlib.contextmanager
def faulty_service() -> Iterator[Addresses]:
    """Run the service."""
    nowhere = ("127.0.0.1", 0)
    with (
        _Server(nowhere, _Handler) as plain,
        _TLSServer(nowhere, _Handler) as secure,
        _Server(nowhere, _Handler) as gone,
    ):
        ports = [server.server_address[1] for server in (plain, secure, gone)]
        gone.server_close()
        threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in (plain, secure)]
        for thread in threads:
            thread.start()
        try:
            yield Addresses(*(f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(SCHEMES, ports, strict=True)))
        finally:
            for server in (plain, secure):
                server.shutdown()
            for thread in threads:
                thread.join()


SCHEMES = ("http", "https", "http")
