"""What the log tells of a session, as records with fields of their own."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from playai_async import PlayAISession, TtsParameters, WaitTimeoutError
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import PollPlanned
from playai_async._telemetry.log import Log
from tests.support.scripted import (
    COMPLETED,
    JOB_ID,
    OTHER_ID,
    Answer,
    ScriptedService,
    created,
    job,
    job_json,
    lost,
    throttled,
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every record of the library."""
    caplog.set_level(logging.DEBUG, "playai_async")
    return caplog


def fields_of(log: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The library's fields of each record that was kept."""
    return [
        {name.removeprefix("playai_"): value for name, value in vars(record).items() if name.startswith("playai_")}
        for record in log.records
        if record.name == "playai_async"
    ]


async def test_each_state_of_a_job_is_told_once(
    log: pytest.LogCaptureFixture, service: ScriptedService, session: PlayAISession
) -> None:
    """However often it is seen."""
    again = Answer(payload={**job_json(), "input": {"text": "other words", "voice": "v"}})
    service.answers(job(), again, job({"status": "QUEUED"}), job({"status": "QUEUED"}), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    told = [fields for fields in fields_of(log) if fields["event"] == "job_state"]
    assert told == [
        {"event": "job_state", "job_id": str(JOB_ID), "status": status}
        for status in ("IN_PROGRESS", "UNKNOWN", "COMPLETED")
    ]
    messages = [record.getMessage() for record in log.records if record.levelno == logging.DEBUG]
    assert [message for message in messages if message.startswith("Job")] == [
        f"Job {JOB_ID} is {status}." for status in ("IN_PROGRESS", "UNKNOWN", "COMPLETED")
    ]


async def test_states_are_told_at_debug_alone(
    caplog: pytest.LogCaptureFixture, service: ScriptedService, session: PlayAISession
) -> None:
    """A backend waits for many jobs."""
    caplog.set_level(logging.INFO, "playai_async")
    service.answers(job(), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    assert fields_of(caplog) == []


async def test_the_beginning_and_the_end_of_a_pause_are_told(
    log: pytest.LogCaptureFixture, service: ScriptedService, session: PlayAISession
) -> None:
    """With how long it is to take at first, and how long it took."""
    service.answers(throttled("20"), throttled("10"), job(COMPLETED))
    await session.wait_for_completion(JOB_ID)
    began, ended, _ = fields_of(log)
    assert began == {
        "event": "pause_began",
        "operation": "status requests",
        "reason": "throttled",
        "pause": pytest.approx(20.5, abs=0.5),
    }
    assert ended == {
        "event": "pause_ended",
        "operation": "status requests",
        "pause": pytest.approx(30.75, abs=0.75),
    }


async def test_an_outage_is_told_from_its_third_failure_on(
    log: pytest.LogCaptureFixture, service: ScriptedService, session: PlayAISession
) -> None:
    """Beside each failure; by the class of the error, and not in the service's words."""
    for job_id in (JOB_ID, OTHER_ID):
        service.answers(Answer(503), lost(), job(COMPLETED, job_id), job_id=job_id)
    await session.wait_for_all([JOB_ID, OTHER_ID])
    told = [fields for fields in fields_of(log) if fields["event"] != "job_state"]
    assert [fields["event"] for fields in told] == [
        *["request_failed"] * 3,
        "pause_began",
        "request_failed",
        "pause_ended",
    ]
    assert told[0] == {"event": "request_failed", "job_id": str(JOB_ID), "error": "UnexpectedServiceError"}
    assert told[4]["error"] == "TransportError"
    assert (told[3]["reason"], told[3]["pause"]) == ("outage", pytest.approx(1.0))


async def test_a_pause_that_a_close_ends_is_told_of(log: pytest.LogCaptureFixture, service: ScriptedService) -> None:
    """Nothing is held any more; each operation has pauses of its own."""
    service.answers(job(COMPLETED))
    service.creates(throttled("600"), created())
    async with PlayAISession("a-key-for-the-log", "a-user-for-the-log") as session:
        await session.wait_for_completion(JOB_ID)
        with pytest.raises(WaitTimeoutError):
            await session.create_job(TtsParameters("Hello", "v"), timeout=30)
    told = [fields for fields in fields_of(log) if fields["event"] != "job_state"]
    assert [fields["event"] for fields in told] == ["pause_began", "pause_ended"]
    assert [fields["operation"] for fields in told] == ["job creations"] * 2
    assert told[1]["pause"] == pytest.approx(30, abs=0.1)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (8.2, "Job a-job is expected to finish in 8 s."),
        (-1.0, "Job a-job takes longer than expected."),
    ],
    ids=["later", "by now"],
)
def test_a_planned_poll_is_explained(expected: float, message: str, log: pytest.LogCaptureFixture) -> None:
    Emitter(Log()).emit(PollPlanned("a-job", expected=expected, earliest=9.0, due=11.0))
    assert log.messages == [message]
    assert fields_of(log)[0]["expected"] == expected
