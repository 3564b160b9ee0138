"""What the program does when it is interrupted or told to end, mostly as a process of its own."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from playai_async._cli import main
from playai_async._cli.errors import ExitCode
from playai_async.emulator import Emulator, Slow
from tests.cli.conftest import PROGRAM, environment, files_in

JOB = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"
SECONDS = 30
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""What ends the program, and the exit status that stands for it."""

endings = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def _signals_are_heard() -> Iterator[None]:
    """Undo what a shell or `nohup` does to the processes it starts, which ignore SIGINT or SIGHUP from birth."""
    inherited = {
        number: signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number in SIGNALS
    }
    yield
    for number, handler in inherited.items():
        signal.signal(number, handler)


def test_ctrl_c_ends_a_wait_at_once_and_quietly(
    emulated: tuple[subprocess.Popen[str], dict[str, str], list[str]],
) -> None:
    """Status 130 within a second, and not a word more; the server it waited on ends the same way."""
    server, settings, jobs = emulated
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        [*PROGRAM, "wait", "-"],
        env=environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stdin
        assert waiting.stdout
        assert waiting.stderr
        waiting.stdin.write("\n".join([*jobs, JOB]))
        waiting.stdin.close()
        assert JOB in waiting.stderr.readline()  # which there is not, so that the others are under way
        for process in (waiting, server):
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait(SECONDS) == 130
            assert time.monotonic() - began < 1
        assert waiting.stdout.read() == ""
        assert waiting.stderr.read() == ""
    assert server.stderr
    assert "Traceback" not in server.stderr.read()


@endings
@pytest.mark.parametrize("command", ["wait", "create"])
def test_a_signal_ends_a_download_at_once_and_leaves_no_part_of_it(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    """With its status within a second, in the middle of the audio; a job that was created is not lost."""
    errors, job = asyncio.run(_interrupted_in_a_download(command, tmp_path, number))
    assert files_in(tmp_path) == []
    assert errors.count("\n") == errors.count(f"playai-async wait {job} --download ") == int(command == "create")


async def _interrupted_in_a_download(command: str, directory: Path, number: signal.Signals) -> tuple[str, UUID]:
    """What was written to standard error, and the job."""
    async with Emulator(job_duration=0.1) as emulator:
        emulator.inject(Slow(SECONDS), endpoint="audio")
        arguments = ["--voice", "v", "--text", "x" * 1000] if command == "create" else [str(emulator.add_job())]
        process = await _started(command, *arguments, "--download", str(directory), to=emulator)
        async with asyncio.timeout(SECONDS):
            while not any((directory / name).stat().st_size for name in files_in(directory)):
                await asyncio.sleep(0.02)
        process.send_signal(number)
        began = time.monotonic()
        out, errors = await process.communicate()
        assert (process.returncode, out) == (SIGNALS[number], b"")
        assert time.monotonic() - began < 1
        return errors.decode(), emulator.jobs[0]


@endings
def test_a_signal_does_not_lose_a_job_that_is_waited_for(number: signal.Signals) -> None:
    """It was paid for: a line says how to take it up, and no more than that."""
    status, out, errors, job = asyncio.run(_signalled_in_a_wait(number, seconds=SECONDS))
    assert (status, out) == (SIGNALS[number], "")
    assert errors == f"playai-async: job {job} keeps running; to wait for it: playai-async wait {job}\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_a_terminal_that_is_gone_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    """Though the progress on it can't be wiped off any more, and all that is said there fails."""
    assert asyncio.run(_hung_up_in_a_download(tmp_path)) == 129
    assert files_in(tmp_path) == []


async def _hung_up_in_a_download(directory: Path) -> int:
    """The status."""
    ours, terminal = os.openpty()
    async with Emulator(job_duration=0.1) as emulator:
        emulator.inject(Slow(SECONDS), endpoint="audio")
        arguments = ["create", "--voice", "v", "--text", "x" * 1000, "--download", str(directory)]
        process = await _started(*arguments, to=emulator, stdout=terminal, stderr=terminal)
        async with asyncio.timeout(SECONDS):
            while not files_in(directory):
                await asyncio.sleep(0.02)
        os.close(terminal)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        return await process.wait()


def test_a_signal_that_is_ignored_ends_nothing() -> None:
    """As under `nohup`, with which a wait outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # for the child, too; put back by the fixture
    status, out, errors, _ = asyncio.run(_signalled_in_a_wait(signal.SIGHUP, seconds=2))
    assert (status, errors) == (0, "")
    assert "COMPLETED" in out


async def _signalled_in_a_wait(number: signal.Signals, *, seconds: float) -> tuple[int | None, str, str, UUID]:
    """The status, what was written, and the job, which takes so many seconds."""
    async with Emulator(job_duration=seconds) as emulator:
        process = await _started("create", "--voice", "v", "--text", "x", "--wait", to=emulator)
        async with asyncio.timeout(SECONDS):
            while not (emulator.jobs and emulator.requests_of(emulator.jobs[0])):
                await asyncio.sleep(0.02)
        process.send_signal(number)
        out, errors = await process.communicate()
        return process.returncode, out.decode(), errors.decode(), emulator.jobs[0]


async def _started(
    *arguments: str, to: Emulator, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
) -> asyncio.subprocess.Process:
    settings = environment(PLAYAI_API_KEY="key", PLAYAI_USER_ID="user", PLAYAI_BASE_URL=to.base_url)
    return await asyncio.create_subprocess_exec(*PROGRAM, *arguments, env=settings, stdout=stdout, stderr=stderr)


def test_ctrl_c_does_not_wait_for_a_name_server() -> None:
    """A name is resolved in a thread that nothing can interrupt; the program ends all the same."""
    slow_names = """
import socket, sys, threading, time
def getaddrinfo(*_, **__):
    print("asked", flush=True)
    time.sleep(20)
socket.getaddrinfo = getaddrinfo
from playai_async.__main__ import main
sys.argv = ["playai-async", *sys.argv[1:]]
sys.exit(main())
"""
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        [sys.executable, "-c", slow_names, "wait", JOB],
        env=environment(PLAYAI_API_KEY="key", PLAYAI_USER_ID="user", PLAYAI_BASE_URL="https://playai.invalid"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(SECONDS) == 130
        assert time.monotonic() - began < 1
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError("no terminal")], ids=["told", "terminal gone"])
def test_a_command_that_is_told_to_end_cleans_up(number: signal.Signals, error: BaseException) -> None:
    """To its end, though it is told twice; what is wrong with a terminal that is gone doesn't change the status."""
    cleaned: list[bool] = []

    async def told_twice() -> ExitCode:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)
            cleaned.append(True)
            raise error from None
        return ExitCode.SUCCESS

    assert main.run(told_twice()) == SIGNALS[number]
    assert cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_that_somebody_handles_is_theirs() -> None:
    """Or that is ignored: the command goes on."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def hang_up() -> ExitCode:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        return ExitCode.SUCCESS

    assert main.run(hang_up()) is ExitCode.SUCCESS


def test_an_error_that_no_signal_brought_is_raised() -> None:
    """A full disk, say."""

    async def fail() -> ExitCode:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        main.run(fail())
