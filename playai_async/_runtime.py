"""What a session is made of: one key, one base URL, one pool of connections, one event loop, two quotas.

Checks the settings, puts the layers together at the first use, and takes them down. What is done with them is the
session's affair.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from uuid import UUID

import aiohttp
import attrs
from yarl import URL

from playai_async._api.contract import Protocol
from playai_async._api.credentials import Credentials
from playai_async._api.jobs import Service
from playai_async._api.transport import Transport, checked_http_session
from playai_async._api.urls import checked_base_url
from playai_async._audio.create import Creator
from playai_async._audio.download import Downloader
from playai_async._audio.speech import Speech
from playai_async._exceptions import ConfigurationError, SessionClosedError
from playai_async._models import SessionStats
from playai_async._settings import Pacing, Polling, check_number, checked
from playai_async._shared_quota import QuotaLink
from playai_async._telemetry.events import Telemetry
from playai_async.jobs._pacing.leased_quota import Permits, terms_for
from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._scheduling.in_flight import Slots

__all__ = ["Client"]

_DIGEST_SIZE = 16
"""Bytes. A key is random, and long enough that nobody guesses it and compares."""


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
        polling: Polling,
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
        self._polling = polling
        self._telemetry = _telemetry_for(self.base_url)
        self._layers: _Layers | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    @property
    def used(self) -> bool:
        """Whether there is anything to close."""
        return self._layers is not None

    def poller(self, job_id: UUID | None = None) -> Poller:
        """Return what waits for jobs.

        Args:
            job_id: The job that it is needed for, to be named in an error.

        Raises:
            SessionClosedError: The session is closed.
            ConfigurationError: The session belongs to another event loop.
        """
        return self._open(job_id).poller

    def speech(self, job_id: UUID | None = None) -> Speech:
        """Return what makes audio of text and files of audio; raises what `poller` raises."""
        return self._open(job_id).speech

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        if self._layers is None:
            return SessionStats(0, 0, 0, 0, 0, 0, 0.0, self._pacing.requests_per_window)
        return _together(self._layers.poller.stats(), self._layers.creator.stats())

    async def close(self) -> None:
        """End all that is open.

        Raises:
            ConfigurationError: The session belongs to another event loop.
        """
        self._check_loop()
        self.closed = True
        if self._layers is not None:
            self._layers.speech.end_all()  # both before anything is awaited: a cancellation finds all ended
            self._layers.poller.end_all()
            try:
                await self._layers.poller.gone()
                await self._layers.speech.gone()
            finally:
                await self._layers.transport.close()

    def _open(self, job_id: UUID | None) -> _Layers:
        """Return the layers, made at the first use, which also decides the loop."""
        self._check_loop(job_id)
        if self.closed:
            raise SessionClosedError("The session is closed.", job_id=job_id)
        if self._layers is None:
            self._loop = asyncio.get_running_loop()
            self._layers = self._made()
        return self._layers

    def _made(self) -> _Layers:
        transport = Transport(
            self._credentials,
            request_timeout=self._request_timeout,
            connections=self._pacing.max_in_flight,
            http_session=self._http_session,
        )
        telemetry = self._telemetry
        service = Service(self.base_url, transport, Protocol(self._credentials), telemetry)
        slots = Slots(transport.connections)
        poller = Poller(service.status, self._pacing, slots, telemetry, share=self._share())
        creator = Creator(service.create, self._pacing, self._polling, slots, telemetry)
        downloader = Downloader(
            transport.http,
            credentials=self._credentials,
            slots=slots,
            idle_timeout=self._request_timeout,
            telemetry=telemetry,
        )
        return _Layers(transport, poller, creator, Speech(service, poller, creator, downloader))

    def _share(self) -> tuple[QuotaLink, Permits] | None:
        """Return the way to a quota of status requests that is shared, and what it grants, if there is one."""
        shared = self._pacing.shared
        if shared is None:
            return None
        # The quota is named by a digest, which does not tell the key.
        whose = f"{self.base_url} {self._credentials.api_key}".encode()
        digest = hashlib.blake2b(whose, digest_size=_DIGEST_SIZE, person=b"playai_async").hexdigest()
        terms = terms_for(self._pacing, name=f"{digest}:status", request_timeout=self._request_timeout)
        return None if terms is None else (shared.open(terms), Permits(terms))

    def _check_loop(self, job_id: UUID | None = None) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "The session belongs to the event loop it was first used in; make one for each.",
                job_id=job_id,
            )


@attrs.frozen
class _Layers:
    """What works in the session's loop."""

    transport: Transport
    poller: Poller
    creator: Creator
    speech: Speech


def _together(polls: SessionStats, creations: SessionStats) -> SessionStats:
    """Add up what two operations did; of their pauses, the longer is the session's."""
    paused = max(polls, creations, key=lambda stats: (stats.pause_reason is not None, stats.paused_for))
    return attrs.evolve(
        polls,
        requests=polls.requests + creations.requests,
        throttled=polls.throttled + creations.throttled,
        transient_failures=polls.transient_failures + creations.transient_failures,
        in_flight=polls.in_flight + creations.in_flight,
        queued=polls.queued + creations.queued,
        paused_for=paused.paused_for,
        pause_reason=paused.pause_reason,
    )


def _telemetry_for(base_url: URL) -> Telemetry:
    """Return what tells OpenTelemetry of a session, if it is installed."""
    try:
        from playai_async._telemetry.opentelemetry import OpenTelemetry  # noqa: PLC0415 - an extra, which may not be installed
    except ImportError as error:  # also of the namespace alone, which other packages share
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        return Telemetry()
    return OpenTelemetry(base_url)


def _setting(name: str, value: str | None, variable: str) -> str:
    if value is None:
        value = os.environ.get(variable, "")
    if not checked(name, value, str):
        raise ConfigurationError(f"There is no {name}: pass it, or set {variable} in the environment.")
    return value
