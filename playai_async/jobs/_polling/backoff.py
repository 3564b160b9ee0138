"""Given what a poll brought: again or not, and after how long.

The pauses are tenacity's wait strategies, and which failures may pass is a tenacity retry rule, both evaluated on one
`RetryCallState` a wait. No `AsyncRetrying` runs here: a pending one costs kilobytes a wait and a task to sleep in, and
its stop conditions read a clock of their own. Pure but for the jitter: no loop, no clock, no I/O.
"""

from __future__ import annotations

import random
import time

from tenacity import (
    AsyncRetrying,
    Future,
    RetryCallState,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
)

from playai_async._exceptions import (
    TRANSIENT,
    ConfigurationError,
    PlayAIError,
    RateLimitedError,
    TransportError,
)
from playai_async._models import TtsJob
from playai_async._settings import Polling, WaitStrategy

__all__ = ["Backoff", "resending_for", "retrying_for", "was_not_taken"]

_NO_ARGUMENTS: dict[str, object] = {}
"""Those that no attempt was called with; one for all waits."""


def retrying_for(polling: Polling) -> AsyncRetrying:
    """Build the tenacity rule of some settings; waits under equal settings may share it."""
    return AsyncRetrying(
        retry=retry_if_exception_type(TRANSIENT),
        wait=_strategy_of(polling),
    )


def resending_for(polling: Polling) -> AsyncRetrying:
    """Build the tenacity rule of one request that must not be received twice; a fresh one for each.

    It is sent again after a 429, when its turn comes, and when no connection came about, after a pause.
    """
    strategy = _strategy_of(polling)
    return AsyncRetrying(
        retry=retry_if_exception(was_not_taken),
        stop=stop_after_attempt(polling.max_failures + 1),
        wait=lambda state: 0.0 if _was_throttled(state) else _pause(strategy, state),
        reraise=True,
    )


class Backoff:
    """One wait's memory of how its polls went.

    Args:
        retrying: The rule, from `retrying_for`.
        max_failures: How many transient failures in a row end the wait.
        polls: How many polls of the wait went before, where it is taken up again, in another process maybe.
        failures: How many of them, up to the last, failed in a row.
        elapsed: Seconds since the wait began; nearly all of them were pauses.
    """

    __slots__ = ("_failures", "_max_failures", "_state")

    def __init__(
        self,
        retrying: AsyncRetrying,
        max_failures: int,
        *,
        polls: int = 0,
        failures: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        self._state = _State(retrying)
        self._state.attempt_number += polls
        self._state.idle_for = elapsed
        self._state.start_time -= elapsed
        self._failures = failures
        self._max_failures = max_failures

    @property
    def failures(self) -> int:
        """How many polls failed in a row, up to the last."""
        return self._failures

    def pause_after(self, outcome: TtsJob | PlayAIError) -> float | None:
        """Decide what follows a poll.

        Args:
            outcome: What the poll brought; not a 429, which is the session's affair and leaves a wait as it was.

        Returns:
            Seconds to the next poll, or None if the wait is over.

        Raises:
            ConfigurationError: The caller's own wait strategy raised, or returned no number.
        """
        state = self._state
        state.take(outcome)
        if isinstance(outcome, PlayAIError):
            self._failures += 1
            again = self._failures < self._max_failures and state.retry_object.retry(state)
        else:
            self._failures = 0
            again = not outcome.done
        if not again:
            return None
        pause = _pause(state.retry_object.wait, state)
        state.idle_for += pause
        state.prepare_for_next_attempt()
        return pause


class _State(RetryCallState):
    """tenacity's state of one wait, but that its outcome is made where somebody looks at it.

    tenacity's own makes a future at each attempt, with a lock and a condition. That is more than all else that a poll
    takes here, and most strategies only count.
    """

    _came: TtsJob | PlayAIError | None = None

    def __init__(self, retrying: AsyncRetrying) -> None:
        super().__init__(retrying, None, (), _NO_ARGUMENTS)

    def take(self, came: TtsJob | PlayAIError) -> None:
        """Take in what an attempt brought, as `set_result` and `set_exception` would."""
        self._came = came
        self.outcome_timestamp = time.monotonic()

    @property
    def outcome(self) -> Future | None:
        """What the last attempt brought, for rules and strategies that look."""
        if self._came is None:
            return None
        return Future.construct(self.attempt_number, self._came, isinstance(self._came, PlayAIError))

    @outcome.setter
    def outcome(self, _: Future | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # an attribute
        self._came = None  # tenacity only ever clears it, at first and before each attempt


def _strategy_of(polling: Polling) -> WaitStrategy:
    return _Varied(polling) if polling.wait is None else polling.wait


def was_not_taken(error: BaseException) -> bool:
    """Say whether it is sure that the service took no notice of a request: it refused it, or never received it."""
    return isinstance(error, RateLimitedError) or (isinstance(error, TransportError) and not error.maybe_received)


def _was_throttled(state: RetryCallState) -> bool:
    return state.outcome is not None and isinstance(state.outcome.exception(), RateLimitedError)


def _pause(strategy: WaitStrategy, state: RetryCallState) -> float:
    try:
        pause = _number(strategy(state))
    except Exception as error:
        raise ConfigurationError(f"polling.wait failed ({type(error).__name__})") from error
    # A strategy may subtract its way below zero, or to NaN; neither is a time to wait.
    return pause if pause > 0 else 0.0


def _number(pause: object) -> float:
    if isinstance(pause, bool) or not isinstance(pause, int | float):
        raise TypeError(f"seconds must be a number, not {type(pause).__name__}")
    return float(pause)


class _Varied(wait_exponential):
    """tenacity's exponential pauses, each varied up or down by a share of itself."""

    def __init__(self, polling: Polling) -> None:
        super().__init__(multiplier=polling.initial, exp_base=polling.multiplier, max=polling.maximum)
        self._jitter = polling.jitter

    def __call__(self, retry_state: RetryCallState) -> float:
        pause = super().__call__(retry_state) if self.multiplier else 0.0  # its powers overflow to the maximum
        return pause * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - spreads load, hides nothing
