"""Measures a process of the soak: memory, event loop, and errors that only reach standard error."""

from __future__ import annotations

import asyncio
import logging
import random
import resource
import statistics
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from tools.loop_lag import Block, Ticker
from tools.processes import resident_memory

MEBIBYTE = 1024 * 1024

MAX_BLOCK = 0.1
"""Seconds of processor time between two timer callbacks, without garbage collections."""


@attrs.frozen
class Sample:
    """The memory at one moment.

    Attributes:
        at: Seconds since the beginning.
        resident: Resident memory in bytes.
        blocks: Memory blocks that Python has allocated.
        waits: Open waits.
    """

    at: float
    resident: float
    blocks: float
    waits: float


@attrs.frozen
class Memory:
    """The memory of the process during the soak.

    Attributes:
        peak: The maximum of resident memory in bytes.
        grown: Growth in bytes, from the median of the second quarter to that of the last; the first is for warming up.
        objects: Relative growth of Python's objects in the same time, corrected for the number of open waits.
        left: How many more objects exist at the end, when nothing is open, than at the beginning.
    """

    peak: int
    grown: float
    objects: float
    left: int

    @classmethod
    def of(cls, samples: list[Sample], seconds: float, left: int) -> Memory:
        """Compare the quarters of a soak."""
        first = samples[0]
        second = [sample for sample in samples if 0.25 <= sample.at / seconds < 0.5]
        last = [sample for sample in samples if 0.75 <= sample.at / seconds < 1.0]
        before, after = _medians(second), _medians(last)
        a_wait = (before.blocks - first.blocks) / max(1, before.waits)
        grown = after.blocks - before.blocks - a_wait * (after.waits - before.waits)
        return cls(
            peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            grown=after.resident - before.resident,
            objects=grown / before.blocks,
            left=left,
        )


def _medians(samples: list[Sample]) -> Sample:
    columns = zip(*(attrs.astuple(sample) for sample in samples), strict=True)
    return Sample(*map(statistics.median, columns))


class LiveTicker(Ticker):
    """A ticker that can be read during an iteration of the loop, before it could record how late that iteration is."""

    def lateness(self) -> float:
        """Return the maximum lateness of the loop in seconds, including the current iteration."""
        return max(self.block.seconds, asyncio.get_running_loop().time() - self._due)


class Vitals:
    """Monitors the running loop.

    Args:
        now: Returns the seconds since the beginning.
        waits: Returns how many waits are open.
    """

    def __init__(self, now: Callable[[], float], waits: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self.block = Block()
        self.blocked_at = 0.0
        self._now = now
        self._waits = waits
        self._lately: deque[LiveTicker] = deque(maxlen=4)

    async def watch(self) -> None:
        """Monitor until cancelled."""
        self._sample()
        while True:
            with LiveTicker() as ticker:
                self._lately.append(ticker)
                await asyncio.sleep(1.0)
            if ticker.block.own > self.block.own:
                self.blocked_at = self._now()
            self.block = self.block.or_longer(ticker.block)
            self._sample()

    def _sample(self) -> None:
        self.samples.append(Sample(self._now(), resident_memory(), sys.getallocatedblocks(), self._waits()))

    def lateness(self) -> float:
        """Return the maximum lateness of the loop in the last seconds."""
        earlier = [ticker.block.seconds for ticker in list(self._lately)[:-1]]
        return max([*earlier, *(ticker.lateness() for ticker in list(self._lately)[-1:])], default=0.0)


class RaisingFilter(logging.Filter):
    """A log filter that raises in phases of random length; nothing may come of that.

    Attributes:
        raised: How often it raised.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._dice = random.Random(seed)  # noqa: S311 - a plan, no secret
        self._records_left = 0
        self._raises = False
        self.raised = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Raise, or let the record through."""
        if not self._records_left:
            self._raises, self._records_left = not self._raises, self._dice.randint(1, 500)
        self._records_left -= 1
        if self._raises and record.levelno < logging.WARNING:
            self.raised += 1
            raise RuntimeError("this filter raises")
        return True


class ErrorListener(logging.Handler):
    """Collects warnings, unhandled exceptions, and log records of level WARNING or higher.

    Args:
        on_error: Called with each message.
    """

    def __init__(self, on_error: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_error = on_error

    def listen(self) -> None:
        """Install all hooks."""
        sys.unraisablehook = self._unraisable
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Handle a log record, except those that are to come: the log raised, or a creation was cancelled."""
        event = getattr(record, "playai_event", None)
        if event == "creation_cancelled" or record.getMessage().startswith("Logging raised RuntimeError"):
            return
        error = record.exc_info[1] if record.exc_info else None
        self._on_error(f"logged by {record.name}: {record.getMessage()} ({error!r})")

    def _unraisable(self, what: Any) -> None:
        self._on_error(f"unraisable: {what.exc_value!r} in {what.object!r} ({what.err_msg})")

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._on_error(f"unhandled in the event loop: {context}")
