"""`playai-async emulate`."""

import asyncio
import errno
import re
import shlex
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from playai_async.emulator import Emulator
from tests.cli.conftest import Shell, files_in

pytestmark = pytest.mark.looptime

ID = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"


@asynccontextmanager
async def emulating(shell: Shell, *arguments: object) -> AsyncIterator[list[str]]:
    """Yield the printed lines while the command runs, then interrupt it."""
    serving = asyncio.create_task(shell.run("emulate", *arguments))
    while shell.out.getvalue().count("\n") < 3:  # no sleep: the socket is opened in real time
        await asyncio.sleep(0)
        assert not serving.done()
    yield shell.out.getvalue().splitlines()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_it_prints_settings_and_test_jobs(shell: Shell, no_settings: None) -> None:
    """Commands for a shell and ids go to standard output, explanations to standard error."""
    async with emulating(shell) as lines:
        assert re.fullmatch(r"export PLAYAI_BASE_URL=http://127\.0\.0\.1:\d+", lines[0])
        assert lines[1:3] == ["export PLAYAI_API_KEY=anything", "export PLAYAI_USER_ID=anything"]
        ends = [re.fullmatch(r"[0-9a-f-]{36} (.*)", line) for line in lines[3:]]
        assert [end and end[1] for end in ends] == [
            "completes after 5 s",
            "completes after 10 s",
            "completes after 15 s",
            "completes after 20 s",
            "fails after 25 s",
        ]
        address = lines[0].partition("=")[2]
        messages = shell.err.getvalue().splitlines()
        assert messages[:2] == [f"The emulator (not the real service) listens on {address}", "Press Ctrl-C to stop."]
        assert messages[2] == "The audio is a tune. To hear the text instead, add --speak."
        assert messages[-1] == "To wait for a test job: playai-async wait ID"
        assert max(map(len, messages)) <= 80


def test_another_error_of_a_socket_keeps_its_words(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(_: Emulator) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Emulator, "start", start)
    result = shell.run_main("emulate")
    assert (result.status, result.err) == (3, "playai-async: [Errno 13] Permission denied\n")


async def test_its_settings_and_jobs_work(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wait` sees the states that `emulate` announced."""
    async with emulating(shell, "--jobs", 2) as lines:
        for line in lines[:3]:
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        ids = [line.split()[0] for line in lines[3:]]
        other = Shell(monkeypatch)
        result = await other.run("wait", *ids)
    assert [line.split()[:2] for line in result.lines] == [[ids[0], "COMPLETED"], [ids[1], "FAILED"]]


async def test_options_set_the_quota_and_the_window(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--retry-after`, a 429 says when to come back."""
    async with emulating(shell, "--quota", 1, "--window", 30, "--retry-after", "--jobs", 1) as lines:
        monkeypatch.setenv("PLAYAI_BASE_URL", lines[0].partition("=")[2])
        monkeypatch.setenv("PLAYAI_API_KEY", "anything")
        monkeypatch.setenv("PLAYAI_USER_ID", "anything")
        result = await Shell(monkeypatch).run("wait", lines[3].split()[0])
        assert result.status == 0
        assert 29 < asyncio.get_running_loop().time() < 33


@pytest.mark.parametrize(
    ("options", "seconds"),
    [("--limiter leaky", 15), ("--limiter bucket --burst 3", 0), ("--limiter concurrency", 0)],
)
async def test_options_set_the_kind_of_limit(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, credentials: None, options: str, seconds: float
) -> None:
    """Two requests a window: one after another at an even pace, from a bucket of three tokens, or at once."""
    options += " --quota 2 --window 30 --retry-after --jobs 0"
    async with emulating(shell, *options.split()) as lines:
        monkeypatch.setenv("PLAYAI_BASE_URL", lines[0].partition("=")[2])
        started = asyncio.get_running_loop().time()
        for _ in range(2):
            assert (await Shell(monkeypatch).run("wait", ID)).status == 3
        assert seconds <= asyncio.get_running_loop().time() - started < seconds + 2


async def test_verbose_logs_each_request(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, credentials: None, tmp_path: Path
) -> None:
    """Requests for audio, too, without the signature of the link."""
    async with emulating(shell, "--verbose", "--jobs", 0) as lines:
        monkeypatch.setenv("PLAYAI_BASE_URL", url := lines[0].partition("=")[2])
        create = ("create", "--voice", "v", "--text", "x", "--download", tmp_path)
        assert (await Shell(monkeypatch).run(*create)).status == 0
        async with aiohttp.ClientSession() as http:
            assert (await http.get(f"{url}/%0A%1b[31m?key=secret")).status == 404
    requests = shell.err.getvalue().splitlines()[5:]
    assert all(re.fullmatch(r"[A-Z]+ /\S* \d{3} \d+\.\d{3} s", request) for request in requests)
    shown = [request.split()[0:3:2] for request in requests]
    assert [shown[0], *shown[-3:]] == [["POST", "201"], ["GET", "200"], ["GET", "200"], ["GET", "404"]]
    assert "secret" not in shell.err.getvalue()
    assert "Signature" not in shell.err.getvalue()


async def test_verbose_logs_a_request_without_an_answer(shell: Shell) -> None:
    """As one whose client disconnected in the middle of its body."""
    async with emulating(shell, "--verbose", "--jobs", 0) as lines:
        port = lines[0].rpartition(":")[2]
        _, writer = await asyncio.open_connection("127.0.0.1", int(port))
        writer.write(b"POST /api/v1/tts HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(1)
        writer.close()
        await asyncio.sleep(1)
    assert re.search(r"POST /api/v1/tts no answer \d\.\d{3} s$", shell.err.getvalue().strip())


async def test_its_create_command_works(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Copied word for word."""
    monkeypatch.chdir(tmp_path)
    async with emulating(shell) as lines:
        for line in lines[:3]:
            name, _, value = line.removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        (hint,) = re.findall(r"playai-async (create .*)", shell.err.getvalue())
        result = await Shell(monkeypatch).run(*shlex.split(hint))
    assert result.status == 0
    assert result.out.split()[2] == f"out/{files_in(tmp_path / 'out')[0]}"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("/usr/bin/espeak-ng", "The audio of jobs that you create is their text, spoken by espeak-ng."),
        (None, "espeak-ng is not installed, so the audio is a tune. Debian: apt install espeak-ng"),
    ],
    ids=["installed", "not installed"],
)
async def test_speak_says_whether_there_is_speech(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, found: str | None, message: str
) -> None:
    """And how to get it."""
    monkeypatch.setattr(shutil, "which", lambda _: found)
    async with emulating(shell, "--speak", "--jobs", 0):
        assert shell.err.getvalue().splitlines()[2] == message


async def test_create_requests_have_their_own_quota(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, credentials: None
) -> None:
    """As at the service."""
    async with emulating(shell, "--create-quota", 1, "--window", 30, "--retry-after", "--jobs", 0) as lines:
        monkeypatch.setenv("PLAYAI_BASE_URL", lines[0].partition("=")[2])
        for _ in range(2):
            assert (await Shell(monkeypatch).run("create", "--voice", "v", "--text", "x")).status == 0
        assert 29 < asyncio.get_running_loop().time() < 33


async def test_it_runs_without_test_jobs(shell: Shell) -> None:
    """A single test job completes."""
    async with emulating(shell, "--jobs", 0) as lines:
        assert len(lines) == 3
        assert "wait for a test job" not in shell.err.getvalue()
    shell.out.seek(0)
    shell.out.truncate()
    async with emulating(shell, "--jobs", 1) as lines:
        assert lines[3].endswith("completes after 5 s")


def test_a_taken_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the port and what to do."""

    async def take_and_try() -> None:
        first = Shell(monkeypatch)
        async with emulating(first) as lines:
            port = lines[0].rpartition(":")[2]
            result = await asyncio.to_thread(Shell(monkeypatch).run_main, "emulate", "--port", port)
            assert result.status == 3
            assert result.err == f"playai-async: port {port} is in use: pass another --port, or none for a free port\n"

    asyncio.run(take_and_try())
