"""Runs a command in an event loop that lets go at once, whether it ends, is interrupted or is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from playai_async._cli._exit import Exit

__all__ = ["run"]

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
