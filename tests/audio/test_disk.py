"""File operations in threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from playai_async._audio.disk import Disk


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    """A disk with two threads."""
    disk = Disk(2)
    yield disk
    disk.close()


async def test_an_operation_runs_in_a_thread(disk: Disk) -> None:
    """Its result is returned, and its exception raised. The process may exit while it runs."""
    thread = await disk.run(threading.current_thread)
    assert thread is not threading.current_thread()
    assert thread.daemon
    with pytest.raises(ZeroDivisionError):
        await disk.run(divmod, 1, 0)


async def test_a_limited_number_of_operations_run_at_once(disk: Disk) -> None:
    """The others wait for a thread, and those that were cancelled meanwhile do not run."""
    goes_on = threading.Event()
    running: list[threading.Thread] = []

    def hang() -> None:
        running.append(threading.current_thread())
        goes_on.wait(10)

    tasks = [asyncio.create_task(disk.run(hang)) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.wait(tasks[3:])
    while len(running) < 2:
        await asyncio.sleep(0)
    goes_on.set()
    await asyncio.gather(*tasks[:3])
    assert len(running) == 3
    assert len(set(running)) == 2


async def test_idle_threads_are_used_again_and_end_when_the_disk_is_closed(disk: Disk) -> None:
    """Without a pause between two operations, a second thread may be needed."""
    threads = {await disk.run(threading.current_thread) for _ in range(100)}
    assert len(threads) <= 2
    disk.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
