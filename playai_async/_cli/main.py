"""A command line from its beginning to its end: the streams it writes to, what it ends on, and its exit status."""

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
from playai_async._cli.output import Output, one_line
from playai_async._exceptions import ConfigurationError

__all__ = ["command_line", "run"]


def command_line(arguments: Sequence[str]) -> int:
    """Run a command line to its end.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # better than to end on a letter that a locale lacks
    try:
        command = parse(arguments)
        return ExitCode.SUCCESS if command is None else run(command)
    except (CycloptsError, UsageError, ConfigurationError) as error:
        return _print_error(describe(error), arguments, ExitCode.USAGE)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # whoever read the results has seen enough
        return ExitCode.ERROR
    except OSError as error:
        return _print_error(str(error), arguments, ExitCode.ERROR)
    except Exception:  # noqa: BLE001 - a bug; but Python's own status for one means "a job failed" here
        traceback.print_exc()
        return ExitCode.ERROR
    finally:
        _discard_unwritten_output()


def _print_error(words: str, arguments: Sequence[str], status: ExitCode) -> ExitCode:
    with contextlib.suppress(OSError):  # standard error is the last place to say anything
        for line in redact(words, arguments).splitlines():
            Output(sys.stdout, sys.stderr).message(f"playai-async: {one_line(line)}")
    return status


def _discard_unwritten_output() -> None:
    # What a stream still holds Python would try to write once more on its way out, and complain of it.
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is all that is wanted
                os.dup2(nowhere.fileno(), stream.fileno())


_SIGNALS = frozenset(number for number in signal.Signals if number.name in {"SIGHUP", "SIGTERM"})
"""What ends a process whose terminal is closed, or that was told to end; not every platform has both."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    """Run a command to its end, or until a signal tells it to end; then it is cancelled first.

    Returns:
        The exit status: the command's own, or the one that stands for SIGTERM or SIGHUP.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DaemonThreadExecutor())
        return runner.run(_run_until_signal(command))


async def _run_until_signal(command: Coroutine[Any, Any, ExitCode]) -> ExitCode:
    task = asyncio.ensure_future(command)
    received: list[ExitCode] = []

    def end(number: int) -> None:
        if not received:  # a closed terminal may say so twice, and the second time would cut the cleaning up short
            received.append(ExitCode(128 + number))
            task.cancel()

    with _handling_signals(end):
        try:
            return await task
        except (asyncio.CancelledError, OSError):  # the latter where the terminal is gone that was to be tidied up
            if not received:
                raise
            return received[0]


@contextlib.contextmanager
def _handling_signals(end: Callable[[int], None]) -> Generator[None, None, None]:
    """Call back at the signals that would end the process, for as long as the block runs.

    Those that are ignored, as by `nohup`, or that somebody else handles are left alone.
    """
    loop = asyncio.get_running_loop()
    handled: list[signal.Signals] = []
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on this platform; not in this thread
        for number in _SIGNALS:
            if signal.getsignal(number) is signal.SIG_DFL:
                loop.add_signal_handler(number, end, number)
                handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


class _DaemonThreadExecutor(ThreadPoolExecutor):
    """Threads that nobody waits for.

    A host name is resolved in a thread, which nothing can interrupt: with a dead name server the loop, and then the
    interpreter, would wait for half a minute to join it, Ctrl-C or not.
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
    except Exception as error:  # noqa: BLE001 - it is the caller's
        future.set_exception(error)
