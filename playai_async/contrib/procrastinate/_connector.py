"""Connections to PostgreSQL: a connector whose statements have a timeout, and the caller's own connection.

This module knows procrastinate. It must not know anything of waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from procrastinate import PsycopgConnector
from procrastinate.exceptions import ConnectorException

from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import DurableDatabaseSilent
from playai_async._telemetry.log import Log
from playai_async.contrib.procrastinate._constants import CANCEL_TIMEOUT, STATEMENT_TIMEOUT

if TYPE_CHECKING:
    from typing import LiteralString

__all__ = ["TimeoutConnector", "psycopg_connection"]


class TimeoutConnector(PsycopgConnector):
    """procrastinate's `PsycopgConnector`, with a timeout for each statement on the client's side.

    A PostgreSQL that hangs, or whose host is gone, answers nothing and closes nothing: without a timeout, a worker
    waits for it for ever. With this connector the statement raises procrastinate's `ConnectorException`, the worker
    logs `database_silent` at ERROR and ends, and can be started again. Takes the arguments of `PsycopgConnector`.

    Attributes:
        statement_timeout: Seconds for one statement, including the time to get a connection from the pool. Set it
            before the app is opened.
    """

    statement_timeout: float = STATEMENT_TIMEOUT
    _is_silent = False

    async def execute_query_async(self, query: LiteralString, **arguments: Any) -> None:
        """Execute a statement."""
        async with self._timeout():
            await super().execute_query_async(query, **arguments)

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """Execute a statement, and return its first row."""
        async with self._timeout():
            row: dict[str, Any] = await super().execute_query_one_async(query, **arguments)
            return row

    async def execute_query_all_async(self, query: LiteralString, **arguments: Any) -> list[dict[str, Any]]:
        """Execute a statement, and return its rows."""
        async with self._timeout():
            rows: list[dict[str, Any]] = await super().execute_query_all_async(query, **arguments)
            return rows

    @contextlib.asynccontextmanager
    async def _timeout(self) -> AsyncGenerator[None]:
        seconds = self.statement_timeout
        # psycopg answers the first cancellation with a request to the server, and the second with a closed connection.
        try:
            async with asyncio.timeout(seconds + CANCEL_TIMEOUT), asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            was_silent, self._is_silent = self._is_silent, True
            if not was_silent:
                Emitter(Log()).emit(DurableDatabaseSilent(seconds))
            raise ConnectorException(f"PostgreSQL has not answered for {seconds:g} s") from error
        self._is_silent = False


async def psycopg_connection(connection: Any) -> object:
    """Return the psycopg connection that procrastinate can insert with.

    Args:
        connection: A `psycopg.AsyncConnection`, or SQLAlchemy's `AsyncConnection` on psycopg.

    Raises:
        TypeError: It is another object.
    """
    if hasattr(connection, "get_raw_connection"):
        if not connection.in_transaction():
            await connection.begin()  # SQLAlchemy does not see what goes past it, and would have nothing to commit
        connection = (await connection.get_raw_connection()).driver_connection
    if not hasattr(connection, "pgconn") or not inspect.iscoroutinefunction(connection.execute):
        name = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise TypeError(f"connection must be a psycopg.AsyncConnection, or SQLAlchemy's on psycopg, not {name}")
    return connection
