"""Creating jobs: one request for each, in its turn, and never two where the first may have been received.

A job costs money, and the service does not say whether two requests are one. So a request is sent again only after a
429, which is a refusal, or where no connection came about; whatever else goes wrong is raised at once.
Creation has a quota of its own, and so a pacer of its own, which learns it.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import attrs

from playai_async._exceptions import TRANSIENT, PlayAIError, WaitTimeoutError
from playai_async._models import SessionStats, TtsJob
from playai_async._settings import PROBES_PER_WINDOW, Pacing, Polling
from playai_async._telemetry.events import Telemetry
from playai_async._telemetry.pauses import Pauses
from playai_async.jobs._pacing.pacer import Pacer
from playai_async.jobs._polling.backoff import resending_for, was_not_taken
from playai_async.jobs._scheduling.dispatcher import Dispatcher
from playai_async.jobs._scheduling.in_flight import Slots
from playai_async.jobs._scheduling.request_queue import Turns

__all__ = ["Creator"]

_Post: TypeAlias = Callable[[bytes], Awaitable[TtsJob]]

_MAY_EXIST = "The job may exist all the same."


class Creator:
    """Creates jobs; to be made and used in a running loop.

    Args:
        post: Makes one request to create a job, and returns it or raises a `PlayAIError`.
        pacing: The scale of the service's windows; what it says of a quota is about status requests.
        polling: How often a request may be sent again, at most.
        slots: How many requests may be under way.
        telemetry: What is told of pauses.
    """

    def __init__(self, post: _Post, pacing: Pacing, polling: Polling, slots: Slots, telemetry: Telemetry) -> None:
        self._post = post
        self._loop = asyncio.get_running_loop()
        self._places = itertools.count()
        # So seldom that a request has not been sent too often before a window is over.
        pacer = Pacer(Pacing(window=pacing.window), probes=min(PROBES_PER_WINDOW, polling.max_failures))
        pauses = Pauses("job creations", "POST", telemetry)
        self._dispatcher = Dispatcher(Turns(pacing.window), pacer, pauses, slots, context=contextvars.Context())

    async def create(self, body: bytes, polling: Polling, timeout: float | None) -> TtsJob:
        """Create a job.

        Args:
            body: Its parameters, as the service has them.
            polling: How often, and after what pauses, the request may be sent again.
            timeout: Seconds over all of it, or None.

        Returns:
            The job as the service described it.

        Raises:
            WaitTimeoutError: The time ran out.
            PlayAIError: What the request met.

        A cancellation gives the turn back, or ends the request, which may have been received.
        """
        request = _Request(partial(self._post, body))
        began, place = self._loop.time(), next(self._places)
        try:
            async with asyncio.timeout(timeout):
                return await resending_for(polling)(self._dispatcher.call, request.send, None, place)
        except TimeoutError:  # ours: whatever else may time out does so with an error of this library
            if request.job is not None:
                return request.job  # it came at that very moment, and is paid for
            late = request.too_late(self._loop.time() - began)
        except TRANSIENT as error:
            if _may_have_made_one(error):
                error.add_sentence(_MAY_EXIST)
            raise
        raise late

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return self._dispatcher.stats()

    async def close(self) -> None:
        """Send nothing any more, and see the workers off; those who create have been interrupted before."""
        self._dispatcher.stop()
        await self._dispatcher.workers_gone()


def _may_have_made_one(error: PlayAIError) -> bool:
    return isinstance(error, TRANSIENT) and not was_not_taken(error)


@attrs.define
class _Request:
    """One request, sent once or several times."""

    post: Callable[[], Awaitable[TtsJob]]
    times: int = 0
    job: TtsJob | None = None
    last_error: PlayAIError | None = None
    may_have_made_one: bool = False

    async def send(self) -> TtsJob:
        self.times += 1
        self.may_have_made_one = True
        try:
            self.job = await self.post()
        except PlayAIError as error:
            self.last_error, self.may_have_made_one = error, _may_have_made_one(error)
            raise
        return self.job

    def too_late(self, elapsed: float) -> WaitTimeoutError:
        words = f"No job was created within {elapsed:.1f} s (requests: {self.times})."
        return WaitTimeoutError(
            f"{words} {_MAY_EXIST}" if self.may_have_made_one else words,
            last_error=self.last_error,
            elapsed=elapsed,
            polls=self.times,
        )
