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
    """Entries by time, and how many of them are gaps."""

    __slots__ = ("entries", "gaps")

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.gaps = 0

    def __len__(self) -> int:
        return len(self.entries) - self.gaps

    def push(self, entry: Entry) -> None:
        entry[_HEAP] = self
        heapq.heappush(self.entries, entry)

    def first(self) -> Entry | None:
        entries = self.entries
        while entries:
            if entries[0][_ITEM] is not None:
                return entries[0]
            heapq.heappop(entries)
            self.gaps -= 1
        return None

    def sweep(self) -> None:
        if self.gaps > _FEW_GAPS and 2 * self.gaps > len(self.entries):
            self.entries = [kept for kept in self.entries if kept[_ITEM] is not None]
            heapq.heapify(self.entries)
            self.gaps = 0


class DelayQueue(Generic[_Item]):
    """Items by the time at which they are due; items due at the same time in the order they were added."""

    __slots__ = ("_arrivals", "_due", "_later", "_now")

    def __init__(self) -> None:
        self._due = _Heap()
        self._later = _Heap()
        self._now = -math.inf  # items up to this time are in the first heap
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        """Count the items."""
        due, later = self._due, self._later
        return len(due.entries) - due.gaps + len(later.entries) - later.gaps

    def count(self, now: float) -> int:
        """Count the items that are due; the time must not go back."""
        self._now = max(self._now, now)
        while (entry := self._later.first()) is not None and entry[_WHEN] <= self._now:
            self._due.push(heapq.heappop(self._later.entries))
        return len(self._due)

    def add(self, when: float, item: _Item) -> Entry:
        """Add an item that is due at a time, and return its entry."""
        entry: Entry = [when, next(self._arrivals), item, None]
        (self._due if when <= self._now else self._later).push(entry)
        return entry

    def discard(self, entry: Entry) -> None:
        """Remove an item by its entry; an item that was taken already is ignored."""
        if entry[_ITEM] is not None:
            entry[_ITEM] = None
            entry[_HEAP].gaps += 1
            entry[_HEAP].sweep()

    def first_due(self) -> float:
        """Return the time at which the first item is due; infinity if there is none."""
        entry = self._first()
        return math.inf if entry is None else float(entry[_WHEN])

    def take(self, now: float) -> _Item | None:
        """Remove and return the item that has been due longest, or return None if nothing is due."""
        entry = self._first()
        if entry is None or entry[_WHEN] > now:
            return None
        heapq.heappop(entry[_HEAP].entries)
        item: _Item = entry[_ITEM]
        entry[_ITEM] = None
        return item

    def _first(self) -> Entry | None:
        # Whatever is in the first heap was due before anything in the second.
        return (self._due.first() if self._due.entries else None) or self._later.first()
