"""Items that become due at a time, from which any item can be removed.

Two heaps: items that are not due yet, and items that were found to be due. An item moves at most once, so counting the
due items takes constant time on average, however many there are.

A removed item leaves a gap in its heap. Gaps are swept out once they are the larger part, as asyncio does for its
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
"""An entry of the queue: the time, a number that keeps equal times in order of arrival, the item or None, and its heap.

A list, because comparing lists runs no code of ours.
"""

_WHEN, _, _ITEM, _HEAP = range(4)
_FEW_GAPS = 64
"""Gaps that are not worth a sweep."""


class _Heap:
    """Entries by time, and how many of them are gaps. The first entry is never a gap, so looking at it is cheap."""

    __slots__ = ("entries", "gaps")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.gaps = 0

    def __len__(self) -> int:
        return len(self.entries) - self.gaps

    def pop(self) -> Entry:
        entry = heapq.heappop(self.entries)
        if self.gaps:
            self._drop_first_gaps()
        return entry

    def make_gap(self, entry: Entry) -> None:
        entry[_ITEM] = None
        self.gaps += 1
        self._drop_first_gaps()
        if self.gaps > _FEW_GAPS and 2 * self.gaps > len(self.entries):
            self.entries = [kept for kept in self.entries if kept[_ITEM] is not None]
            heapq.heapify(self.entries)
            self.gaps = 0

    def _drop_first_gaps(self) -> None:
        while self.entries and self.entries[0][_ITEM] is None:
            heapq.heappop(self.entries)
            self.gaps -= 1


class DelayQueue(Generic[_Item]):
    """Items by the time at which they are due; items due at the same time in the order they were added.

    Attributes:
        size: How many items there are; an attribute, because each poll looks at several queues.
    """

    __slots__ = ("_arrivals", "_due", "_later", "_now", "size")

    def __init__(self) -> None:
        self._due = _Heap()
        self._later = _Heap()
        self._now = -math.inf  # items up to this time are in the first heap
        self._arrivals = itertools.count()
        self.size = 0

    def count(self, now: float) -> int:
        """Count the items that are due; the time must not go back."""
        self._now = max(self._now, now)
        while self._later.entries and self._later.entries[0][_WHEN] <= self._now:
            entry = self._later.pop()
            entry[_HEAP] = self._due
            heapq.heappush(self._due.entries, entry)
        return len(self._due)

    def add(self, when: float, item: _Item) -> Entry:
        """Add an item that is due at a time, and return its entry."""
        heap = self._due if when <= self._now else self._later
        entry: Entry = [when, next(self._arrivals), item, heap]
        heapq.heappush(heap.entries, entry)
        self.size += 1
        return entry

    def discard(self, entry: Entry) -> None:
        """Remove an item by its entry; an item that was taken already is ignored."""
        if entry[_ITEM] is not None:
            entry[_HEAP].make_gap(entry)
            self.size -= 1

    def first_due(self) -> float:
        """Return the time at which the first item is due; infinity if there is none."""
        # Whatever is in the first heap was due before anything in the second.
        entries = self._due.entries or self._later.entries
        when: float = entries[0][_WHEN] if entries else math.inf
        return when

    def take(self, now: float) -> _Item | None:
        """Remove and return the item that has been due longest, or return None if nothing is due."""
        heap = self._due if self._due.entries else self._later
        if not heap.entries or heap.entries[0][_WHEN] > now:
            return None
        entry = heap.pop()
        item: _Item = entry[_ITEM]
        entry[_ITEM] = None
        self.size -= 1
        return item
