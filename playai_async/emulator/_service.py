"""The service without the network: a request in, an answer out, by the contract alone.

No I/O and no clock; faults are none of its business.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from playai_async.emulator._answers import Answer, json_answer, usual_answer
from playai_async.emulator._jobs import Job, parse_job_id
from playai_async.emulator._quota import FixedWindows

JOB_PATH: Final = re.compile(r"/api/v1/tts/([^/]+)")
BEARER: Final = re.compile(r"Bearer (\S+)")


def job_id_in(path: str) -> UUID | None:
    """Return the id of the job a path asks for, or None if it names none."""
    match = JOB_PATH.fullmatch(path)
    return parse_job_id(match[1]) if match else None


@attrs.define(kw_only=True)
class Service:
    """The jobs, the credentials and the quota.

    Args:
        windows: Where the quota is counted.
        quota: Requests a window for each key; None: unlimited.
        retry_after: Whether a 429 says when the window ends.
        api_key: The key to insist on; None: any.
        user_id: The user id to insist on; None: any.
    """

    windows: FixedWindows
    quota: int | None
    retry_after: bool
    api_key: str | None = attrs.field(repr=False)
    user_id: str | None = attrs.field(repr=False)
    jobs: dict[UUID, Job] = attrs.field(factory=dict[UUID, Job], init=False)

    def answer(self, method: str, path: str, headers: Mapping[str, str], now: float) -> Answer:
        """Answer one request.

        The checks come in the order in which a gateway would make them, so that nobody without a key spends
        quota or learns anything, and a request that is wrong still costs one: the endpoint (404, 405), the
        credentials (401), the quota (429), the id (400), the job (404).

        Args:
            method: The HTTP method.
            path: The path, without its query.
            headers: The headers, looked up in any case.
            now: The loop time.

        Returns:
            The answer to send.
        """
        match = JOB_PATH.fullmatch(path)
        if match is None:
            return usual_answer(404)
        if method != "GET":
            return usual_answer(405, {"Allow": "GET"})
        key = headers.get("Authorization", "")
        if not self._authorized(key, headers.get("X-USER-ID", "")):
            return usual_answer(401)
        if not self.windows.admit(key, now, self.quota):
            hint = {"Retry-After": str(self.windows.seconds_left(now))} if self.retry_after else None
            return usual_answer(429, hint)
        job_id = parse_job_id(match[1])
        if job_id is None:
            return usual_answer(400)
        job = self.jobs.get(job_id)
        return usual_answer(404) if job is None else json_answer(200, job.document(now))

    def document(self, job_id: UUID | None, now: float) -> dict[str, Any]:
        """Return a job's document, or that of a stand-in if there is no such job."""
        job = self.jobs.get(job_id) if job_id else None
        return (job or Job(id=job_id or uuid4(), began=now, created_at=datetime.now(UTC))).document(now)

    def _authorized(self, authorization: str, user_id: str) -> bool:
        bearer = BEARER.fullmatch(authorization)
        if bearer is None or not user_id:
            return False
        return self.api_key in (None, bearer[1]) and self.user_id in (None, user_id)
