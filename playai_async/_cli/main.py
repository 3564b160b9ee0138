"""The process: run one command line in an event loop, handle signals, and return the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from cyclopts import CycloptsError

from playai_async._cli.app import parse
from playai_async._cli.errors import ExitCode, UsageError, describe, redact
from playai_async._cli.output import Output, one_line, writing_results
from playai_async._exceptions import ConfigurationError

__all__ = ["command_line", "run"]

_SIGNALS = frozenset(number for number in signal.Signals if number.name in {"SIGHUP", "SIGTERM"})
"""The signals that cancel a command, beside SIGINT. Some platforms have no SIGHUP."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def command_line(arguments: Sequence[str]) -> int:
    """Run a command line and return the exit code.

    Args:
        arguments: The arguments after the name of the program.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # do not fail on a character that the locale cannot encode
    try:
        command = _parse(arguments)
        return ExitCode.SUCCESS if command is None else run(command)
    except (CycloptsError, UsageError, ConfigurationError) as error:
        return _print_error(describe(error), arguments, ExitCode.USAGE)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of the results has closed the pipe, as `head` does
        return ExitCode.ERROR
    except OSError as error:
        return _print_error(str(error), arguments, ExitCode.ERROR)
    except Exception:  # noqa: BLE001 - a bug; Python's own exit code 1 would mean that a job failed
        traceback.print_exc()
        return ExitCode.ERROR
    finally:
        _discard_unwritten_output()


def _parse(arguments: Sequence[str]) -> Coroutine[Any, Any, ExitCode] | None:
    try:
        with writing_results():  # `parse` writes the help, and nothing else to standard output
            return parse(arguments)
    except BrokenPipeError:  # the reader of the help has seen enough, as `head` has
        return None


def _print_error(message: str, arguments: Sequence[str], code: ExitCode) -> ExitCode:
    with contextlib.suppress(OSError):  # if standard error fails, there is no other place for the message
        for line in redact(message, arguments).splitlines():
            Output(sys.stdout, sys.stderr).message(f"playai-async: {one_line(line)}")
    return code


def _discard_unwritten_output() -> None:
    # Python flushes both streams at exit, and prints an error message if that fails.
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as devnull:  # noqa: PTH123 - only the descriptor is needed
                os.dup2(devnull.fileno(), stream.fileno())


def run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """Run a command in an event loop until it returns or a signal arrives.

    SIGTERM and SIGHUP cancel the command, and `run` waits until it has cleaned up.

    Returns:
        The exit code of the command, or that of the signal.

    Raises:
        KeyboardInterrupt: SIGINT (Ctrl-C) arrived; the command has cleaned up.
    """
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DaemonThreadExecutor())
        return runner.run(_run_until_signal(command))


async def _run_until_signal(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    task = asyncio.ensure_future(command)
    received: list[ExitCode] = []

    def on_signal(number: int) -> None:
        if not received:  # a closed terminal may send SIGHUP twice; a second cancellation would interrupt the cleanup
            received.append(ExitCode(128 + number))
            task.cancel()

    with _handling_signals(on_signal):
        try:
            return await task
        except (asyncio.CancelledError, OSError):  # OSError: the terminal with the progress display is closed
            if not received:
                raise
            return received[0]


@contextlib.contextmanager
def _handling_signals(on_signal: Callable[[int], None]) -> Generator[None, None, None]:
    """Call `on_signal` for SIGTERM and SIGHUP, except where a signal is ignored (as by `nohup`) or has a handler."""
    loop = asyncio.get_running_loop()
    handled: list[signal.Signals] = []
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on this platform, or not in the main thread
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                loop.add_signal_handler(number, on_signal, number)
                handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


class _DaemonThreadExecutor(ThreadPoolExecutor):
    """Run each call in a daemon thread, so that the process can exit while a call is blocked.

    asyncio resolves host names in a thread that cannot be interrupted. If the name server does not answer, the default
    executor would delay the exit by half a minute, even after Ctrl-C.
    """

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future = Future[_T]()
        Thread(target=_run_call, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future


def _run_call(future: Future[_T], call: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - passed to the caller through the future
        future.set_exception(error)
