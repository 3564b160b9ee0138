"""The service as a session sees it: asked for a job, or for a new one, it gives the job or the error that says why not.

Puts `_transport` and `_contract` together for one base URL and one key. It sends once; whether and when to ask again is
not decided here.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable
from uuid import UUID
from weakref import WeakValueDictionary

from yarl import URL

from playai_async._api.contract import Contract, Reply
from playai_async._api.transport import Transport
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsJob, TtsParameters, Unknown
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import RequestEnded, UnknownStatus

__all__ = ["JobsApi"]

_OK = 200

_REMEMBERED_UNKNOWNS = 1_024
"""Jobs. Each is warned of once; past so many the oldest is forgotten, since a backend meets new jobs for ever."""

_DIGEST_SIZE = 16
"""Bytes: so many that no two bodies have the same digest, neither by accident nor by design."""


class JobsApi:
    """Asks for jobs, and creates them.

    While a job is not done, most replies are the last one over again, byte for byte. Such a one is not deciphered
    again: the job that it became is found by a digest of the body, as long as somebody keeps it, as a wait does.

    Args:
        base_url: Where the service is.
        transport: Sends requests.
        contract: Deciphers replies.
        emitter: Reports requests.
    """

    def __init__(self, base_url: URL, transport: Transport, contract: Contract, emitter: Emitter) -> None:
        self._base_url = base_url
        self._jobs_path = (base_url / "api/v1/tts").raw_path
        self._transport = transport
        self._contract = contract
        self._emitter = emitter
        self._jobs_read: WeakValueDictionary[bytes, TtsJob] = WeakValueDictionary()
        self._warned_of: OrderedDict[UUID, None] = OrderedDict()

    async def status(self, job_id: UUID) -> TtsJob:
        """Make one status request.

        Raises:
            PlayAIError: What it met; `job_id` is set.
        """
        try:
            # The cheapest way to a URL, which keeps what it knows of its host.
            url = self._base_url.with_path(f"{self._jobs_path}/{job_id}", encoded=True)
            reply = await self._counted("GET", self._transport.get(url))
        except PlayAIError as error:
            error.job_id = job_id
            raise
        job = self._job_in(reply, job_id)
        if isinstance(job.output, Unknown):
            self._warn_of(job_id, job.output.status)
        return job

    def encode_parameters(self, parameters: TtsParameters) -> bytes:
        """Write the body of a request to create a job.

        Raises:
            ValueError, TypeError: Some value has no JSON, or is given twice.
        """
        return self._contract.encode_parameters(parameters)

    async def create(self, body: bytes) -> TtsJob:
        """Make one request to create a job.

        Raises:
            PlayAIError: What it met.
        """
        url = self._base_url.with_path(self._jobs_path, encoded=True)
        reply = await self._counted("POST", self._transport.post(url, body))
        return self._contract.parse_created(reply, now=time.time())

    async def _counted(self, method: str, exchange: Awaitable[Reply]) -> Reply:
        try:
            reply = await exchange
        except PlayAIError as error:
            self._emitter.emit(RequestEnded(method, None, type(error).__qualname__))
            raise
        if RequestEnded in self._emitter.kinds:
            self._emitter.emit(RequestEnded(method, reply.status))
        return reply

    def _job_in(self, reply: Reply, job_id: UUID) -> TtsJob:
        digest = hashlib.blake2b(reply.body, digest_size=_DIGEST_SIZE).digest()
        job = self._jobs_read.get(digest)
        if job is None or job.id != job_id or reply.status != _OK or not reply.whole:
            job = self._contract.parse_status(reply, job_id, now=time.time())
            if not job.done:  # a finished one is asked for once, and each who asks again gets one of their own
                self._jobs_read[digest] = job
        return job

    def _warn_of(self, job_id: UUID, status: str) -> None:
        if job_id in self._warned_of:
            return
        self._warned_of[job_id] = None
        if len(self._warned_of) > _REMEMBERED_UNKNOWNS:
            self._warned_of.popitem(last=False)
        self._emitter.emit(UnknownStatus(job_id, self._contract.shown(status)))
