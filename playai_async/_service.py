"""The service as a session sees it: asks for a job's status and gives back the job, or the error that says why not.

Puts `_transport` and `_protocol` together for one base URL and one key. It sends once; whether and when to ask again is
not decided here.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import os
import re
import time
from collections import OrderedDict
from uuid import UUID
from weakref import WeakValueDictionary

from yarl import URL

from playai_async._exceptions import ConfigurationError, PlayAIError
from playai_async._models import TtsJob, Unknown
from playai_async._protocol import Protocol, Reply
from playai_async._settings import BASE_URL
from playai_async._transport import Transport

__all__ = ["Service", "checked_base_url"]

logger = logging.getLogger("playai_async")

_OK = 200

_REMEMBERED_UNKNOWNS = 1_024
"""Jobs. Each is warned of once; past so many the oldest is forgotten, since a backend meets new jobs for ever."""

_DIGEST_SIZE = 16
"""Bytes: so many that no two bodies have the same digest, neither by accident nor by design."""

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


class Service:
    """Asks for jobs.

    While a job is not done, most replies are the last one over again, byte for byte. Such a one is not deciphered
    again: the job that it became is found by a digest of the body, as long as somebody keeps it, as a wait does.

    Args:
        base_url: Where the service is.
        transport: Sends requests.
        protocol: Deciphers replies.
    """

    def __init__(self, base_url: URL, transport: Transport, protocol: Protocol) -> None:
        self._base_url = base_url
        self._jobs_path = (base_url / "api/v1/tts").raw_path
        self._transport = transport
        self._protocol = protocol
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
            reply = await self._transport.get(url)
        except PlayAIError as error:
            error.job_id = job_id
            raise
        job = self._job_in(reply, job_id)
        if isinstance(job.output, Unknown):
            self._warn_of(job_id, job.output.status)
        return job

    def _job_in(self, reply: Reply, job_id: UUID) -> TtsJob:
        digest = hashlib.blake2b(reply.body, digest_size=_DIGEST_SIZE).digest()
        job = self._jobs_read.get(digest)
        if job is None or job.id != job_id or reply.status != _OK or not reply.whole:
            job = self._protocol.read_status(reply, job_id, now=time.time())
            if not job.done:  # a finished one is asked for once, and each who asks again gets one of their own
                self._jobs_read[digest] = job
        return job

    def _warn_of(self, job_id: UUID, status: str) -> None:
        if job_id in self._warned_of:
            return
        self._warned_of[job_id] = None
        if len(self._warned_of) > _REMEMBERED_UNKNOWNS:
            self._warned_of.popitem(last=False)
        logger.warning("Job %s is in a state that the contract does not list: %r", job_id, self._protocol.shown(status))


def checked_base_url(base_url: str | URL | None) -> URL:
    """Accept where a service may be; left out, it is the environment's `PLAYAI_BASE_URL`, or PlayAI.

    Raises:
        ConfigurationError: It is no URL, or neither https nor on loopback, or has more than a host and a path.
        TypeError: It is of the wrong type.
    """
    if base_url is None:
        base_url = os.environ.get("PLAYAI_BASE_URL") or BASE_URL
    if not isinstance(base_url, str | URL):
        raise TypeError(f"base_url must be a str or a yarl.URL, not {type(base_url).__name__}")
    try:
        url = URL(base_url)
        host, _ = url.raw_host, url.port
    except ValueError:
        raise ConfigurationError("base_url is not a URL") from None
    if url.user is not None or url.password is not None or url.query_string or url.fragment:
        raise ConfigurationError("base_url must have no user, password, query or fragment")
    if not host or not (_HOST.fullmatch(host) or _is_address(host)):
        raise ConfigurationError("base_url has no host that could be")
    if not (url.scheme == "https" or (url.scheme == "http" and _is_loopback(host))):
        raise ConfigurationError(f"base_url must be https, or http for a loopback host: {url}")
    return url


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback if _is_address(host) else host == "localhost"
