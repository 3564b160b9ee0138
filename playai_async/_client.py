"""What a session is made of: one key, one base URL, one pool of connections, one poller, one event loop.

Checks the settings, puts the layers together at the first use, and takes them down. What is done with them is the
session's affair.
"""

from __future__ import annotations

import asyncio
import os
from typing import TypeVar
from uuid import UUID

import aiohttp
from yarl import URL

from playai_async._exceptions import ConfigurationError, SessionClosedError
from playai_async._models import SessionStats
from playai_async._poller import Poller
from playai_async._protocol import Credentials, Protocol
from playai_async._service import Service, checked_base_url
from playai_async._settings import Pacing, check_number
from playai_async._transport import Transport, checked_http_session

__all__ = ["Client", "checked"]

_T = TypeVar("_T")


class Client:
    """The inside of a session; the arguments are those of `PlayAISession`.

    Raises:
        ConfigurationError: A setting is missing or cannot work.
        TypeError: A setting has the wrong type.
    """

    def __init__(
        self,
        api_key: str | None,
        user_id: str | None,
        *,
        base_url: str | URL | None,
        http_session: aiohttp.ClientSession | None,
        pacing: Pacing,
        request_timeout: float,
    ) -> None:
        self._credentials = Credentials.checked(
            _setting("api_key", api_key, "PLAYAI_API_KEY"), _setting("user_id", user_id, "PLAYAI_USER_ID")
        )
        self.base_url = checked_base_url(base_url)
        check_number("request_timeout", request_timeout)
        self._request_timeout = request_timeout
        self._http_session = checked_http_session(http_session)
        self._pacing = checked("pacing", pacing, Pacing)
        self._transport: Transport | None = None
        self._poller: Poller | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    @property
    def used(self) -> bool:
        """Whether there is anything to close."""
        return self._poller is not None

    def poller(self, job_id: UUID | None = None) -> Poller:
        """Return the poller, made at the first use, which also decides the loop.

        Args:
            job_id: The job that it is needed for, to be named in an error.

        Raises:
            SessionClosedError: The session is closed.
            ConfigurationError: The session belongs to another event loop.
        """
        self._check_loop(job_id)
        if self.closed:
            raise SessionClosedError("The session is closed.", job_id=job_id)
        if self._poller is None:
            self._loop = asyncio.get_running_loop()
            transport = self._transport = Transport(
                self._credentials,
                request_timeout=self._request_timeout,
                connections=self._pacing.max_in_flight,
                http_session=self._http_session,
            )
            service = Service(self.base_url, transport, Protocol(self._credentials))
            self._poller = Poller(service.status, self._pacing, max_in_flight=transport.connections)
        return self._poller

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        if self._poller is None:
            return SessionStats(0, 0, 0, 0, 0, 0, 0.0, self._pacing.requests_per_window)
        return self._poller.stats()

    async def close(self) -> None:
        """End all that is open.

        Raises:
            ConfigurationError: The session belongs to another event loop.
        """
        self._check_loop()
        self.closed = True
        if self._poller is not None and self._transport is not None:
            try:
                await self._poller.close()
            finally:
                await self._transport.close()

    def _check_loop(self, job_id: UUID | None = None) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "The session belongs to the event loop it was first used in; make one for each.",
                job_id=job_id,
            )


def checked(name: str, value: object, kind: type[_T]) -> _T:
    """Accept a value of a kind.

    Raises:
        TypeError: It is of another.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value


def _setting(name: str, value: str | None, variable: str) -> str:
    if value is None:
        value = os.environ.get(variable, "")
    if not checked(name, value, str):
        raise ConfigurationError(f"There is no {name}: pass it, or set {variable} in the environment.")
    return value
