"""The service as a session sees it: asks for a job's status and gives back the job, or the error that says why not.

Puts `_transport` and `_protocol` together for one base URL and one key. It sends once; whether and when to ask again is
not decided here.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from uuid import UUID

from yarl import URL

from playai_async._exceptions import PlayAIError
from playai_async._models import TtsJob, Unknown
from playai_async._protocol import Protocol
from playai_async._transport import Transport

__all__ = ["Service"]

logger = logging.getLogger("playai_async")

_REMEMBERED_UNKNOWNS = 1_024
"""Jobs. Each is warned of once; past so many the oldest is forgotten, since a backend meets new jobs for ever."""


class Service:
    """Asks for jobs.

    Args:
        base_url: Where the service is.
        transport: Sends requests.
        protocol: Deciphers replies.
    """

    def __init__(self, base_url: URL, transport: Transport, protocol: Protocol) -> None:
        self._jobs_url = base_url / "api/v1/tts"
        self._transport = transport
        self._protocol = protocol
        self._warned_of: OrderedDict[UUID, None] = OrderedDict()

    async def status(self, job_id: UUID) -> TtsJob:
        """Make one status request.

        Raises:
            PlayAIError: What it met; `job_id` is set.
        """
        try:
            reply = await self._transport.get(self._jobs_url / str(job_id))
        except PlayAIError as error:
            error.job_id = job_id
            raise
        job = self._protocol.read_status(reply, job_id, now=time.time())
        if isinstance(job.output, Unknown):
            self._warn_of(job_id, job.output.status)
        return job

    def _warn_of(self, job_id: UUID, status: str) -> None:
        if job_id in self._warned_of:
            return
        self._warned_of[job_id] = None
        if len(self._warned_of) > _REMEMBERED_UNKNOWNS:
            self._warned_of.popitem(last=False)
        logger.warning("Job %s is in a state that the contract does not list: %r", job_id, self._protocol.shown(status))
