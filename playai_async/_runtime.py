"""Builds and connects the parts of a session, for one key and one event loop.

The settings are checked when the session is created. The parts are built at the first use, in the loop that uses them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, cast
from uuid import UUID

import aiohttp
import attrs
from yarl import URL

from playai_async._api.contract import Contract
from playai_async._api.credentials import Credentials
from playai_async._api.jobs import JobsApi, jobs_url
from playai_async._api.tracing import TraceGuard
from playai_async._api.transport import Transport, checked_http_session
from playai_async._api.urls import checked_base_url
from playai_async._audio.cancel_scopes import CancelScopes
from playai_async._audio.create import Creator
from playai_async._audio.disk import Disk
from playai_async._audio.download import Downloader
from playai_async._audio.speech import Speech
from playai_async._exceptions import (
    APIStatusError,
    ConfigurationError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    WaitTimeoutError,
    about,
    is_transient,
)
from playai_async._models import TtsJob, as_job, job_id_of
from playai_async._settings import PROBES_PER_WINDOW, Pacing, Polling, check_number, checked
from playai_async._shared_quota import QuotaLink, SharedHints
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.log import Log
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._engine import Client, build_dispatcher, build_poller
from playai_async.jobs._hint_relay import HintRelay
from playai_async.jobs._job_poller import JobPoller, poller_on
from playai_async.jobs._pacing.leased_quota import LeasedQuota, terms_for
from playai_async.jobs._polling.planner import Traits
from playai_async.jobs._polling.poller import Poller
from playai_async.jobs._scheduling.dispatcher import Dispatcher
from playai_async.jobs._scheduling.in_flight import InFlightLimiter
from playai_async.jobs._scheduling.lifecycle import Lifecycle
from playai_async.jobs._scheduling.request import Errors, JobId, Throttled, Transient, Verdict

__all__ = ["NewJobs", "Runtime", "SessionErrors", "classify"]

_FIRST_PROBE_PARTS = 12
_DOUBLINGS = 4
_DOUBLINGS_SAVE = 2.75
"""Four pauses of 1, 2, 4 and 8 twelfths of an interval are 1.25 intervals: 2.75 less than four whole ones."""

_DIGEST_SIZE = 16
"""Bytes. A key is too random to be found by hashing guesses."""


_CREATION_LAG = 5.0
"""Seconds after the reply to a POST in which the service may not know the new job yet, if it has several replicas."""

_MAX_NEW_JOBS = 1_024
"""New jobs that are remembered. With more creations in five seconds, the oldest is forgotten."""


class Runtime:
    """The parts of a session; the arguments are those of `PlayAISession`. It is the host of its `JobPoller`.

    Raises:
        ConfigurationError: A setting is missing or cannot work.
        TypeError: A setting has the wrong type.

    Attributes:
        jobs: Waits for jobs.
        base_url: Where the service is.
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
        self._polling = checked("polling", polling, Polling)
        self._credentials = Credentials.checked(
            _setting("api_key", api_key, "PLAYAI_API_KEY"), _setting("user_id", user_id, "PLAYAI_USER_ID")
        )
        self.base_url = checked_base_url(base_url)
        check_number("request_timeout", request_timeout)
        self._request_timeout = request_timeout
        self._http_session = checked_http_session(http_session)
        self._pacing = checked("pacing", pacing, Pacing)
        self._emitter = _emitter_for(self.base_url)
        self.errors: Errors = SessionErrors()
        self.resends_throttled = False  # `get_job` promises one request
        self._lifecycle = Lifecycle(self.errors)
        self._parts: _Parts | None = None
        self.jobs: JobPoller[UUID | str | TtsJob, TtsJob] = poller_on(self, self._polling)

    @property
    def used(self) -> bool:
        """Whether there is anything to close."""
        return self._parts is not None

    @property
    def closed(self) -> bool:
        """Whether the session was closed, or is closing."""
        return self._lifecycle.closed

    def open(self, job_id: JobId | None) -> Poller:
        """Return what waits for jobs.

        Args:
            job_id: The job that it is needed for, which an error names.

        Raises:
            SessionClosedError: The session is closed.
            ConfigurationError: The session belongs to another event loop.
        """
        return self._open(job_id).poller

    def opened(self, job_id: JobId | None) -> Poller | None:
        """Return what waits for jobs, or None before the first use; raises what `open` raises, and binds nothing."""
        self._lifecycle.check_usable(job_id)
        return None if self._parts is None else self._parts.poller

    def parse(self, job: Any) -> tuple[JobId, object | None]:
        """Return a job's id, and the job itself if it is finished.

        Raises:
            ValueError: A text that is no UUID.
            TypeError: Something that names no job.
        """
        known = as_job(job)
        return job_id_of(job), known if known is not None and known.done else None

    def known(self, job: Any) -> object | None:
        """Return the job itself if the caller has it, or None."""
        return as_job(job)

    def speech(self, job_id: UUID | None = None) -> Speech:
        """Return what creates jobs and downloads audio; raises what `open` raises."""
        return self._open(job_id).speech

    def relay_hint(self, job: Any) -> None:
        """Pass a hint on to the other sessions that share the quota, if there are any.

        Raises:
            SessionClosedError: The session is closed.
            ConfigurationError: The session belongs to another event loop.
        """
        name, finished = self.parse(job)
        shared: object = self._pacing.shared
        # The protocol last: looking for its methods takes longer than all the rest of a hint.
        if finished is None and shared is not None and isinstance(shared, SharedHints):
            cast("HintRelay", self._open(name).relay).send(str(name))

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        if self._parts is None:
            return SessionStats.before_use(self._pacing.requests_per_window)
        return _combined(self._parts.poller.stats(), self._parts.creator.stats())

    async def close(self) -> None:
        """End all that is open.

        Raises:
            ConfigurationError: The session belongs to another event loop.
        """
        if self._lifecycle.close() and self._parts is not None:
            self._parts.scopes.cancel_all()  # both before anything is awaited: a cancellation finds all ended
            self._parts.poller.end_all()
            try:
                await self._parts.poller.join()
                await self._parts.speech.join()
                if self._parts.relay is not None:
                    await self._parts.relay.aclose()
            finally:
                await self._parts.transport.close()

    def _open(self, job_id: JobId | None) -> _Parts:
        self._lifecycle.use(job_id)
        if self._parts is None:
            self._parts = self._build()
        return self._parts

    def _build(self) -> _Parts:
        shared = self._shared()  # first: it may raise, and there is nothing to close yet
        transport = Transport(
            self._credentials,
            request_timeout=self._request_timeout,
            connections=self._pacing.max_in_flight,
            http_session=self._http_session,
            trace_guard=TraceGuard(self._emitter),
        )
        api = JobsApi(self.base_url, transport, Contract(self._credentials), self._emitter)
        in_flight = InFlightLimiter(transport.connections)
        new_jobs = NewJobs(asyncio.get_running_loop())
        client = Client(self._lifecycle, self.errors, new_jobs.classify, self._emitter, in_flight)
        poller = build_poller(client, api.status, _is_done, self._pacing, traits=_TRAITS, shared=shared)
        scopes = CancelScopes(self._lifecycle)
        create = new_jobs.remember(api.create, lambda job: poller.on_created(job.id, job))
        creator = Creator(create, self._creation_dispatcher(client), scopes, self._emitter)
        disk = Disk(2 * in_flight.limit)  # one for each download, and for those that wait for a disk that hangs
        downloader = Downloader(
            transport.http,
            credentials=self._credentials,
            in_flight=in_flight,
            idle_timeout=self._request_timeout,
            emitter=self._emitter,
            disk=disk,
        )
        speech = Speech(
            api.encode_parameters, self.jobs, creator, downloader, scopes=scopes, disk=disk, emitter=self._emitter
        )
        return _Parts(transport, poller, creator, scopes, speech, self._relay(poller))

    def _creation_dispatcher(self, client: Client) -> Dispatcher:
        window = self._pacing.window
        attempts = min(PROBES_PER_WINDOW, self._polling.max_failures)
        # The service may limit jobs at once, or characters: so a first probe comes soon, and each further one after
        # twice the pause. All pauses together are at least a window: a request does not use up its attempts before.
        interval = window / (attempts - _DOUBLINGS_SAVE) if attempts >= _DOUBLINGS else window / attempts
        return build_dispatcher(
            client,
            Pacing(window=window),  # what is known of a quota is about status requests
            operation="job creations",
            method="POST",
            probes=window / interval,
            first_probe=interval / _FIRST_PROBE_PARTS if attempts >= _DOUBLINGS else None,
        )

    def _shared(self) -> tuple[QuotaLink, LeasedQuota] | None:
        """Return the link to a shared quota of status requests, and what it grants; or None."""
        shared = self._pacing.shared
        if shared is None:
            return None
        terms = terms_for(self._pacing, name=self._quota_name(), request_timeout=self._request_timeout)
        return shared.open(terms), LeasedQuota(terms)

    def _quota_name(self) -> str:
        """Name the quota by a digest, which does not reveal the key. One place has one name, however it is written."""
        name = f"{jobs_url(self.base_url)} {self._credentials.api_key}".encode()
        digest = hashlib.blake2b(name, digest_size=_DIGEST_SIZE, person=b"playai_async").hexdigest()
        return f"{digest}:status"

    def _relay(self, poller: Poller) -> HintRelay | None:
        """Return what passes hints between the sessions that share the quota; or None."""
        shared: object = self._pacing.shared
        if not isinstance(shared, SharedHints):
            return None

        def on_hint(hint: str) -> None:
            job_id = UUID(hint)
            if poller.waits_for(job_id):  # else it is for another session, and none that this one ignores
                poller.hint(job_id)

        return HintRelay(shared.open_hints(self._quota_name()), on_hint)


@attrs.frozen
class _Parts:
    """What works in the session's loop."""

    transport: Transport
    poller: Poller
    creator: Creator
    scopes: CancelScopes
    speech: Speech
    relay: HintRelay | None


class SessionErrors:
    """The exceptions of a session."""

    def closed(self, job_id: Any) -> Exception:
        return SessionClosedError("The session was closed.", job_id=job_id)

    def wrong_loop(self, job_id: Any) -> Exception:
        return ConfigurationError(
            "The session belongs to the event loop that first used it; make one for each loop.", job_id=job_id
        )

    def cut_short(self, job_id: Any) -> Exception:
        return TransportError(f"The request {about(job_id)} was cancelled from outside.", job_id=job_id)

    def is_answer(self, error: Exception) -> bool:
        return isinstance(error, APIStatusError | InvalidResponseError)

    def wrap(self, error: Exception, job_id: Any) -> Exception:
        if isinstance(error, PlayAIError):
            return error
        what = "Creating a job" if job_id is None else f"Waiting for job {job_id}"
        wrapped = PlayAIError(f"{what} failed unexpectedly ({type(error).__name__}).", job_id=job_id)
        wrapped.__cause__ = error
        return wrapped

    def for_waiter(self, error: Exception, job_id: Any) -> Exception:
        return cast("PlayAIError", error).for_job(job_id)  # `wrap` lets nothing else through

    def timed_out(
        self,
        job_id: Any,
        *,
        job: object | None,
        last_error: Exception | None,
        elapsed: float,
        polls: int,
        why: str,
    ) -> Exception:
        known = as_job(job)
        seen = "no answer yet" if known is None else f"last seen {type(known.output).__name__}"
        return WaitTimeoutError(
            f"Job {job_id} was not done after {elapsed:.1f} s (polls: {polls}; {seen}{why});"
            " it goes on and can be waited for again.",
            job=known,
            last_error=last_error if isinstance(last_error, PlayAIError) else None,
            elapsed=elapsed,
            polls=polls,
            job_id=job_id,
        )


def classify(error: Exception) -> Verdict:
    """Return what an error of PlayAI's service means."""
    if isinstance(error, RateLimitedError):
        return Throttled(error.retry_after)
    if not is_transient(error):
        return None
    return Transient(error.retry_after if isinstance(error, APIStatusError) else None)


class NewJobs:
    """The jobs that this session created just now: if one of them is not found, it may be found a moment later.

    Args:
        loop: The event loop, whose clock is used.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._created_at: OrderedDict[UUID, float] = OrderedDict()

    def remember(
        self, create: Callable[[bytes], Awaitable[TtsJob]], on_created: Callable[[TtsJob], None]
    ) -> Callable[[bytes], Awaitable[TtsJob]]:
        """Wrap a function that creates a job, so that the job is remembered, and passed to `on_created`."""

        async def remembered(exchange: Awaitable[TtsJob]) -> TtsJob:
            job = await exchange
            self._created_at[job.id] = self._loop.time()
            if len(self._created_at) > _MAX_NEW_JOBS:
                self._created_at.popitem(last=False)
            on_created(job)
            return job

        return lambda body: remembered(create(body))

    def classify(self, error: Exception) -> Verdict:
        """Return what an error means, as `classify` does, and make an exception of jobs that were created just now."""
        if isinstance(error, NotFoundError) and error.job_id is not None:
            created_at = self._created_at.get(error.job_id)
            if created_at is not None and self._loop.time() - created_at <= _CREATION_LAG:
                return Transient(error.retry_after)
        return classify(error)


def _is_done(job: TtsJob) -> bool:
    return job.done


def _characters(job: TtsJob) -> float | None:
    text = job.input.get("text")
    return len(text) if isinstance(text, str) else None


def _run_time(job: TtsJob) -> float | None:
    return None if job.completed_at is None else (job.completed_at - job.created_at).total_seconds()


def _model(job: TtsJob) -> str | None:
    model = job.input.get("model")
    return model if isinstance(model, str) else None


_TRAITS = Traits(_characters, _run_time, _model)


def _combined(polls: SessionStats, creations: SessionStats) -> SessionStats:
    """Add up what two operations did; the longer pause is the session's."""
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


def _emitter_for(base_url: URL) -> Emitter:
    """Return an emitter that logs, and reports to OpenTelemetry if that is installed."""
    try:
        from playai_async._telemetry.opentelemetry import OpenTelemetry, untraced  # noqa: PLC0415 - needs an extra
    except ImportError as error:  # also if only the namespace is there, which other packages share
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        return Emitter(Log())
    try:
        listener = OpenTelemetry(base_url)
    except Exception as error:  # noqa: BLE001 - OpenTelemetry may be configured wrongly, which is no reason to fail
        emitter = Emitter(Log(), untraced=untraced)
        emitter.report("OpenTelemetry", error)
        return emitter
    return Emitter(Log(), listener, untraced=untraced)


def _setting(name: str, value: str | None, variable: str) -> str:
    if value is None:
        value = os.environ.get(variable, "")
    if not checked(name, value, str):
        raise ConfigurationError(f"There is no {name}: pass it, or set {variable} in the environment.")
    return value
