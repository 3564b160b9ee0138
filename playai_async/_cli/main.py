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
from playai_async._cli.errors import Exit, UsageError, complaint, discreet
from playai_async._cli.output import Screen, one_line
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
        return Exit.FINE if command is None else run(command)
    except (CycloptsError, UsageError, ConfigurationError) as error:
        return _complain(complaint(error), arguments, Exit.USAGE)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:  # whoever read the results has seen enough
        return Exit.ERROR
    except OSError as error:
        return _complain(str(error), arguments, Exit.ERROR)
    except Exception:  # noqa: BLE001 - a bug; but Python's own status for one means "a job failed" here
        traceback.print_exc()
        return Exit.ERROR
    finally:
        _abandon_broken_streams()


def _complain(words: str, arguments: Sequence[str], status: Exit) -> Exit:
    with contextlib.suppress(OSError):  # standard error is the last place to say anything
        for line in discreet(words, arguments).splitlines():
            Screen(sys.stdout, sys.stderr).note(f"playai-async: {one_line(line)}")
    return status


def _abandon_broken_streams() -> None:
    # What a stream still holds Python would try to write once more on its way out, and complain of it.
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a descriptor is all that is wanted
                os.dup2(nowhere.fileno(), stream.fileno())


_ENDING = frozenset(number for number in signal.Signals if number.name in {"SIGHUP", "SIGTERM"})
"""What ends a process whose terminal is closed, or that was told to end; not every platform has both."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(command: Coroutine[Any, Any, Exit]) -> Exit:
    """Run a command to its end, or until a signal tells it to end; then it is cancelled first.

    Returns:
        The exit status: the command's own, or the one that stands for SIGTERM or SIGHUP.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DaemonThreads())
        return runner.run(_until_told_to_end(command))


async def _until_told_to_end(command: Coroutine[Any, Any, Exit]) -> Exit:
    task = asyncio.ensure_future(command)
    told: list[Exit] = []

    def end(number: int) -> None:
        if not told:  # a closed terminal may say so twice, and the second time would cut the cleaning up short
            told.append(Exit(128 + number))
            task.cancel()

    with _hearing(end):
        try:
            return await task
        except (asyncio.CancelledError, OSError):  # the latter where the terminal is gone that was to be tidied up
            if not told:
                raise
            return told[0]


@contextlib.contextmanager
def _hearing(end: Callable[[int], None]) -> Generator[None, None, None]:
    """Call back at the signals that would end the process, for as long as the block runs.

    Those that are ignored, as by `nohup`, or that somebody else handles are left alone.
    """
    loop = asyncio.get_running_loop()
    heard: list[signal.Signals] = []
    with contextlib.suppress(NotImplementedError, RuntimeError):  # not on this platform; not in this thread
        for number in _ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                loop.add_signal_handler(number, end, number)
                heard.append(number)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


class _DaemonThreads(ThreadPoolExecutor):
    """Threads that nobody waits for.

    A host name is resolved in a thread, which nothing can interrupt: with a dead name server the loop, and then the
    interpreter, would wait for half a minute to join it, Ctrl-C or not.
    """

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future = Future[_T]()
        Thread(target=_fulfil, args=(future, partial(fn, *args, **kwargs)), daemon=True).start()
        return future


def _fulfil(future: Future[_T], call: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - it is the caller's
        future.set_exception(error)
