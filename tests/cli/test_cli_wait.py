"""`playai-async wait`: results, errors, exit status."""

import asyncio
from uuid import UUID

import pytest

from playai_async import SessionClosedError
from playai_async._cli.output import Output
from playai_async._cli.results import Reporter
from playai_async.emulator import Emulator, Malformed, Status
from tests.cli.conftest import KEY, USER, Broken, Shell, Terminal
from tests.emulator.plain_client import PlainClient

pytestmark = pytest.mark.looptime

NO_JOB = UUID("00000000-0000-4000-8000-000000000000")


async def test_it_prints_each_job_as_it_ends(emulator: Emulator, shell: Shell) -> None:
    """A line with id, state and, when completed, the address; in the order of their ends, not of the arguments."""
    slow, failing, quick = emulator.add_job(20), emulator.add_job(10, fails=True), emulator.add_job()
    ending = await shell.run("wait", slow, failing, quick)
    words = [line.split(" ") for line in ending.lines]
    assert [line[:2] for line in words] == [
        [str(quick), "COMPLETED"],
        [str(failing), "FAILED"],
        [str(slow), "COMPLETED"],
    ]
    assert [len(line) for line in words] == [3, 2, 3]
    assert words[0][2].startswith(f"{emulator.audio_url}/{quick}.wav?")
    assert ending.err == ""


async def test_json_is_the_document_of_the_service(emulator: Emulator, shell: Shell) -> None:
    """One object a line, in the service's field names, with nothing added or left out."""
    jobs = [emulator.add_job(10, input={"text": "Grüße"}), emulator.add_job(20, fails=True)]
    ending = await shell.run("wait", *jobs, "--json")
    async with PlainClient(emulator) as client:
        headers = {"Authorization": f"Bearer {KEY}", "X-USER-ID": USER}
        served = [(await client.ask(job, headers)).json for job in jobs]
    printed = ending.documents
    assert len(printed) == 2
    for completed in (printed[0], served[0]):
        completed["output"]["url"] = completed["output"]["url"].partition("?")[0]  # it is signed afresh every time
    for document, expected in zip(printed, served, strict=True):
        assert set(document) == set(expected)
        assert {name: document[name] for name in ("id", "input", "output")} == {
            name: expected[name] for name in ("id", "input", "output")
        }
    assert ending.out.isascii()


async def test_a_repeated_id_is_waited_for_once(emulator: Emulator, shell: Shell) -> None:
    """Whatever the case it is written in; one line."""
    job = emulator.add_job(0)
    ending = await shell.run("wait", job, str(job).upper(), "-", stdin=f"{job}\n")
    assert len(ending.lines) == 1
    assert emulator.requests_of(job) == 1


async def test_ids_also_come_from_standard_input(emulator: Emulator, shell: Shell) -> None:
    """One a line, with blank lines, blanks around ids and a byte order mark ignored, among those of the arguments."""
    first, second, third = (emulator.add_job(seconds) for seconds in (10, 30, 60))
    ending = await shell.run("wait", third, "-", stdin=f"\ufeff{first}\n  \n\r\n {second}\r\n")
    assert [line.split()[0] for line in ending.lines] == [str(first), str(second), str(third)]


@pytest.mark.parametrize(
    "printing",
    [["create", "--voice", "v", "--text", "Hello."], ["create", "--voice", "v", "--text", "x", "--wait"], ["get"]],
    ids=["create", "create and wait", "get"],
)
async def test_what_a_command_prints_can_be_waited_for(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch, printing: list[str]
) -> None:
    """And so can what `wait` prints of it: of each line on standard input the first word is the id."""
    arguments = [*printing, emulator.add_job()] if printing == ["get"] else printing
    printed = (await shell.run(*arguments)).out
    (job,) = emulator.jobs
    first = await Shell(monkeypatch).run("wait", "-", stdin=printed)
    second = await Shell(monkeypatch).run("wait", "-", stdin=f"\ufeff \n{first.out}\t{printed}")
    for ending in (first, second):
        assert (ending.status, ending.err) == (0, "")
        assert [line.split()[:2] for line in ending.lines] == [[str(job), "COMPLETED"]]


async def test_nothing_to_wait_for_is_fine(emulator: Emulator, shell: Shell) -> None:
    """An empty list of open jobs, from a pipe, is no mistake; but it is said."""
    ending = await shell.run("wait", "-", stdin="\n")
    assert (ending.status, ending.out) == (0, "")
    assert ending.err == "playai-async: no ids on standard input\n"


@pytest.mark.parametrize(
    ("kinds", "status"),
    [
        ("completed", 0),
        ("completed failed", 1),
        ("unknown", 3),
        ("endless", 4),
        ("failed endless", 4),
        ("failed unknown", 3),
        ("endless unknown", 3),
        ("unknown endless failed completed", 3),
        ("endless failed completed", 4),
    ],
    ids=str,
)
async def test_the_exit_status_is_the_gravest(emulator: Emulator, shell: Shell, kinds: str, status: int) -> None:
    """An error before a timeout before a failed job."""
    jobs = {
        "completed": emulator.add_job(1),
        "failed": emulator.add_job(1, fails=True),
        "endless": emulator.add_job(float("inf")),
        "unknown": NO_JOB,
    }
    ending = await shell.run("wait", "--timeout", 30, *(jobs[kind] for kind in kinds.split()))
    assert ending.status == status


async def test_an_error_is_one_line_and_stops_no_other(emulator: Emulator, shell: Shell) -> None:
    """On standard error, naming the job once; nothing for it on standard output, with --json either."""
    job = emulator.add_job(30)
    ending = await shell.run("wait", NO_JOB, job, "--json")
    (line,) = ending.err.splitlines()
    assert line.startswith(f"PlayAI answered 404 for job {NO_JOB}")
    assert line.count(str(NO_JOB)) == 1
    assert [document["id"] for document in ending.documents] == [str(job)]


def test_an_error_that_names_no_job_comes_after_the_id(shell: Shell) -> None:
    """So that one of many waits can be told from the others."""
    Reporter(Output(shell.out, shell.err)).report(SessionClosedError("The session was closed.", job_id=NO_JOB), NO_JOB)
    assert (shell.out.getvalue(), shell.err.getvalue()) == ("", f"{NO_JOB}: The session was closed.\n")


async def test_a_timeout_tells_of_the_last_error(emulator: Emulator, shell: Shell) -> None:
    """Or nobody would know why there was no answer; it is also said that the job goes on."""
    emulator.inject(Status(429), times=None)
    job = emulator.add_job()
    ending = await shell.run("wait", job, "--timeout", 20)
    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.1)
    (line,) = ending.err.splitlines()
    assert line.startswith(f"Job {job} was not done after 20.0 s")
    assert "it goes on" in line
    assert "The last error: PlayAI answered 429" in line


async def test_a_timeout_without_an_error_mentions_none(emulator: Emulator, shell: Shell) -> None:
    """All polls were answered."""
    ending = await shell.run("wait", emulator.add_job(100), "--timeout", 20)
    assert ending.err
    assert "last error" not in ending.err


async def test_without_a_timeout_it_waits_ten_minutes(emulator: Emulator, shell: Shell) -> None:
    """The library's default."""
    ending = await shell.run("wait", emulator.add_job(float("inf")))
    assert ending.status == 4
    assert asyncio.get_running_loop().time() == pytest.approx(600, abs=0.1)


async def test_a_known_quota_is_never_exceeded(emulator: Emulator, shell: Shell) -> None:
    """However many jobs: no 429 at all."""
    emulator.quota = 12
    jobs = [emulator.add_job(60) for _ in range(20)]
    ending = await shell.run("wait", *jobs, "--requests-per-minute", 12)
    assert ending.status == 0
    assert emulator.stats.throttled == 0
    assert emulator.stats.requests <= 12 * (asyncio.get_running_loop().time() / 60 + 1)


async def test_a_hundred_jobs_are_waited_for_at_once(emulator: Emulator, shell: Shell) -> None:
    """In little more than the time of the longest, not of their sum; without a known quota the rate grows first."""
    jobs = [emulator.add_job(10) for _ in range(100)]
    ending = await shell.run("wait", "-", stdin="\n".join(map(str, jobs)))
    assert {line.split()[0] for line in ending.lines} == set(map(str, jobs))
    assert asyncio.get_running_loop().time() < 40


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 500], ids=str)
async def test_key_and_user_id_are_in_no_output(emulator: Emulator, shell: Shell, status: int) -> None:
    """Not even where the service echoes them, in whatever field, and not in the progress either."""
    emulator.inject(
        Status(status, {"errorId": f"KEY {KEY}", "errorMessage": f"{USER} is not {KEY}"}, headers={"X-Echo": KEY}),
        times=None,
    )
    shell.err = Terminal()
    ending = await shell.run("wait", emulator.add_job())
    assert ending.status == 3
    assert f"PlayAI answered {status}" in ending.err
    for secret in (KEY, USER):
        assert secret not in ending.out + ending.err


async def test_a_service_cannot_command_the_terminal(emulator: Emulator, shell: Shell) -> None:
    """Line breaks and escape sequences in its words come out as blanks, and a message stays one line."""
    emulator.inject(Status(400, {"errorMessage": "two\nlines\r\x1b[2Jand\x07 more"}))
    ending = await shell.run("wait", emulator.add_job())
    (line,) = ending.err.splitlines()
    assert line.endswith("two lines [2Jand more.")


async def test_a_broken_reply_is_an_error(emulator: Emulator, shell: Shell) -> None:
    """After the library has tried it often enough."""
    emulator.inject(Malformed("html"), times=None)
    ending = await shell.run("wait", emulator.add_job())
    assert ending.status == 3
    assert "breaks the contract" in ending.err


async def test_an_unreachable_service_is_an_error(emulator: Emulator, shell: Shell) -> None:
    """One line, and no traceback."""
    await emulator.stop()
    ending = await shell.run("wait", NO_JOB)
    assert ending.status == 3
    assert len(ending.err.splitlines()) == 1


async def test_a_cancelled_wait_leaves_nothing_running(emulator: Emulator, shell: Shell) -> None:
    """What Ctrl-C does: the waits end with the command, and so does the session."""
    jobs = [emulator.add_job(100) for _ in range(5)]
    command = asyncio.create_task(shell.run("wait", *jobs))
    await asyncio.sleep(10)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert [task for task in asyncio.all_tasks() if "playai_async/_cli" in repr(task)] == []
    assert [task for task in asyncio.all_tasks() if task.get_name() == "playai_async"] == []
    assert (shell.out.getvalue(), shell.err.getvalue()) == ("", "")


async def test_results_that_nobody_reads_end_the_other_waits(emulator: Emulator, shell: Shell) -> None:
    """At the first one: `| head -1` need not wait for the rest."""
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run("wait", emulator.add_job(5), emulator.add_job(500))
    assert asyncio.get_running_loop().time() < 20
    assert [task for task in asyncio.all_tasks() if task.get_name() == "playai_async"] == []
