"""`playai-async get`: one question, one answer."""

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
async def test_any_answer_is_fine(emulator: Emulator, shell: Shell, output: dict[str, object], line: str) -> None:
    """Whatever the state: it was asked for, and is told on one line."""
    job = emulator.add_job()
    emulator.set_output(job, output)
    ending = await shell.run("get", job)
    assert (ending.status, ending.out) == (0, f"{job} {line}\n")
    assert emulator.requests_of(job) == 1


async def test_json_keeps_what_is_not_known(emulator: Emulator, shell: Shell) -> None:
    """A state of tomorrow is printed as the service has it."""
    job = emulator.add_job(float("inf"))
    emulator.set_output(job, {"status": "QUEUED", "placeInQueue": 7})
    ending = await shell.run("get", "--json", job)
    (document,) = ending.documents
    assert document["output"] == {"status": "QUEUED", "placeInQueue": 7}
    assert (document["id"], document["completedAt"]) == (str(job), None)


@pytest.mark.parametrize("status", [404, 429, 500], ids=str)
async def test_an_error_is_told_on_standard_error(emulator: Emulator, shell: Shell, status: int) -> None:
    """At once: asking again is for `wait`."""
    emulator.inject(Status(status))
    job = emulator.add_job()
    ending = await shell.run("get", job, "--json")
    assert (ending.status, ending.out) == (3, "")
    assert ending.err.startswith(f"PlayAI answered {status} for job {job}")
    assert emulator.stats.requests == 1


async def test_the_id_may_come_from_standard_input(emulator: Emulator, shell: Shell) -> None:
    """As for `wait`, but one."""
    job = emulator.add_job()
    ending = await shell.run("get", "-", stdin=f"{job}\n")
    assert ending.out.startswith(str(job))


@pytest.mark.parametrize("stdin", ["", f"{NO_JOB}\n{UUID(int=1)}\n"], ids=["none", "two"])
async def test_it_takes_one_id(emulator: Emulator, shell: Shell, stdin: str) -> None:
    """No more and no less, and nothing is sent otherwise."""
    with pytest.raises(UsageError, match="takes one id"):
        await shell.run("get", "-", stdin=stdin)
    assert emulator.stats.requests == 0
