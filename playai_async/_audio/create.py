"""Creates jobs: one POST for each, and never a second one that the service may receive as well.

A job costs money, and the service does not say whether two requests are the same. So a request is sent again only after
a 429, which is a refusal, or if no connection was made. Any other failure is raised at once. Creation has a quota of
its own, and so a dispatcher of its own, whose pacer learns that quota.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, cast

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from playai_async._exceptions import TRANSIENT, PlayAIError, RateLimitedError, TransportError, WaitTimeoutError
from playai_async._models import TtsJob
from playai_async._settings import Polling
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._polling.backoff import pause_of, strategy_of
from playai_async.jobs._scheduling.dispatcher import Dispatcher

__all__ = ["Creator"]

_Post: TypeAlias = Callable[[bytes], Awaitable[TtsJob]]

_MAY_EXIST = "The job may exist all the same."


class Creator:
    """Creates jobs; made and used in a running loop.

    Args:
        post: Makes one request to create a job, and returns the job or raises a `PlayAIError`.
        dispatcher: Sends these requests.
    """

    def __init__(self, post: _Post, dispatcher: Dispatcher) -> None:
        self._post = post
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._ranks = itertools.count()

    async def create(self, body: bytes, polling: Polling, timeout: float | None) -> TtsJob:
        """Create a job.

        Args:
            body: Its parameters as JSON.
            polling: How often, and after what pauses, the request may be sent again.
            timeout: Seconds for all of it, or None.

        Returns:
            The job as the service described it.

        Raises:
            WaitTimeoutError: The deadline passed.
            PlayAIError: What the request met.

        A cancellation takes the request off the queue, or cancels it in flight; the service may have received it.
        """
        request = _Creation(partial(self._post, body))
        started, rank = self._loop.time(), next(self._ranks)
        try:
            async with asyncio.timeout(timeout):
                return cast("TtsJob", await create_rule(polling)(self._dispatcher.call, request.send, None, rank))
        except TimeoutError:  # ours: every other timeout is an error of this library
            if request.job is not None:
                return request.job  # it came at that very moment, and is paid for
            late = request.timed_out(self._loop.time() - started)
        except TRANSIENT as error:
            if _may_have_created(error):
                error.add_sentence(_MAY_EXIST)
            raise
        raise late

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return self._dispatcher.stats()

    async def close(self) -> None:
        """Send nothing any more, and wait for the workers; the callers were cancelled before."""
        self._dispatcher.stop()
        await self._dispatcher.join()


def create_rule(polling: Polling) -> AsyncRetrying:
    """Build the tenacity rule of one creation.

    The request is sent again after a 429, when its turn comes, and after a pause if no connection was made.
    """
    strategy = strategy_of(polling)
    return AsyncRetrying(
        retry=retry_if_exception(was_not_received),
        stop=stop_after_attempt(polling.max_failures + 1),
        wait=lambda state: 0.0 if _was_throttled(state) else pause_of(strategy, state),
        reraise=True,
    )


def was_not_received(error: BaseException) -> bool:
    """Return whether the service surely did nothing with a request: it refused it, or never received it."""
    return isinstance(error, RateLimitedError) or (isinstance(error, TransportError) and not error.maybe_received)


def _was_throttled(state: RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), RateLimitedError)


def _may_have_created(error: PlayAIError) -> bool:
    return isinstance(error, TRANSIENT) and not was_not_received(error)


@attrs.define
class _Creation:
    """One job to create, whose request is sent once or several times."""

    post: Callable[[], Awaitable[TtsJob]]
    requests: int = 0
    job: TtsJob | None = None
    last_error: PlayAIError | None = None
    may_exist: bool = False

    async def send(self) -> TtsJob:
        self.requests += 1
        self.may_exist = True
        try:
            self.job = await self.post()
        except PlayAIError as error:
            self.last_error, self.may_exist = error, _may_have_created(error)
            raise
        return self.job

    def timed_out(self, elapsed: float) -> WaitTimeoutError:
        message = f"No job was created within {elapsed:.1f} s (requests: {self.requests})."
        return WaitTimeoutError(
            f"{message} {_MAY_EXIST}" if self.may_exist else message,
            last_error=self.last_error,
            elapsed=elapsed,
            polls=self.requests,
        )
