"""The values that users hold: what they promise as values, and what they refuse to be built from."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import cattrs
import pytest

from playai_async import (
    Completed,
    Failed,
    InProgress,
    InvalidResponseError,
    JobFailedError,
    Pacing,
    Polling,
    SessionStats,
    TtsJob,
    TtsParameters,
    Unknown,
)
from playai_async._models import Output

JOB_ID = UUID("5b9b8f3e-1c52-4a56-9d1f-0c7f8a4f6a11")
CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
COMPLETED = Completed("https://audio.example/a.mp3", "audio/mpeg", 1024.0, 2.5)
OUTPUTS: tuple[Output, ...] = (COMPLETED, InProgress(), Failed(), Unknown("QUEUED", {"position": 3}))


def a_job(output: Output, *, spoken: Mapping[str, Any] | None = None) -> TtsJob:
    """Make a job in some state."""
    return TtsJob(JOB_ID, CREATED, {"text": "Hello"} if spoken is None else spoken, None, output)


VALUES: tuple[Any, ...] = (
    *OUTPUTS,
    a_job(COMPLETED),
    TtsParameters("Hello", "a-voice", extra={"mood": "calm"}),
    SessionStats(1, 2, 3, 4, 5, 6, 7.0, 8, 9, "throttled"),
    Polling(),
    Pacing(),
)


def kind_of(value: object) -> str:
    """Name a case by its class."""
    return type(value).__name__


@pytest.mark.parametrize("value", VALUES, ids=kind_of)
def test_no_attribute_can_be_set(value: Any) -> None:
    """Values are shared between tasks, so none may change; new attributes would be changes as well."""
    for name in (*(field.name for field in attrs.fields(type(value))), "status", "novel"):
        with pytest.raises((attrs.exceptions.FrozenInstanceError, AttributeError)):
            setattr(value, name, None)


@pytest.mark.parametrize("value", VALUES, ids=kind_of)
def test_no_value_has_a_dict(value: object) -> None:
    """A backend holds ten thousand of them: slots keep each small."""
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", VALUES, ids=kind_of)
@pytest.mark.parametrize(
    "twin_of",
    [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))],  # noqa: S301 - our own pickle
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_equal_and_hashes_alike(value: Any, twin_of: Callable[[Any], Any]) -> None:
    """Values travel between processes, and serve as keys, whatever dicts they hold."""
    twin = twin_of(value)
    assert (twin, hash(twin)) == (value, hash(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (a_job(InProgress(), spoken={"text": "Hi"}), a_job(InProgress(), spoken={"text": "Bye"})),
        (Unknown("QUEUED", {"position": 3}), Unknown("QUEUED", {"position": 2})),
        (TtsParameters("Hi", "v", extra={"mood": "calm"}), TtsParameters("Hi", "v", extra={"mood": "gay"})),
    ],
    ids=kind_of,
)
def test_json_objects_count_for_equality_and_not_for_the_hash(one: object, other: object) -> None:
    """A dict has no hash; it still is part of the value."""
    assert one != other
    assert hash(one) == hash(other)


@pytest.mark.parametrize("output", OUTPUTS, ids=kind_of)
def test_jobs_in_different_states_differ(output: Output) -> None:
    """A change is seen by comparing jobs."""
    assert [a_job(output) == a_job(other) for other in OUTPUTS] == [output is other for other in OUTPUTS]


@pytest.mark.parametrize(
    ("output", "status"),
    [(COMPLETED, "COMPLETED"), (InProgress(), "IN_PROGRESS"), (Failed(), "FAILED"), (Unknown("QUEUED"), "QUEUED")],
    ids=kind_of,
)
def test_the_status_is_as_the_service_spells_it(output: Output, status: str) -> None:
    """Every output has one, known or not."""
    assert output.status == status


def test_an_unknown_state_has_no_other_fields_by_default() -> None:
    """And the default is not shared."""
    assert Unknown("QUEUED").fields == {}
    assert Unknown("QUEUED").fields is not Unknown("QUEUED").fields


@pytest.mark.parametrize(
    ("output", "done"),
    [(COMPLETED, True), (InProgress(), False), (Failed(), True), (Unknown("COMPLETED_SOON"), False)],
    ids=kind_of,
)
def test_a_job_is_done_once_it_completed_or_failed(output: Output, done: bool) -> None:
    """A state that the contract does not list is not taken for an end."""
    assert a_job(output).done is done


def test_a_completed_job_gives_itself() -> None:
    """So that the call can be chained."""
    job = a_job(COMPLETED)
    assert job.raise_for_failure() is job


def test_a_failed_job_raises_with_itself_aboard() -> None:
    """The error carries the job and its id, and names it."""
    job = a_job(Failed())
    with pytest.raises(JobFailedError) as caught:
        job.raise_for_failure()
    assert (caught.value.job, caught.value.job_id, str(caught.value)) == (job, JOB_ID, f"Job {JOB_ID} failed.")


@pytest.mark.parametrize("output", [InProgress(), Unknown("QUEUED")], ids=kind_of)
def test_a_job_that_is_not_done_raises_a_value_error(output: Output) -> None:
    """Asking too early is the caller's mistake, and no PlayAIError."""
    with pytest.raises(ValueError, match=f"^Job {JOB_ID} is not done\\.$") as caught:
        a_job(output).raise_for_failure()
    assert type(caught.value) is ValueError


@pytest.mark.parametrize(
    ("output", "found"),
    [
        (COMPLETED, ("https://audio.example/a.mp3", "audio/mpeg", 1024.0, 2.5)),
        (InProgress(), ()),
        (Failed(), ()),
        (Unknown("QUEUED", {"position": 3}), ("QUEUED", {"position": 3})),
    ],
    ids=kind_of,
)
def test_outputs_match_patterns_by_class_and_position(output: Output, found: tuple[object, ...]) -> None:
    """The fields stand in patterns in the order of the constructor."""
    match output:
        case Completed(url, content_type, file_size, duration):
            matched: tuple[object, ...] = (url, content_type, file_size, duration)
        case Unknown(status, fields):
            matched = (status, fields)
        case InProgress() | Failed():
            matched = ()
    assert matched == found


def test_a_job_matches_a_pattern_by_name() -> None:
    """A state deep in a job can be picked in one pattern."""
    match a_job(COMPLETED):
        case TtsJob(id=job_id, output=Completed(duration=duration)):
            assert (job_id, duration) == (JOB_ID, 2.5)
        case _:
            pytest.fail("the pattern did not match")


def test_a_job_is_generic_at_run_time_too() -> None:
    """Annotations that are evaluated must not raise."""
    assert TtsJob[Completed].__origin__ is TtsJob  # type: ignore[attr-defined]  # typeshed has it on the alias alone


# Out of the library and back


DONE = datetime(2026, 1, 2, 3, 5, tzinfo=timezone(timedelta(hours=-3)))
STORED = {
    "id": str(JOB_ID),
    "createdAt": "2026-01-02T03:04:05+00:00",
    "input": {"text": "Hello"},
    "completedAt": None,
}
WRITTEN: tuple[dict[str, Any], ...] = (
    {
        "status": "COMPLETED",
        "url": "https://audio.example/a.mp3",
        "contentType": "audio/mpeg",
        "fileSize": 1024.0,
        "duration": 2.5,
    },
    {"status": "IN_PROGRESS"},
    {"status": "FAILED"},
    {"status": "QUEUED", "position": 3},
)


@pytest.mark.parametrize(("output", "written"), list(zip(OUTPUTS, WRITTEN, strict=True)), ids=kind_of)
def test_a_job_goes_out_as_json_and_comes_back(output: Output, written: dict[str, Any]) -> None:
    """In the service's own field names, and without loss."""
    job = a_job(output)
    assert job.status == output.status == written["status"]
    assert job.to_dict() == {**STORED, "output": written}
    assert TtsJob.from_dict(json.loads(json.dumps(job.to_dict()))) == job
    finished = attrs.evolve(job, completed_at=DONE)
    assert TtsJob.from_dict(MappingProxyType(finished.to_dict())) == finished


@pytest.mark.parametrize("text", ["28365", "28365.0", "0", "1.0", "9007199254740993", "2.5"])
def test_a_number_keeps_its_kind(text: str) -> None:
    """What the service wrote as a whole number is not written as a fraction."""
    reply = json.dumps({**STORED, "output": {**WRITTEN[0], "fileSize": "N", "duration": "N"}}).replace('"N"', text)
    written = json.dumps(TtsJob.from_dict(json.loads(reply)).to_dict())
    assert written == reply


def test_a_copy_as_json_shares_nothing_with_the_job() -> None:
    """In either direction."""
    spoken = MappingProxyType({"text": "Hello", "nested": ({"a": [1]},)})
    job = a_job(Unknown("QUEUED", {"where": {"position": 3}}), spoken=spoken)
    written = job.to_dict()
    assert written["input"] == {"text": "Hello", "nested": [{"a": [1]}]}
    twin = TtsJob.from_dict(written)
    written["input"]["nested"][0]["a"] = written["output"]["where"]["position"] = None
    assert twin.input["nested"] == [{"a": [1]}]
    assert twin.output == job.output == Unknown("QUEUED", {"where": {"position": 3}})


NESTED: dict[str, Any] = {}
NESTED["itself"] = NESTED


@pytest.mark.parametrize(
    ("mapping", "problems"),
    [
        ({}, {f"required field missing @ $.{name}" for name in (*STORED, "output")}),
        ({**STORED, "output": {}}, {"expected a status, as a string @ $.output"}),
        ({**STORED, "output": {"status": "FAILED"}, "id": "1"}, {"expected a UUID @ $.id"}),
        (
            {**STORED, "createdAt": 5, "output": {**WRITTEN[0], "fileSize": "1"}},
            {"expected a string, got a number @ $.createdAt", "expected a number, got a string @ $.output.fileSize"},
        ),
        ({**STORED, "createdAt": CREATED, "output": WRITTEN[1]}, {"not JSON (datetime) @ $"}),
        ({**STORED, "input": {"speed": math.nan}, "output": WRITTEN[1]}, {"not JSON (float) @ $"}),
        ({**STORED, "input": {1: 2}, "output": WRITTEN[1]}, {"not JSON (dict) @ $"}),
        ({**STORED, "input": NESTED, "output": WRITTEN[1]}, {"nested too deeply @ $"}),
        (attrs.asdict(a_job(COMPLETED)), {"not JSON (UUID) @ $"}),
        ([], {"expected an object, got an array @ $"}),
        (json.dumps({**STORED, "output": WRITTEN[1]}), {"expected an object, got a string @ $"}),
        (None, {"expected an object, got null @ $"}),
    ],
    ids=[
        *("nothing", "no status", "no UUID", "two", "a datetime", "NaN", "an int as a name", "a circle"),
        *("by attrs", "an array", "a text", "None"),
    ],
)
def test_what_is_no_job_is_refused_and_says_why(mapping: Any, problems: set[str]) -> None:
    """As strictly as a reply, with the same words."""
    with pytest.raises(InvalidResponseError, match=r"^The mapping is not a job: ") as caught:
        TtsJob.from_dict(mapping)
    assert set(caught.value.problems) == problems
    assert all(problem in str(caught.value) for problem in problems)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("output", OUTPUTS, ids=kind_of)
def test_the_status_survives_other_ways_out(output: Output) -> None:
    """`attrs.asdict` and cattrs know fields alone."""
    job = a_job(output)
    assert attrs.asdict(job)["output"]["status"] == output.status
    assert cattrs.unstructure(job)["output"]["status"] == output.status
    assert cattrs.structure(cattrs.unstructure(output), type(output)) == output
    assert "status" not in repr(output) or isinstance(output, Unknown)


@pytest.mark.parametrize(("kind", "fields"), [(InProgress, ()), (Failed, ()), (Completed, ("u", "audio/mpeg", 1, 1))])
def test_a_status_cannot_be_another(kind: Any, fields: tuple[Any, ...]) -> None:
    """It goes with the class."""
    with pytest.raises(ValueError, match=f"^status must be '{kind(*fields).status}'$"):
        kind(*fields, status="QUEUED")
    with pytest.raises(TypeError):
        kind(*fields, kind(*fields).status)


def test_parameters_default_to_the_main_model_and_to_nothing_else() -> None:
    """None is left out of a request, so the service's own defaults hold."""
    assert attrs.asdict(TtsParameters("Hello", "a-voice")) == {
        "text": "Hello",
        "voice": "a-voice",
        "model": "PlayDialog",
        "voice2": None,
        "turn_prefix": None,
        "turn_prefix2": None,
        "prompt": None,
        "prompt2": None,
        "voice_conditioning_seconds": None,
        "voice_conditioning_seconds2": None,
        "language": None,
        "output_format": None,
        "speed": None,
        "sample_rate": None,
        "seed": None,
        "temperature": None,
        "quality": None,
        "web_hook_url": None,
        "extra": {},
    }


def test_only_text_and_voice_are_positional() -> None:
    """What comes after them is many, and grows."""
    with pytest.raises(TypeError, match="positional"):
        TtsParameters("Hello", "a-voice", "PlayDialog")  # type: ignore[call-arg]  # the point of the test


TEXTS = ("voice2", "turn_prefix", "turn_prefix2", "prompt", "prompt2", "language", "output_format", "quality")
NUMBERS = (
    "voice_conditioning_seconds",
    "voice_conditioning_seconds2",
    "speed",
    "sample_rate",
    "seed",
    "temperature",
)


@pytest.mark.parametrize("name", ["text", "voice", "model", *TEXTS, "web_hook_url"])
@pytest.mark.parametrize("value", [1, True, b"Hello", ["Hello"]], ids=kind_of)
def test_what_is_no_text_is_refused_where_one_belongs(name: str, value: object) -> None:
    """The service would refuse it later, and less clearly."""
    with pytest.raises(TypeError, match=name):
        TtsParameters(**{"text": "Hello", "voice": "a-voice", name: value})  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("name", ["text", "voice", "model"])
def test_none_is_refused_where_a_text_is_required(name: str) -> None:
    """None leaves a field out, and these cannot be."""
    with pytest.raises(TypeError, match=name):
        TtsParameters(**{"text": "Hello", "voice": "a-voice", name: None})  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("name", ["text", "voice"])
@pytest.mark.parametrize("value", ["", " ", "\n\t"], ids=["empty", "space", "break"])
def test_a_blank_text_or_voice_is_refused(name: str, value: str) -> None:
    """There is nothing to speak, or nobody to speak it."""
    with pytest.raises(ValueError, match=f"^{name} is empty$"):
        TtsParameters(**{"text": "Hello", "voice": "a-voice", name: value})  # type: ignore[arg-type]  # mixed dict


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["1", True, b"1", 1j], ids=kind_of)
def test_what_is_no_number_is_refused_where_one_belongs(name: str, value: object) -> None:
    """True would be sent as a boolean, and a text as a string."""
    with pytest.raises(TypeError, match=f"^{name} must be a number, not {type(value).__name__}$"):
        TtsParameters("Hello", "a-voice", **{name: value})  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400], ids=["nan", "inf", "-inf", "past float"])
def test_a_number_that_json_does_not_have_is_refused(name: str, value: float) -> None:
    """Python would write NaN into the request, which is no JSON."""
    with pytest.raises(ValueError, match=f"^{name} must be finite$"):
        TtsParameters("Hello", "a-voice", **{name: value})  # type: ignore[arg-type]  # mixed dict


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0, -1, 0.5, 44100, None], ids=str)
def test_any_finite_number_is_passed_on(name: str, value: float | None) -> None:
    """What a model takes is the service's affair."""
    parameters = TtsParameters("Hello", "a-voice", **{name: value})  # type: ignore[arg-type]  # mixed dict
    assert getattr(parameters, name) == value


@pytest.mark.parametrize("value", [None, [("mood", "calm")], "mood"], ids=kind_of)
def test_extra_fields_come_as_a_mapping(value: object) -> None:
    """They are merged into the request by name."""
    with pytest.raises(TypeError, match=f"^extra must be a mapping, not {type(value).__name__}$"):
        TtsParameters("Hello", "a-voice", extra=value)  # type: ignore[arg-type]  # the point of the test


def test_stats_of_a_session_that_is_not_held_up_need_not_say_so() -> None:
    """Nothing queued and no pause, where those are left out."""
    stats = SessionStats(1, 2, 3, 4, 5, 6, 0.0, None)
    assert (stats.queued, stats.pause_reason) == (0, None)
