"""A clock that runs faster than real, the same one in every process of this machine.

A scaled loop's `time()` is the machine's monotonic clock times its speed, and its selector waits that much shorter.
All that asks the loop for a pause or a deadline then keeps its own defaults in service seconds, and takes a fraction of
them in real ones. The monotonic clock is one for all processes, so times taken in two of them compare.

What the libraries read for themselves, and why it does not matter here:

- playai_async, tenacity without a stop condition, and the pauses of all SDKs go by the loop.
- aiohttp (client) and httpcore, under httpx, let an idle connection go by the machine's clock: a pool keeps one longer
  than it would, and connects less often.
- azure-core counts a retry's week of patience by the wall clock.
- openai would bound a poll by the machine's clock, and replicate subtract the wall clock from a date in `Retry-After`;
  neither is asked to.
- What a request takes is real: an exchange of 1 ms is one of `speed` ms in service seconds, and a library's timeouts,
  5 s to connect for instance, are shorter by as much. So a process must not be short of CPU, which `Lateness` tells.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class ScaledSelector(selectors.DefaultSelector):
    """A selector that is told service seconds, and waits real ones.

    Args:
        speed: Service seconds a real second.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for what is ready."""
        return super().select(None if timeout is None else timeout / self._speed)


class ScaledLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs faster than real.

    Args:
        speed: Service seconds a real second.
    """

    def __init__(self, speed: float) -> None:
        super().__init__(ScaledSelector(speed))
        self.speed = speed
        # The loop calls what is due within its clock's resolution. Times are larger now, and so is what a float of
        # their size cannot tell apart; without this a timer could come due a moment late, over and over.
        self._clock_resolution = time.get_clock_info("monotonic").resolution * speed

    def time(self) -> float:
        """Return the machine's monotonic clock, scaled."""
        return super().time() * self.speed


def run(speed: float, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in a scaled loop, as `asyncio.run` would in a plain one."""
    with asyncio.Runner(loop_factory=lambda: ScaledLoop(speed)) as runner:
        return runner.run(main())


def now(speed: float) -> float:
    """Return what `time()` of a loop of this speed says, outside any loop."""
    return time.monotonic() * speed


class Lateness:
    """How late this loop calls what is due: the share of a run's lags that the machine made, and not the client.

    Used as an async context manager, it sleeps over and over, and notes how much longer than asked each sleep took.

    Args:
        interval: Seconds of each sleep.
    """

    def __init__(self, interval: float = 0.5) -> None:
        self._interval = interval
        self._seen: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            self._seen.append(loop.time() - due)

    @property
    def mean(self) -> float:
        """Seconds that a sleep was late, on average."""
        return sum(self._seen) / max(1, len(self._seen))

    @property
    def worst(self) -> float:
        """Seconds that a sleep was late, at most."""
        return max(self._seen, default=0.0)
