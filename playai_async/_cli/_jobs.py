"""`get` and `wait`: how jobs are asked for and waited for.

Plain coroutines over a session and a screen; nothing here parses a command line or knows how progress is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from playai_async._cli._downloads import downloads
from playai_async._cli._ends import Ends, Results, Tally, status_of
from playai_async._cli._exit import Exit, gravest
from playai_async._exceptions import PlayAIError
from playai_async._models import TtsJob
from playai_async._session import PlayAISession

__all__ = ["get", "see_out", "wait"]


async def get(playai: PlayAISession, job_id: UUID, results: Results) -> Exit:
    """Ask for one job once; whatever its state, an answer is fine.

    Args:
        playai: A session, which is closed in the end.
        job_id: The job.
        results: Where to tell.

    Returns:
        The exit status.
    """
    async with playai:
        try:
            job = await playai.get_job(job_id)
        except PlayAIError as error:
            results.tell(error, job_id)
            return status_of(error)
        results.tell(job)
        return Exit.FINE


async def wait(
    playai: PlayAISession, job_ids: Sequence[UUID], results: Results, *, timeout: float | None, directory: Path | None
) -> Exit:
    """Wait for jobs, all at once, and tell of each as it ends.

    Args:
        playai: A session, which is closed in the end.
        job_ids: The jobs, each one once.
        results: Where to tell.
        timeout: Seconds for each wait, or None for no deadline.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.
    """
    tally = Tally(len(job_ids), downloading=None if directory is None else 0)
    async with playai, results.screen.showing(lambda: tally.drawn(playai.stats)):
        return await see_out(playai, job_ids, Ends(results, tally), timeout=timeout, directory=directory)


async def see_out(
    playai: PlayAISession,
    jobs: Sequence[UUID | TtsJob],
    ends: Ends,
    *,
    timeout: float | None,
    directory: Path | None,
) -> Exit:
    """Wait for jobs, and download their audio if that is wanted.

    No job is kept once it has ended, however many there are.

    Args:
        playai: A session.
        jobs: The jobs.
        ends: Takes note of each one's end.
        timeout: Seconds for each wait, or None for no deadline; downloads take as long as they take.
        directory: Where to put the audio, or None.

    Returns:
        The exit status: of several ends, the gravest.

    Raises:
        OSError: An end can't be told.

    A cancellation lets go of all waits and downloads, and leaves no part of a file behind.
    """
    async with (
        downloads(playai, directory, ends) as downloading,
        contextlib.aclosing(playai.as_completed(jobs, timeout=timeout, return_exceptions=True)) as ended,
    ):
        async for outcome in ended:
            await downloading.take(outcome)
    return gravest(ends.statuses)
