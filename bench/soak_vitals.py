"""How a process of the soak is: its memory, its event loop, and what it complains of where nobody hears it."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import statistics
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from bench.blocking import Block, Ticker

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
    resident: int
    blocks: int
    waits: int


@attrs.frozen
class Growth:
    """By how much memory grew from the second quarter to the last, median to median.

    Attributes:
        resident: Bytes.
        blocks: Objects.
        share: The objects' share of those there were.
    """

    resident: float
    blocks: float
    share: float

    @classmethod
    def of(cls, samples: list[Sample], seconds: float) -> Growth:
        """Compare the quarters; the first is for warming up."""
        second = [sample for sample in samples if 0.25 <= sample.at / seconds < 0.5]
        last = [sample for sample in samples if 0.75 <= sample.at / seconds < 1.0]
        grown = median(last, "blocks") - median(second, "blocks")
        return cls(median(last, "resident") - median(second, "resident"), grown, grown / median(second, "blocks"))


def median(samples: list[Sample], what: str) -> float:
    """Return the median of one of the two."""
    return statistics.median([float(getattr(sample, what)) for sample in samples])


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
        self._lately: deque[Ticker] = deque(maxlen=4)

    async def watch(self) -> None:
        """Watch until cancelled."""
        while True:
            with Ticker() as ticker:
                self._lately.append(ticker)
                await asyncio.sleep(1.0)
            if ticker.block.own > self.block.own:
                self.blocked_at = self._now()
            self.block = self.block.or_longer(ticker.block)
            self.samples.append(Sample(self._now(), resident_now(), sys.getallocatedblocks(), self._waits()))

    def lateness(self) -> float:
        """Return by how many seconds the loop was late lately, at most."""
        return max((ticker.block.seconds for ticker in self._lately), default=0.0)


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
        self._tell(f"logged by {record.name}: {record.getMessage()}")

    def _unraisable(self, what: Any) -> None:
        self._tell(f"unraisable: {what.exc_value!r} in {what.object!r} ({what.err_msg})")

    def _lost(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._tell(f"lost by the event loop: {context}")


def peak() -> int:
    """Return the most bytes that this process had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_now() -> int:
    """Return how many bytes this process has resident, garbage and all."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
