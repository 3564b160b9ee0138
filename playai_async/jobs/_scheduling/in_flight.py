"""How many requests are under way at once: one bound for all that a session sends, whatever it is for.

As many as its pool has connections, so that no request waits for one: that would count towards its time limit.
Whoever finds no slot free puts themselves down, and is asked in that order when one is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import TypeAlias

__all__ = ["Slots"]

_Ask: TypeAlias = Callable[[], object]


class Slots:
    """So many slots; those who want one and find none are asked when one is free, one after another.

    Args:
        most: How many there are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._taken = 0
        self._waiting: dict[_Ask, None] = {}

    @property
    def full(self) -> bool:
        """Whether no slot is free."""
        return self._taken >= self.most

    @property
    def free(self) -> int:
        """How many slots are free."""
        return max(0, self.most - self._taken)

    def take(self) -> None:
        """Take a slot, which must be free."""
        self._taken += 1

    def give(self, giver: _Ask | None = None) -> None:
        """Give a slot back, first to those who wait.

        Args:
            giver: Who gives it, and will see for themselves whether it is still free; not asked.
        """
        self._taken -= 1
        for ask in list(self._waiting):
            if self.full:
                return
            if ask != giver:
                self._waiting.pop(ask, None)
                ask()

    def wait(self, ask: _Ask) -> None:
        """Be asked, once, when a slot is free; it is the asked one's to take or to leave."""
        self._waiting[ask] = None

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncGenerator[None, None]:
        """Hold a slot for as long as the block runs; wait for it first."""
        if self.full:
            await self._handed_over()
        else:
            self.take()
        try:
            yield
        finally:
            self.give()

    async def _handed_over(self) -> None:
        free: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def ask() -> None:
            if not free.done():
                self.take()
                free.set_result(None)

        self.wait(ask)
        try:
            await free
        except asyncio.CancelledError:
            self._waiting.pop(ask, None)
            if not free.cancelled():  # handed over, and then cancelled
                self.give()
            raise
