"""The service without the network: a request in, an answer out, by the contract or the fault in its place.

No I/O, and no clock but the wall's, which dates the jobs.
"""

import json
import math
import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from playai_async.emulator._answers import Answer, Request, json_answer, usual_answer
from playai_async.emulator._faults import Endpoint, Fault, Malformed, Status
from playai_async.emulator._jobs import Job, parse_job_id
from playai_async.emulator._links import Links
from playai_async.emulator._quota import FixedWindows

JOB_PATH: Final = re.compile(r"/api/v1/tts/([^/]+)")
BEARER: Final = re.compile(r"Bearer (\S+)")


@attrs.define(kw_only=True)
class Service:
    """The jobs, the credentials and the quota.

    Args:
        reading: The quota of requests for jobs, counted for each key.
        retry_after: Whether a 429 says when the window ends.
        api_key: The key to insist on; None: any.
        user_id: The user id to insist on; None: any.
        links: Who makes the links to audio.
    """

    reading: FixedWindows
    retry_after: bool
    api_key: str | None = attrs.field(repr=False)
    user_id: str | None = attrs.field(repr=False)
    links: Links
    jobs: dict[UUID, Job] = attrs.field(factory=dict[UUID, Job], init=False)

    def subject(self, _method: str, path: str) -> tuple[Endpoint, UUID | None]:
        """Return which endpoint a request is for, and which job it names; nowhere counts as a status request."""
        match = JOB_PATH.fullmatch(path)
        return "status", parse_job_id(match[1]) if match else None

    def answer(self, request: Request, now: float, fault: Fault | None) -> Answer:
        """Answer one request.

        Args:
            request: The request.
            now: The loop time.
            fault: What it meets. A status or a malformed body takes the answer's place.

        Returns:
            The answer to send.
        """
        answer = self._by_the_contract(request, now)
        match fault:
            case Status():
                return fault.answer()
            case Malformed():
                _, job_id = self.subject(request.method, request.path)
                document = json.loads(answer.body[:]) if answer.status == HTTPStatus.OK else _stand_in(job_id, now)
                return fault.answer(document)
            case _:
                return answer

    def _by_the_contract(self, request: Request, now: float) -> Answer:
        """Answer by the contract alone.

        The checks come in the order in which a gateway would make them, so that nobody without a key spends
        quota or learns anything, and a request that is wrong still costs one: the endpoint (404, 405), the
        credentials (401), the quota (429), the id (400), the job (404).
        """
        match = JOB_PATH.fullmatch(request.path)
        if match is None:
            return usual_answer(404)
        if request.method != "GET":
            return usual_answer(405, {"Allow": "GET"})
        key = request.headers.get("Authorization", "")
        if not self._authorized(key, request.headers.get("X-USER-ID", "")):
            return usual_answer(401)
        if not self.reading.admit(key, now):
            hint = {"Retry-After": str(self.reading.seconds_left(now))} if self.retry_after else None
            return usual_answer(429, hint)
        return self._show(match[1], now)

    def _show(self, text: str, now: float) -> Answer:
        job_id = parse_job_id(text)
        if job_id is None:
            return usual_answer(400)
        job = self.jobs.get(job_id)
        return usual_answer(404) if job is None else json_answer(200, self._document(job, now))

    def _document(self, job: Job, now: float) -> dict[str, Any]:
        return job.document(now, self.links.sign(job.id, now))

    def _authorized(self, authorization: str, user_id: str) -> bool:
        bearer = BEARER.fullmatch(authorization)
        if bearer is None or not user_id:
            return False
        return self.api_key in (None, bearer[1]) and self.user_id in (None, user_id)


def _stand_in(job_id: UUID | None, now: float) -> dict[str, Any]:
    """Return the document of a job that there is not, for a fault to distort."""
    job = Job(id=job_id or uuid4(), began=now, created_at=datetime.now(UTC), duration=math.inf)
    return job.document(now, link="")
