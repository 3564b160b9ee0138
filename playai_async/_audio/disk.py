"""Runs file operations in threads, because a network file system or a failing disk may take seconds for any of them.

The threads are not those of the event loop's default executor: that has few, and also resolves host names, so a disk
that hangs would stop every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

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
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="playai_async")  # starts a thread when needed
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
        """Let the threads end. Operations that have begun, or were handed over, still run."""
        self._threads.shutdown(wait=False)
