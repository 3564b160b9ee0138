"""`playai-async create`: creates a job and prints its id in every case."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playai_async import InvalidResponseError, PlayAISession
from playai_async._cli.errors import UsageError
from playai_async.emulator import Emulator, Hang, Slow, Status
from tests.cli.conftest import KEY, USER, Broken, CommandResult, Shell, Terminal, files_in

pytestmark = pytest.mark.looptime

SHORT = ("create", "--voice", "v", "--text", "Hello.")
NEVER: dict[str, Any] = {"status": "IN_PROGRESS"}


@asynccontextmanager
async def created(
    emulator: Emulator, shell: Shell, *arguments: object
) -> AsyncIterator[tuple[UUID, asyncio.Task[Any]]]:
    """Return the job as soon as the command has created it, and the running command."""
    command = asyncio.create_task(shell.run(*SHORT, *arguments))
    while not emulator.jobs:
        await asyncio.sleep(0)
    yield emulator.jobs[0], command
    if not command.done():
        await command


async def until(condition: Callable[[], object]) -> None:
    """Yield to other tasks until the condition holds."""
    while not condition():
        await asyncio.sleep(0.01)


async def interrupt(command: asyncio.Task[CommandResult]) -> None:
    """Cancel the command, as Ctrl-C does."""
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command


async def test_it_prints_the_id_alone_and_at_once(emulator: Emulator, shell: Shell) -> None:
    """So that a shell can assign it to a variable. It does not wait, and sends one request."""
    result = await shell.run(*SHORT)
    (job,) = emulator.jobs
    assert (result.status, result.out, result.err) == (0, f"{job}\n", "")
    assert emulator.stats.requests == 1


async def test_it_sends_the_options_unchanged(emulator: Emulator, shell: Shell) -> None:
    """Only the service knows its models and formats."""
    result = await shell.run(*SHORT, "--model", "Play9", "--output-format", "8track", "--json")
    (document,) = result.documents
    (request,) = emulator.arrivals
    assert json.loads(request.body) == document["input"]
    assert document["input"] == {"text": "Hello.", "voice": "v", "model": "Play9", "outputFormat": "8track"}
    assert (document["id"], document["output"]) == (str(emulator.jobs[0]), {"status": "IN_PROGRESS"})


async def test_options_default_to_the_library_s_defaults(emulator: Emulator, shell: Shell) -> None:
    """The model has a default; the service chooses the format."""
    await shell.run(*SHORT)
    assert json.loads(emulator.arrivals[0].body) == {"text": "Hello.", "voice": "v", "model": "PlayDialog"}


@pytest.mark.parametrize("text", ["- one\n- two", "-5 degrees", "@file", "\ufeff", "{x}"], ids=repr)
async def test_any_text_is_sent_unchanged(emulator: Emulator, shell: Shell, text: str) -> None:
    """Except a text that looks like an option."""
    await shell.run("create", "--voice", "v", "--text", text)
    assert json.loads(emulator.arrivals[0].body)["text"] == text


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"Hello.\n", "Hello.\n"), ("Grüße\r\n☃".encode(), "Grüße\r\n☃"), (b"\xef\xbb\xbfHello.", "Hello.")],
    ids=["ascii", "utf-8", "byte order mark"],
)
async def test_the_text_may_come_from_a_file(
    emulator: Emulator, shell: Shell, tmp_path: Path, content: bytes, text: str
) -> None:
    """Or from standard input, in any locale. It is sent unchanged, without a byte order mark."""
    file = tmp_path / "story.txt"
    file.write_bytes(content)
    await shell.run("create", "--voice", "v", "--file", file)
    await shell.run("create", "--voice", "v", "--file", "-", stdin=content.decode())
    assert [json.loads(request.body)["text"] for request in emulator.arrivals] == [text, text]


async def test_with_wait_it_prints_one_line_at_the_end(emulator: Emulator, shell: Shell) -> None:
    """The same line as `wait` prints, and nothing before."""
    async with created(emulator, shell, "--wait") as (job, command):
        assert shell.out.getvalue() == ""
        result = await command
    assert (result.status, result.err) == (0, "")
    (line,) = result.lines
    assert line.startswith(f"{job} COMPLETED http://")


async def test_with_wait_and_json_it_prints_the_finished_job(emulator: Emulator, shell: Shell) -> None:
    """One JSON object, with the final state."""
    result = await shell.run(*SHORT, "--wait", "--json")
    assert result.documents[0]["output"]["status"] == "COMPLETED"


async def test_with_download_it_waits_and_prints_the_path(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """The line is printed when the file is complete."""
    result = await shell.run(*SHORT, "--download", tmp_path / "new" / "out")
    (job,) = emulator.jobs
    file = tmp_path / "new" / "out" / f"{job}.wav"
    assert (result.status, result.out, result.err) == (0, f"{job} COMPLETED {file}\n", "")
    assert file.read_bytes() == emulator.audio_of(job)


@pytest.mark.parametrize("option", ["--wait", "--download=out"])
async def test_a_failed_job_is_a_result(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    """Exit code 1, and no download."""
    monkeypatch.chdir(tmp_path)
    async with created(emulator, shell, option) as (job, command):
        emulator.set_output(job, {"status": "FAILED"})
        result = await command
    assert (result.status, result.out, result.err) == (1, f"{job} FAILED\n", "")
    assert emulator.audio_arrivals == ()


@pytest.mark.parametrize("status", [400, 401, 403, 500], ids=str)
async def test_a_refusal_is_an_error(emulator: Emulator, shell: Shell, status: int) -> None:
    """One line with the service's message and without credentials. There is no job id."""
    emulator.inject(Status(status, {"errorMessage": f"No\nto {KEY} of {USER}."}), endpoint="create")
    result = await shell.run(*SHORT, "--wait")
    assert (result.status, result.out) == (3, "")
    (line,) = result.err.splitlines()
    assert line.startswith(f"PlayAI answered {status} to create a job")
    assert KEY not in line
    assert USER not in line
    assert emulator.jobs == ()


async def test_an_error_that_names_the_job_prints_the_wait_command(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job was created, although the reply was not as expected. Exit code 3."""
    job = UUID(int=7)

    async def create_job(*_: object, **__: object) -> None:
        raise InvalidResponseError("The reply is not a job.", problems=[], job_id=job)

    monkeypatch.setattr(PlayAISession, "create_job", create_job)
    result = await shell.run(*SHORT)
    assert (result.status, result.out) == (3, "")
    assert result.err.splitlines() == [
        f"{job}: The reply is not a job.",
        f"playai-async: job {job} was created; to wait for it:",
        f"  playai-async wait {job}",
    ]


async def test_create_times_out(emulator: Emulator, shell: Shell) -> None:
    """After the library's default of ten minutes, exit code 4."""
    emulator.inject(Status(429, headers={"Retry-After": "3600"}), endpoint="create")
    result = await shell.run(*SHORT)
    assert (result.status, result.out) == (4, "")
    assert result.err.startswith("No job was created within 600.0 s")


async def test_the_timeout_bounds_the_creation(emulator: Emulator, shell: Shell) -> None:
    """Exit code 4."""
    emulator.inject(Status(429, headers={"Retry-After": "3600"}), endpoint="create")
    result = await shell.run(*SHORT, "--timeout", 30)
    assert (result.status, result.out) == (4, "")
    assert result.err.startswith("No job was created within 30.0 s")


async def test_the_timeout_bounds_the_creation_and_the_wait(emulator: Emulator, shell: Shell) -> None:
    """Together. The job id is printed."""
    emulator.inject(Status(429, headers={"Retry-After": "20"}), endpoint="create")
    command = asyncio.create_task(shell.run(*SHORT, "--wait", "--timeout", 50))
    await until(lambda: emulator.jobs)
    emulator.set_output(emulator.jobs[0], NEVER)
    result = await command
    assert asyncio.get_running_loop().time() == pytest.approx(50, abs=0.5)
    assert (result.status, result.out) == (4, "")
    assert str(emulator.jobs[0]) in result.err


async def test_a_timeout_prints_the_id_and_the_wait_command(emulator: Emulator, shell: Shell) -> None:
    """The job keeps running and can be waited for again."""
    async with created(emulator, shell, "--wait") as (job, command):
        emulator.set_output(job, NEVER)
        result = await command
    assert (result.status, result.out) == (4, "")
    line, hint, wait_command = result.err.splitlines()
    assert str(job) in line
    assert "it goes on" in line
    assert hint == f"playai-async: job {job} was created; to wait for it:"
    assert wait_command == f"  playai-async wait {job}"


@pytest.mark.parametrize("endpoint", ["status", "audio"])
async def test_an_error_after_the_creation_prints_the_id(
    emulator: Emulator, shell: Shell, tmp_path: Path, endpoint: Any
) -> None:
    """The job was paid for. The last line is the command to wait for it."""
    emulator.inject(Status(403), times=None, endpoint=endpoint)
    result = await shell.run(*SHORT, "--download", tmp_path)
    assert (result.status, result.out) == (3, "")
    line, _, hint = result.err.splitlines()
    (job,) = emulator.jobs
    assert str(job) in line
    assert hint == f"  playai-async wait {job} --download {tmp_path}"


async def test_an_interrupted_wait_prints_the_wait_command(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """With the job id and quotes where the shell needs them."""
    async with created(emulator, shell, "--download", tmp_path / "to  here") as (job, command):
        emulator.set_output(job, NEVER)
        await asyncio.sleep(5)
        await interrupt(command)
    assert shell.err.getvalue().splitlines() == [
        f"playai-async: job {job} goes on; to wait for it:",
        f"  playai-async wait {job} --download '{tmp_path}/to  here'",
    ]
    assert shell.out.getvalue() == ""


async def test_an_interrupted_download_leaves_no_file(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """The job id is printed."""
    emulator.inject(Slow(30), endpoint="audio")
    async with created(emulator, shell, "--download", tmp_path) as (job, command):
        await until(lambda: files_in(tmp_path))
        await interrupt(command)
    assert f"playai-async wait {job} --download " in shell.err.getvalue()
    assert files_in(tmp_path) == []


async def test_an_interruption_with_closed_standard_error_still_cancels(emulator: Emulator, shell: Shell) -> None:
    """The message cannot be written, but the cancellation is raised."""
    shell.err = Broken(BrokenPipeError())
    async with created(emulator, shell, "--wait") as (_, command):
        await asyncio.sleep(0.1)
        await interrupt(command)


async def test_an_interrupted_creation_warns_that_the_job_may_exist(emulator: Emulator, shell: Shell) -> None:
    """The service has received the request."""
    emulator.inject(Hang(), endpoint="create")
    async with created(emulator, shell) as (_, command):
        await interrupt(command)
    assert shell.err.getvalue().splitlines() == [
        "playai-async: interrupted while the job was being created; the job may exist"
    ]


async def test_an_interruption_during_a_pause_prints_nothing(emulator: Emulator, shell: Shell) -> None:
    """A request that was answered with 429 created no job."""
    emulator.create_quota = 0
    command = asyncio.create_task(shell.run(*SHORT))
    await asyncio.sleep(2)
    await interrupt(command)
    assert emulator.stats.throttled > 0
    assert shell.err.getvalue() == ""


@pytest.mark.parametrize("options", [[], ["--wait"]], ids=["at once", "waiting"])
async def test_an_id_that_cannot_be_written_goes_to_standard_error(
    emulator: Emulator, shell: Shell, options: list[str]
) -> None:
    """The job was paid for, so its id must not be lost."""
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run(*SHORT, *options)
    job = emulator.jobs[0]
    assert shell.err.getvalue().splitlines() == [
        f"playai-async: job {job} was created; to wait for it:",
        f"  playai-async wait {job}",
    ]


async def test_progress_shows_the_job(emulator: Emulator, shell: Shell) -> None:
    """As soon as it exists. The display is removed at the end."""
    shell.err = err = Terminal()
    emulator.inject(Status(429, headers={"Retry-After": "10"}), endpoint="create")
    command = asyncio.create_task(shell.run(*SHORT, "--wait"))
    await asyncio.sleep(5)
    before = err.lines()
    assert before[1:3] == ["Job being created", "Jobs 1 waiting, 0 completed, 0 failed, 0 errors"]
    assert before[3] in {f"Time {at} s elapsed, 9 min {60 - at} s until the timeout" for at in (4, 5)}
    assert before[5].startswith("Pacing rate limited, next request in ")
    await until(lambda: emulator.jobs)
    (job,) = emulator.jobs
    emulator.set_output(job, NEVER)
    await asyncio.sleep(5)
    assert err.lines()[1] == f"Job {job}"
    emulator.set_output(job, None)
    await command
    assert err.lines() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--voice", "v"], "either --text or --file"),
        (["--voice", "v", "--text", "a", "--file", "b"], "either --text or --file"),
        (["--voice", "v", "--text", " \n"], "--text is empty"),
        (["--voice", "", "--text", "a"], "--voice is empty"),
        (["--voice", " ", "--text", "a"], "--voice is empty"),
        (["--voice", "v", "--text", "--wait"], "the value of --text looks like an option: --wait"),
        (["--voice", "v", "--text", "-"], "--file -"),
        (["--voice", "v", "--text", "\udcff"], "--text is not UTF-8 text"),
        (["--voice", "\udcff", "--text", "a"], "--voice is not UTF-8 text"),
        (["--voice", "v", "--text", "a", "--model", "\udcff"], "--model is not UTF-8 text"),
        (["--voice", "v", "--text", "a", "--output-format", "\udcff"], "--output-format is not UTF-8 text"),
        (["--voice", "v", "--file", "no such file"], "no such file cannot be read: No such file or directory"),
        (["--voice", "v", "--file", "."], ". cannot be read: Is a directory"),
        (["--voice", "v", "--file", "empty"], "empty contains no text"),
        (["--voice", "v", "--file", "binary"], "binary is not UTF-8 text"),
        (["--voice", "v", "--file", "-"], "standard input contains no text"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("credentials")
def test_a_usage_error_sends_nothing(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    """One line that names the wrong value, exit code 2."""
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text(" \n\n")
    Path("binary").write_bytes(b"\xff\xfb\x90\x00")
    result = shell.run_main("create", "--download", "out", *arguments)
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert line.startswith("playai-async: ")
    assert message in line
    assert not Path("out").exists()


async def test_a_closed_standard_input_has_no_text(emulator: Emulator, shell: Shell) -> None:
    """Python sets it to None."""
    shell.closed_stdin = True
    with pytest.raises(UsageError, match="standard input contains no text"):
        await shell.run("create", "--voice", "v", "--file", "-")
