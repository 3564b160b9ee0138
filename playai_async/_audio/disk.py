"""Runs file operations in threads, because a network file system or a failing disk may take seconds for any of them.

The threads are not those of the event loop's default executor: that has few, and also resolves host names, so a disk
that hangs would stop every request. They are daemon threads, which `ThreadPoolExecutor` does not have: a disk that
hangs must not keep the process from exiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import Any, ParamSpec, TypeVar

from playai_async._settings import DISK_GRACE

__all__ = ["Disk"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Disk:
    """Runs file operations. Create and use it in a running event loop.

    Args:
        threads: How many operations may run at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = _DaemonThreads(threads)
        self._loop = asyncio.get_running_loop()

    async def run(self, operation: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run an operation in a thread, and return or raise what it does.

        A cancellation returns at once. An operation that has begun runs to its end.
        """
        return await self._loop.run_in_executor(self._threads, partial(operation, *args, **kwargs))

    async def clean_up(self, operation: Callable[[], object]) -> None:
        """Run an operation that does not raise, and wait for it, but not for a disk that hangs."""
        future = self._loop.run_in_executor(self._threads, operation)
        await asyncio.wait({future}, timeout=DISK_GRACE)

    def close(self) -> None:
        """Let the threads end, after the operations that have begun or wait for a thread."""
        self._threads.shutdown()


class _DaemonThreads(Executor):
    """Runs calls in up to `limit` threads, which are started when they are needed. Used from one thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._started = 0
        self._idle = Semaphore(0)
        self._calls = SimpleQueue[Callable[[], None] | None]()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        future = Future[_T]()
        self._calls.put(partial(_run_call, future, partial(fn, *args, **kwargs)))
        if not self._idle.acquire(blocking=False) and self._started < self._limit:
            self._started += 1
            Thread(target=self._work, name="playai_async", daemon=True).start()
        return future

    def shutdown(self, *_: Any, **__: Any) -> None:
        for _thread in range(self._started):
            self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it would keep the last operation's data
            self._idle.release()


def _run_call(future: Future[_T], call: Callable[[], _T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except Exception as error:  # noqa: BLE001 - passed to the caller through the future
        future.set_exception(error)
