"""Any reply becomes a job or a documented error, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playai_async import APIStatusError, InvalidResponseError, PlayAIError, TtsJob
from playai_async._api.contract import Contract, Reply
from playai_async._api.credentials import Credentials

JOB_ID = UUID("3fa85f64-5717-4562-b3fc-2c963f66afa6")
KEY = "ak-0123456789abcdef"
USER = "user-0123456789"
CONTRACT = Contract(Credentials(KEY, USER))
COMPLETED: dict[str, Any] = {
    "status": "COMPLETED",
    "url": "https://audio.example/a.mp3",
    "contentType": "audio/mpeg",
    "fileSize": 1024,
    "duration": 2.5,
}
JOB: dict[str, Any] = {
    "id": str(JOB_ID),
    "createdAt": "2026-01-02T03:04:05Z",
    "input": {"text": "Hello"},
    "completedAt": "2026-01-02T03:04:09Z",
    "output": COMPLETED,
}

SAME_EVERY_TIME = settings(derandomize=True, database=None, deadline=None, max_examples=60)

STATUSES = st.one_of(st.integers(100, 999), st.sampled_from([200, 200, 204, 400, 429, 500]))
WILD_TEXT = st.text(st.characters(codec=None, categories=None), max_size=20) | st.sampled_from([KEY, USER, "\ud800"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WILD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WILD_TEXT, inner, max_size=4),
    max_leaves=12,
)


def outcome_of(reply: Reply) -> TtsJob | PlayAIError:
    """Parse a reply. An undocumented error fails the test."""
    try:
        return CONTRACT.parse_status(reply, JOB_ID, now=0.0)
    except PlayAIError as error:
        return error


def assert_job_or_documented_error(reply: Reply) -> TtsJob | PlayAIError:
    """Check that a reply becomes the job or a documented error, which can be pickled and hides the key."""
    outcome = outcome_of(reply)
    if isinstance(outcome, TtsJob):
        assert (reply.status, outcome.id) == (200, JOB_ID)
        hash(outcome)
    else:
        assert outcome.job_id == JOB_ID
        assert isinstance(outcome, InvalidResponseError if reply.status // 100 == 2 else APIStatusError)
        seen = f"{outcome} {vars(outcome)}"
        assert KEY not in seen
        assert USER not in seen
        seen.encode()  # printable: no lone surrogate
    assert repr(pickle.loads(pickle.dumps(outcome))) == repr(outcome)  # noqa: S301 - our own pickle
    assert repr(copy.deepcopy(outcome)) == repr(outcome)
    return outcome


@SAME_EVERY_TIME
@given(status=STATUSES, body=st.binary(max_size=400), retry_after=st.none() | st.text(), complete=st.booleans())
def test_any_bytes_become_a_job_or_an_error(status: int, body: bytes, retry_after: str | None, complete: bool) -> None:
    """Proxies, load balancers and captive portals may reply instead of the service."""
    assert_job_or_documented_error(Reply(status, retry_after, body, complete))


@SAME_EVERY_TIME
@given(status=STATUSES, value=JSON)
def test_any_json_becomes_a_job_or_an_error(status: int, value: object) -> None:
    """Including NaN, infinities and lone surrogates, which Python encodes and JSON does not allow."""
    assert_job_or_documented_error(Reply(status, None, json.dumps(value).encode()))


@SAME_EVERY_TIME
@given(
    changes=st.dictionaries(st.sampled_from(list(JOB)), JSON, min_size=1),
    left_out=st.sets(st.sampled_from([*JOB, "none"]), max_size=2),
)
def test_any_field_of_a_job_may_change(changes: dict[str, object], left_out: set[str]) -> None:
    """A service usually changes one field at a time."""
    job = {name: value for name, value in {**JOB, **changes}.items() if name not in left_out}
    assert_job_or_documented_error(Reply(200, None, json.dumps(job).encode()))


@SAME_EVERY_TIME
@given(
    changes=st.dictionaries(st.sampled_from(list(COMPLETED)) | WILD_TEXT, JSON, min_size=1, max_size=3),
    left_out=st.sets(st.sampled_from([*COMPLETED, "none"]), max_size=2),
)
def test_any_output_becomes_a_job_or_an_error(changes: dict[str, object], left_out: set[str]) -> None:
    """New statuses appear in the output."""
    output = {name: value for name, value in {**COMPLETED, **changes}.items() if name not in left_out}
    assert_job_or_documented_error(Reply(200, None, json.dumps({**JOB, "output": output}).encode()))


@SAME_EVERY_TIME
@given(
    field=st.sampled_from(["createdAt", "completedAt", "id"]),
    value=st.text(st.sampled_from("0123456789-:TZ+.W٣ "), max_size=30),
)
def test_any_text_may_be_sent_as_a_time_or_an_id(field: str, value: str) -> None:
    """The standard library's parsers accept more than they document."""
    assert_job_or_documented_error(Reply(200, None, json.dumps({**JOB, field: value}).encode()))


@SAME_EVERY_TIME
@given(error_id=JSON, message=JSON, status=st.sampled_from([301, 400, 401, 403, 404, 418, 429, 500]))
def test_any_error_object_becomes_an_error(error_id: object, message: object, status: int) -> None:
    """Both fields are optional, and may have any type."""
    body = {"errorId": error_id, "errorMessage": message}
    outcome = assert_job_or_documented_error(Reply(status, None, json.dumps(body).encode()))
    assert isinstance(outcome, APIStatusError)
    assert isinstance(outcome.error_id, str) == isinstance(error_id, str)


@pytest.mark.parametrize("depth", [50, 200, 500, 900, 990, 5_000, 100_000], ids=str)
def test_any_depth_becomes_a_job_or_an_error(depth: int) -> None:
    """A job that could not be copied and pickled is rejected, because errors hold the job as last seen."""
    body = json.dumps({**JOB, "input": {"nested": None}}).replace("null", '{"a":' * depth + "1" + "}" * depth)
    assert_job_or_documented_error(Reply(200, None, body.encode()))
