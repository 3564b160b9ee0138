"""The client session for downloads: the connections of the session's own, but none of its headers and cookies."""

from __future__ import annotations

from typing import cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace

from playai_async._api.tracing import AudioTraceConfig

__all__ = ["download_session"]

_MAX_HEADER_LINE = 32 * 1024
"""Bytes. Signed links make long `Location` headers; aiohttp's own limit is 8,190."""


def download_session(http: aiohttp.ClientSession, *, apart: bool) -> aiohttp.ClientSession:
    """Open a client session that sends no credentials.

    Args:
        http: The client session whose connector and `trust_env` setting are used, and nothing else of it. It is open.
        apart: Whether downloads use a connection beside those of the connector, because it has only one.
    """
    connector = cast("aiohttp.BaseConnector", http.connector)  # None only after the client session was closed
    session = aiohttp.ClientSession(
        connector=_OneApart(connector) if apart else connector,
        connector_owner=apart,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=http.trust_env,
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(),
        max_line_size=_MAX_HEADER_LINE,
        max_field_size=_MAX_HEADER_LINE,
        middlewares=(_remove_authorization,),
    )
    # A tool that instruments every client session may have added trace callbacks, which would record the signed URL.
    session.trace_configs[:] = [config for config in http.trace_configs if isinstance(config, AudioTraceConfig)]
    return session


class _OneApart(aiohttp.BaseConnector):
    """A pool of one connection, which is made as another pool makes its own: with its TLS, resolver and addresses."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        super().__init__(limit=1)
        self._connector = connector
        self.allowed_protocol_schema_set = connector.allowed_protocol_schema_set

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        # The method that aiohttp documents for connectors to override; there is no public way to call it.
        return await self._connector._create_connection(req, traces, timeout)  # noqa: SLF001


async def _remove_authorization(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Remove the password that aiohttp takes from the user's netrc file if `trust_env` is set."""
    request.headers.pop("Authorization", None)
    return await handler(request)
