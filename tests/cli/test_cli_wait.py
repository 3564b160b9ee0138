"""`playai-async wait`: results, errors and exit codes."""

import asyncio
import errno
import io
from uuid import UUID

import pytest

from playai_async import SessionClosedError, TransportError, WaitTimeoutError
from playai_async._cli.output import Output
from playai_async._cli.results import Reporter
from playai_async.emulator import Emulator, Malformed, Status
from tests.cli.conftest import KEY, USER, Broken, Shell, Terminal
from tests.emulator.plain_client import PlainClient

pytestmark = pytest.mark.looptime

NO_JOB = UUID("00000000-0000-4000-8000-000000000000")


async def test_it_prints_each_job_when_it_is_done(emulator: Emulator, shell: Shell) -> None:
    """The id, the state and the URL of completed jobs, in the order in which the jobs finish."""
    slow, failing, quick = emulator.add_job(20), emulator.add_job(10, fails=True), emulator.add_job()
    result = await shell.run("wait", slow, failing, quick)
    words = [line.split(" ") for line in result.lines]
    assert [line[:2] for line in words] == [
        [str(quick), "COMPLETED"],
        [str(failing), "FAILED"],
        [str(slow), "COMPLETED"],
    ]
    assert [len(line) for line in words] == [3, 2, 3]
    assert words[0][2].startswith(f"{emulator.audio_url}/{quick}.wav?")
    assert result.err == ""


async def test_json_is_the_object_of_the_service(emulator: Emulator, shell: Shell) -> None:
    """One object per line, with the service's field names, nothing added or left out."""
    jobs = [emulator.add_job(10, input={"text": "Grüße"}), emulator.add_job(20, fails=True)]
    result = await shell.run("wait", *jobs, "--json")
    async with PlainClient(emulator) as client:
        headers = {"Authorization": f"Bearer {KEY}", "X-USER-ID": USER}
        served = [(await client.ask(job, headers)).json for job in jobs]
    printed = result.documents
    assert len(printed) == 2
    for completed in (printed[0], served[0]):
        completed["output"]["url"] = completed["output"]["url"].partition("?")[0]  # each response has a new signature
    for document, expected in zip(printed, served, strict=True):
        assert set(document) == set(expected)
        assert {name: document[name] for name in ("id", "input", "output")} == {
            name: expected[name] for name in ("id", "input", "output")
        }
    assert result.out.isascii()


async def test_a_repeated_id_is_waited_for_once(emulator: Emulator, shell: Shell) -> None:
    """In upper or lower case. One line."""
    job = emulator.add_job(0)
    result = await shell.run("wait", job, str(job).upper(), "-", stdin=f"{job}\n")
    assert len(result.lines) == 1
    assert emulator.requests_of(job) == 1


async def test_ids_also_come_from_standard_input(emulator: Emulator, shell: Shell) -> None:
    """One per line, ignoring blank lines, spaces and a byte order mark. Ids in arguments count too."""
    first, second, third = (emulator.add_job(seconds) for seconds in (10, 30, 60))
    result = await shell.run("wait", third, "-", stdin=f"\ufeff{first}\n  \n\r\n {second}\r\n")
    assert [line.split()[0] for line in result.lines] == [str(first), str(second), str(third)]


@pytest.mark.parametrize(
    "printing",
    [["create", "--voice", "v", "--text", "Hello."], ["create", "--voice", "v", "--text", "x", "--wait"], ["get"]],
    ids=["create", "create and wait", "get"],
)
async def test_it_reads_the_output_of_other_commands(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch, printing: list[str]
) -> None:
    """The first word of each line is the id, also in the output of `wait`."""
    arguments = [*printing, emulator.add_job()] if printing == ["get"] else printing
    printed = (await shell.run(*arguments)).out
    (job,) = emulator.jobs
    first = await Shell(monkeypatch).run("wait", "-", stdin=printed)
    second = await Shell(monkeypatch).run("wait", "-", stdin=f"\ufeff \n{first.out}\t{printed}")
    for result in (first, second):
        assert (result.status, result.err) == (0, "")
        assert [line.split()[:2] for line in result.lines] == [[str(job), "COMPLETED"]]


async def test_no_ids_on_standard_input_is_no_error(emulator: Emulator, shell: Shell) -> None:
    """An empty list of open jobs is fine, but a message says so."""
    result = await shell.run("wait", "-", stdin="\n")
    assert (result.status, result.out) == (0, "")
    assert result.err == "playai-async: no ids on standard input\n"


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
async def test_the_exit_code_is_the_worst(emulator: Emulator, shell: Shell, kinds: str, status: int) -> None:
    """An error comes before a timeout, and a timeout before a failed job."""
    jobs = {
        "completed": emulator.add_job(1),
        "failed": emulator.add_job(1, fails=True),
        "endless": emulator.add_job(float("inf")),
        "unknown": NO_JOB,
    }
    result = await shell.run("wait", "--timeout", 30, *(jobs[kind] for kind in kinds.split()))
    assert result.status == status


@pytest.mark.parametrize("end", ["\n", "", "\r\n\n  \n"], ids=["newline", "no newline", "blank lines"])
async def test_it_reads_lines_of_text_and_of_json(emulator: Emulator, shell: Shell, end: str) -> None:
    """Of `create` and `wait`, with and without `--json`, as with `create --json | wait -`."""
    await shell.run("create", "--voice", "v", "--text", "Hello.")
    await shell.run("create", "--voice", "v", "--text", '{"id": 1}', "--json")
    await shell.run("wait", emulator.add_job())
    await shell.run("wait", emulator.add_job(), "--json")
    printed, shell.out = shell.out.getvalue(), io.StringIO()
    result = await shell.run("wait", "-", stdin="\n\ufeff \n" + printed.rstrip() + end)
    assert (result.status, result.err) == (0, "")
    assert {line.split()[0] for line in result.lines} == set(map(str, emulator.jobs))
    assert len(emulator.jobs) == 4


async def test_the_window_of_the_quota_can_be_set(emulator: Emulator, shell: Shell) -> None:
    """The quota is for this window instead of a minute."""
    jobs = [emulator.add_job() for _ in range(10)]
    result = await shell.run("wait", *jobs, "--requests-per-minute", 2, "--window", 5)
    assert result.status == 0
    assert 15 < asyncio.get_running_loop().time() < 30


async def test_an_error_is_one_line_and_stops_no_other(emulator: Emulator, shell: Shell) -> None:
    """On standard error, with the job id once. Nothing on standard output, also with --json."""
    job = emulator.add_job(30)
    result = await shell.run("wait", NO_JOB, job, "--json")
    (line,) = result.err.splitlines()
    assert line.startswith(f"PlayAI answered 404 for job {NO_JOB}")
    assert line.count(str(NO_JOB)) == 1
    assert [document["id"] for document in result.documents] == [str(job)]


def test_an_error_without_the_id_is_prefixed_with_it(shell: Shell) -> None:
    """So that the waits can be told apart."""
    Reporter(Output(shell.out, shell.err)).report(SessionClosedError("The session was closed.", job_id=NO_JOB), NO_JOB)
    assert (shell.out.getvalue(), shell.err.getvalue()) == ("", f"{NO_JOB}: The session was closed.\n")


async def test_a_timeout_prints_the_last_error(emulator: Emulator, shell: Shell) -> None:
    """It explains why there was no answer. The message also says that the job goes on."""
    emulator.inject(Status(429), times=None)
    job = emulator.add_job()
    result = await shell.run("wait", job, "--timeout", 20)
    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.1)
    (line,) = result.err.splitlines()
    assert line.startswith(f"Job {job} was not done after 20.0 s")
    assert "it goes on" in line
    assert "The last error: PlayAI answered 429" in line


async def test_a_timeout_without_an_error_mentions_none(emulator: Emulator, shell: Shell) -> None:
    """All polls were answered."""
    result = await shell.run("wait", emulator.add_job(100), "--timeout", 20)
    assert result.err
    assert "last error" not in result.err


async def test_the_default_timeout_is_ten_minutes(emulator: Emulator, shell: Shell) -> None:
    """The library's default."""
    result = await shell.run("wait", emulator.add_job(float("inf")))
    assert result.status == 4
    assert asyncio.get_running_loop().time() == pytest.approx(600, abs=0.1)


async def test_a_known_quota_is_never_exceeded(emulator: Emulator, shell: Shell) -> None:
    """With many jobs: no 429 at all."""
    emulator.quota = 12
    jobs = [emulator.add_job(60) for _ in range(20)]
    result = await shell.run("wait", *jobs, "--requests-per-minute", 12)
    assert result.status == 0
    assert emulator.stats.throttled == 0
    assert emulator.stats.requests <= 12 * (asyncio.get_running_loop().time() / 60 + 1)


async def test_a_hundred_jobs_are_waited_for_at_once(emulator: Emulator, shell: Shell) -> None:
    """In little more than the time of the longest job. With an unknown quota the rate has to grow first."""
    jobs = [emulator.add_job(10) for _ in range(100)]
    result = await shell.run("wait", "-", stdin="\n".join(map(str, jobs)))
    assert {line.split()[0] for line in result.lines} == set(map(str, jobs))
    assert asyncio.get_running_loop().time() < 40


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 500], ids=str)
async def test_key_and_user_id_are_in_no_output(emulator: Emulator, shell: Shell, status: int) -> None:
    """Also if the service echoes them in any field, and in the progress display."""
    emulator.inject(
        Status(status, {"errorId": f"KEY {KEY}", "errorMessage": f"{USER} is not {KEY}"}, headers={"X-Echo": KEY}),
        times=None,
    )
    shell.err = Terminal()
    result = await shell.run("wait", emulator.add_job())
    assert result.status == 3
    assert f"PlayAI answered {status}" in result.err
    for secret in (KEY, USER):
        assert secret not in result.out + result.err


async def test_control_characters_of_the_service_are_replaced(emulator: Emulator, shell: Shell) -> None:
    """Line breaks and escape sequences become spaces. The message stays one line."""
    emulator.inject(Status(400, {"errorMessage": "two\nlines\r\x1b[2Jand\x07 more"}))
    result = await shell.run("wait", emulator.add_job())
    (line,) = result.err.splitlines()
    assert line.endswith("two lines [2Jand more.")


async def test_an_invalid_reply_is_an_error(emulator: Emulator, shell: Shell) -> None:
    """After the library's retries."""
    emulator.inject(Malformed("html"), times=None)
    result = await shell.run("wait", emulator.add_job())
    assert result.status == 3
    assert "breaks the contract" in result.err


async def test_an_unreachable_service_is_an_error(emulator: Emulator, shell: Shell) -> None:
    """One line, and no traceback."""
    await emulator.stop()
    result = await shell.run("wait", NO_JOB)
    assert result.status == 3
    (line,) = result.err.splitlines()
    host = emulator.base_url.removeprefix("http://")
    assert f"The reason: Cannot connect to host {host} " in line
    assert line.endswith("(Connection refused).")


class UnprintableError(Exception):
    """An error of a library."""

    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("cause", "printed"),
    [
        (None, "It failed (OSError)."),
        (Exception("OSError"), "It failed (OSError)."),
        (Exception(), "It failed (OSError)."),
        (UnprintableError(), "It failed (OSError)."),
        (Exception("No\nroute."), "It failed (OSError). The reason: No route."),
        (OSError(errno.ECONNRESET, "lost"), f"It failed (OSError). The reason: [Errno {errno.ECONNRESET}] lost "),
        (Exception(f"no {KEY}"), "It failed (OSError). The reason: no "),
    ],
    ids=["none", "in the message", "empty", "unprintable", "more", "number", "secret"],
)
@pytest.mark.usefixtures("credentials")
def test_the_reason_of_an_error_is_printed(shell: Shell, cause: Exception | None, printed: str) -> None:
    """If it says more than the error. Also the reason of the last error before a timeout."""
    reporter = Reporter(Output(shell.out, shell.err))
    error = TransportError("It failed (OSError).")
    error.__cause__ = cause
    reporter.report(error)
    reporter.report(WaitTimeoutError("Too late.", last_error=error, elapsed=1, polls=1))
    first, second = shell.err.getvalue().splitlines()
    assert first.startswith(printed)
    assert second == f"Too late. The last error: {first}"
    assert KEY not in first


async def test_a_cancelled_wait_leaves_nothing_running(emulator: Emulator, shell: Shell) -> None:
    """As after Ctrl-C: the waits and the session end with the command, and the jobs go on."""
    jobs = [emulator.add_job(100) for _ in range(5)]
    command = asyncio.create_task(shell.run("wait", *jobs))
    await asyncio.sleep(10)
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command
    assert [task for task in asyncio.all_tasks() if "playai_async/_cli" in repr(task)] == []
    assert [task for task in asyncio.all_tasks() if task.get_name() == "playai_async"] == []
    assert shell.out.getvalue() == ""
    assert shell.err.getvalue() == "playai-async: interrupted; 5 jobs go on; to wait again, repeat the command\n"


@pytest.mark.parametrize("command", ["get", "wait", "wait --json"])
@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left on device")], ids=str)
async def test_an_id_that_cannot_be_written_goes_to_standard_error(
    emulator: Emulator, shell: Shell, command: str, error: OSError
) -> None:
    """It may be known from the pipe of another command only. An id that was written does not."""
    job = emulator.add_job()
    await shell.run(*command.split(), job)
    shell.out = Broken(error)
    with pytest.raises(OSError, match=error.strerror):
        await shell.run(*command.split(), job)
    assert shell.err.getvalue() == f"playai-async: the result of job {job} could not be written\n"


async def test_a_broken_pipe_ends_the_other_waits(emulator: Emulator, shell: Shell) -> None:
    """At the first line, as with `| head -1`."""
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run("wait", emulator.add_job(5), emulator.add_job(500))
    assert asyncio.get_running_loop().time() < 20
    assert [task for task in asyncio.all_tasks() if task.get_name() == "playai_async"] == []
