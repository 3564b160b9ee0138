"""The life of a client: open, then closed; in the one event loop that used it first."""

from __future__ import annotations

import asyncio

from playai_async.jobs._scheduling.request import Errors, JobId

__all__ = ["Lifecycle"]


class Lifecycle:
    """Whether a client may be used; all of its parts share one.

    Args:
        errors: The exceptions to raise.

    Attributes:
        closed: Whether the client was closed, or is closing.
    """

    def __init__(self, errors: Errors) -> None:
        self._errors = errors
        self._loop: asyncio.AbstractEventLoop | None = None
        self.closed = False

    def use(self, job_id: JobId | None = None) -> None:
        """Bind the client to the running loop at its first use.

        Args:
            job_id: The job that it is used for, which an error names.

        Raises:
            Exception: The client is closed, or belongs to another loop.
        """
        self.check_usable(job_id)
        self._loop = asyncio.get_running_loop()

    def check_usable(self, job_id: JobId | None) -> None:
        """Raise what `use` raises, also if no loop runs in this thread; do not bind the client."""
        self._check_loop(job_id)
        self.check_open(job_id)

    def check_open(self, job_id: JobId | None) -> None:
        """Raise the error of a closed client if it is closed."""
        if self.closed:
            raise self._errors.closed(job_id)

    def close(self) -> bool:
        """Close the client for new calls.

        Returns:
            Whether its parts have to be closed, too; not if it was closed before, in another loop.

        Raises:
            Exception: The client is open, and belongs to another loop.
        """
        if self.closed and self._loop is not asyncio.get_running_loop():
            return False
        self._check_loop(None)
        self.closed = True
        return True

    def _check_loop(self, job_id: JobId | None) -> None:
        if self._loop is not None and self._loop is not _running_loop():
            raise self._errors.wrong_loop(job_id)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
