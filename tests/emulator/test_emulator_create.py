"""Creating jobs."""

import asyncio
import math
from typing import Any
from uuid import UUID

import pytest

from playai_async.emulator import Emulator
from tests.emulator.plain_client import CREDENTIALS, PARAMETERS, PlainClient

pytestmark = pytest.mark.looptime

EVERYTHING: dict[str, Any] = {
    "model": "PlayDialog",
    "text": "A: Hello. B: Grüße!",
    "voice": "one",
    "voice2": "two",
    "turnPrefix": "A:",
    "turnPrefix2": "B:",
    "prompt": "",
    "prompt2": "calm",
    "voiceConditioningSeconds": 20,
    "voiceConditioningSeconds2": 19.5,
    "language": "english",
    "outputFormat": "ogg",
    "speed": 1.25,
    "sampleRate": 48_000,
    "seed": None,
    "temperature": 0.5,
    "quality": "high",
    "webHookUrl": "https://hook.example/",
}


async def test_creating_a_job_returns_the_job(emulator: Emulator, client: PlainClient) -> None:
    """The job is in progress, and a status request returns the same."""
    reply = await client.create()
    job = reply.json
    assert (reply.status, reply.headers["Content-Type"]) == (201, "application/json")
    assert set(job) == {"id", "createdAt", "input", "completedAt", "output"}
    assert (job["input"], job["output"], job["completedAt"]) == (PARAMETERS, {"status": "IN_PROGRESS"}, None)
    assert (await client.ask(job["id"])).json == job
    assert emulator.jobs == (UUID(job["id"]),)


async def test_jobs_are_listed_oldest_first(emulator: Emulator, client: PlainClient) -> None:
    """Jobs that a test added are included."""
    added = emulator.add_job()
    created = [(await client.create()).json["id"] for _ in range(2)]
    assert [str(job_id) for job_id in emulator.jobs] == [str(added), *created]


@pytest.mark.parametrize(
    "parameters",
    [
        EVERYTHING,
        {**PARAMETERS, "seed": 7, "temperature": None},
        {**PARAMETERS, "model": "?", "language": "?", "outputFormat": "?", "later": {"more": [1, None]}},
        {**PARAMETERS, "text": "\ud83d"},
    ],
    ids=["every field", "nulls", "unknown", "half a character"],
)
async def test_the_input_is_the_body_as_sent(client: PlainClient, parameters: dict[str, Any]) -> None:
    """Unknown fields and values are accepted, because the service may accept more than its description lists."""
    reply = await client.create(parameters)
    assert (reply.status, reply.json["input"]) == (201, parameters)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not a JSON object."),
        (b'{"text":', "The body is not a JSON object."),
        (b'{"text": "\xff", "voice": "v"}', "The body is not a JSON object."),
        (b"[" * 100_000, "The body is not a JSON object."),
        ([], "The body is not a JSON object."),
        (None, "The body is not a JSON object."),
        ({**PARAMETERS, "speed": math.nan}, "The body is not a JSON object."),
        (b'{"text": "t", "voice": "v", "speed": 1e999}', "The body is not a JSON object."),
        (b" " * (1024 * 1024 + 1), "The body is too long."),
        ({"voice": "v"}, "text is missing or empty."),
        ({"text": "t"}, "voice is missing or empty."),
        ({**PARAMETERS, "text": ""}, "text is missing or empty."),
        ({**PARAMETERS, "text": None}, "text must be a string."),
        ({**PARAMETERS, "voice": ["v"]}, "voice must be a string."),
        ({**PARAMETERS, "language": None}, "language must be a string."),
        ({**PARAMETERS, "speed": "1"}, "speed must be a number."),
        ({**PARAMETERS, "sampleRate": None}, "sampleRate must be a number."),
        ({**PARAMETERS, "sampleRate": True}, "sampleRate must be a number."),
        ({**PARAMETERS, "seed": "7"}, "seed must be a number or null."),
        ({**PARAMETERS, "temperature": False}, "temperature must be a number or null."),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_body_that_breaks_the_contract_is_400(
    emulator: Emulator, client: PlainClient, body: Any, message: str
) -> None:
    """The response has the reason, and no job is created."""
    reply = await client.create(body)
    assert reply.status == 400
    assert reply.json == {"errorId": "INVALID_PARAMETERS", "errorMessage": message}
    assert emulator.jobs == ()


async def test_a_compressed_body_is_400(client: PlainClient) -> None:
    """The contract does not mention compressed bodies."""
    reply = await client.create(b"\x1f\x8b" * 99, {**CREDENTIALS, "Content-Encoding": "gzip"})
    assert reply.status == 400


async def test_a_creation_is_checked_in_a_fixed_order() -> None:
    """Credentials, quota, body: a request without a key spends no quota, a request with a bad body does."""
    async with Emulator(create_quota=1) as emulator, PlainClient(emulator) as client:
        replies = [await client.create({}, {}), await client.create({}), await client.create()]
    assert [reply.status for reply in replies] == [401, 400, 429]


@pytest.mark.parametrize(("characters", "seconds"), [(1, 1.01), (45, 1.3), (9_000, 61.0)], ids=str)
async def test_a_created_job_takes_a_second_and_a_tenth_of_its_audio(
    emulator: Emulator, client: PlainClient, characters: int, seconds: float
) -> None:
    """So clients see short and long jobs."""
    await asyncio.sleep(5.0)
    await client.create({**PARAMETERS, "text": "x" * characters})
    assert emulator.finishes_at(emulator.jobs[0]) == pytest.approx(5.0 + seconds)


@pytest.mark.parametrize(
    ("duration", "status"), [(0.0, "COMPLETED"), (math.inf, "IN_PROGRESS")], ids=["at once", "never"]
)
async def test_job_duration_applies_to_all_created_jobs(duration: float, status: str) -> None:
    """Whatever their text is."""
    async with Emulator(job_duration=duration) as emulator, PlainClient(emulator) as client:
        job = (await client.create()).json
        await asyncio.sleep(1e6)
        assert job["output"]["status"] == (await client.ask(job["id"])).json["output"]["status"] == status


async def test_job_duration_can_be_set_at_any_time(emulator: Emulator, client: PlainClient) -> None:
    """It applies to the next jobs; None restores the duration that follows from the text."""
    assert emulator.job_duration is None
    emulator.job_duration = 600.0
    await client.create()
    emulator.job_duration = None
    await client.create()
    long, usual = (emulator.finishes_at(job_id) for job_id in emulator.jobs)
    assert (long, emulator.job_duration) == (600.0, None)
    assert usual < 2.0


@pytest.mark.parametrize("duration", [-1.0, math.nan, "1"], ids=str)
async def test_an_invalid_job_duration_is_refused(emulator: Emulator, duration: Any) -> None:
    """When it is set, as at construction."""
    with pytest.raises((TypeError, ValueError), match="job_duration"):
        emulator.job_duration = duration
    assert emulator.job_duration is None


async def test_a_created_job_completes_with_audio(emulator: Emulator, client: PlainClient) -> None:
    """A client gets from the text to the file with the content of the responses alone."""
    job_id = (await client.create()).json["id"]
    await asyncio.sleep(2.0)
    output = (await client.ask(job_id)).json["output"]
    assert (await client.fetch(output["url"])).body == emulator.audio_of(UUID(job_id))
