"""Creates jobs: one POST for each job, and never a second POST if the service may have received the first.

A job costs money, and the service does not say whether two requests are the same. So a request is sent again only if it
was surely not sent, or after a 429 or a 425, which are refusals. Any other failure is raised at once, and says that a
job may exist. Creation has a separate quota, and so a separate dispatcher, whose pacer learns that quota.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias, cast

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from playai_async._audio.cancel_scopes import CancelScopes
from playai_async._exceptions import (
    APIStatusError,
    PlayAIError,
    RateLimitedError,
    SessionClosedError,
    TransportError,
    WaitTimeoutError,
    is_transient,
)
from playai_async._models import TtsJob
from playai_async._settings import Polling, WaitStrategy
from playai_async._telemetry.emitter import Emitter
from playai_async._telemetry.events import CreationCancelled
from playai_async._telemetry.stats import SessionStats
from playai_async.jobs._polling.backoff import pause_of, strategy_of
from playai_async.jobs._scheduling.dispatcher import Dispatcher

__all__ = ["Creator"]

_Post: TypeAlias = Callable[[bytes], Awaitable[TtsJob]]

_MAY_EXIST = "The job may exist all the same."

_TOO_EARLY = 425
"""The service refused to process a request because it could be a replay (RFC 8470, 5.2)."""


class Creator:
    """Creates jobs; made and used in a running loop.

    Args:
        post: Makes one request to create a job, and returns the job or raises a `PlayAIError`. It raises at the call if
            nothing can be sent.
        dispatcher: Sends these requests.
        scopes: Cancels callers when the session closes.
        emitter: Reports creations that were cancelled.
    """

    def __init__(self, post: _Post, dispatcher: Dispatcher, scopes: CancelScopes, emitter: Emitter) -> None:
        self._post = post
        self._dispatcher = dispatcher
        self._scopes = scopes
        self._emitter = emitter
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
            PlayAIError: What the request met. The message says if a job may exist.

        A cancellation takes the request off the queue, or cancels it in flight. If a job may exist then, a warning is
        logged: the `CancelledError` cannot tell.
        """
        request = _Creation(partial(self._post, body))
        try:
            async with self._scopes.enter(None):
                return await self._create(request, polling, timeout)
        except PlayAIError as error:
            if request.job is not None:
                return request.job  # it came at the very moment of the deadline or of closing, and is paid for
            if request.may_exist:
                error.add_sentence(_MAY_EXIST)
            raise
        except asyncio.CancelledError:
            if request.job is not None or request.may_exist:
                self._emitter.emit(CreationCancelled(None if request.job is None else request.job.id))
            raise

    def stats(self) -> SessionStats:
        """Return a snapshot of what was done and is being done."""
        return self._dispatcher.stats()

    async def close(self) -> None:
        """Send nothing any more, and wait for the workers; the callers were cancelled before."""
        self._dispatcher.stop()
        await self._dispatcher.join()

    async def _create(self, request: _Creation, polling: Polling, timeout: float | None) -> TtsJob:
        started, rank = self._loop.time(), next(self._ranks)
        try:
            async with asyncio.timeout(timeout):
                return cast("TtsJob", await create_rule(polling)(self._dispatcher.call, request.send, None, rank))
        except TimeoutError:  # ours: every other timeout is an error of this library
            elapsed = self._loop.time() - started
        raise WaitTimeoutError(
            f"No job was created within {elapsed:.1f} s (requests: {request.requests}).",
            last_error=request.last_error,
            elapsed=elapsed,
            polls=request.requests,
        )


def create_rule(polling: Polling) -> AsyncRetrying:
    """Build the tenacity rule of one creation.

    The request is sent again after a 429, when its turn comes, and after a pause if it was not sent or came too early.
    """
    strategy = strategy_of(polling)
    return AsyncRetrying(
        retry=retry_if_exception(was_not_received),
        stop=stop_after_attempt(polling.max_failures + 1),
        wait=lambda state: _pause(strategy, state),
        reraise=True,
    )


def was_not_received(error: BaseException) -> bool:
    """Return whether the service surely did nothing with a request: it refused the request, or never received it."""
    if isinstance(error, APIStatusError):
        return isinstance(error, RateLimitedError) or error.status == _TOO_EARLY
    return isinstance(error, TransportError) and not error.maybe_received


def _pause(strategy: WaitStrategy, state: RetryCallState) -> float:
    error = None if state.outcome is None else state.outcome.exception()
    if isinstance(error, RateLimitedError):
        return 0.0  # the pacer holds the request back
    retry_after = error.retry_after if isinstance(error, APIStatusError) else None
    return max(pause_of(strategy, state), retry_after or 0.0)


def _may_have_created(error: Exception) -> bool:
    """Return whether a job may exist after a request that was begun."""
    if isinstance(error, PlayAIError) and not isinstance(error, SessionClosedError):
        return is_transient(error) and not was_not_received(error)
    return True  # the connection was closed from outside, or a bug of this library struck


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
        exchange = self.post()
        self.may_exist = True
        try:
            self.job = await exchange
        except Exception as error:
            self.may_exist = _may_have_created(error)
            if isinstance(error, PlayAIError):
                self.last_error = error
            raise
        return self.job
