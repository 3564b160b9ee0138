"""The state of a job over time."""

import asyncio
import math
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from playai_async.emulator import Emulator
from tests.emulator.plain_client import PlainClient

pytestmark = pytest.mark.looptime

UNKNOWN = UUID("11111111-2222-4333-8444-555555555555")


@pytest.mark.parametrize(("fails", "ending"), [(False, "COMPLETED"), (True, "FAILED")], ids=["completes", "fails"])
async def test_a_job_finishes_by_itself(emulator: Emulator, client: PlainClient, *, fails: bool, ending: str) -> None:
    """It is in progress for its duration, and done exactly at the end."""
    job_id = emulator.add_job(duration=2.0, fails=fails)
    seen = [(await client.ask(job_id)).json["output"]["status"]]
    await asyncio.sleep(1.999)
    seen.append((await client.ask(job_id)).json["output"]["status"])
    await asyncio.sleep(0.001)
    seen.append((await client.ask(job_id)).json["output"]["status"])
    assert seen == ["IN_PROGRESS", "IN_PROGRESS", ending]


async def test_a_job_is_done_for_a_client_that_slept_until_its_end(emulator: Emulator, client: PlainClient) -> None:
    """Rounding does not delay the end: 0.1 + 0.2 is more than 0.3 in floats."""
    await asyncio.sleep(0.1)
    job_id = emulator.add_job(duration=0.2)
    await asyncio.sleep(0.2)
    assert (await client.ask(job_id)).json["output"]["status"] == "COMPLETED"


async def test_a_finished_job_has_the_fields_of_the_contract_and_no_others(
    emulator: Emulator, client: PlainClient
) -> None:
    """A test must not pass because of a field that the service does not send."""
    job_id = emulator.add_job()
    job = (await client.ask(job_id)).json
    assert set(job) == {"id", "createdAt", "input", "completedAt", "output"}
    assert job["id"] == str(job_id)
    assert set(job["output"]) == {"status", "url", "contentType", "fileSize", "duration"}
    assert job["output"]["url"].startswith(f"{emulator.audio_url}/{job_id}.wav?")


async def test_dates_follow_the_loop(emulator: Emulator, client: PlainClient) -> None:
    """`completedAt` is null until the job is done, and then its duration after `createdAt`."""
    job_id = emulator.add_job(duration=90.0)
    assert (await client.ask(job_id)).json["completedAt"] is None
    await asyncio.sleep(1000.0)
    job = (await client.ask(job_id)).json
    created, completed = (datetime.fromisoformat(job[name]) for name in ("createdAt", "completedAt"))
    assert created.tzinfo is not None
    assert completed - created == timedelta(seconds=90.0)


async def test_a_job_of_infinite_duration_never_finishes(emulator: Emulator, client: PlainClient) -> None:
    """Tests of deadlines use this."""
    job_id = emulator.add_job(duration=math.inf)
    await asyncio.sleep(1e6)
    assert (await client.ask(job_id)).json["output"] == {"status": "IN_PROGRESS"}


async def test_input_is_shown_as_given(emulator: Emulator, client: PlainClient) -> None:
    """The input is copied when the job is added, so later changes by the caller have no effect."""
    given: dict[str, Any] = {"text": "Hello.", "seed": None}
    job_id = emulator.add_job(input=given)
    given["text"] = "changed"
    assert (await client.ask(job_id)).json["input"] == {"text": "Hello.", "seed": None}


async def test_input_is_plausible_by_default(emulator: Emulator, client: PlainClient) -> None:
    """It has the fields that every real job has."""
    shown = (await client.ask(emulator.add_job())).json["input"]
    assert {"model", "text", "voice"} <= set(shown)


async def test_a_job_can_have_a_given_id(emulator: Emulator, client: PlainClient) -> None:
    """The id is used, returned and shown."""
    job_id = uuid4()
    assert emulator.add_job(job_id=job_id) == job_id
    assert (await client.ask(str(job_id).upper())).json["id"] == str(job_id)


async def test_finishes_at_is_in_loop_time(emulator: Emulator) -> None:
    """So a test can compute how late a client noticed the end."""
    await asyncio.sleep(5.0)
    assert emulator.finishes_at(emulator.add_job(duration=2.5)) == 7.5


async def test_set_output_hides_the_actual_output(emulator: Emulator, client: PlainClient) -> None:
    """A job can show a status that the contract does not list; the job itself continues."""
    job_id = emulator.add_job(duration=3.0)
    emulator.set_output(job_id, {"status": "QUEUED", "position": 4})
    shown = [(await client.ask(job_id)).json["output"]]
    await asyncio.sleep(3.0)
    emulator.set_output(job_id, None)
    shown.append((await client.ask(job_id)).json["output"]["status"])
    assert shown == [{"status": "QUEUED", "position": 4}, "COMPLETED"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"duration": -1.0}, ValueError),
        ({"duration": math.nan}, ValueError),
        ({"duration": "2"}, TypeError),
        ({"duration": True}, TypeError),
        ({"job_id": str(UNKNOWN)}, TypeError),
        ({"input": {"text": object()}}, TypeError),
    ],
    ids=["negative", "nan", "text", "bool", "id as text", "not json"],
)
async def test_an_invalid_job_is_refused(emulator: Emulator, arguments: dict[str, Any], error: type[Exception]) -> None:
    """The error is raised where the mistake is, not as a 500 later."""
    with pytest.raises(error):
        emulator.add_job(**arguments)


async def test_a_duplicate_id_is_refused(emulator: Emulator) -> None:
    """A second job would silently replace the first."""
    emulator.add_job(job_id=UNKNOWN)
    with pytest.raises(ValueError, match=str(UNKNOWN)):
        emulator.add_job(job_id=UNKNOWN)


@pytest.mark.parametrize("method", ["finishes_at", "link_of", "audio_of"])
async def test_an_unknown_job_is_a_key_error(emulator: Emulator, method: str) -> None:
    """Every method that takes a job id raises it."""
    with pytest.raises(KeyError):
        getattr(emulator, method)(UNKNOWN)
    with pytest.raises(KeyError):
        emulator.set_output(UNKNOWN, None)
