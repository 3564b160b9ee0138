"""The service's two operations on jobs: get the status of a job, and create a job.

Combines `transport` and `contract` for one base URL and one key. Each call sends one request; this module must not
decide whether or when to retry.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable
from uuid import UUID
from weakref import WeakValueDictionary

from yarl import URL

from playai_async._api.contract import Contract, Reply
from playai_async._api.transport import PartialReply, Transport
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsJob, TtsParameters, Unknown
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import RequestEnded, UnknownStatus

__all__ = ["JobsApi", "jobs_url"]

_OK = 200

_MAX_REPORTED_JOBS = 1_024
"""Jobs whose unknown status was reported. The oldest is forgotten, so that a long-running process does not grow."""

_DIGEST_SIZE = 16
"""Bytes. Long enough that two different bodies never have the same digest, not even on purpose."""


def jobs_url(base_url: URL) -> URL:
    """Return the URL of the jobs, as it is requested: the same for every spelling of the base URL."""
    return base_url.with_path((base_url / "api/v1/tts").raw_path, encoded=True)


class JobsApi:
    """Gets and creates jobs, one request per call.

    Most replies about an unfinished job repeat the previous reply byte for byte. Such a reply is not parsed again:
    `JobsApi` finds the job by a digest of the body, for as long as something else references the job, as a wait does.

    Args:
        base_url: The URL of the service.
        transport: Sends requests.
        contract: Encodes parameters and parses replies.
        emitter: Reports requests and unknown statuses.
    """

    def __init__(self, base_url: URL, transport: Transport, contract: Contract, emitter: Emitter) -> None:
        self._base_url = base_url
        self._jobs_path = jobs_url(base_url).raw_path
        self._transport = transport
        self._contract = contract
        self._emitter = emitter
        self._request_ended = functools.cache(RequestEnded)  # nearly all are equal
        self._parsed_jobs: WeakValueDictionary[bytes, TtsJob] = WeakValueDictionary()
        self._reported_ids: OrderedDict[UUID, None] = OrderedDict()

    async def status(self, job_id: UUID) -> TtsJob:
        """Send one status request. Cancellation ends the request.

        Raises:
            PlayAIError: The request failed. `job_id` is set.
        """
        try:
            # The fastest way to build the URL: yarl keeps what it has parsed of the host.
            url = self._base_url.with_path(f"{self._jobs_path}/{job_id}", encoded=True)
            reply = await self._transport.get(url)
        except PlayAIError as error:
            self._report("GET", error)
            error.job_id = job_id
            raise
        self._report("GET", reply)
        job = self._parse_or_reuse(reply, job_id)
        if isinstance(job.output, Unknown):
            self._report_once(job_id, job.output.status)
        return job

    def encode_parameters(self, parameters: TtsParameters) -> bytes:
        """Encode the body for `create`.

        Raises:
            ValueError, TypeError: A value cannot be written as JSON, or is given twice.
        """
        return self._contract.encode_parameters(parameters)

    def create(self, body: bytes) -> Awaitable[TtsJob]:
        """Send one request that creates a job. The service may create the job even if the request is cancelled.

        Args:
            body: The result of `encode_parameters`.

        Returns:
            The exchange. It raises a `PlayAIError` if the request fails.

        Raises:
            SessionClosedError, ConfigurationError: Nothing can be sent. Raised at the call.
        """
        self._transport.check_usable()
        return self._create(body)

    async def _create(self, body: bytes) -> TtsJob:
        url = self._base_url.with_path(self._jobs_path, encoded=True)
        partial = PartialReply()
        try:
            reply = await self._transport.post(url, body, partial)
        except PlayAIError as error:
            self._report("POST", error)
            self._contract.name_created(error, partial.reply(complete=False))
            raise
        self._report("POST", reply)
        return self._contract.parse_created(reply, now=time.time())

    def _report(self, method: str, result: Reply | PlayAIError) -> None:
        if isinstance(result, PlayAIError):
            self._emitter.emit(self._request_ended(method, None, type(result).__qualname__))
        else:
            self._emitter.emit(self._request_ended(method, result.status))

    def _parse_or_reuse(self, reply: Reply, job_id: UUID) -> TtsJob:
        digest = hashlib.blake2b(reply.body, digest_size=_DIGEST_SIZE).digest()
        job = self._parsed_jobs.get(digest)
        if job is None or job.id != job_id or reply.status != _OK or not reply.complete:
            job = self._contract.parse_status(reply, job_id, now=time.time())
            if not job.done:  # a finished job is rarely requested twice, and each caller gets an object of their own
                self._parsed_jobs[digest] = job
        return job

    def _report_once(self, job_id: UUID, status: str) -> None:
        if job_id in self._reported_ids:
            return
        self._reported_ids[job_id] = None
        if len(self._reported_ids) > _MAX_REPORTED_JOBS:
            self._reported_ids.popitem(last=False)
        self._emitter.emit(UnknownStatus(job_id, self._contract.sanitize(status)))
