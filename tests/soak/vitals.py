"""How a process of the soak is: its memory, its event loop, and what it complains of where nobody hears it."""

from __future__ import annotations

import asyncio
import logging
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

LONGEST_BLOCK = 0.1
"""Seconds of processor time between two turns of a timer, without garbage collections."""


@attrs.frozen
class Sample:
    """The memory at one moment.

    Attributes:
        at: When, in seconds from the beginning.
        resident: Bytes.
        blocks: Objects that Python has allocated.
        waits: How many are open.
    """

    at: float
    resident: float
    blocks: float
    waits: float


@attrs.frozen
class Memory:
    """What the process held, over the first waits to the last.

    Attributes:
        peak: The most bytes resident at any time.
        grown: Bytes by which the last quarter, in the median, is above the second; the first is for warming up.
        objects: By what share of what they were Python's objects grew meanwhile, each open wait taken for as many as
            it was in the second quarter.
        left: Objects more at the end, when nothing is open, than at the beginning.
    """

    peak: int
    grown: float
    objects: float
    left: int

    @classmethod
    def of(cls, samples: list[Sample], seconds: float, left: int) -> Memory:
        """Compare quarters of what was sampled over so many seconds."""
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


class Pulse(Ticker):
    """A ticker that can be asked in the midst of a round of the loop, before it could note how late that is."""

    def lateness(self) -> float:
        """Return by how many seconds the loop was late, at most, or is."""
        return max(self.block.seconds, asyncio.get_running_loop().time() - self._due)


class Vitals:
    """Watches the running loop.

    Args:
        now: Says the time, in seconds from the beginning.
        waits: Says how many waits are open.
    """

    def __init__(self, now: Callable[[], float], waits: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self.block = Block()
        self.blocked_at = 0.0
        self._now = now
        self._waits = waits
        self._lately: deque[Pulse] = deque(maxlen=4)

    async def watch(self) -> None:
        """Watch until cancelled."""
        self._sample()
        while True:
            with Pulse() as ticker:
                self._lately.append(ticker)
                await asyncio.sleep(1.0)
            if ticker.block.own > self.block.own:
                self.blocked_at = self._now()
            self.block = self.block.or_longer(ticker.block)
            self._sample()

    def _sample(self) -> None:
        self.samples.append(Sample(self._now(), resident_memory(), sys.getallocatedblocks(), self._waits()))

    def lateness(self) -> float:
        """Return by how many seconds the loop was late lately, at most."""
        earlier = [pulse.block.seconds for pulse in list(self._lately)[:-1]]
        return max([*earlier, *(pulse.lateness() for pulse in list(self._lately)[-1:])], default=0.0)


class Complaints(logging.Handler):
    """What would be said on standard error: warnings, lost exceptions, and whatever is logged as a warning.

    Args:
        tell: Told of each.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def listen(self) -> None:
        """Hear everything from now on."""
        sys.unraisablehook = self._unraisable
        asyncio.get_running_loop().set_exception_handler(self._lost)
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take what is logged."""
        error = record.exc_info[1] if record.exc_info else None
        self._tell(f"logged by {record.name}: {record.getMessage()} ({error!r})")

    def _unraisable(self, what: Any) -> None:
        self._tell(f"unraisable: {what.exc_value!r} in {what.object!r} ({what.err_msg})")

    def _lost(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._tell(f"lost by the event loop: {context}")
