"""The API without a network: requests that create jobs and requests for their status.

No I/O, and no clock except the wall clock, which dates the jobs.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

import attrs

from playai_async.emulator._service.audio import Audio
from playai_async.emulator._service.audio_origin import SignedLinks
from playai_async.emulator._service.contract import documented_response, parse_job_id, parse_parameters
from playai_async.emulator._service.jobs import Job
from playai_async.emulator._service.limiters import Grant, Limiter
from playai_async.emulator._service.messages import Endpoint, Request, Response, json_response

JOBS_PATH: Final = "/api/v1/tts"
JOB_PATH: Final = re.compile(rf"{JOBS_PATH}/([^/]+)")
BEARER: Final = re.compile(r"Bearer (\S+)")

FAILING_VOICE: Final = "no-such-voice"
"""The voice with which a created job fails, so that a person can try that without access to the emulator."""

MIN_JOB_DURATION: Final = 1.0
"""Seconds that a created job takes at least: long enough to be seen in progress."""

JOB_SECONDS_PER_AUDIO_SECOND: Final = 0.1
"""Further seconds that a created job takes for each second of its audio: longer texts take longer, but not an hour."""


@attrs.define(kw_only=True)
class JobsApi:
    """The jobs, and the checks that a request for them has to pass.

    Args:
        status_limiter: The rate limit of status requests, for each key.
        create_limiter: The rate limit of requests that create jobs, for each key.
        retry_after: Whether a 429 has a `Retry-After` header.
        api_key: The only key to accept; None: any key.
        user_id: The only user id to accept; None: any user id.
        job_duration: Seconds that a created job takes; None: the duration follows from its text.
        links: Signs the links to audio.
        jobs: The jobs by id.
        on_created: Called with each job that a request created.
    """

    status_limiter: Limiter
    create_limiter: Limiter
    retry_after: bool
    api_key: str | None = attrs.field(repr=False)
    user_id: str | None = attrs.field(repr=False)
    job_duration: float | None
    links: SignedLinks
    jobs: dict[UUID, Job]
    on_created: Callable[[Job], None]

    def identify(self, method: str, path: str) -> tuple[Endpoint, UUID | None]:
        """Return the endpoint and the job id of a request; an unknown path counts as a status request."""
        match = JOB_PATH.fullmatch(path)
        creates = method == "POST" and path == JOBS_PATH
        return "create" if creates else "status", parse_job_id(match[1]) if match else None

    def spoken_text(self, request: Request) -> str | None:
        """Return the text that a request asks to speak; None if it will be refused or creates no job."""
        authorization, user_id = request.headers.get("Authorization", ""), request.headers.get("X-USER-ID", "")
        if (request.method, request.path) != ("POST", JOBS_PATH) or not self._is_authorized(authorization, user_id):
            return None
        try:
            return str(parse_parameters(request.body)["text"])
        except ValueError:
            return None

    def respond(self, request: Request, now: float, *, create: bool = True, speech: Audio | None = None) -> Response:
        """Return the response that the contract requires at loop time `now`.

        The order of the checks is that of an API gateway: the endpoint (404, 405), the credentials (401), the rate
        limit (429), the body or the id (400), the job (404). So a request without credentials spends no quota and
        learns nothing, and a request with a bad id spends quota.

        With `create=False` the response is the same, but a created job is not kept. `speech` is the audio of a created
        job; None: the tune for its text.

        For a limit on concurrency, a status request runs until it has been answered, and a request that creates a job
        runs until the job has finished.
        """
        match = JOB_PATH.fullmatch(request.path)
        if match is None and request.path != JOBS_PATH:
            return documented_response(404)
        method, limiter = ("GET", self.status_limiter) if match else ("POST", self.create_limiter)
        if request.method != method:
            return documented_response(405, {"Allow": method})
        authorization = request.headers.get("Authorization", "")
        if not self._is_authorized(authorization, request.headers.get("X-USER-ID", "")):
            return documented_response(401)
        grant = limiter.admit(authorization, now)
        if grant is None:
            retry_after = {"Retry-After": str(limiter.retry_after(authorization, now))} if self.retry_after else None
            return documented_response(429, retry_after)
        if match:
            response = self._get_job(match[1], now)
        else:
            response = self._create_job(request.body, now, grant, create=create, speech=speech)
        return attrs.evolve(response, on_end=grant.answered)

    def _get_job(self, text: str, now: float) -> Response:
        job_id = parse_job_id(text)
        if job_id is None:
            return documented_response(400, message="asyncTtsJobId must be a UUID.")
        job = self.jobs.get(job_id)
        return documented_response(404) if job is None else json_response(200, self._job_json(job, now))

    def _create_job(
        self, body: bytes | None, now: float, grant: Grant, *, create: bool, speech: Audio | None
    ) -> Response:
        try:
            parameters = parse_parameters(body)
        except ValueError as error:
            return documented_response(400, message=str(error))
        audio = speech or Audio.from_input(parameters)
        by_text = MIN_JOB_DURATION + JOB_SECONDS_PER_AUDIO_SECOND * audio.duration
        job = Job(
            id=uuid4(),
            began=now,
            created_at=datetime.now(UTC),
            duration=by_text if self.job_duration is None else self.job_duration,
            fails=parameters["voice"] == FAILING_VOICE,
            input=parameters,
            speech=speech,
        )
        if create:
            self.jobs[job.id] = job
            grant.job_ends(job.finishes_at)
            self.on_created(job)
        return json_response(201, self._job_json(job, now))

    def _job_json(self, job: Job, now: float) -> dict[str, Any]:
        # Most responses show a job in progress, which has no link to sign.
        return job.to_json(now, self.links.sign(job.id, now) if job.has_audio(now) else "")

    def _is_authorized(self, authorization: str, user_id: str) -> bool:
        bearer = BEARER.fullmatch(authorization)
        if bearer is None or not user_id:
            return False
        return self.api_key in (None, bearer[1]) and self.user_id in (None, user_id)
