"""Callers whose own tasks are at work inside a session, and who are shown out when it closes.

A wait is an object that the session ends. Whoever creates a job or downloads one does so in a task of their own, with
pauses in it and files open: it is interrupted where it stands, and cleans up by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from uuid import UUID

from playai_async._exceptions import SessionClosedError

__all__ = ["Visitors"]


class Visitors:
    """Who is inside."""

    def __init__(self) -> None:
        self._stays: set[asyncio.Timeout] = set()
        self._left = asyncio.Event()
        self._closed = False

    @contextlib.asynccontextmanager
    async def inside(self, job_id: UUID | None) -> AsyncGenerator[None, None]:
        """Be inside for as long as the block runs.

        Args:
            job_id: The job that it is about, if there is one, to be named in the error.

        Raises:
            SessionClosedError: The session is closed, or closes meanwhile.
        """
        closing = SessionClosedError("The session was closed.", job_id=job_id)
        if self._closed:
            raise closing
        stay = asyncio.timeout(None)
        try:
            async with stay:
                self._stays.add(stay)
                try:
                    yield
                finally:
                    self._stays.discard(stay)
                    self._left.set()
        except TimeoutError:
            if not stay.expired():
                raise  # an error of the block's own
            raise closing from None

    def interrupt(self) -> None:
        """Interrupt all who are inside, and let nobody in."""
        if not self._closed:
            self._closed = True
            for stay in self._stays:
                stay.reschedule(-1.0)  # which has passed: asyncio knows best how to interrupt its task

    async def gone(self) -> None:
        """Wait until all have left."""
        while self._stays:
            self._left.clear()
            await self._left.wait()
