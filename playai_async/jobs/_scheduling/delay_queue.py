"""A heap of what is due when, from which anything can be taken off again.

Pure: it is told the time. What is taken off leaves a gap in the heap, swept out once gaps are the larger part, as
asyncio does for its timers: a backend that opens and cancels waits all day must not collect them until their deadlines.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any, Generic, TypeAlias, TypeVar

__all__ = ["Entry", "Timetable"]

_Item = TypeVar("_Item")

Entry: TypeAlias = list[Any]
"""A place in a timetable: the time, a number that keeps equals in order of arrival, and the item or None.

A list, since lists are compared without running any code of ours.
"""

_WHEN, _, _ITEM = range(3)
_FEW = 64
"""Gaps that are not worth a sweep."""


class Timetable(Generic[_Item]):
    """Items by the time at which they are due; those due at the same time in the order they were added."""

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
        """Count the items that are due, as far as a number: down the heap, and no further than needed."""
        found, places = 0, [0]
        while places and found < most:
            place = places.pop()
            if place < len(self._entries) and self._entries[place][_WHEN] <= now:
                found += self._entries[place][_ITEM] is not None
                places += 2 * place + 1, 2 * place + 2
        return found

    def add(self, when: float, item: _Item) -> Entry:
        """Put an item down for a time, and return its place."""
        entry: Entry = [when, next(self._arrivals), item]
        heapq.heappush(self._entries, entry)
        return entry

    def discard(self, entry: Entry) -> None:
        """Take an item off, by its place; one that was taken already is fine."""
        if entry[_ITEM] is None:
            return
        entry[_ITEM] = None
        self._gaps += 1
        if self._gaps > _FEW and 2 * self._gaps > len(self._entries):
            self._entries = [kept for kept in self._entries if kept[_ITEM] is not None]
            heapq.heapify(self._entries)
            self._gaps = 0

    def first(self) -> float:
        """Return the time of what is due first; infinite where there is nothing."""
        entries = self._entries
        while entries and entries[0][_ITEM] is None:
            heapq.heappop(entries)
            self._gaps -= 1
        return float(entries[0][_WHEN]) if entries else math.inf

    def take(self, now: float) -> _Item | None:
        """Take off what has been due longest, or return None where nothing is due."""
        if self.first() > now or not self._entries:
            return None
        entry = heapq.heappop(self._entries)
        item: _Item = entry[_ITEM]
        entry[_ITEM] = None
        return item
