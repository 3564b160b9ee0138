"""After a poll: poll again or not, and after how long.

The pauses are tenacity's wait strategies, evaluated on one `RetryCallState` per wait. No `AsyncRetrying` runs here: a
pending one costs kilobytes per wait and a task to sleep in, and its stop conditions read a clock of their own. No
loop and no I/O; the clock is read only to timestamp attempts for tenacity.
"""

from __future__ import annotations

import random
import time

from tenacity import AsyncRetrying, Future, RetryCallState, wait_exponential

from playai_async._exceptions import ConfigurationError
from playai_async._settings import Polling, WaitStrategy
from playai_async.jobs._scheduling.request import Failure, Outcome, Transient

__all__ = ["Backoff", "pause_of", "poll_rule", "strategy_of"]

_NO_ARGUMENTS: dict[str, object] = {}
"""The arguments of an attempt: none. One object serves all waits."""


def poll_rule(polling: Polling) -> AsyncRetrying:
    """Build the tenacity rule of some settings; waits under equal settings may share it."""
    return AsyncRetrying(wait=strategy_of(polling))


class Backoff:
    """How the polls of one wait went.

    Args:
        rule: The rule, from `poll_rule`.
        max_failures: How many transient failures in a row end the wait.
        polls: How many polls came before, if the wait is resumed, maybe in another process.
        failures: How many of them failed in a row, up to the last.
        elapsed: Seconds since the wait began; nearly all of them were pauses.
    """

    __slots__ = ("_failures", "_max_failures", "_state")

    def __init__(
        self,
        rule: AsyncRetrying,
        max_failures: int,
        *,
        polls: int = 0,
        failures: int = 0,
        elapsed: float = 0.0,
    ) -> None:
        self._state = _State(rule)
        self._state.attempt_number += polls
        self._state.idle_for = elapsed
        self._state.start_time -= elapsed
        self._failures = failures
        self._max_failures = max_failures

    @property
    def failures(self) -> int:
        """How many polls failed in a row, up to the last."""
        return self._failures

    def pause_after(self, outcome: Outcome) -> float | None:
        """Decide what follows a poll.

        Args:
            outcome: The outcome of the poll. It is not `Throttled`: a 429 leaves a wait as it was.

        Returns:
            Seconds to the next poll, or None if the wait is over.

        Raises:
            ConfigurationError: The caller's own wait strategy raised, or returned no number.
        """
        state = self._state
        state.record(outcome)
        if isinstance(outcome, Failure):
            self._failures += 1
            again = self._failures < self._max_failures and isinstance(outcome.verdict, Transient)
        else:
            self._failures = 0
            again = not outcome.done
        if not again:
            return None
        pause = pause_of(state.retry_object.wait, state)
        state.idle_for += pause
        state.prepare_for_next_attempt()
        return pause


class _State(RetryCallState):
    """tenacity's state of one wait, whose outcome is built only when a strategy looks at it.

    tenacity builds a future for each attempt, with a lock and a condition. That costs more than everything else that a
    poll does here, and most strategies only count.
    """

    _outcome: Outcome | None = None

    def __init__(self, rule: AsyncRetrying) -> None:
        super().__init__(rule, None, (), _NO_ARGUMENTS)

    def record(self, outcome: Outcome) -> None:
        """Record the outcome of an attempt, as `set_result` and `set_exception` would."""
        self._outcome = outcome
        self.outcome_timestamp = time.monotonic()

    @property
    def outcome(self) -> Future | None:
        """The outcome of the last attempt, for strategies that look at it."""
        outcome = self._outcome
        if outcome is None:
            return None
        if isinstance(outcome, Failure):
            return Future.construct(self.attempt_number, outcome.error, has_exception=True)
        return Future.construct(self.attempt_number, outcome.job, has_exception=False)

    @outcome.setter
    def outcome(self, _: Future | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]  # an attribute
        self._outcome = None  # tenacity only ever clears it, at first and before each attempt


def strategy_of(polling: Polling) -> WaitStrategy:
    """Return the wait strategy of some settings."""
    return _Jittered(polling) if polling.wait is None else polling.wait


def pause_of(strategy: WaitStrategy, state: RetryCallState) -> float:
    """Ask a strategy for a pause, in seconds.

    Raises:
        ConfigurationError: The caller's own strategy raised, or returned no number.
    """
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


class _Jittered(wait_exponential):
    """tenacity's exponential pauses, each varied up or down by a fraction of itself."""

    def __init__(self, polling: Polling) -> None:
        super().__init__(multiplier=polling.initial, exp_base=polling.multiplier, max=polling.maximum)
        self._jitter = polling.jitter

    def __call__(self, retry_state: RetryCallState) -> float:
        pause = super().__call__(retry_state) if self.multiplier else 0.0  # its powers overflow to the maximum
        return pause * random.uniform(1 - self._jitter, 1 + self._jitter)  # noqa: S311 - spreads load, hides nothing
