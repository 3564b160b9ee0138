"""The emulator: two aiohttp.web servers around the service and its audio, with faults and logs of what was asked.

The only clock is the loop's, so that tests may run in virtual time; the wall clock only dates jobs and links.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import attrs
from aiohttp import web

from playai_async.emulator._faults import Fault, FaultPlan, Status, apply_fault
from playai_async.emulator._http import Listener, read_body, send_response
from playai_async.emulator._request_log import Arrival, EmulatorStats, RequestLog
from playai_async.emulator._service.audio_origin import AudioOrigin, SignedLinks
from playai_async.emulator._service.jobs import DEFAULT_JOB_INPUT, Job
from playai_async.emulator._service.jobs_api import JobsApi
from playai_async.emulator._service.messages import Endpoint, Request
from playai_async.emulator._service.rate_limiter import FixedWindowLimiter
from playai_async.emulator._validation import (
    check_count,
    check_credential,
    check_host,
    check_job_id,
    check_quota,
    check_seconds,
    json_copy,
)


class Emulator:
    """The service on loopback.

    Use it as an async context manager, or call `start()` and `stop()`. It belongs to the loop it is first started
    in, may be shared between that loop's tasks, and may not be touched from other threads. It can be built
    outside a loop; jobs are added inside one. Where virtual time begins only after the fixtures of a test, add
    jobs in the test: one that a fixture adds finishes by the clock of the fixtures.

    A request is answered in this order: unknown endpoint 404, other method 405, credentials 401, quota 429, body or
    id 400, unknown job 404, and then the job, with 201 if it was created. 404 and 405 are not in the service's
    contract; they come in its error shape. A fault takes the place of that answer, but the request spends its quota
    all the same.

    The audio is on a second origin, without credentials or quota, under links that expire: other method 405, a link
    that is forged, expired or of no job 403, no audio (yet) 404, and then the file, whole or by one range. It is
    always a WAV (16-bit PCM, mono), whatever `outputFormat` asks for, of the `sampleRate` asked for where that is one
    and 24,000 Hz where not; 15 characters of the text make a second, and it takes a tenth of one at least.

    Args:
        quota: Requests for jobs a window for each API key; past it comes 429. None: unlimited.
        window: The length of the fixed windows, in seconds.
        phase: Seconds of the first window that are over when the emulator first starts.
        create_quota: Requests that create jobs a window for each key, counted apart; None: unlimited.
        job_duration: Seconds until a created job finishes, infinity: never. None: a second, and a tenth of its audio.
        link_lifetime: Seconds for which a link to audio is good.
        retry_after: Whether 429s carry `Retry-After`; off, as the service promises none.
        api_key: The key to insist on; None: any.
        user_id: The user id to insist on; None: any.
        host: The loopback address to listen on.
        port: The port to listen on; 0: a free one, kept over restarts.
        audio_port: The port that serves audio; likewise.
        history: How many arrivals to keep, on either origin.

    Raises:
        TypeError: An argument, or what a property is set to, is of the wrong type.
        ValueError: One of them is out of range, or the host is not a loopback address.
    """

    def __init__(
        self,
        quota: int | None = None,
        window: float = 60.0,
        *,
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
    ) -> None:
        check_seconds("window", window, zero=False)
        check_seconds("phase", phase)
        self._links = SignedLinks(check_seconds("link_lifetime", link_lifetime), lambda: self.audio_url)
        self._jobs_api = JobsApi(
            status_limiter=FixedWindowLimiter(window, phase, check_quota("quota", quota)),
            create_limiter=FixedWindowLimiter(window, phase, check_quota("create_quota", create_quota)),
            retry_after=retry_after,
            api_key=check_credential("api_key", api_key),
            user_id=check_credential("user_id", user_id),
            job_duration=check_job_duration(job_duration),
            links=self._links,
        )
        origin = AudioOrigin(self._jobs_api.jobs, self._links)
        self._log = RequestLog(check_count("history", history))
        self._audio_log = RequestLog(history)
        self._faults = FaultPlan()
        self._release = asyncio.Event()
        serve_jobs = partial(self._serve, self._jobs_api, self._log)
        serve_audio = partial(self._serve, origin, self._audio_log)
        self._listener = Listener(serve_jobs, check_host(host), check_count("port", port, most=65_535))
        self._audio_listener = Listener(serve_audio, host, check_count("audio_port", audio_port, most=65_535))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same ports as before if it ran before.

        Raises:
            RuntimeError: It is running.
            OSError: A port is taken.

        A cancellation leaves it stopped.
        """
        if self._listener.running:
            raise RuntimeError("the emulator is running already")
        for windows in (self._jobs_api.status_limiter, self._jobs_api.create_limiter):
            windows.start(asyncio.get_running_loop().time())
        async with AsyncExitStack() as started:
            for listener in (self._audio_listener, self._listener):
                await listener.start()
                started.push_async_callback(listener.stop)
            started.pop_all()

    async def stop(self) -> None:
        """Stop listening and cut every connection, whatever is under way on it.

        Jobs, counts and faults are kept for the next start. Stopping again does nothing. Once cancelled, stop again.
        """
        await asyncio.gather(self._listener.stop(), self._audio_listener.stop())

    async def restart(self) -> None:
        """Stop and start again: every connection is cut, all else is kept. Fails and is cancelled as they are."""
        await self.stop()
        await self.start()

    @property
    def base_url(self) -> str:
        """Where the emulator listens, such as `http://127.0.0.1:8123`; it stays the same over restarts.

        Raises:
            RuntimeError: It was never started, and given no port, so that there is none yet.
        """
        return self._listener.url

    @property
    def audio_url(self) -> str:
        """Where the audio is, as `base_url` is where the service is."""
        return self._audio_listener.url

    @property
    def quota(self) -> int | None:
        """Requests for jobs a window for each key; None: unlimited. May be set at any time, for the next requests."""
        return self._jobs_api.status_limiter.quota

    @quota.setter
    def quota(self, quota: int | None) -> None:
        self._jobs_api.status_limiter.quota = check_quota("quota", quota)

    @property
    def create_quota(self) -> int | None:
        """The same for requests that create jobs."""
        return self._jobs_api.create_limiter.quota

    @create_quota.setter
    def create_quota(self, quota: int | None) -> None:
        self._jobs_api.create_limiter.quota = check_quota("create_quota", quota)

    @property
    def job_duration(self) -> float | None:
        """Seconds until a created job finishes; None: by its text. May be set at any time, for the next jobs."""
        return self._jobs_api.job_duration

    @job_duration.setter
    def job_duration(self, job_duration: float | None) -> None:
        self._jobs_api.job_duration = check_job_duration(job_duration)

    @property
    def jobs(self) -> tuple[UUID, ...]:
        """All jobs, added and created ones, in the order in which they came to be."""
        return tuple(self._jobs_api.jobs)

    def add_job(
        self,
        duration: float = 0.0,
        *,
        fails: bool = False,
        job_id: UUID | None = None,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the service's own name for it
    ) -> UUID:
        """Create a job that finishes by itself.

        Args:
            duration: Seconds from now until it finishes, infinity: never.
            fails: Whether it ends as FAILED rather than COMPLETED.
            job_id: Its id; None: a new one.
            input: The parameters to show as those it was created from; None: some plausible ones.

        Returns:
            The job's id.

        Raises:
            RuntimeError: No loop is running, or another than the emulator's.
            TypeError: An argument is of the wrong type, or `input` is not JSON.
            ValueError: The duration is negative or NaN, or there is a job with this id.
        """
        check_seconds("duration", duration, infinite=True)
        check_job_id(job_id)
        if job_id in self._jobs_api.jobs:
            raise ValueError(f"there is a job {job_id} already")
        job = Job(
            id=job_id or uuid4(),
            began=self._listener.now(),
            created_at=datetime.now(UTC),
            duration=duration,
            fails=fails,
            input=DEFAULT_JOB_INPUT if input is None else json_copy(input),
        )
        self._jobs_api.jobs[job.id] = job
        return job.id

    def finishes_at(self, job_id: UUID) -> float:
        """Return the loop time at which a job finishes; a `KeyError` if there is none."""
        return self._jobs_api.jobs[job_id].finishes_at

    def set_output(self, job_id: UUID, output: Mapping[str, Any] | None) -> None:
        """Show something else as a job's output, such as a status that the contract does not list.

        The job goes on underneath: None shows its true output again.

        Args:
            job_id: The job.
            output: The JSON object to show; None: the true one.

        Raises:
            KeyError: There is no such job.
            TypeError: `output` is not JSON.
        """
        job = self._jobs_api.jobs[job_id]
        shown = None if output is None else json_copy(output)
        self._jobs_api.jobs[job_id] = attrs.evolve(job, output=shown)

    def link_of(self, job_id: UUID) -> str:
        """Return a fresh link to a job's audio, which is there once the job is completed.

        Raises:
            KeyError: There is no such job.
            RuntimeError: No loop is running, or the emulator has no address yet.
        """
        return self._links.sign(self._jobs_api.jobs[job_id].id, asyncio.get_running_loop().time())

    def audio_of(self, job_id: UUID) -> bytes:
        """Return the audio of a job as it is, or will be, served; a `KeyError` if there is none such."""
        return self._jobs_api.jobs[job_id].audio.content()[:]

    def inject(
        self, fault: Fault, *, times: int | None = 1, job_id: UUID | None = None, endpoint: Endpoint = "status"
    ) -> None:
        """Misbehave for the next requests.

        A request meets the first fault planned that fits it; the next one planned has its turn once that is
        used up. A request to create a job that meets a `Status` creates none. With any other fault it does, if
        nothing is wrong with it: the service then has a job that the client does not know.

        Args:
            fault: What to do to them.
            times: How many requests meet it; None: all, until `clear_faults()`.
            job_id: The one job whose requests meet it; None: all requests.
            endpoint: Which requests meet it: those that ask for a job (`"status"`, and whatever else comes in there),
                those that create one (`"create"`), or those for audio (`"audio"`).

        Raises:
            TypeError: An argument is of the wrong type; a class such as `Hang` needs to be called.
            ValueError: `times` is less than 1, there is no such endpoint, or no request to it could meet this:
                a `job_id` where jobs are created, `Malformed` audio.
        """
        self._faults.add(fault, times=times, job_id=job_id, endpoint=endpoint)

    def clear_faults(self) -> None:
        """Behave again, and give requests that hang the answer they were due."""
        self._faults.clear()
        self._release.set()
        self._release = asyncio.Event()

    @property
    def stats(self) -> EmulatorStats:
        """A snapshot of the counts; requests for audio are not among them."""
        return self._log.stats

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """The latest requests in the order of their arrival, `history` of them at most."""
        return self._log.arrivals

    @property
    def audio_arrivals(self) -> tuple[Arrival, ...]:
        """The same for the requests for audio."""
        return self._audio_log.arrivals

    def requests_of(self, job_id: UUID) -> int:
        """Return how many requests asked for a job, whatever became of them."""
        return self._log.requests_of(job_id)

    def reset_stats(self) -> None:
        """Count afresh and forget the arrivals; requests under way stay counted, quota spent stays spent."""
        self._log.reset()
        self._audio_log.reset()

    async def _serve(
        self, site: JobsApi | AudioOrigin, log: RequestLog, request: web.BaseRequest
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        method, path, headers = request.method, request.path, request.headers
        endpoint, job_id = site.identify(method, path)
        arrival = Arrival(at=loop.time(), method=method, path=request.raw_path, job_id=job_id, headers=headers)
        serial = log.on_arrival(arrival)
        status = None
        try:
            body = await read_body(request)
            log.on_body(serial, body or b"")
            fault = self._faults.take(endpoint, job_id)
            now = loop.time()
            asked = Request(method, path, request.query, headers, body)
            if isinstance(site, AudioOrigin):
                answer = site.respond(asked, now)
            else:
                # A status stands for a service that fails before it does anything.
                answer = site.respond(asked, now, create=not isinstance(fault, Status))
            answer = apply_fault(fault, answer, endpoint=endpoint, job_id=job_id, now=now)
            response = await send_response(request, answer, fault, self._release)
            status = response.status
            return response
        finally:
            log.on_end(serial, status)


def check_job_duration(job_duration: float | None) -> float | None:
    return None if job_duration is None else check_seconds("job_duration", job_duration, infinite=True)
