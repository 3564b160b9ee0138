"""Webhooks: when a job ends, the emulator calls the `webHookUrl` of its input, once, and on loopback addresses only.

The calls never wait for each other's servers and nothing waits for them. Together with `_http.py` and `_emulator.py`,
the only module that uses aiohttp.
"""

import asyncio
import errno
import ipaddress
import socket
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import attrs
from aiohttp.resolver import ThreadedResolver

from playai_async.emulator._service.audio_origin import SignedLinks
from playai_async.emulator._service.jobs import Job

_Address: TypeAlias = tuple[int, int, int, str, tuple[Any, ...]]
"""What `getaddrinfo` returns: family, kind, protocol, canonical name, and the address with its host first."""

CALL_TIMEOUT: Final = 10.0
"""Seconds that a call may take, from the lookup of the host's address to the headers of the response."""

MAX_CALLS: Final = 32
"""Calls to one origin at the same time. A burst of more could overflow the backlog of a small server."""


@attrs.frozen(kw_only=True)
class WebhookCall:
    """A call of a job's webhook.

    Attributes:
        at: The loop time when the job ended, in seconds.
        job_id: The job.
        url: The URL that was called.
        payload: The JSON object that was sent.
        status: The status of the response; None if there was none, or not yet.
        error: Why there was no response, in a few words; None if there was one, or not yet.
    """

    at: float
    job_id: UUID
    url: str
    payload: Mapping[str, Any]
    status: int | None = None
    error: str | None = None


class Webhooks:
    """Calls the webhooks of jobs that end, while the emulator runs.

    Args:
        jobs: The jobs by id.
        links: Signs the links to audio.
        history: How many calls to keep.
    """

    def __init__(self, jobs: Mapping[UUID, Job], links: SignedLinks, history: int) -> None:
        self._jobs = jobs
        self._links = links
        self._history = history
        self._loop: asyncio.AbstractEventLoop | None = None
        # The jobs whose webhook has not been called yet, each with the timer of its end, if there is one.
        self._pending: dict[UUID, asyncio.TimerHandle | None] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._turns = _new_turns()
        self._serial = 0
        self.reset()

    def reset(self) -> None:
        """Forget the calls. Those that have not been answered yet go on."""
        self._calls: OrderedDict[int, WebhookCall] = OrderedDict()

    @property
    def calls(self) -> tuple[WebhookCall, ...]:
        """The latest calls, in the order in which the jobs ended."""
        return tuple(self._calls.values())

    def on_job(self, job: Job) -> None:
        """Watch a new job, if it has a webhook."""
        if job.webhook_url is not None:
            self._pending[job.id] = None
            self.on_change(job.id)

    def on_change(self, job_id: UUID) -> None:
        """Call the webhook of a job if it has ended, or set a timer for its end."""
        loop = self._loop
        if loop is None or job_id not in self._pending:
            return
        self._cancel_timer(job_id)
        job, now = self._jobs[job_id], loop.time()
        payload = job.webhook_payload(now, self._links.sign(job_id, now))
        if payload is not None:
            del self._pending[job_id]
            call = WebhookCall(at=now, job_id=job_id, url=str(job.webhook_url), payload=payload)
            self._call(call, loop)
        elif not job.is_done(now):
            # A job that never finishes gets a timer that never fires, which costs nothing.
            self._pending[job_id] = loop.call_at(job.finishes_at, self.on_change, job_id)

    def start(self) -> None:
        """Watch the jobs in the running loop. Webhooks of jobs that ended in the meantime are called now."""
        self._loop = asyncio.get_running_loop()
        for job_id in tuple(self._pending):
            self.on_change(job_id)

    def close(self) -> None:
        """Stop at once: cancel all timers and all calls. The cancelled calls are not made again."""
        self._loop = None
        for job_id in self._pending:
            self._cancel_timer(job_id)
        for serial, task in self._tasks.items():
            if task.cancel():
                self._update(serial, error="the emulator was stopped")
        self._turns = _new_turns()  # semaphores belong to one loop

    async def wait_closed(self) -> None:
        """Wait until the cancelled calls have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _cancel_timer(self, job_id: UUID) -> None:
        timer = self._pending[job_id]
        if timer is not None:
            timer.cancel()
            self._pending[job_id] = None

    def _call(self, call: WebhookCall, loop: asyncio.AbstractEventLoop) -> None:
        self._serial += 1
        self._calls[self._serial] = call
        if len(self._calls) > self._history:
            self._calls.popitem(last=False)
        task = loop.create_task(self._deliver(self._serial, call.url, call.payload))
        self._tasks[self._serial] = task
        task.add_done_callback(partial(self._on_delivered, self._serial))

    def _on_delivered(self, serial: int, _task: asyncio.Task[None]) -> None:
        del self._tasks[serial]

    async def _deliver(self, serial: int, url: str, payload: Mapping[str, Any]) -> None:
        try:
            async with self._turns[_origin(url)], asyncio.timeout(CALL_TIMEOUT):
                status = await _post(url, payload)
        except TimeoutError:
            self._update(serial, error=f"no response within {CALL_TIMEOUT:g} seconds")
        except Exception as error:  # noqa: BLE001 - whatever a webhook's server does, the emulator goes on
            self._update(serial, error=str(error) or type(error).__name__)
        else:
            self._update(serial, status=status)

    def _update(self, serial: int, **changes: Any) -> None:
        call = self._calls.get(serial)
        if call is not None:
            self._calls[serial] = attrs.evolve(call, **changes)


def _new_turns() -> defaultdict[str, asyncio.Semaphore]:
    return defaultdict(partial(asyncio.Semaphore, MAX_CALLS))


def _origin(url: str) -> str:
    """Return the host and port of an http URL; `ValueError` for another URL. `_loopback_socket` checks the address."""
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("the emulator calls only http URLs of loopback addresses")
    return parts.netloc


async def _post(url: str, payload: Mapping[str, Any]) -> int:
    """Send a JSON object without following redirects, and return the status; the body of the response is not read."""
    # Neither proxies nor cookies, and a new connection for each call. The resolver is named because aiohttp would use
    # aiodns where that is installed, which virtual time cannot wait for.
    connector = aiohttp.TCPConnector(
        resolver=ThreadedResolver(), socket_factory=_loopback_socket, force_close=True, happy_eyeballs_delay=None
    )
    jar, timeout = aiohttp.DummyCookieJar(), aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(connector=connector, cookie_jar=jar, timeout=timeout) as session,
        session.post(url, json=payload, allow_redirects=False) as response,
    ):
        return response.status


def _loopback_socket(address: _Address) -> socket.socket:
    """Return a socket for an address; `OSError` if the address is not on loopback.

    The address is checked here, where it is connected to, and not by a separate lookup: a host might resolve to
    another address the second time.
    """
    family, kind, protocol, _, (host, *_) = address
    if not ipaddress.ip_address(host).is_loopback:
        raise OSError(errno.EACCES, f"{host} is not a loopback address")
    return socket.socket(family, kind, protocol)
