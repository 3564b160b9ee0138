"""The program as a process of its own: what only a real one can show."""

import asyncio
import os
import runpy
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import playai_async.__main__
from playai_async._cli import main
from playai_async._cli.errors import ExitCode
from tests.cli.conftest import PROGRAM, Shell, environment

SECONDS = 30


def run(command: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(  # noqa: S603 - its arguments are ours
        command, env=environment(**settings), capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_a_reader_that_has_gone_ends_it_quietly(
    emulated: tuple[subprocess.Popen[str], dict[str, str], list[str]],
) -> None:
    """As with `| head`: no traceback, and no complaint of Python's on the way out."""
    _, settings, jobs = emulated
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        [*PROGRAM, "get", jobs[0]], env=environment(**settings), stdout=writer, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(writer)
        assert process.wait(SECONDS) == 3
        assert process.stderr
        assert process.stderr.read() == ""


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="there are no pseudo-terminals here")
def test_a_pipe_has_the_terminal_to_itself() -> None:
    """As with `| jq`: nothing is drawn on, or wiped off, the terminal that the next program writes to."""
    ours, terminal = os.openpty()
    with subprocess.Popen(  # noqa: S603 - its arguments are ours
        [*PROGRAM, "demo", "--jobs", "2", "--longest", "0.5"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=terminal,
    ) as process:
        assert process.stdout
        results = process.stdout.read()
    os.write(terminal, b".")
    shown = os.read(ours, 1000)
    os.close(terminal)
    os.close(ours)
    assert b"0 waits lost." in results
    assert shown == b"."


def test_the_demo_runs_anywhere() -> None:
    """Without a terminal, a setting or a network."""
    ending = run([*PROGRAM, "demo", "--jobs", "4", "--longest", "0.5"])
    assert (ending.returncode, ending.stderr) == (0, "")
    assert "0 waits lost." in ending.stdout


def test_the_console_script_is_the_module() -> None:
    """Installed under its name."""
    script = Path(sys.executable).with_name("playai-async")
    assert run([str(script), "--version"]).stdout == f"{playai_async.__version__}\n"


def test_running_the_module_runs_the_program(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """In process, for what a process of its own would not let us see."""
    monkeypatch.setattr(sys, "argv", ["playai-async", "--version"])
    monkeypatch.setattr(sys, "stdout", shell.out)
    monkeypatch.delitem(sys.modules, "playai_async.__main__")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("playai_async", run_name="__main__")
    assert ended.value.code == 0
    assert shell.out.getvalue() == f"{playai_async.__version__}\n"


@pytest.fixture
def command_line_not_imported() -> Iterator[None]:
    """Modules as in a new process, so that the command line is imported anew; put back after the test."""
    modules = dict(sys.modules)
    for name in modules:
        if name.partition(".")[0] in {"cyclopts", "rich"} or name.startswith("playai_async._cli"):
            del sys.modules[name]
    yield
    sys.modules.clear()
    sys.modules.update(modules)


@pytest.mark.usefixtures("command_line_not_imported")
@pytest.mark.parametrize("missing", ["cyclopts", "rich"])
def test_a_missing_library_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """The same in process."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert playai_async.__main__.main() == 2
    assert "playai-async[cli]" in capsys.readouterr().err


@pytest.mark.usefixtures("command_line_not_imported")
def test_another_missing_module_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """To install the extra would not help."""
    monkeypatch.setitem(sys.modules, "playai_async._cli.wait", None)
    with pytest.raises(ModuleNotFoundError, match="wait"):
        playai_async.__main__.main()


@pytest.mark.usefixtures("command_line_not_imported")
def test_ctrl_c_while_importing_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a moment, in which a hasty user presses it."""

    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name.startswith("playai_async._cli"):
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert playai_async.__main__.main() == 130


async def test_an_executor_s_call_returns_what_it_brought() -> None:
    """Or raises it, as any executor's does."""
    executor = main._DaemonThreadExecutor()
    assert executor.submit(divmod, 7, 2).result(SECONDS) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        executor.submit(divmod, 7, 0).result(SECONDS)


def test_a_cancelled_call_is_not_made() -> None:
    """One that was cancelled before its thread came to it."""
    future = Future[None]()
    future.cancel()
    made = threading.Event()
    main._run_call(future, made.set)
    assert not made.is_set()


def test_a_command_runs_with_threads_that_nobody_joins() -> None:
    """Its loop ends though a call is still under way."""
    go_on = threading.Event()

    async def leave_a_call_behind() -> ExitCode:
        asyncio.get_running_loop().run_in_executor(None, go_on.wait, SECONDS)
        await asyncio.sleep(0)
        return ExitCode.SUCCESS

    began = time.monotonic()
    assert main.run(leave_a_call_behind()) is ExitCode.SUCCESS
    assert time.monotonic() - began < 5
    go_on.set()


def test_a_command_also_runs_off_the_main_thread() -> None:
    """Where no signal can be heard."""

    async def fine() -> ExitCode:
        return ExitCode.SUCCESS

    with ThreadPoolExecutor() as threads:
        assert threads.submit(main.run, fine()).result(SECONDS) is ExitCode.SUCCESS
