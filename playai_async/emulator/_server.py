"""The emulator: an aiohttp.web server around the service, with faults and a ledger of what it was asked.

The only clock is the loop's, so that tests may run in virtual time; the wall clock only dates jobs.
"""

import asyncio
import ipaddress
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, assert_never
from uuid import UUID, uuid4

import attrs
from aiohttp import web

from playai_async.emulator._answers import Answer
from playai_async.emulator._checks import check_count, check_credential, check_job_id, check_seconds
from playai_async.emulator._delivery import cut, dripping, whole
from playai_async.emulator._faults import Fault, FaultPlan, Hang, Malformed, Reset, Slow, Status
from playai_async.emulator._jobs import DEFAULT_INPUT, Job
from playai_async.emulator._ledger import Arrival, EmulatorStats, Ledger
from playai_async.emulator._quota import FixedWindows
from playai_async.emulator._service import Service, job_id_in


class Emulator:
    """The service on loopback.

    Use it as an async context manager, or call `start()` and `stop()`. It belongs to the loop it is first started
    in, may be shared between that loop's tasks, and may not be touched from other threads. It can be built
    outside a loop; jobs are added inside one. Where virtual time begins only after the fixtures of a test, add
    jobs in the test: one that a fixture adds finishes by the clock of the fixtures.

    A request is answered in this order: unknown endpoint 404, other method 405, credentials 401, quota 429,
    id 400, unknown job 404, and then the job. 404 and 405 are not in the service's contract; they come in its
    error shape. A fault takes the place of that answer, but the request spends its quota all the same.

    Args:
        quota: Requests a window for each API key; past it comes 429. None: unlimited.
        window: The length of the fixed windows, in seconds.
        phase: Seconds of the first window that are over when the emulator first starts.
        retry_after: Whether 429s carry `Retry-After`; off, as the service promises none.
        api_key: The key to insist on; None: any.
        user_id: The user id to insist on; None: any.
        host: The loopback address to listen on.
        port: The port to listen on; 0: a free one, kept over restarts.
        history: How many arrivals to keep.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: An argument is out of range, or the host is not a loopback address.
    """

    def __init__(
        self,
        quota: int | None = None,
        window: float = 60.0,
        *,
        phase: float = 0.0,
        retry_after: bool = False,
        api_key: str | None = None,
        user_id: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        history: int = 10_000,
    ) -> None:
        self._service = Service(
            windows=FixedWindows(check_seconds("window", window, zero=False), check_seconds("phase", phase)),
            quota=None if quota is None else check_count("quota", quota),
            retry_after=retry_after,
            api_key=check_credential("api_key", api_key),
            user_id=check_credential("user_id", user_id),
        )
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"host must be a loopback address, not {host!r}")
        self._host = host
        self._port = check_count("port", port, most=65_535)
        self._ledger = Ledger(check_count("history", history))
        self._faults = FaultPlan()
        self._released = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port as before if it ran before.

        Raises:
            RuntimeError: It is running.
            OSError: The port is taken.
        """
        if self._runner is not None:
            raise RuntimeError("the emulator is running already")
        self._service.windows.begin(asyncio.get_running_loop().time())
        # Cancelling handlers is what frees a hung one when its client goes, or when stop() cuts it off.
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        # A burst of connections beyond the backlog would wait a real second each for TCP to try again.
        await web.TCPSite(runner, self._host, self._port, backlog=1024).start()
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and cut every connection, whatever is under way on it.

        Jobs, counts and faults are kept for the next start. Stopping again does nothing.
        """
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None:
            return
        for site in runner.sites:
            await site.stop()
        # Left to itself, cleanup() would first give every handler its time to end.
        for transport in [c.transport for c in runner.server.connections if c.transport is not None]:
            transport.abort()
        await runner.cleanup()

    async def restart(self) -> None:
        """Stop and start again: every connection is cut, all else is kept."""
        await self.stop()
        await self.start()

    @property
    def base_url(self) -> str:
        """Where the emulator listens, such as `http://127.0.0.1:8123`; it stays the same over restarts.

        Raises:
            RuntimeError: It was never started, and given no port, so that there is none yet.
        """
        if not self._port:
            raise RuntimeError("the emulator has no address before its first start")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def quota(self) -> int | None:
        """Requests a window for each key; None: unlimited. May be set at any time, for the next requests."""
        return self._service.quota

    @quota.setter
    def quota(self, quota: int | None) -> None:
        self._service.quota = None if quota is None else check_count("quota", quota)

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
            RuntimeError: No loop is running.
            TypeError: An argument is of the wrong type, or `input` is not JSON.
            ValueError: The duration is negative or NaN, or there is a job with this id.
        """
        check_seconds("duration", duration, infinite=True)
        check_job_id(job_id)
        if job_id in self._service.jobs:
            raise ValueError(f"there is a job {job_id} already")
        job = Job(
            id=job_id or uuid4(),
            began=asyncio.get_running_loop().time(),
            created_at=datetime.now(UTC),
            duration=duration,
            fails=fails,
            input=DEFAULT_INPUT if input is None else _json_copy(input),
        )
        self._service.jobs[job.id] = job
        return job.id

    def finishes_at(self, job_id: UUID) -> float:
        """Return the loop time at which a job finishes; a `KeyError` if there is none."""
        return self._service.jobs[job_id].finishes_at

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
        job = self._service.jobs[job_id]
        shown = None if output is None else _json_copy(output)
        self._service.jobs[job_id] = attrs.evolve(job, output=shown)

    def inject(self, fault: Fault, *, times: int | None = 1, job_id: UUID | None = None) -> None:
        """Misbehave for the next requests.

        A request meets the first fault planned that fits it; the next one planned has its turn once that is
        used up.

        Args:
            fault: What to do to them.
            times: How many requests meet it; None: all, until `clear_faults()`.
            job_id: The one job whose requests meet it; None: all requests.

        Raises:
            TypeError: An argument is of the wrong type; a class such as `Hang` needs to be called.
            ValueError: `times` is less than 1.
        """
        self._faults.add(fault, times=times, job_id=job_id)

    def clear_faults(self) -> None:
        """Behave again, and give requests that hang the answer they were due."""
        self._faults.clear()
        self._released.set()
        self._released = asyncio.Event()

    @property
    def stats(self) -> EmulatorStats:
        """A snapshot of the counts."""
        return self._ledger.stats

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """The latest requests in the order of their arrival, `history` of them at most."""
        return self._ledger.arrivals

    def requests_of(self, job_id: UUID) -> int:
        """Return how many requests asked for a job, whatever became of them."""
        return self._ledger.requests_of(job_id)

    def reset_stats(self) -> None:
        """Count afresh and forget the arrivals; requests under way stay counted, quota spent stays spent."""
        self._ledger.reset()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        now = asyncio.get_running_loop().time()
        job_id = job_id_in(request.path)
        arrival = Arrival(at=now, method=request.method, path=request.raw_path, job_id=job_id, headers=request.headers)
        serial = self._ledger.arrived(arrival)
        status = None
        try:
            answer = self._service.answer(request.method, request.path, request.headers, now)
            response = await self._respond(request, answer, self._faults.take(job_id), job_id)
            status = response.status
            return response
        finally:
            self._ledger.left(serial, status)

    async def _respond(
        self, request: web.BaseRequest, answer: Answer, fault: Fault | None, job_id: UUID | None
    ) -> web.StreamResponse:
        match fault:
            case None:
                return whole(answer)
            case Status():
                return whole(fault.answer())
            case Malformed():
                return whole(fault.answer(self._service.document(job_id, asyncio.get_running_loop().time())))
            case Hang():
                await self._released.wait()
                return whole(answer)
            case Slow():
                return await dripping(request, answer, fault.seconds)
            case Reset():
                return await cut(request, answer, midway=fault.midway)
            case _:
                assert_never(fault)


def _json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    # Copied by way of JSON: later changes of the caller's do not show, and what can't be sent fails here, not
    # there.
    copy: dict[str, Any] = json.loads(json.dumps(dict(value)))
    return copy
