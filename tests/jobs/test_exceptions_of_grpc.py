"""`classify_error`: what the real exceptions of grpc.aio mean, and of google-api-core on top of it. In real time."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import pytest

from playai_async.jobs import Throttled, Transient, classify_error

grpc = pytest.importorskip("grpc", reason="grpcio is not installed; the dependency group `clients` has it")

VERDICTS = {
    "RESOURCE_EXHAUSTED": Throttled(),
    "UNAVAILABLE": Transient(),
    "DEADLINE_EXCEEDED": Transient(),
    "INTERNAL": Transient(),
    "UNKNOWN": Transient(),
    "DATA_LOSS": Transient(),
    "NOT_FOUND": None,
    "UNIMPLEMENTED": None,
    "PERMISSION_DENIED": None,
    "CANCELLED": None,
}
"""By gRPC status."""

METHOD = "/jobs.Jobs/Get"


class Refusals:
    """A service that refuses each request with the status that the request names."""

    def service(self, details: Any) -> Any:
        """Handle every method; the signature is `grpc.GenericRpcHandler`'s."""
        return grpc.unary_unary_rpc_method_handler(self.refuse) if details.method == METHOD else None

    async def refuse(self, request: bytes, context: Any) -> NoReturn:
        """Refuse a request, or never answer."""
        if request == b"hang":
            await asyncio.sleep(60)
        await context.abort(grpc.StatusCode[request.decode()], "refused")
        raise AssertionError


async def raised(requests: list[str], *, google: bool = False) -> dict[str, Exception]:
    """Return what is raised for each request; `refused` goes where nobody listens."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Refusals()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    errors: dict[str, Exception] = {}
    for request in requests:
        address = "127.0.0.1:1" if request == "refused" else f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(METHOD)
            if google:
                helpers = pytest.importorskip("google.api_core.grpc_helpers_async")
                call = helpers.wrap_errors(call)
            try:
                await call(request.encode(), timeout=0.25 if request == "hang" else 10.0)
            except Exception as error:  # noqa: BLE001 - of any class
                errors[request] = error
    await server.stop(None)
    return errors


def test_a_status_of_grpc_is_understood() -> None:
    """`code` of its exceptions is a method."""
    expected = {**VERDICTS, "hang": Transient(), "refused": Transient()}
    errors = asyncio.run(raised(list(expected)))
    assert {request: classify_error(error) for request, error in errors.items()} == expected
    assert {type(error).__name__ for error in errors.values()} == {"AioRpcError"}


def test_a_status_of_grpc_is_understood_through_google() -> None:
    """google-api-core gives each its HTTP status, and so a method that is missing a 501."""
    expected = {**VERDICTS, "hang": Transient(), "refused": Transient(), "UNIMPLEMENTED": Transient()}
    errors = asyncio.run(raised(list(expected), google=True))
    assert {request: classify_error(error) for request, error in errors.items()} == expected
    assert all(type(error).__module__ == "google.api_core.exceptions" for error in errors.values())


def test_an_error_of_grpc_without_a_status_is_final() -> None:
    """Its base class has none."""
    assert classify_error(grpc.RpcError()) is None
