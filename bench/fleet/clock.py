"""A clock that runs faster than real time, the same in all processes of this machine.

The `time()` of a scaled loop is the machine's monotonic clock times the speed, and the selector of the loop waits that
much shorter. Everything that asks the loop for a pause or a deadline keeps its own defaults in service seconds, and
takes a fraction of them in real seconds. All processes share the monotonic clock, so their times can be compared.

Some libraries read other clocks. This does not distort the results:

- playai_async, tenacity without a stop condition, and the pauses of all SDKs use the clock of the loop.
- The aiohttp client and httpcore (below httpx) close idle connections by the machine's clock. Their pools keep
  connections longer than usual, so they connect less often.
- azure-core limits its retries to one week of wall-clock time.
- openai would limit a poll by the machine's clock, and replicate would compare a date in `Retry-After` with the wall
  clock. Neither happens in these runs.
- A request takes real time: 1 ms is `speed` ms in service seconds. Timeouts of libraries, such as 5 s to connect, are
  shorter in real time. So a process must not run out of processor time; `LoopLag` shows whether it did.
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
    """A selector that receives timeouts in service seconds and waits in real seconds.

    Args:
        speed: Service seconds per real second.
    """

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events."""
        return super().select(None if timeout is None else timeout / self._speed)


class ScaledLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs faster than real time.

    Args:
        speed: Service seconds per real second.
    """

    def __init__(self, speed: float) -> None:
        super().__init__(ScaledSelector(speed))
        self.speed = speed
        # The loop calls everything that is due within the resolution of its clock. The scaled times are larger, so the
        # rounding error of a float is larger too. Without this, a timer could become due a moment late, repeatedly.
        self._clock_resolution = time.get_clock_info("monotonic").resolution * speed

    def time(self) -> float:
        """Return the machine's monotonic clock times the speed."""
        return super().time() * self.speed


def run(speed: float, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function in a scaled loop, like `asyncio.run`."""
    with asyncio.Runner(loop_factory=lambda: ScaledLoop(speed)) as runner:
        return runner.run(main())


class LoopLag:
    """Measure how late the running loop calls what is due: this part of a lag is the machine's, not the client's.

    As an async context manager, it sleeps repeatedly and records how much longer than requested each sleep took.

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
        """The mean lateness of a sleep in seconds."""
        return sum(self._seen) / max(1, len(self._seen))

    @property
    def worst(self) -> float:
        """The maximum lateness of a sleep in seconds."""
        return max(self._seen, default=0.0)
