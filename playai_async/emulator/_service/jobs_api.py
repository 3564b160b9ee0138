"""The service without the network: a request in, an answer out, by the contract or the fault in its place.

No I/O, and no clock but the wall's, which dates the jobs.
"""

import re
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from playai_async.emulator._service.audio import Audio
from playai_async.emulator._service.audio_origin import SignedLinks
from playai_async.emulator._service.contract import documented_response, parse_job_id, parse_parameters
from playai_async.emulator._service.jobs import Job
from playai_async.emulator._service.messages import Endpoint, Request, Response, json_response
from playai_async.emulator._service.rate_limiter import FixedWindowLimiter

JOBS_PATH: Final = "/api/v1/tts"
JOB_PATH: Final = re.compile(rf"{JOBS_PATH}/([^/]+)")
BEARER: Final = re.compile(r"Bearer (\S+)")

MIN_JOB_DURATION: Final = 1.0
"""Seconds that a created job takes at least: long enough to be seen in progress."""

JOB_SECONDS_PER_AUDIO_SECOND: Final = 0.1
"""Seconds that a created job takes for each second of its audio: longer texts take longer, but nobody waits an hour."""


@attrs.define(kw_only=True)
class JobsApi:
    """The jobs, the credentials and the quotas.

    Args:
        status_limiter: The quota of requests for jobs, counted for each key.
        create_limiter: The quota of requests that create some.
        retry_after: Whether a 429 says when the window ends.
        api_key: The key to insist on; None: any.
        user_id: The user id to insist on; None: any.
        job_duration: Seconds that a created job takes; None: by its text.
        links: Who makes the links to audio.
    """

    status_limiter: FixedWindowLimiter
    create_limiter: FixedWindowLimiter
    retry_after: bool
    api_key: str | None = attrs.field(repr=False)
    user_id: str | None = attrs.field(repr=False)
    job_duration: float | None
    links: SignedLinks
    jobs: dict[UUID, Job] = attrs.field(factory=dict[UUID, Job], init=False)

    def identify(self, method: str, path: str) -> tuple[Endpoint, UUID | None]:
        """Return which endpoint a request is for, and which job it names; nowhere counts as a status request."""
        match = JOB_PATH.fullmatch(path)
        creates = method == "POST" and path == JOBS_PATH
        return "create" if creates else "status", parse_job_id(match[1]) if match else None

    def respond(self, request: Request, now: float, *, create: bool = True) -> Response:
        """Answer one request by the contract.

        The checks come in the order in which a gateway would make them, so that nobody without a key spends
        quota or learns anything, and a request that is wrong still costs one: the endpoint (404, 405), the
        credentials (401), the quota (429), the body or the id (400), the job (404).

        Args:
            request: The request.
            now: The loop time.
            create: Whether a job that is created is kept.

        Returns:
            The answer to send.
        """
        match = JOB_PATH.fullmatch(request.path)
        if match is None and request.path != JOBS_PATH:
            return documented_response(404)
        method, windows = ("GET", self.status_limiter) if match else ("POST", self.create_limiter)
        if request.method != method:
            return documented_response(405, {"Allow": method})
        key = request.headers.get("Authorization", "")
        if not self._authorized(key, request.headers.get("X-USER-ID", "")):
            return documented_response(401)
        if not windows.try_spend(key, now):
            hint = {"Retry-After": str(windows.seconds_left(now))} if self.retry_after else None
            return documented_response(429, hint)
        return self._get_job(match[1], now) if match else self._create_job(request.body, now, create=create)

    def _get_job(self, text: str, now: float) -> Response:
        job_id = parse_job_id(text)
        if job_id is None:
            return documented_response(400, message="asyncTtsJobId must be a UUID.")
        job = self.jobs.get(job_id)
        return documented_response(404) if job is None else json_response(200, self._job_json(job, now))

    def _create_job(self, body: bytes | None, now: float, *, create: bool) -> Response:
        try:
            parameters = parse_parameters(body)
        except ValueError as error:
            return documented_response(400, message=str(error))
        work = MIN_JOB_DURATION + JOB_SECONDS_PER_AUDIO_SECOND * Audio.from_input(parameters).duration
        job = Job(
            id=uuid4(),
            began=now,
            created_at=datetime.now(UTC),
            duration=work if self.job_duration is None else self.job_duration,
            input=parameters,
        )
        if create:
            self.jobs[job.id] = job
        return json_response(201, self._job_json(job, now))

    def _job_json(self, job: Job, now: float) -> dict[str, Any]:
        # Signed only where it shows: most answers tell of a job in progress.
        return job.document(now, self.links.sign(job.id, now) if job.has_audio(now) else "")

    def _authorized(self, authorization: str, user_id: str) -> bool:
        bearer = BEARER.fullmatch(authorization)
        if bearer is None or not user_id:
            return False
        return self.api_key in (None, bearer[1]) and self.user_id in (None, user_id)
