"""How long callbacks block an event loop."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Self

import attrs

INTERVAL = 0.001
"""Seconds between two turns of the timer."""


@attrs.frozen(kw_only=True)
class Block:
    """The longest that a loop was blocked.

    Attributes:
        seconds: How late the timer was.
        busy: Seconds of processor time between two turns of the timer.
        own: The same without garbage collections.
    """

    seconds: float = 0.0
    busy: float = 0.0
    own: float = 0.0

    def or_longer(self, other: Block) -> Block:
        """Return the longer of each."""
        return Block(
            seconds=max(self.seconds, other.seconds), busy=max(self.busy, other.busy), own=max(self.own, other.own)
        )


class Ticker:
    """A timer for every millisecond, and by how much it was late; used as a context manager.

    Attributes:
        block: The longest so far.
    """

    def __init__(self) -> None:
        self.block = Block()
        self._loop = asyncio.get_running_loop()
        self._collecting = 0.0

    def __enter__(self) -> Self:
        gc.callbacks.append(self._on_collection)
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        self._note()
        self._timer.cancel()
        gc.callbacks.remove(self._on_collection)

    def _set(self) -> None:
        self._collecting = 0.0
        self._began = time.thread_time()
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._tick)

    def _tick(self) -> None:
        self._note()
        self._set()

    def _note(self) -> None:
        late, busy = self._loop.time() - self._due, time.thread_time() - self._began
        self.block = self.block.or_longer(Block(seconds=late, busy=busy, own=busy - self._collecting))

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        self._collecting += time.thread_time() if phase == "stop" else -time.thread_time()
