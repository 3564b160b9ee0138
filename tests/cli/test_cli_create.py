"""`playai-async create`: a job from a text, told of whatever happens."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from playai_async._cli.errors import UsageError
from playai_async.emulator import Emulator, Hang, Slow, Status
from tests.cli.conftest import KEY, USER, Broken, Ending, Shell, Terminal, files_in

pytestmark = pytest.mark.looptime

SHORT = ("create", "--voice", "v", "--text", "Hello.")
NEVER: dict[str, Any] = {"status": "IN_PROGRESS"}


@asynccontextmanager
async def created(
    emulator: Emulator, shell: Shell, *arguments: object
) -> AsyncIterator[tuple[UUID, asyncio.Task[Any]]]:
    """A job that the command created, as soon as there is one, and the command, which goes on."""
    command = asyncio.create_task(shell.run(*SHORT, *arguments))
    while not emulator.jobs:
        await asyncio.sleep(0)
    yield emulator.jobs[0], command
    if not command.done():
        await command


async def until(condition: Callable[[], object]) -> None:
    """Let the others go on until it is so."""
    while not condition():
        await asyncio.sleep(0.01)


async def cut_off(command: asyncio.Task[Ending]) -> None:
    """Do what Ctrl-C does."""
    command.cancel()
    with pytest.raises(asyncio.CancelledError):
        await command


async def test_it_prints_the_id_and_the_state_at_once(emulator: Emulator, shell: Shell) -> None:
    """And does not wait; one request."""
    ending = await shell.run(*SHORT)
    (job,) = emulator.jobs
    assert (ending.status, ending.out, ending.err) == (0, f"{job} IN_PROGRESS\n", "")
    assert emulator.stats.requests == 1


async def test_what_is_asked_for_is_what_is_sent(emulator: Emulator, shell: Shell) -> None:
    """Models and formats are the service's to know."""
    ending = await shell.run(*SHORT, "--model", "Play9", "--output-format", "8track", "--json")
    (document,) = ending.documents
    (request,) = emulator.arrivals
    assert json.loads(request.body) == document["input"]
    assert document["input"] == {"text": "Hello.", "voice": "v", "model": "Play9", "outputFormat": "8track"}
    assert (document["id"], document["output"]) == (str(emulator.jobs[0]), {"status": "IN_PROGRESS"})


async def test_left_out_is_what_the_library_leaves_out(emulator: Emulator, shell: Shell) -> None:
    """The model has its default, and the format is the service's choice."""
    await shell.run(*SHORT)
    assert json.loads(emulator.arrivals[0].body) == {"text": "Hello.", "voice": "v", "model": "PlayDialog"}


@pytest.mark.parametrize("text", ["- one\n- two", "-5 degrees", "@file", "\ufeff", "{x}"], ids=repr)
async def test_a_text_may_look_like_anything(emulator: Emulator, shell: Shell, text: str) -> None:
    """But an option; it is sent as it is."""
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
    """Or from standard input, whatever the locale; it is sent as it is."""
    file = tmp_path / "story.txt"
    file.write_bytes(content)
    await shell.run("create", "--voice", "v", "--file", file)
    await shell.run("create", "--voice", "v", "--file", "-", stdin=content.decode())
    assert [json.loads(request.body)["text"] for request in emulator.arrivals] == [text, text]


async def test_waiting_prints_the_end(emulator: Emulator, shell: Shell) -> None:
    """One line, as `wait` does, and nothing before it."""
    async with created(emulator, shell, "--wait") as (job, command):
        assert shell.out.getvalue() == ""
        ending = await command
    assert (ending.status, ending.err) == (0, "")
    (line,) = ending.lines
    assert line.startswith(f"{job} COMPLETED http://")


async def test_waiting_for_a_document(emulator: Emulator, shell: Shell) -> None:
    """The last one, as the service has it."""
    ending = await shell.run(*SHORT, "--wait", "--json")
    assert ending.documents[0]["output"]["status"] == "COMPLETED"


async def test_downloading_waits(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """The line comes when the file is whole, and names it."""
    ending = await shell.run(*SHORT, "--download", tmp_path / "new" / "out")
    (job,) = emulator.jobs
    file = tmp_path / "new" / "out" / f"{job}.wav"
    assert (ending.status, ending.out, ending.err) == (0, f"{job} COMPLETED {file}\n", "")
    assert file.read_bytes() == emulator.audio_of(job)


@pytest.mark.parametrize("option", ["--wait", "--download=out"])
async def test_a_failed_job_is_a_result(
    emulator: Emulator, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, option: str
) -> None:
    """With a status of its own; there is nothing to download."""
    monkeypatch.chdir(tmp_path)
    async with created(emulator, shell, option) as (job, command):
        emulator.set_output(job, {"status": "FAILED"})
        ending = await command
    assert (ending.status, ending.out, ending.err) == (1, f"{job} FAILED\n", "")
    assert emulator.audio_arrivals == ()


@pytest.mark.parametrize("status", [400, 401, 403, 500], ids=str)
async def test_a_refusal_is_an_error(emulator: Emulator, shell: Shell, status: int) -> None:
    """One line in the service's words, without the credentials; no job is named, since there is none."""
    emulator.inject(Status(status, {"errorMessage": f"No\nto {KEY} of {USER}."}), endpoint="create")
    ending = await shell.run(*SHORT, "--wait")
    assert (ending.status, ending.out) == (3, "")
    (line,) = ending.err.splitlines()
    assert line.startswith(f"PlayAI answered {status} to create a job")
    assert KEY not in line
    assert USER not in line
    assert emulator.jobs == ()


async def test_a_creation_that_takes_too_long_is_a_timeout(emulator: Emulator, shell: Shell) -> None:
    """After the library's ten minutes; the line says that there may be a job."""
    emulator.inject(Status(429, headers={"Retry-After": "3600"}), endpoint="create")
    ending = await shell.run(*SHORT)
    assert (ending.status, ending.out) == (4, "")
    assert ending.err.startswith("No job was created within 600.0 s")


async def test_a_wait_that_takes_too_long_names_the_job(emulator: Emulator, shell: Shell) -> None:
    """And the command with which it can be waited for again."""
    async with created(emulator, shell, "--wait") as (job, command):
        emulator.set_output(job, NEVER)
        ending = await command
    assert (ending.status, ending.out) == (4, "")
    line, hint = ending.err.splitlines()
    assert str(job) in line
    assert "it goes on" in line
    assert hint == f"playai-async: job {job} was created; to wait for it: playai-async wait {job}"


@pytest.mark.parametrize("endpoint", ["status", "audio"])
async def test_an_error_after_the_creation_names_the_job(
    emulator: Emulator, shell: Shell, tmp_path: Path, endpoint: Any
) -> None:
    """It was paid for, whatever comes after; the last line says how to take it up."""
    emulator.inject(Status(403), times=None, endpoint=endpoint)
    ending = await shell.run(*SHORT, "--download", tmp_path)
    assert (ending.status, ending.out) == (3, "")
    line, hint = ending.err.splitlines()
    (job,) = emulator.jobs
    assert str(job) in line
    assert hint.endswith(f": playai-async wait {job} --download {tmp_path}")


async def test_a_wait_that_is_interrupted_says_how_to_go_on(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """A line with the job's id, and a command that can be pasted."""
    async with created(emulator, shell, "--download", tmp_path / "to  here") as (job, command):
        emulator.set_output(job, NEVER)
        await asyncio.sleep(5)
        await cut_off(command)
    (line,) = shell.err.getvalue().splitlines()
    assert line.startswith(f"playai-async: job {job} keeps running; ")
    assert line.endswith(f": playai-async wait {job} --download '{tmp_path}/to  here'")
    assert shell.out.getvalue() == ""


async def test_a_download_that_is_interrupted_leaves_no_file(emulator: Emulator, shell: Shell, tmp_path: Path) -> None:
    """And the job's id, all the same."""
    emulator.inject(Slow(30), endpoint="audio")
    async with created(emulator, shell, "--download", tmp_path) as (job, command):
        await until(lambda: files_in(tmp_path))
        await cut_off(command)
    assert f"playai-async wait {job} --download " in shell.err.getvalue()
    assert files_in(tmp_path) == []


async def test_an_interruption_that_cannot_be_told_of_is_still_one(emulator: Emulator, shell: Shell) -> None:
    """Standard error may be gone, too."""
    shell.err = Broken(BrokenPipeError())
    async with created(emulator, shell, "--wait") as (_, command):
        await asyncio.sleep(0.1)
        await cut_off(command)


async def test_a_creation_that_is_interrupted_may_have_been_one(emulator: Emulator, shell: Shell) -> None:
    """The service has the request, and its answer will not be read."""
    emulator.inject(Hang(), endpoint="create")
    async with created(emulator, shell) as (_, command):
        await cut_off(command)
    assert shell.err.getvalue().splitlines() == [
        "playai-async: interrupted while the job was being created; the job may exist"
    ]


async def test_a_pause_before_the_creation_is_interrupted_quietly(emulator: Emulator, shell: Shell) -> None:
    """What was answered with 429 made no job."""
    emulator.create_quota = 0
    command = asyncio.create_task(shell.run(*SHORT))
    await asyncio.sleep(2)
    await cut_off(command)
    assert emulator.stats.throttled > 0
    assert shell.err.getvalue() == ""


@pytest.mark.parametrize("options", [[], ["--wait"]], ids=["at once", "waiting"])
async def test_a_result_that_cannot_be_written_is_told_of(emulator: Emulator, shell: Shell, options: list[str]) -> None:
    """The id is worth money: where nobody reads the results, it goes to standard error."""
    shell.out = Broken(BrokenPipeError())
    with pytest.raises(BrokenPipeError):
        await shell.run(*SHORT, *options)
    job = emulator.jobs[0]
    assert shell.err.getvalue().splitlines() == [
        f"playai-async: job {job} was created; to wait for it: playai-async wait {job}"
    ]


async def test_progress_names_the_job(emulator: Emulator, shell: Shell) -> None:
    """Once there is one; and it is wiped off in the end."""
    shell.err = err = Terminal()
    emulator.inject(Status(429, headers={"Retry-After": "10"}), endpoint="create")
    command = asyncio.create_task(shell.run(*SHORT, "--wait"))
    await asyncio.sleep(5)
    before = err.lines()
    assert before[1:3] == ["Job being created", "Jobs 1 waiting, 0 completed, 0 failed, 0 errors"]
    assert before[4].startswith("Pacing throttled for ")
    await until(lambda: emulator.jobs)
    (job,) = emulator.jobs
    emulator.set_output(job, NEVER)
    await asyncio.sleep(5)
    assert err.lines()[1] == f"Job {job}"
    emulator.set_output(job, None)
    await command
    assert err.lines() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
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
def test_what_makes_no_sense_is_not_sent(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    """It is a mistake of usage, said in a line before anything is paid for, and names what is wrong."""
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text(" \n\n")
    Path("binary").write_bytes(b"\xff\xfb\x90\x00")
    ending = shell.run_to_the_end("create", "--download", "out", *arguments)
    assert (ending.status, ending.out) == (2, "")
    (line,) = ending.err.splitlines()
    assert line.startswith("playai-async: ")
    assert complaint in line
    assert not Path("out").exists()


async def test_a_closed_standard_input_has_no_text(emulator: Emulator, shell: Shell) -> None:
    """It is None in Python."""
    shell.closed_stdin = True
    with pytest.raises(UsageError, match="standard input contains no text"):
        await shell.run("create", "--voice", "v", "--file", "-")
