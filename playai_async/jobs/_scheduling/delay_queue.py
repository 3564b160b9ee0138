"""A heap of items that become due at a time, from which any item can be removed.

A removed item leaves a gap in the heap. Gaps are swept out once they are the larger part, as asyncio does for its
timers: otherwise a backend that opens and cancels waits all day would keep removed items until their deadlines.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["DelayQueue", "Entry"]

_Item = TypeVar("_Item")

Entry: TypeAlias = list[Any]
"""An entry of the queue: the time, a number that keeps equal times in order of arrival, and the item or None.

A list, because comparing lists runs no code of ours.
"""

_WHEN, _, _ITEM = range(3)
_FEW_GAPS = 64
"""Gaps that are not worth a sweep."""


class DelayQueue(Generic[_Item]):
    """Items by the time at which they are due; items due at the same time in the order they were added."""

    __slots__ = ("_arrivals", "_entries", "_gaps")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._gaps = 0
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        """Count the items."""
        return len(self._entries) - self._gaps

    def count(self, now: float) -> int:
        """Count the items that are due, one by one."""
        return sum(entry[_WHEN] <= now and entry[_ITEM] is not None for entry in self._entries)

    def count_up_to(self, most: int, now: float) -> int:
        """Count the items that are due, up to a number, and look no further than needed."""
        found, positions = 0, [0]
        while positions and found < most:
            position = positions.pop()
            if position < len(self._entries) and self._entries[position][_WHEN] <= now:
                found += self._entries[position][_ITEM] is not None
                positions += 2 * position + 1, 2 * position + 2
        return found

    def add(self, when: float, item: _Item) -> Entry:
        """Add an item that is due at a time, and return its entry."""
        entry: Entry = [when, next(self._arrivals), item]
        heapq.heappush(self._entries, entry)
        return entry

    def discard(self, entry: Entry) -> None:
        """Remove an item by its entry; an item that was taken already is ignored."""
        if entry[_ITEM] is None:
            return
        entry[_ITEM] = None
        self._gaps += 1
        if self._gaps > _FEW_GAPS and 2 * self._gaps > len(self._entries):
            self._entries = [kept for kept in self._entries if kept[_ITEM] is not None]
            heapq.heapify(self._entries)
            self._gaps = 0

    def first_due(self) -> float:
        """Return the time at which the first item is due; infinity if there is none."""
        entries = self._entries
        while entries and entries[0][_ITEM] is None:
            heapq.heappop(entries)
            self._gaps -= 1
        return float(entries[0][_WHEN]) if entries else math.inf

    def take(self, now: float) -> _Item | None:
        """Remove and return the item that has been due longest, or return None if nothing is due."""
        if self.first_due() > now or not self._entries:
            return None
        entry = heapq.heappop(self._entries)
        item: _Item = entry[_ITEM]
        entry[_ITEM] = None
        return item
