"""SIGINT, SIGTERM and SIGHUP, mostly sent to a process."""

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
from tests.cli.conftest import PROGRAM, emulating, environment, files_in

JOB = "8a1f4c9e-3f1b-4b8e-9d57-0c2f6a7b1e42"
SECONDS = 30
AT_ONCE = 5
"""Seconds: enough for a process to end on a busy machine, and much less than the interrupted work would take."""

SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""The signals that end the program, and their exit codes."""


@pytest.fixture(autouse=True)
def _default_signal_handlers() -> Iterator[None]:
    """Restore the default handlers: a shell or `nohup` may start this process with SIGINT or SIGHUP ignored."""
    inherited = {
        number: signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        for number in SIGNALS
    }
    yield
    for number, handler in inherited.items():
        signal.signal(number, handler)


def test_ctrl_c_ends_a_wait_at_once() -> None:
    """Exit code 130 and no output. The emulator ends in the same way."""
    with (
        emulating() as emulate_process,
        subprocess.Popen(  # noqa: S603 - fixed arguments
            [*PROGRAM, "wait", "-"],
            env=environment(**emulate_process.settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as waiting,
    ):
        server = emulate_process.process
        assert waiting.stdin
        assert waiting.stdout
        assert waiting.stderr
        # The jobs are done 5 s apart: on a busy machine, the first may be done before the signal.
        waiting.stdin.write("\n".join([*emulate_process.jobs[2:], JOB]))
        waiting.stdin.close()
        assert JOB in waiting.stderr.readline()  # it does not exist; so the other waits have started
        for process in (waiting, server):
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait(SECONDS) == 130
            assert time.monotonic() - began < AT_ONCE
        assert waiting.stdout.read() == ""
        assert waiting.stderr.read() == ("playai-async: interrupted; 3 jobs go on; to wait again, repeat the command\n")
        assert server.stderr
        assert "Traceback" not in server.stderr.read()


@pytest.mark.parametrize(
    ("command", "number"), [("wait", signal.SIGINT), ("create", signal.SIGTERM)], ids=["wait", "create"]
)
def test_a_signal_ends_a_download_and_removes_the_partial_file(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    """At once. The last line says what goes on; for `create`, it is the command to wait for the job."""
    errors, job = asyncio.run(_interrupted_in_a_download(command, tmp_path, number))
    assert files_in(tmp_path) == []
    if command == "create":
        assert errors.splitlines()[1].startswith(f"  playai-async wait {job} --download ")
    else:
        assert "interrupted; 0 jobs go on, 1 download was stopped; " in errors


async def _interrupted_in_a_download(command: str, directory: Path, number: signal.Signals) -> tuple[str, UUID]:
    """Return standard error and the job id."""
    async with Emulator(job_duration=0.1) as emulator:
        emulator.inject(Slow(SECONDS), endpoint="audio")
        text = "x" * 1000  # long enough that a part of the audio is written soon: short writes are collected
        job = [str(emulator.add_job(input={"text": text}))] if command == "wait" else []
        arguments = job or ["--voice", "v", "--text", text]
        process = await _started(command, *arguments, "--download", str(directory), to=emulator)
        async with asyncio.timeout(SECONDS):
            while not any((directory / name).stat().st_size for name in files_in(directory)):
                await asyncio.sleep(0.02)
        process.send_signal(number)
        began = time.monotonic()
        out, errors = await process.communicate()
        assert (process.returncode, out) == (SIGNALS[number], b"")
        assert time.monotonic() - began < AT_ONCE
        return errors.decode(), emulator.jobs[0]


def test_ctrl_c_during_create_wait_prints_the_wait_command() -> None:
    """The job was paid for."""
    status, out, errors, job = asyncio.run(_signalled_in_a_wait(signal.SIGINT, seconds=SECONDS))
    assert (status, out) == (130, "")
    assert errors == f"playai-async: job {job} goes on; to wait for it:\n  playai-async wait {job}\n"


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_a_closed_terminal_leaves_no_partial_file(tmp_path: Path) -> None:
    """Although every write to the terminal fails."""
    assert asyncio.run(_hung_up_in_a_download(tmp_path)) == 129
    assert files_in(tmp_path) == []


async def _hung_up_in_a_download(directory: Path) -> int:
    """Return the exit code."""
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


def test_an_ignored_signal_is_ignored() -> None:
    """As under `nohup`: the wait continues after the terminal was closed."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # also for the child process; the fixture restores the handler
    status, out, errors, _ = asyncio.run(_signalled_in_a_wait(signal.SIGHUP, seconds=0.5))
    assert (status, errors) == (0, "")
    assert "COMPLETED" in out


async def _signalled_in_a_wait(number: signal.Signals, *, seconds: float) -> tuple[int | None, str, str, UUID]:
    """Return the exit code, the output and the job id, for a job of this duration."""
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
    """A host name is resolved in a thread that cannot be interrupted."""
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
    with subprocess.Popen(  # noqa: S603 - fixed arguments
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
        assert time.monotonic() - began < AT_ONCE
        assert process.stderr
        assert process.stderr.read().startswith("playai-async: interrupted; 1 job goes on; ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), OSError("no terminal")], ids=["cancelled", "terminal closed"]
)
def test_a_command_cleans_up_after_a_signal(number: signal.Signals, error: BaseException) -> None:
    """Also if the signal arrives twice, and if the cleanup raises OSError because the terminal is closed."""
    cleaned: list[bool] = []

    async def signalled_twice() -> ExitCode:
        os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)
            cleaned.append(True)
            raise error from None
        return ExitCode.SUCCESS

    assert main.run(signalled_twice()) == SIGNALS[number]
    assert cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_signal_with_a_handler_is_left_alone() -> None:
    """Or an ignored signal: the command continues."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def hang_up() -> ExitCode:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.01)
        return ExitCode.SUCCESS

    assert main.run(hang_up()) is ExitCode.SUCCESS


def test_an_error_without_a_signal_is_raised() -> None:
    """For example a full disk."""

    async def fail() -> ExitCode:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        main.run(fail())
