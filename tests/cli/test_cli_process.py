"""The program as a process."""

import asyncio
import contextlib
import os
import re
import runpy
import shlex
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import playai_async.__main__
from playai_async._cli import main
from playai_async._cli.errors import ExitCode
from tests.cli.conftest import PROGRAM, EmulateProcess, Shell, emulating, environment

SECONDS = 30


def run(command: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program until it exits."""
    return subprocess.run(  # noqa: S603 - fixed arguments
        command, env=environment(**settings), capture_output=True, text=True, timeout=SECONDS, check=False
    )


@pytest.fixture(scope="module")
def emulate_process() -> Iterator[EmulateProcess]:
    """A process that runs `emulate` for all tests here."""
    with emulating() as emulate_process:
        yield emulate_process


def test_a_broken_pipe_prints_the_id_alone(emulate_process: EmulateProcess) -> None:
    """As with `| head`: no other message, no traceback, and no message of Python at exit."""
    settings, jobs = emulate_process.settings, emulate_process.jobs
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(  # noqa: S603 - fixed arguments
        [*PROGRAM, "get", jobs[0]], env=environment(**settings), stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        assert process.wait(SECONDS) == 3
        assert process.stderr
        assert process.stderr.read() == f"playai-async: the result of job {jobs[0]} could not be written\n"


UNWRITABLE = {"closed": ">&-", "full": "> /dev/full", "read-only": "1< /dev/null"}
"""Redirections of standard output after which nothing can be written to it."""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("options", "unwritable"),
    [
        ("", "closed"),
        ("--json", "read-only"),
        ("--wait", "full"),
        ("--help", "closed"),
        ("--help", "full"),
    ],
)
def test_an_unwritable_standard_output_is_an_error(
    emulate_process: EmulateProcess, options: str, unwritable: str
) -> None:
    """The id of a created job goes to standard error. Exit code 3."""
    command = shlex.join([*PROGRAM, "create", "--voice", "v", "--text", "x", *options.split()])
    result = run(["sh", "-c", f"{command} {UNWRITABLE[unwritable]}"], **emulate_process.settings)
    lines = result.stderr.splitlines()
    assert result.returncode == 3
    assert lines.pop().startswith("playai-async: standard output cannot be written: ")
    if options != "--help":
        hint = " ".join((lines.pop(0), lines.pop(0)))
        assert re.fullmatch(r"playai-async: job ([0-9a-f-]{36}) was created; .*:   playai-async wait \1", hint)
    assert lines == []


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize("columns", [0, 2])
def test_help_prints_on_a_terminal_of_no_width(columns: int) -> None:
    """A new pseudo-terminal has no size. In two columns there is no room for a frame."""
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with subprocess.Popen(  # noqa: S603 - fixed arguments
        [*PROGRAM, "create", "--help"], env=environment(), stdin=terminal, stdout=terminal, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b"".join(_chunks_of(ours))
        assert process.wait(SECONDS) == 0
    os.close(ours)
    assert b"--output-format" in shown


def _chunks_of(terminal: int) -> Iterator[bytes]:
    """Read what a process writes until it exits. It would block if nobody read the rest."""
    with contextlib.suppress(OSError):  # Linux raises EIO at the end
        while chunk := os.read(terminal, 10_000):
            yield chunk


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
def test_the_demo_needs_no_settings_and_draws_no_progress_while_output_is_piped() -> None:
    """As with `| less`: the next program writes to the same terminal."""
    ours, terminal = os.openpty()
    with subprocess.Popen(  # noqa: S603 - fixed arguments
        [*PROGRAM, "demo", "--jobs", "4", "--longest", "0.5"],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        assert process.stdout
        results = process.stdout.read()
        assert process.wait(SECONDS) == 0
    os.write(terminal, b".")
    shown = os.read(ours, 1000)
    os.close(terminal)
    os.close(ours)
    assert b"0 waits lost." in results
    assert shown == b"."


def test_the_console_script_is_installed() -> None:
    """It prints the version."""
    script = Path(sys.executable).with_name("playai-async")
    assert run([str(script), "--version"]).stdout == f"{playai_async.__version__}\n"


def test_running_the_module_runs_the_program(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m playai_async`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["playai-async", "--version"])
    monkeypatch.setattr(sys, "stdout", shell.out)
    monkeypatch.delitem(sys.modules, "playai_async.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("playai_async", run_name="__main__")
    assert ended.value.code == 0
    assert shell.out.getvalue() == f"{playai_async.__version__}\n"


@pytest.fixture
def command_line_not_imported() -> Iterator[None]:
    """Remove the command line and its libraries from `sys.modules`, and put them back after the test."""
    modules = dict(sys.modules)
    for name in modules:
        if name.partition(".")[0] in {"cyclopts", "rich"} or name.startswith("playai_async._cli"):
            del sys.modules[name]
    yield
    sys.modules.clear()
    sys.modules.update(modules)


@pytest.mark.usefixtures("command_line_not_imported")
@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_a_missing_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """Exit code 2."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert playai_async.__main__.main() == 2
    assert "the extra 'cli' (cyclopts and rich): pip install cyclopts rich" in capsys.readouterr().err


@pytest.mark.usefixtures("command_line_not_imported")
def test_another_missing_module_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing the extra would not help."""
    monkeypatch.setitem(sys.modules, "playai_async._cli.commands.wait", None)
    with pytest.raises(ModuleNotFoundError, match="wait"):
        playai_async.__main__.main()


@pytest.mark.usefixtures("command_line_not_imported")
def test_ctrl_c_during_the_import_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import takes a moment."""

    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("playai_async._cli"):
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert playai_async.__main__.main() == 130


async def test_the_executor_returns_results_and_raises_errors() -> None:
    """As any executor does."""
    executor = main._DaemonThreadExecutor()
    assert executor.submit(divmod, 7, 2).result(SECONDS) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 7, 0).result(SECONDS)


def test_a_cancelled_call_is_not_made() -> None:
    """A call that is cancelled before its thread starts."""
    future = Future[None]()
    future.cancel()
    made = threading.Event()
    main._run_call(future, made.set)
    assert not made.is_set()


def test_a_blocked_thread_does_not_delay_the_exit() -> None:
    """The loop ends while a call is still running."""
    go_on = threading.Event()

    async def leave_a_call_behind() -> ExitCode:
        asyncio.get_running_loop().run_in_executor(None, go_on.wait, SECONDS)
        await asyncio.sleep(0)
        return ExitCode.SUCCESS

    began = time.monotonic()
    assert main.run(leave_a_call_behind()) is ExitCode.SUCCESS
    assert time.monotonic() - began < 5
    go_on.set()


def test_a_command_runs_in_another_thread() -> None:
    """Signal handlers cannot be set there."""

    async def fine() -> ExitCode:
        return ExitCode.SUCCESS

    with ThreadPoolExecutor() as threads:
        assert threads.submit(main.run, fine()).result(SECONDS) is ExitCode.SUCCESS
