"""The public class. It connects the service, the faults, the logs of requests and the two HTTP servers.

The only clock is the event loop's, so that tests can run in virtual time; the wall clock only dates jobs and links.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias
from uuid import UUID, uuid4

import attrs
from aiohttp import web

from playai_async.emulator._faults import Fault, FaultPlan, Status, apply_fault
from playai_async.emulator._http import Listener, read_body, send_response
from playai_async.emulator._request_log import Arrival, EmulatorStats, RequestLog
from playai_async.emulator._service.audio import Audio
from playai_async.emulator._service.audio_origin import AudioOrigin, SignedLinks
from playai_async.emulator._service.jobs import DEFAULT_JOB_INPUT, Job
from playai_async.emulator._service.jobs_api import JobsApi
from playai_async.emulator._service.limiters import LimiterKind, make_limiter
from playai_async.emulator._service.messages import Endpoint, Request
from playai_async.emulator._speech import Speaker
from playai_async.emulator._validation import (
    check_count,
    check_credential,
    check_host,
    check_job_duration,
    check_job_id,
    check_limiter,
    check_quota,
    check_seconds,
    json_copy,
)
from playai_async.emulator._webhooks import WebhookCall, Webhooks

OnRequest: TypeAlias = Callable[[str, str, int | None, float], object]
"""Called with the method, the path without its query, the status (None: there was none) and the seconds it took."""


class Emulator:
    """A local server that emulates the service.

    Use it as an async context manager, or call `start()` and `stop()`. It can be created outside of an event loop. It
    belongs to the loop in which it is first started: tasks of that loop may share it, other threads may not use it.
    Jobs are added inside that loop. If virtual time begins only after the fixtures of a test, add jobs in the test: a
    job that a fixture adds finishes by the clock of the fixtures.

    Requests are checked in this order: unknown endpoint 404, other method 405, credentials 401, quota 429, body or id
    400, unknown job 404. Then the job is sent, with 201 if it was created. 404 and 405 are not in the contract of the
    service; they have its error shape. A fault replaces or delays the response, but the request spends its quota.

    When a job ends, completed or failed, the emulator calls the `webHookUrl` of its input with a POST of
    `{"version": "2", "id": ..., "status": "complete" or "error", "progress": 1}`, and for a completed job also `url`,
    `duration` and `size`, as PlayHT's API did; the contract of the service does not describe the payload. Only http
    URLs whose host resolves to a loopback address are called, without credentials. A call is made once and not
    retried, whatever the response is; it may take ten seconds. `webhook_calls` has the results.

    The audio is on a second origin, without credentials or quota, under links that expire. The order there: other
    method 405, a link that is forged, expired or of no job 403, no audio (yet) 404. Then the file is sent, or one range
    of it. The audio is always a WAV file (16-bit PCM, mono), whatever `outputFormat` requests. Its sample rate is the
    requested `sampleRate` if that is valid, else 24,000 Hz. 15 characters of text make one second of audio; the minimum
    is a tenth of a second. The sound is a tune. With `speak`, it is the text of a created job, spoken in English by
    espeak-ng at 22,050 Hz. Then the response to the request that creates the job waits until the text has been spoken,
    usually for a few hundredths of a second. There is still the tune if espeak-ng is not installed, fails or takes
    longer than ten seconds, if the text has more than 5,000 characters, and once the emulator keeps two hours of
    speech in memory. Jobs of `add_job` have the tune.

    A created job whose voice is `no-such-voice` fails.

    Args:
        quota: Status requests that each API key may send in a window; further requests get 429. None: unlimited.
        window: The length of a window in seconds.
        limiter: How requests are counted, for `quota` and for `create_quota`:
            `"fixed"`: at most `quota` requests in each of the windows that follow each other, as the service counts;
            `"sliding"`: at most `quota` requests in any span of `window` seconds;
            `"leaky"`: one request in each `window / quota` seconds, like nginx's `limit_req` without a burst;
            `"bucket"`: a request for each token of a bucket that holds `burst` tokens, is full at first, and gets
            `quota` tokens per window;
            `"concurrency"`: at most `quota` status requests being answered at the same time, and at most
            `create_quota` created jobs in progress. The window does not matter.
        burst: The size of the token bucket; None: as large as the quota. Only with `limiter="bucket"`.
        phase: Seconds of the first window that have passed when the emulator first starts. Only fixed windows use it.
        create_quota: Requests to create jobs that each key may send in a window, counted separately. None: unlimited.
        job_duration: Seconds until a created job finishes; infinity: never. None: one second, and a tenth of the
            duration of its audio.
        link_lifetime: Seconds until a link to audio expires.
        retry_after: Whether a 429 has a `Retry-After` header. Off by default, because the service does not promise it.
        api_key: The only key to accept; None: any key.
        user_id: The only user id to accept; None: any user id.
        host: The loopback address to listen on.
        port: The port of the API; 0: a free port, which is kept over restarts.
        audio_port: The port of the audio origin; 0: likewise.
        history: How many arrivals to keep for each origin, and how many calls of webhooks.
        speak: Whether to speak the texts of created jobs, if the program espeak-ng is installed. It runs in a process
            and in real time, so it is not for tests in virtual time.

    Raises:
        TypeError: An argument, or a value assigned to a property, has the wrong type.
        ValueError: One of them is out of range, or the host is not a loopback address.
    """

    def __init__(
        self,
        quota: int | None = None,
        window: float = 60.0,
        *,
        limiter: LimiterKind = "fixed",
        burst: int | None = None,
        phase: float = 0.0,
        create_quota: int | None = None,
        job_duration: float | None = None,
        link_lifetime: float = 3600.0,
        retry_after: bool = False,
        api_key: str | None = None,
        user_id: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        audio_port: int = 0,
        history: int = 10_000,
        speak: bool = False,
    ) -> None:
        check_seconds("window", window, zero=False)
        check_seconds("phase", phase)
        check_limiter(limiter, burst)
        new_limiter = partial(make_limiter, limiter, window=window, phase=phase, burst=burst)
        self._links = SignedLinks(check_seconds("link_lifetime", link_lifetime), lambda: self.audio_url)
        jobs: dict[UUID, Job] = {}
        self._webhooks = Webhooks(jobs, self._links, check_count("history", history))
        self._jobs_api = JobsApi(
            status_limiter=new_limiter(quota=check_quota("quota", quota)),
            create_limiter=new_limiter(quota=check_quota("create_quota", create_quota)),
            retry_after=retry_after,
            api_key=check_credential("api_key", api_key),
            user_id=check_credential("user_id", user_id),
            job_duration=check_job_duration(job_duration),
            links=self._links,
            jobs=jobs,
            on_created=self._webhooks.on_job,
        )
        audio_origin = AudioOrigin(jobs, self._links)
        self._log = RequestLog(history)
        self._audio_log = RequestLog(history)
        self._on_request: OnRequest | None = None
        self._speaker = Speaker() if speak else None
        self._faults = FaultPlan()
        self._release = asyncio.Event()
        handle_api = partial(self._handle, self._jobs_api, self._log)
        handle_audio = partial(self._handle, audio_origin, self._audio_log)
        self._listener = Listener(handle_api, check_host(host), check_count("port", port, most=65_535))
        self._audio_listener = Listener(handle_audio, host, check_count("audio_port", audio_port, most=65_535))
        self._listeners = (self._audio_listener, self._listener)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start to listen; after a stop, on the same ports as before.

        If cancelled, the emulator is stopped.

        Raises:
            RuntimeError: The emulator is already running, or `stop()` was called before it had started.
            OSError: A port is in use.
        """
        if self._listener.running:
            raise RuntimeError("the emulator is already running")
        for limiter in (self._jobs_api.status_limiter, self._jobs_api.create_limiter):
            limiter.start(asyncio.get_running_loop().time())
        try:
            # Both sockets exist before anything is awaited, so that `stop()` finds them whenever this is cancelled.
            for listener in self._listeners:
                listener.bind()
            for listener in self._listeners:
                await listener.serve()
        except BaseException:
            await self.stop()
            raise
        if not all(listener.running for listener in self._listeners):
            raise RuntimeError("the emulator was stopped while it started")
        self._webhooks.start()

    async def stop(self) -> None:
        """Stop listening and abort all connections, including those with requests in progress and calls of webhooks.

        Jobs, counts and faults are kept for the next start. Stopping a stopped emulator does nothing. If cancelled,
        nothing listens any more, but handlers of requests may still be ending; another `stop()` waits for them.
        """
        parts = (*self._listeners, self._webhooks)
        for part in parts:
            part.close()
        await asyncio.gather(*(part.wait_closed() for part in parts))

    async def restart(self) -> None:
        """Stop and start again: all connections are aborted, everything else is kept.

        If cancelled, call `stop()`.

        Raises:
            OSError: Another program has taken a port in the meantime.
        """
        await self.stop()
        await self.start()

    @property
    def base_url(self) -> str:
        """The URL of the API, such as `http://127.0.0.1:8123`. It stays the same over restarts.

        Raises:
            RuntimeError: The emulator has never been started and no port was given, so the port is not known yet.
        """
        return self._listener.url

    @property
    def audio_url(self) -> str:
        """The URL of the audio origin; it raises the same errors as `base_url`."""
        return self._audio_listener.url

    @property
    def speaks(self) -> bool:
        """Whether the texts of created jobs are spoken: it was asked for, and espeak-ng is installed."""
        return self._speaker is not None and self._speaker.available

    @property
    def quota(self) -> int | None:
        """Status requests that each key may send in a window; None: unlimited.

        It can be set at any time, and applies to the next requests.
        """
        return self._jobs_api.status_limiter.quota

    @quota.setter
    def quota(self, quota: int | None) -> None:
        self._jobs_api.status_limiter.quota = check_quota("quota", quota)

    @property
    def create_quota(self) -> int | None:
        """Requests to create jobs that each key may send in a window; like `quota`."""
        return self._jobs_api.create_limiter.quota

    @create_quota.setter
    def create_quota(self, quota: int | None) -> None:
        self._jobs_api.create_limiter.quota = check_quota("create_quota", quota)

    @property
    def job_duration(self) -> float | None:
        """Seconds until a created job finishes; None: the duration follows from its text.

        It can be set at any time, and applies to the jobs created next.
        """
        return self._jobs_api.job_duration

    @job_duration.setter
    def job_duration(self, job_duration: float | None) -> None:
        self._jobs_api.job_duration = check_job_duration(job_duration)

    @property
    def jobs(self) -> tuple[UUID, ...]:
        """The ids of all jobs, added by tests or created by requests, oldest first."""
        return tuple(self._jobs_api.jobs)

    def add_job(
        self,
        duration: float = 0.0,
        *,
        fails: bool = False,
        job_id: UUID | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the service's own name for it
    ) -> UUID:
        """Add a job that finishes by itself.

        Args:
            duration: Seconds from now until the job finishes; infinity: never.
            fails: Whether the job ends as FAILED instead of COMPLETED.
            job_id: The job's id; None: a new id.
            input: The parameters to show as the job's input; None: some plausible parameters. A `webHookUrl` is called
                as for a created job.

        Returns:
            The job's id.

        Raises:
            RuntimeError: No loop is running, or the running loop is not the emulator's.
            TypeError: An argument has the wrong type, or `input` is not JSON.
            ValueError: The duration is negative or NaN, or a job with this id exists.
        """
        check_seconds("duration", duration, infinite=True)
        check_job_id(job_id)
        if job_id in self._jobs_api.jobs:
            raise ValueError(f"a job with the id {job_id} already exists")
        job = Job(
            id=job_id or uuid4(),
            began=self._listener.now(),
            created_at=datetime.now(UTC),
            duration=duration,
            fails=fails,
            input=DEFAULT_JOB_INPUT if input is None else json_copy(input),
        )
        self._jobs_api.jobs[job.id] = job
        self._webhooks.on_job(job)
        return job.id

    def finishes_at(self, job_id: UUID) -> float:
        """Return the loop time, in seconds, when a job finishes.

        Raises:
            KeyError: There is no such job.
        """
        return self._jobs_api.jobs[job_id].finishes_at

    def set_output(self, job_id: UUID, output: Mapping[str, Any] | None) -> None:
        """Show another output for a job, such as a status that the contract does not list.

        The job itself continues unchanged: None shows its actual output again. If the output is the first one of the
        job that is COMPLETED or FAILED, the job's webhook is called at once.

        Args:
            job_id: The job.
            output: The JSON object to show; None: the actual output.

        Raises:
            KeyError: There is no such job.
            TypeError: `output` is not JSON.
        """
        job = self._jobs_api.jobs[job_id]
        shown = None if output is None else json_copy(output)
        self._jobs_api.jobs[job_id] = attrs.evolve(job, output=shown)
        self._webhooks.on_change(job_id)

    def link_of(self, job_id: UUID) -> str:
        """Return a new link to a job's audio. The link gives 404 until the job has completed.

        Raises:
            KeyError: There is no such job.
            RuntimeError: No loop is running, or the emulator has no address yet.
        """
        return self._links.sign(self._jobs_api.jobs[job_id].id, asyncio.get_running_loop().time())

    def audio_of(self, job_id: UUID) -> bytes:
        """Return the audio of a job as it is served, whether the job has completed or not.

        Raises:
            KeyError: There is no such job.
        """
        return self._jobs_api.jobs[job_id].audio.file()[:]

    def inject(
        self, fault: Fault, *, times: int | None = 1, job_id: UUID | None = None, endpoint: Endpoint = "status"
    ) -> None:
        """Plan a fault for the next requests.

        A request meets the first planned fault that matches it. Once that fault is used up, the next planned fault
        applies. A request to create a job that meets a `Status` creates no job. With any other fault a valid request
        creates a job: the service then has a job that the client may not know of.

        Args:
            fault: The fault.
            times: How many requests meet the fault; None: all requests until `clear_faults()`.
            job_id: The job whose requests meet the fault; None: any request.
            endpoint: The requests that meet the fault: `"status"` for status requests and requests to unknown paths,
                `"create"` for requests that create jobs, `"audio"` for requests to the audio origin.

        Raises:
            TypeError: An argument has the wrong type, such as the class `Hang` instead of `Hang()`.
            ValueError: `times` is less than 1, the endpoint is unknown, or no request could meet the fault: a `job_id`
                with `"create"`, or `Malformed` with `"audio"`.
        """
        self._faults.add(fault, times=times, job_id=job_id, endpoint=endpoint)

    def clear_faults(self) -> None:
        """Remove all planned faults, and send the responses of the requests that hang."""
        self._faults.clear()
        self._release.set()
        self._release = asyncio.Event()

    @property
    def stats(self) -> EmulatorStats:
        """A snapshot of the counts. Requests to the audio origin are not included."""
        return self._log.stats

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """The latest requests to the API in the order of arrival; `history` is the maximum."""
        return self._log.arrivals

    @property
    def audio_arrivals(self) -> tuple[Arrival, ...]:
        """The latest requests to the audio origin in the order of arrival; `history` is the maximum."""
        return self._audio_log.arrivals

    @property
    def webhook_calls(self) -> tuple[WebhookCall, ...]:
        """The latest calls of webhooks in the order in which the jobs ended; `history` is the maximum."""
        return self._webhooks.calls

    def requests_of(self, job_id: UUID) -> int:
        """Return the number of requests for a job, whatever the response was and whether the job exists or not."""
        return self._log.requests_of(job_id)

    def reset_stats(self) -> None:
        """Set the counts to zero and forget the arrivals and the calls of webhooks.

        Requests in progress stay counted, and spent quota stays spent.
        """
        self._log.reset()
        self._audio_log.reset()
        self._webhooks.reset()

    def _listen(self, on_request: OnRequest) -> None:
        """Call a function at the end of each request; it must not raise. For the command line."""
        self._on_request = on_request

    async def _handle(
        self, origin: JobsApi | AudioOrigin, log: RequestLog, request: web.BaseRequest
    ) -> web.StreamResponse:
        method, path, headers = request.method, request.path, request.headers
        endpoint, job_id = origin.identify(method, path)
        at = asyncio.get_running_loop().time()
        serial = log.on_arrival(Arrival(at=at, method=method, path=request.raw_path, job_id=job_id, headers=headers))
        status = usual = None
        try:
            body = await read_body(request)
            log.on_body(serial, body or b"")
            fault = self._faults.take(endpoint, job_id)
            received = Request(method, path, request.query, headers, body)
            speech = await self._spoken(origin, received)
            now = asyncio.get_running_loop().time()
            if isinstance(origin, AudioOrigin):
                usual = origin.respond(received, now)
            else:
                # Status stands for a service that fails before it does anything.
                usual = origin.respond(received, now, create=not isinstance(fault, Status), speech=speech)
            response = apply_fault(fault, usual, endpoint=endpoint, job_id=job_id, now=now)
            sent = await send_response(request, response, fault, self._release)
            status = sent.status
            return sent
        finally:
            log.on_end(serial, status)
            if self._on_request is not None:
                seconds = asyncio.get_running_loop().time() - at
                self._on_request(method, request.raw_path.partition("?")[0], status, seconds)
            if usual is not None and usual.on_end is not None:
                usual.on_end(asyncio.get_running_loop().time())

    async def _spoken(self, origin: JobsApi | AudioOrigin, request: Request) -> Audio | None:
        """Return the speech for a request that creates a job, if texts are spoken."""
        if self._speaker is None or isinstance(origin, AudioOrigin):
            return None
        text = origin.spoken_text(request)
        return None if text is None else await self._speaker.speak(text)
