"""The checks that hold for every reply and every `Retry-After`, and the inputs that the fuzzers start with.

`test_fuzz` generates the same inputs each time with hypothesis. `make fuzz` lets atheris search for new inputs, guided
by code coverage. Both use these checks.
"""

from __future__ import annotations

import copy
import json
import math
import pickle
from email.utils import formatdate

from playai_async import (
    APIStatusError,
    Completed,
    Failed,
    InvalidResponseError,
    PlayAIError,
    RateLimitedError,
    TtsJob,
)
from playai_async._api.contract import Contract, Reply
from playai_async._api.credentials import Credentials
from playai_async._models import job_converter
from playai_async._retry_after import parse_retry_after
from tests.support.scripted import API_KEY, COMPLETED, FAILED, IN_PROGRESS, JOB_ID, USER_ID, job_json

A_DAY = 86_400.0
LONGEST_EXCERPT = 200

CONTRACT = Contract(Credentials(API_KEY, USER_ID))
CONVERTER = job_converter()

STATUSES = (200, 200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 503)

UNKNOWN = {"status": "QUEUED", "position": 3}
DOCUMENTS = tuple(job_json(output) for output in (IN_PROGRESS, COMPLETED, FAILED, UNKNOWN))
ERRORS: tuple[object, ...] = (
    {"errorMessage": "The text is too long.", "errorId": "INVALID_PARAMETERS"},
    {"errorMessage": "No such key.", "errorId": "UNAUTHORIZED"},
    {"errorMessage": "Not with this plan.", "errorId": "UNSUPPORTED_PLAN"},
    {},
    "Rate limit exceeded. Please wait a few moments and try again.",
)
"""The error bodies that the contract documents."""


def check_reply(reply: Reply, *, creates: bool = False) -> TtsJob | PlayAIError:
    """Check that a reply becomes a valid job or a documented error, which can be pickled, copied and printed.

    Args:
        reply: The reply.
        creates: Whether it answers a request that creates a job.

    Returns:
        The job or the error. Any other error is raised.
    """
    outcome: TtsJob | PlayAIError
    try:
        outcome = CONTRACT.parse_created(reply, now=0.0) if creates else CONTRACT.parse_status(reply, JOB_ID, now=0.0)
    except PlayAIError as error:
        outcome = error
    if isinstance(outcome, TtsJob):
        assert reply.complete
        assert reply.status in ({200, 201, 202} if creates else {200})
        assert creates or outcome.id == JOB_ID
        _check_job(outcome)
    else:
        _check_error(outcome, reply.status, outcome.job_id if creates else JOB_ID)
    assert repr(pickle.loads(pickle.dumps(outcome))) == repr(outcome)  # noqa: S301 - our own pickle
    assert repr(copy.deepcopy(outcome)) == repr(outcome)
    return outcome


def check_hint(text: str | None, *, now: float) -> float | None:
    """Check that a `Retry-After` is ignored, or is more than 0 and at most a day."""
    hint = parse_retry_after(text, now=now)
    assert hint is None or (type(hint) is float and 0 < hint <= A_DAY)
    return hint


def reply_of(data: bytes) -> Reply:
    """Convert a fuzzer's bytes to a reply: the first byte decides the status, the second the rest of the head."""
    head, body = data[:2].ljust(2, b"\0"), data[2:]
    hint = body[:40].decode("latin-1") if head[1] & 2 else None
    return Reply(STATUSES[head[0] % len(STATUSES)], hint, body, complete=not head[1] & 1)


def replies() -> list[bytes]:
    """Return examples of the contract, which `reply_of` understands, for a fuzzer to start with."""
    jobs = [b"\0\0" + json.dumps(document).encode() for document in DOCUMENTS]
    created = [b"\4\0" + jobs[0][2:]]
    errors = [
        bytes([status, 0]) + json.dumps(body).encode() for status, body in zip((7, 8, 9, 12, 11), ERRORS, strict=True)
    ]
    return [*jobs, *created, *errors]


def hints() -> list[bytes]:
    """Return values of `Retry-After` for a fuzzer to start with."""
    date = formatdate(784_111_787, usegmt=True)
    dates = [date, date.replace("GMT", "+0200"), "Sunday, 06-Nov-94 08:49:47 GMT", "Sun Nov  6 08:49:47 1994"]
    return [text.encode() for text in ("120", "0", "-1", "99999999999999999999999", *dates)]


def _check_job(job: TtsJob) -> None:
    assert job.created_at.tzinfo is not None
    assert job.completed_at is None or job.completed_at.tzinfo is not None
    assert job.done is isinstance(job.output, Completed | Failed)
    job.output.status.encode()  # no lone surrogate
    if isinstance(job.output, Completed):
        assert all(
            type(number) in {int, float} and math.isfinite(number)
            for number in (job.output.file_size, job.output.duration)
        )
        f"{job.output.url} {job.output.content_type}".encode()
    hash(job)
    written = json.dumps(CONVERTER.unstructure(job), allow_nan=False)
    assert CONVERTER.structure(json.loads(written)) == job
    assert TtsJob.from_dict(job.to_dict()) == job


def _check_error(error: PlayAIError, status: int, job_id: object) -> None:
    assert error.job_id == job_id
    if isinstance(error, InvalidResponseError):
        assert 200 <= status < 300
        assert error.problems
        assert all(" @ $" in problem for problem in error.problems)
    else:
        assert isinstance(error, APIStatusError)
        assert error.status == status
        assert not 200 <= status < 300
        for words in (error.error_id, error.message):
            assert words is None or (len(words) <= LONGEST_EXCERPT and words.isprintable())
        if isinstance(error, RateLimitedError):
            assert error.retry_after is None or 0 < error.retry_after <= A_DAY
    assert len(error.excerpt) <= LONGEST_EXCERPT
    seen = f"{error} {vars(error)}"
    assert API_KEY not in seen
    assert USER_ID not in seen
    f"{seen} {error.excerpt}".encode()
