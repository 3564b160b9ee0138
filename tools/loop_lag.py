"""Measure for how long callbacks block an event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Self

import attrs

INTERVAL = 0.001
"""Seconds between two timer callbacks."""


@attrs.frozen(kw_only=True)
class Block:
    """The longest time that an event loop was blocked.

    Attributes:
        seconds: Wall time: how late the timer callback ran, in seconds.
        busy: Processor time between two timer callbacks, in seconds.
        own: The same without garbage collections, in seconds.
    """

    seconds: float = 0.0
    busy: float = 0.0
    own: float = 0.0

    def or_longer(self, other: Block) -> Block:
        """Return the maximum of each measure."""
        return Block(
            seconds=max(self.seconds, other.seconds), busy=max(self.busy, other.busy), own=max(self.own, other.own)
        )


class Ticker:
    """A context manager that measures, once per millisecond, how late a timer callback of the running loop is.

    Attributes:
        block: The maximum so far.
    """

    def __init__(self) -> None:
        self.block = Block()
        self._loop = asyncio.get_running_loop()
        self._collecting = 0.0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._on_collection)
        self._schedule()
        return self

    def __exit__(self, *_: object) -> None:
        self._measure()
        self._timer.cancel()
        gc.callbacks.remove(self._on_collection)

    def _schedule(self) -> None:
        self._collecting = 0.0
        self._began = time.thread_time()
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._measure()
        self._schedule()

    def _measure(self) -> None:
        late, busy = self._loop.time() - self._due, time.thread_time() - self._began
        self.block = self.block.or_longer(Block(seconds=late, busy=busy, own=busy - self._collecting))

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        self._collecting += time.thread_time() if phase == "stop" else -time.thread_time()
