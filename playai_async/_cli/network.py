"""The HTTP session of the program: the proxies of the environment, and the log of requests.

The library ignores the environment. The program honours `HTTPS_PROXY` and `NO_PROXY`, as other programs do. It does not
use aiohttp's `trust_env`, because that also sends passwords from netrc files, uses the proxy for loopback addresses and
needs a thread for each request. `HTTP_PROXY` has no effect: http is allowed for loopback addresses only, and through a
proxy the key would leave the machine in the clear.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import aiohttp
import attrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from multidict import CIMultiDict
from yarl import URL

from playai_async._api.failures import describe
from playai_async._api.tracing import AudioTraceConfig
from playai_async._api.transport import disable_aiohttp_retry
from playai_async._api.urls import is_loopback
from playai_async._cli.errors import UsageError
from playai_async._cli.output import Output
from playai_async._session import PlayAISession
from playai_async._settings import REQUEST_TIMEOUT, Pacing

__all__ = ["OpenSession", "Proxies", "session_opener"]

OpenSession: TypeAlias = Callable[[], AbstractAsyncContextManager[PlayAISession]]
"""Opens the session of a command in the running event loop, and closes it at the end of the block."""


def session_opener(make: Callable[..., PlayAISession], proxies: Proxies, output: Output) -> OpenSession:
    """Return a function that opens the session of a command.

    Args:
        make: `PlayAISession` with its settings, except `http_session`.
        proxies: The proxies to use.
        output: Logs each request, if it is verbose.
    """
    return partial(_open_session, make, proxies, output)


@contextlib.asynccontextmanager
async def _open_session(
    make: Callable[..., PlayAISession], proxies: Proxies, output: Output
) -> AsyncGenerator[PlayAISession, None]:
    connector = _ProxyConnector(limit=Pacing().max_in_flight)
    connector.proxies = proxies
    async with (
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            middlewares=(disable_aiohttp_retry,),
            trace_configs=[_request_log(output)] if output.verbose else None,
        ) as http,
        make(http_session=http) as playai,
    ):
        yield playai


@attrs.frozen
class Proxies:
    """The proxy for https, and the hosts for which it is not used.

    Args:
        https: The URL of the proxy, or None.
        excluded: The hosts in `NO_PROXY`, or None if that is not set.
    """

    https: str | None = None
    excluded: tuple[str, ...] | None = None

    @classmethod
    def from_environment(cls) -> Proxies:
        """Read the environment variables. A name in lower case takes precedence, as in other programs."""
        no_proxy = _variable("NO_PROXY")
        excluded = None if no_proxy is None else tuple(no_proxy.replace(",", " ").lower().split())
        return cls(_variable("HTTPS_PROXY") or None, excluded)

    def proxy_for(self, url: URL) -> URL | None:
        """Return the proxy for a request, or None.

        Requests to loopback addresses need no proxy. An empty `NO_PROXY` allows one for https, never for http.

        Raises:
            UsageError: The URL of the proxy is not valid.
        """
        host = url.host or ""
        if url.scheme != "https" or self.https is None or (is_loopback(host) and self.excluded != ()):
            return None
        if any(_matches(entry, host, url.port) for entry in self.excluded or ()):
            return None
        return _parse_proxy(self.https)


def _variable(name: str) -> str | None:
    return os.environ.get(name.lower(), os.environ.get(name))


def _matches(entry: str, host: str, port: int | None) -> bool:
    """Return whether an entry of `NO_PROXY` is for a host: `*`, a domain, an address or a network, or with a port."""
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    name, _, only_port = entry.partition(":")
    if only_port and only_port != str(port):
        return False
    name = name.removeprefix("*").removeprefix(".")
    return bool(name) and f".{host.rstrip('.')}".endswith(f".{name}")


def _parse_proxy(text: str) -> URL:
    # The message must not have the text, which may contain a password.
    with contextlib.suppress(ValueError):
        url = URL(text if "://" in text else f"http://{text}")
        if url.scheme in {"http", "https"} and url.host and url.port:
            return url
    raise UsageError("HTTPS_PROXY must be the http or https URL of a proxy, such as http://proxy.example:3128")


class _ProxyConnector(aiohttp.TCPConnector):
    """Connects through a proxy where the environment has one. Requests and downloads share the connector."""

    proxies = Proxies()

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        proxy = self.proxies.proxy_for(req.url)
        if proxy is not None:
            login = "" if proxy.user is None else f"{proxy.user}:{proxy.password or ''}"
            encoded = base64.b64encode(login.encode()).decode()
            headers = CIMultiDict({"Proxy-Authorization": f"Basic {encoded}"} if login else {})
            req.update_proxy(proxy.with_user(None), None, headers)
        return await super()._create_connection(req, traces, timeout)


def _request_log(output: Output) -> AudioTraceConfig:
    """Log method, path, status and seconds of each request. Without its host and query, a signed URL is of no use."""

    async def on_start(_: object, context: Any, __: object) -> None:
        context.started = asyncio.get_running_loop().time()

    async def on_end(_: object, context: Any, request: aiohttp.TraceRequestEndParams) -> None:
        log(context, request, str(request.response.status))

    async def on_exception(_: object, context: Any, request: aiohttp.TraceRequestExceptionParams) -> None:
        log(context, request, "no answer", request.exception)

    def log(context: Any, request: Any, status: str, error: BaseException | None = None) -> None:
        seconds = asyncio.get_running_loop().time() - context.started
        reason = "" if error is None else f" ({_reason(error, seconds)})"
        output.try_message(f"{request.method} {request.url.raw_path} {status} {seconds:.3f} s{reason}")

    config = AudioTraceConfig()
    config.on_request_start.append(on_start)
    config.on_request_end.append(on_end)
    config.on_request_exception.append(on_exception)
    return config


def _reason(error: BaseException, seconds: float) -> str:
    if not isinstance(error, Exception):  # a cancellation, by which the session also ends a request that takes too long
        return "cancelled" if seconds < REQUEST_TIMEOUT else "timed out"
    cause = error.__cause__
    return describe(error if isinstance(error, aiohttp.ClientError) or not isinstance(cause, Exception) else cause)
