"""Runs a command in an event loop that lets go at once, interrupted or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from playai_async._cli._exit import Exit

__all__ = ["run"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def run(command: Coroutine[Any, Any, Exit]) -> Exit:
    """Run a command to its end.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed; the command was cancelled first.
    """
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_DaemonThreads())
        return runner.run(command)


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
