"""Which JSON becomes a job, which JSON is rejected, and the error messages."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import attrs
import pytest

from playai_async import Completed, Failed, InProgress, TtsJob, Unknown
from playai_async._converter import ContractViolation
from playai_async._models import job_converter

ID = "3fa85f64-5717-4562-b3fc-2c963f66afa6"
COMPLETED: dict[str, Any] = {
    "status": "COMPLETED",
    "url": "https://audio.example/a.mp3?signature=x",
    "contentType": "audio/mpeg",
    "fileSize": 1024,
    "duration": 2.5,
}
JOB: dict[str, Any] = {
    "id": ID,
    "createdAt": "2026-01-02T03:04:05Z",
    "input": {"text": "Hello", "webHookUrl": None, "nested": {"snake_case": [1, "2"]}},
    "completedAt": "2026-01-02T03:05:05.250Z",
    "output": COMPLETED,
}


def replaced(path: str, value: object) -> dict[str, Any]:
    """Copy the job with one field replaced, given by its path."""
    *parents, name = path.split(".")
    copy = {**JOB, "output": dict(COMPLETED)}
    (copy["output"] if parents else copy)[name] = value
    return copy


def without(path: str) -> dict[str, Any]:
    """Copy the job without one field, given by its path."""
    copy = replaced(path, None)
    *parents, name = path.split(".")
    del (copy["output"] if parents else copy)[name]
    return copy


def structure(value: object) -> TtsJob:
    """Convert a job with a new converter."""
    return job_converter().structure(value)


def problems_of(value: object) -> list[str]:
    """Return the problems of a value that is rejected."""
    with pytest.raises(ContractViolation) as caught:
        structure(value)
    return caught.value.problems


def test_every_field_is_converted() -> None:
    """Times become timezone-aware and numbers become floats. The input is unchanged."""
    assert structure(JOB) == TtsJob(
        id=UUID(ID),
        created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        input={"text": "Hello", "webHookUrl": None, "nested": {"snake_case": [1, "2"]}},
        completed_at=datetime(2026, 1, 2, 3, 5, 5, 250_000, tzinfo=UTC),
        output=Completed("https://audio.example/a.mp3?signature=x", "audio/mpeg", 1024.0, 2.5),
    )


def test_jobs_share_the_names_in_their_inputs() -> None:
    """A JSON decoder creates new strings, and ten thousand waits would hold ten thousand copies."""
    one, other = (list(structure(json.loads(json.dumps(JOB))).input) for _ in range(2))
    assert one == other == ["text", "webHookUrl", "nested"]
    assert [mine is yours for mine, yours in zip(one, other, strict=True)] == [True, True, False]


def test_a_job_shares_the_expected_id_object() -> None:
    """Only if the value has the expected id in its usual spelling; otherwise the id is parsed."""
    asked_for = UUID(ID)
    converter = job_converter()
    assert converter.structure(JOB, asked_for).id is asked_for
    for spelling in (ID.upper(), str(UUID(int=1))):
        assert converter.structure(replaced("id", spelling), asked_for).id == UUID(spelling)
    with pytest.raises(ContractViolation):
        converter.structure([JOB], asked_for)


@pytest.mark.parametrize(
    ("path", "value", "read_as"),
    [
        ("id", ID.upper(), UUID(ID)),
        ("createdAt", "2026-01-02T03:04:05+05:30", datetime(2026, 1, 1, 21, 34, 5, tzinfo=UTC)),
        ("createdAt", "2026-01-02T03:04:05.123456Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("createdAt", "2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("completedAt", None, None),
        ("input", {}, {}),
        ("input", {"text": None, "a-b": [True, {}]}, {"text": None, "a-b": [True, {}]}),
        ("output", {"status": "IN_PROGRESS"}, InProgress()),
        ("output", {"status": "FAILED"}, Failed()),
        ("output", {"status": "FAILED", "reason": "voice"}, Failed()),
        ("output", {"status": "QUEUED"}, Unknown("QUEUED", {})),
        ("output", {"status": ""}, Unknown("", {})),
        ("output", {"status": "completed", "url": 3}, Unknown("completed", {"url": 3})),
        (
            "output",
            {"position": {"inQueue": [3, None]}, "status": "QUEUED", "eta_s": 1.5},
            Unknown("QUEUED", {"position": {"inQueue": [3, None]}, "eta_s": 1.5}),
        ),
    ],
    ids=str,
)
def test_values_that_the_contract_allows_are_accepted(path: str, value: object, read_as: object) -> None:
    """Offsets and precisions vary. An unknown status keeps its fields under the service's names."""
    job = structure(replaced(path, value))
    names = {"id": "id", "createdAt": "created_at", "completedAt": "completed_at", "input": "input", "output": "output"}
    assert getattr(job, names[path]) == read_as


@pytest.mark.parametrize(
    ("path", "value", "read_as"),
    [
        ("output.fileSize", 0, 0),
        ("output.fileSize", 1024.0, 1024.0),
        ("output.fileSize", -1, -1),
        ("output.fileSize", 2**53 + 1, 2**53 + 1),
        ("output.duration", 1e300, 1e300),
        ("output.url", "", ""),
        ("output.contentType", "audio/ogg; codecs=opus", "audio/ogg; codecs=opus"),
    ],
    ids=str,
)
def test_the_contract_limits_types_and_not_values(path: str, value: object, read_as: object) -> None:
    """The contract bounds no value."""
    output = structure(replaced(path, value)).output
    names = {"output.fileSize": "file_size", "output.duration": "duration", "output.url": "url"}
    found = getattr(output, names.get(path, "content_type"))
    assert (found, type(found)) == (read_as, type(read_as))


def test_unknown_fields_are_ignored() -> None:
    """The service may add fields."""
    grown = {**JOB, "progress": 0.5, "created_at": 3, "output": {**COMPLETED, "file_size": "3", "extra": None}}
    assert structure(grown) == structure(JOB)


def test_a_job_does_not_share_the_fields_of_the_reply() -> None:
    """Later changes to the reply do not change the fields of an unknown status."""
    output = {"status": "QUEUED", "position": 3}
    job = structure(replaced("output", output))
    output["position"] = 2
    assert job.output == Unknown("QUEUED", {"position": 3})


NOT_OBJECTS: list[tuple[object, str]] = [
    (None, "null"),
    (True, "a boolean"),
    (1, "a number"),
    (1.5, "a number"),
    ("COMPLETED", "a string"),
    ([], "an array"),
]


@pytest.mark.parametrize(("value", "name"), NOT_OBJECTS, ids=str)
@pytest.mark.parametrize("path", ["", ".input", ".output"], ids=["job", "input", "output"])
def test_only_an_object_is_accepted_as_job_input_and_output(path: str, value: object, name: str) -> None:
    """A job is one, and so are its input and its output."""
    reply = replaced(path[1:], value) if path else value
    assert problems_of(reply) == [f"expected an object, got {name} @ ${path}"]


@pytest.mark.parametrize("path", ["output.url", "output.contentType"], ids=str)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (None, "null"),
        (False, "a boolean"),
        (1, "a number"),
        ([], "an array"),
        ({}, "an object"),
    ],
    ids=str,
)
def test_only_a_string_is_accepted_as_text(path: str, value: object, name: str) -> None:
    """Nothing is coerced: null would become the text "None"."""
    assert problems_of(replaced(path, value)) == [f"expected a string, got {name} @ $.{path}"]


@pytest.mark.parametrize("path", ["output.fileSize", "output.duration"], ids=str)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("12", "expected a number, got a string"),
        (True, "expected a number, got a boolean"),
        (None, "expected a number, got null"),
        ([12], "expected a number, got an array"),
        ({}, "expected a number, got an object"),
        (math.nan, "expected a finite number"),
        (math.inf, "expected a finite number"),
        (-math.inf, "expected a finite number"),
        (10**400, "expected a finite number"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_only_a_finite_number_is_accepted_as_a_number(path: str, value: object, problem: str) -> None:
    """Nothing is coerced: neither a string of digits nor true is a number."""
    assert problems_of(replaced(path, value)) == [f"{problem} @ $.{path}"]


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a job",
        ID[:-1],
        ID.replace("-", ""),
        f"{{{ID}}}",
        f"urn:uuid:{ID}",
        f" {ID}",
        ID.replace("3", "٣"),
    ],
    ids=ascii,
)
def test_an_id_is_a_uuid_in_its_usual_form(value: str) -> None:
    """Python's UUID accepts more forms than the contract."""
    assert problems_of(replaced("id", value)) == ["expected a UUID @ $.id"]


@pytest.mark.parametrize("value", [None, 3, True, [ID]], ids=str)
def test_an_id_is_a_string(value: object) -> None:
    """Any other type is one problem, at the id."""
    (problem,) = problems_of(replaced("id", value))
    assert problem.endswith(" @ $.id")


@pytest.mark.parametrize("path", ["createdAt", "completedAt"], ids=str)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "expected a date-time (RFC 3339)"),
        ("yesterday", "expected a date-time (RFC 3339)"),
        ("2026-02-30T00:00:00Z", "expected a date-time (RFC 3339)"),
        ("2026-01-02T03:04:05+25:00", "expected a date-time (RFC 3339)"),
        ("2026-01-02T03:04:05", "expected a date-time with an offset"),
        ("2026-01-02", "expected a date-time with an offset"),
        (1767323045, "expected a string, got a number"),
        (False, "expected a string, got a boolean"),
        ({}, "expected a string, got an object"),
    ],
    ids=str,
)
def test_only_a_date_time_with_an_offset_is_accepted_as_a_time(path: str, value: object, problem: str) -> None:
    """A time without an offset is ambiguous."""
    assert problems_of(replaced(path, value)) == [f"{problem} @ $.{path}"]


def test_created_at_must_not_be_null() -> None:
    """Only `completedAt` may be null."""
    assert problems_of(replaced("createdAt", None)) == ["expected a string, got null @ $.createdAt"]


@pytest.mark.parametrize("value", [None, True, 3, ["COMPLETED"], {}], ids=str)
def test_a_status_is_a_string(value: object) -> None:
    """A status of another type breaks the contract, and is not an unknown status."""
    assert problems_of(replaced("output.status", value)) == ["expected a status, as a string @ $.output"]


@pytest.mark.parametrize(
    ("path", "at"),
    [
        ("id", "id"),
        ("createdAt", "createdAt"),
        ("completedAt", "completedAt"),
        ("output.url", "output.url"),
        ("output.contentType", "output.contentType"),
        ("output.status", "output"),
    ],
    ids=str,
)
def test_a_lone_surrogate_is_rejected(path: str, at: str) -> None:
    """JSON can encode one, but printing it fails."""
    (problem,) = problems_of(replaced(path, "\ud800"))
    assert problem.endswith(f" @ $.{at}")


@pytest.mark.parametrize(
    "path",
    [
        "id",
        "createdAt",
        "input",
        "completedAt",
        "output",
        *(f"output.{name}" for name in COMPLETED if name != "status"),
    ],
    ids=str,
)
def test_every_field_of_the_contract_is_required(path: str) -> None:
    """Null is not the same as missing."""
    assert problems_of(without(path)) == [f"required field missing @ $.{path}"]


def test_an_output_without_a_status_is_rejected() -> None:
    """There is no telling what it is."""
    assert problems_of(without("output.status")) == ["expected a status, as a string @ $.output"]


def test_all_problems_are_reported_at_once() -> None:
    """So that one report to the service is enough."""
    broken = {"id": "x", "createdAt": 1, "input": [], "output": {"status": "COMPLETED", "url": 1, "fileSize": "1"}}
    assert sorted(problems_of(broken)) == [
        "expected a UUID @ $.id",
        "expected a number, got a string @ $.output.fileSize",
        "expected a string, got a number @ $.createdAt",
        "expected a string, got a number @ $.output.url",
        "expected an object, got an array @ $.input",
        "required field missing @ $.completedAt",
        "required field missing @ $.output.contentType",
        "required field missing @ $.output.duration",
    ]


def test_problems_never_contain_a_value() -> None:
    """A value may be spoken text or a signed URL, and problems are logged."""
    secret = "a secret"
    wrongs: dict[str, Any] = dict.fromkeys(JOB, secret)
    for reply in (wrongs, replaced("output.fileSize", secret), replaced("id", secret), secret, [secret]):
        assert [problem for problem in problems_of(reply) if secret in problem] == []


@pytest.mark.parametrize(
    "output",
    [
        COMPLETED,
        {"status": "IN_PROGRESS"},
        {"status": "FAILED"},
        {"status": "QUEUED", "position": 3, "eta_s": None},
    ],
    ids=lambda output: output["status"],
)
def test_unstructure_is_the_inverse_of_structure(output: dict[str, Any]) -> None:
    """In the service's field names, including the status. Only the spelling of times may differ."""
    converter = job_converter()
    written = converter.unstructure(converter.structure(replaced("output", output)))
    assert written == {
        **JOB,
        "createdAt": "2026-01-02T03:04:05+00:00",
        "completedAt": "2026-01-02T03:05:05.250000+00:00",
        "output": output,
    }


@pytest.mark.parametrize("completed_at", [None, datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-3)))], ids=str)
def test_structure_is_the_inverse_of_unstructure(completed_at: datetime | None) -> None:
    """Nothing is lost on the way out and back."""
    converter = job_converter()
    job = attrs.evolve(converter.structure(JOB), completed_at=completed_at)
    assert converter.structure(converter.unstructure(job)) == job


def test_an_unknown_status_cannot_be_replaced_by_its_fields() -> None:
    """The status is the status of the output, even if a field has the same name."""
    job = attrs.evolve(structure(JOB), output=Unknown("QUEUED", {"status": "COMPLETED", "position": 3}))
    assert job_converter().unstructure(job)["output"] == {"status": "QUEUED", "position": 3}


def test_unknown_statuses_are_not_remembered() -> None:
    """A service that invents a new status in each reply must not make the process grow."""
    converter = job_converter()
    for number in range(100):
        job = converter.structure(replaced("output", {"status": f"STATE_{number}"}))
        assert job.output == Unknown(f"STATE_{number}")
    assert converter.structure(JOB) == structure(JOB)
