"""Cancels callers that are at work inside a session when the session closes.

A wait is an object that the session can end. A caller who creates a job or downloads audio runs in its own task, with
pauses and open files: it is cancelled where it stands, and cleans up by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from uuid import UUID

from playai_async._exceptions import SessionClosedError
from playai_async.jobs._scheduling.lifecycle import Lifecycle

__all__ = ["CancelScopes"]


class CancelScopes:
    """The blocks that callers are in.

    Args:
        lifecycle: Whether a block may be entered.
    """

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._scopes: set[asyncio.Timeout] = set()
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def enter(self, job_id: UUID | None) -> AsyncGenerator[None, None]:
        """Run a block that `cancel_all` can cancel.

        Args:
            job_id: The job that the block is about, which the error names; or None.

        Raises:
            SessionClosedError: The session is closed, before the block or during it.
        """
        self._lifecycle.check_open(job_id)
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scopes.add(scope)
                try:
                    yield
                finally:
                    self._scopes.discard(scope)
                    self._left.set()
        except TimeoutError:
            if not scope.expired():
                raise  # an error of the block's own
            raise SessionClosedError("The session was closed.", job_id=job_id) from None

    def cancel_all(self) -> None:
        """Cancel all blocks."""
        for scope in self._scopes:
            if not scope.expired():
                scope.reschedule(-1.0)  # in the past, so asyncio cancels the task now

    async def join(self) -> None:
        """Wait until all blocks have been left."""
        while self._scopes:
            self._left.clear()
            await self._left.wait()
