"""`playai-async get`: one request, one line."""

from uuid import UUID

import pytest

from playai_async._cli.errors import UsageError
from playai_async.emulator import Emulator, Status
from tests.cli.conftest import Shell

pytestmark = pytest.mark.looptime

NO_JOB = UUID("00000000-0000-4000-8000-000000000000")


@pytest.mark.parametrize(
    ("output", "line"),
    [
        ({"status": "IN_PROGRESS"}, "IN_PROGRESS"),
        ({"status": "FAILED"}, "FAILED"),
        (
            {
                "status": "COMPLETED",
                "url": "https://x/y.mp3",
                "contentType": "audio/mpeg",
                "fileSize": 1,
                "duration": 2,
            },
            "COMPLETED https://x/y.mp3",
        ),
        ({"status": "QUEUED", "place": 7}, "QUEUED"),
        ({"status": "A\nB\x1b[2J"}, "A B [2J"),
    ],
    ids=["in progress", "failed", "completed", "unknown", "unprintable"],
)
async def test_it_prints_any_state_with_exit_code_0(
    emulator: Emulator, shell: Shell, output: dict[str, object], line: str
) -> None:
    """On one line, without control characters."""
    job = emulator.add_job()
    emulator.set_output(job, output)
    result = await shell.run("get", job)
    assert (result.status, result.out) == (0, f"{job} {line}\n")
    assert emulator.requests_of(job) == 1


async def test_json_keeps_unknown_states_and_fields(emulator: Emulator, shell: Shell) -> None:
    """As the service sent them."""
    job = emulator.add_job(float("inf"))
    emulator.set_output(job, {"status": "QUEUED", "placeInQueue": 7})
    result = await shell.run("get", "--json", job)
    (document,) = result.documents
    assert document["output"] == {"status": "QUEUED", "placeInQueue": 7}
    assert (document["id"], document["completedAt"]) == (str(job), None)


@pytest.mark.parametrize("status", [404, 429, 500], ids=str)
async def test_an_error_goes_to_standard_error(emulator: Emulator, shell: Shell, status: int) -> None:
    """At once: `get` does not retry."""
    emulator.inject(Status(status))
    job = emulator.add_job()
    result = await shell.run("get", job, "--json")
    assert (result.status, result.out) == (3, "")
    assert result.err.startswith(f"PlayAI answered {status} for job {job}")
    assert emulator.stats.requests == 1


async def test_the_id_may_come_from_standard_input(emulator: Emulator, shell: Shell) -> None:
    """One id only."""
    job = emulator.add_job()
    result = await shell.run("get", "-", stdin=f"{job}\n")
    assert result.out.startswith(str(job))


@pytest.mark.parametrize("stdin", ["", f"{NO_JOB}\n{UUID(int=1)}\n"], ids=["none", "two"])
async def test_it_takes_one_id(emulator: Emulator, shell: Shell, stdin: str) -> None:
    """With any other number of ids, nothing is sent."""
    with pytest.raises(UsageError, match="takes one id"):
        await shell.run("get", "-", stdin=stdin)
    assert emulator.stats.requests == 0
