"""Again or not, and after how long: the exact pauses of a wait, and what ends it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tenacity import (
    RetryCallState,
    wait_chain,
    wait_combine,
    wait_fixed,
    wait_incrementing,
    wait_none,
)

from playai_async import (
    APIStatusError,
    Completed,
    ConfigurationError,
    Failed,
    ForbiddenError,
    InProgress,
    InvalidParametersError,
    InvalidResponseError,
    NotFoundError,
    PlayAIError,
    Polling,
    SessionClosedError,
    TransportError,
    TtsJob,
    UnauthorizedError,
    UnexpectedServiceError,
    Unknown,
)
from playai_async._exceptions import TRANSIENT
from playai_async._models import Output
from playai_async._runtime import classify
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._scheduling.request import Failure, Outcome, Success
from tests.support.dice import Dice

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
TRANSPORT = TransportError("No connection.")
GARBLED = InvalidResponseError("Garbled.", problems=["not JSON @ $"])
DOWN = UnexpectedServiceError("Down.", status=503)


def a_job(output: Output) -> TtsJob:
    """Make a job in some state."""
    return TtsJob(UUID(int=1), CREATED, {}, None, output)


GOING_ON = a_job(InProgress())
DONE = a_job(Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0))


def a_wait(polling: Polling | None = None) -> Backoff:
    """Begin a wait; by default, under the default settings but for the jitter."""
    polling = polling or Polling(jitter=0)
    return Backoff(poll_rule(polling), polling.max_failures)


def came(result: TtsJob | PlayAIError) -> Outcome:
    """Give what a poll brought as the engine does."""
    if isinstance(result, PlayAIError):
        return Failure(result, classify(result))
    return Success(result, result.done)


def pauses(backoff: Backoff, *outcomes: TtsJob | PlayAIError) -> list[float | None]:
    """Say what follows each of some polls."""
    return [backoff.pause_after(came(outcome)) for outcome in outcomes]


def kind_of(value: object) -> str:
    """Name a case by its class."""
    return type(value).__name__


# The default pauses


def test_pauses_grow_by_half_up_to_ten_seconds() -> None:
    """The defaults, without jitter."""
    assert pauses(a_wait(), *[GOING_ON] * 9) == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(
    ("polling", "expected"),
    [
        (Polling(initial=2, multiplier=3, maximum=30, jitter=0), [2, 6, 18, 30, 30]),
        (Polling(initial=5, multiplier=1, jitter=0), [5, 5, 5, 5, 5]),
        (Polling(initial=10, maximum=10, jitter=0), [10, 10, 10, 10, 10]),
        (Polling(initial=0.5, multiplier=1e308, maximum=4, jitter=0), [0.5, 4, 4, 4, 4]),
        (Polling(initial=0, jitter=0), [0, 0, 0, 0, 0]),
    ],
    ids=["other", "no growth", "at its maximum", "a leap", "no pause"],
)
def test_pauses_follow_the_settings(polling: Polling, expected: list[float]) -> None:
    """Each is `initial` times a power of `multiplier`, and `maximum` at most."""
    assert pauses(a_wait(polling), *[GOING_ON] * 5) == expected


@pytest.mark.parametrize(
    ("polling", "pause"),
    [(Polling(jitter=0), 10.0), (Polling(initial=0, jitter=0), 0.0), (Polling(multiplier=1, jitter=0), 1.0)],
    ids=["growing", "none", "constant"],
)
def test_a_wait_of_any_length_keeps_its_pause(polling: Polling, pause: float) -> None:
    """Powers overflow after some thousand polls, and nothing may come of that."""
    backoff = a_wait(polling)
    pauses(backoff, *[GOING_ON] * 10)
    assert set(pauses(backoff, *[GOING_ON] * 5_000)) == {pause}


@pytest.mark.parametrize(("share", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)], ids=["least", "middle", "most"])
def test_jitter_varies_each_pause_by_a_share_of_it(
    share: float, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fifth up or down by default, of the longest pause too."""
    dice = Dice(share)
    monkeypatch.setattr(random, "uniform", dice)
    expected = [pause * factor for pause in (1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, 10.0)]
    assert pauses(a_wait(Polling()), *[GOING_ON] * 8) == pytest.approx(expected, rel=1e-12)
    assert dice.asked == [(0.8, 1.2)] * 8


def test_full_jitter_never_leads_below_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of one may take all of a pause, and no more."""
    monkeypatch.setattr(random, "uniform", Dice(0.0))
    assert pauses(a_wait(Polling(jitter=1)), GOING_ON, GOING_ON) == [0.0, 0.0]


def test_pauses_grow_over_failures_too() -> None:
    """One count of polls, whatever they brought."""
    assert pauses(a_wait(), GOING_ON, DOWN, GOING_ON, TRANSPORT, GARBLED) == [1.0, 1.5, 2.25, 3.375, 5.0625]


def test_waits_under_one_rule_do_not_know_of_each_other() -> None:
    """The rule is shared; the memory is not."""
    polling = Polling(jitter=0, max_failures=2)
    rule = poll_rule(polling)
    one, other = Backoff(rule, 2), Backoff(rule, 2)
    assert pauses(one, GOING_ON, DOWN) == [1.0, 1.5]
    assert pauses(other, DOWN, GOING_ON) == [1.0, 1.5]


# What goes on, and what ends


@pytest.mark.parametrize("output", [InProgress(), Unknown("QUEUED")], ids=kind_of)
def test_a_job_that_is_not_done_is_polled_again(output: Output) -> None:
    """A state that the contract does not list is no end."""
    assert pauses(a_wait(), a_job(output)) == [1.0]


@pytest.mark.parametrize("output", [DONE.output, Failed()], ids=kind_of)
def test_a_job_that_is_done_ends_the_wait(output: Output) -> None:
    """Well or badly."""
    assert pauses(a_wait(), GOING_ON, a_job(output)) == [1.0, None]


@pytest.mark.parametrize("error", [TRANSPORT, GARBLED, DOWN], ids=kind_of)
def test_transient_failures_end_the_wait_once_so_many_came_in_a_row(error: PlayAIError) -> None:
    """Eight by default: the eighth ends it."""
    assert pauses(a_wait(), *[error] * 8) == [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, None]


def test_failures_of_different_kinds_count_together() -> None:
    """A service that is down fails in many ways."""
    assert pauses(a_wait(Polling(jitter=0, max_failures=3)), DOWN, GARBLED, TRANSPORT) == [1.0, 1.5, None]


def test_one_good_answer_resets_the_count() -> None:
    """In a row means in a row; the pauses do not begin anew."""
    backoff = a_wait(Polling(jitter=0, max_failures=2))
    assert pauses(backoff, DOWN, GOING_ON, DOWN, GOING_ON, DOWN, DOWN) == [1.0, 1.5, 2.25, 3.375, 5.0625, None]


def test_with_one_failure_allowed_none_is_polled_again() -> None:
    """The first one is so many."""
    assert pauses(a_wait(Polling(jitter=0, max_failures=1)), GOING_ON, DOWN) == [1.0, None]


@pytest.mark.parametrize(
    "error",
    [
        InvalidParametersError("No.", status=400),
        UnauthorizedError("No.", status=401),
        ForbiddenError("No.", status=403),
        NotFoundError("No.", status=404),
        APIStatusError("No.", status=302),
        APIStatusError("No.", status=418),
        SessionClosedError("Closed."),
        ConfigurationError("No."),
        PlayAIError("A bug."),
    ],
    ids=lambda error: f"{type(error).__name__} {getattr(error, 'status', '')}",
)
def test_any_other_error_ends_the_wait_at_once(error: PlayAIError) -> None:
    """It would come again."""
    assert pauses(a_wait(), error) == [None]


def test_what_is_transient_is_named_class_by_class() -> None:
    """None of them may be a base of what is not: a cancellation, a refusal, a 429."""
    assert set(TRANSIENT) == {TransportError, InvalidResponseError, UnexpectedServiceError}
    assert not issubclass(asyncio.CancelledError, TRANSIENT)


# The caller's own strategy


def grows(state: RetryCallState) -> float:
    """Pause as long as there were polls."""
    return float(state.attempt_number)


def slower_when_down(state: RetryCallState) -> float:
    """Pause longer after a failure."""
    assert state.outcome is not None
    return 30.0 if state.outcome.failed else 3.0


def by_exception(state: RetryCallState) -> float:
    """A strategy that looks at what was raised."""
    assert state.outcome
    return 4.0 if isinstance(state.outcome.exception(), TransportError) else 6.0


def by_state(state: RetryCallState) -> float:
    """Pause by what the job was in."""
    assert state.outcome is not None
    job = state.outcome.result()
    return 7.0 if isinstance(job.output, Unknown) else 2.0


def by_time_spent(state: RetryCallState) -> float:
    """Pause a second more than all the pauses before."""
    return state.idle_for + 1.0


@pytest.mark.parametrize(
    ("strategy", "outcomes", "expected"),
    [
        (wait_fixed(3), [GOING_ON, DOWN, GOING_ON], [3.0, 3.0, 3.0]),
        (wait_fixed(timedelta(minutes=1)), [GOING_ON], [60.0]),
        (wait_none(), [GOING_ON, GOING_ON], [0.0, 0.0]),
        (wait_chain(wait_fixed(1), wait_fixed(5), wait_fixed(9)), [GOING_ON] * 4, [1.0, 5.0, 9.0, 9.0]),
        (wait_incrementing(start=2, increment=3), [GOING_ON] * 3, [2.0, 5.0, 8.0]),
        (wait_fixed(1) + wait_fixed(2), [GOING_ON], [3.0]),
        (wait_combine(wait_fixed(1), wait_fixed(4)), [GOING_ON], [5.0]),
        (by_exception, [TRANSPORT, DOWN], [4.0, 6.0]),
        (grows, [GOING_ON, DOWN, GOING_ON], [1.0, 2.0, 3.0]),
        (slower_when_down, [GOING_ON, DOWN, GOING_ON], [3.0, 30.0, 3.0]),
        (by_state, [GOING_ON, a_job(Unknown("QUEUED")), GOING_ON], [2.0, 7.0, 2.0]),
        (by_time_spent, [GOING_ON, GOING_ON, GOING_ON], [1.0, 2.0, 4.0]),
        (lambda _: 5, [GOING_ON], [5.0]),
    ],
    ids=[
        "fixed",
        "fixed timedelta",
        "none",
        "chain",
        "incrementing",
        "sum",
        "combine",
        "by exception",
        "by attempt",
        "by outcome",
        "by state",
        "by time",
        "integer",
    ],
)
def test_a_strategy_takes_the_place_of_the_default_pauses(
    strategy: Callable[[RetryCallState], float], outcomes: list[TtsJob | PlayAIError], expected: list[float]
) -> None:
    """It sees the state that tenacity would show it: attempt, outcome, time spent in pauses."""
    assert pauses(a_wait(Polling(wait=strategy)), *outcomes) == expected


def test_between_two_polls_there_is_no_outcome() -> None:
    """As tenacity has it: a strategy that keeps the state finds nothing of the last poll in it."""
    kept: list[RetryCallState] = []

    def strategy(state: RetryCallState) -> float:
        assert state.outcome is not None
        assert state.seconds_since_start is not None
        kept.append(state)
        return 1.0

    pauses(a_wait(Polling(wait=strategy)), GOING_ON)
    assert (kept[0].outcome, kept[0].seconds_since_start) == (None, None)


def test_a_strategy_sees_attempts_without_arguments() -> None:
    """As tenacity has it for a call of nothing: a tuple and a dict, and no function."""
    seen = []

    def strategy(state: RetryCallState) -> float:
        seen.append((state.fn, state.args, state.kwargs))
        return 1.0

    a_wait(Polling(wait=strategy)).pause_after(came(GOING_ON))
    assert seen == [(None, (), {})]


def test_a_strategy_leaves_the_ends_of_a_wait_alone() -> None:
    """It decides how long, never whether."""
    asked: list[int] = []

    def strategy(state: RetryCallState) -> float:
        asked.append(state.attempt_number)
        return 1.0

    assert pauses(a_wait(Polling(wait=strategy, max_failures=2)), DOWN, DOWN) == [1.0, None]
    assert pauses(a_wait(Polling(wait=strategy)), DONE) == [None]
    assert asked == [1]


@pytest.mark.parametrize(
    ("result", "pause"),
    [(-1.0, 0.0), (-math.inf, 0.0), (math.nan, 0.0), (-0.0, 0.0), (math.inf, math.inf)],
    ids=str,
)
def test_what_is_no_time_to_wait_is_none(result: float, pause: float) -> None:
    """A strategy may subtract its way below zero; for ever is a time, and the deadline bounds it."""
    assert pauses(a_wait(Polling(wait=lambda _: result)), GOING_ON) == [pause]


@pytest.mark.parametrize(
    "result", [None, "soon", [1.0], 1j, object(), timedelta(seconds=1), 10**400, True, "1.5"], ids=kind_of
)
def test_a_strategy_that_returns_no_number_is_a_configuration_error(result: object) -> None:
    """With the lower error as its cause, and no other exception out of a wait."""
    with pytest.raises(
        ConfigurationError, match=r"^polling\.wait failed \((TypeError|ValueError|OverflowError)\)$"
    ) as caught:
        a_wait(Polling(wait=lambda _: result)).pause_after(came(GOING_ON))  # type: ignore[arg-type]  # the point
    assert isinstance(caught.value.__cause__, TypeError | ValueError | OverflowError)


def test_what_a_strategy_returned_is_named_by_its_type() -> None:
    """In the cause, so that its author knows where to look."""
    with pytest.raises(ConfigurationError) as caught:
        a_wait(Polling(wait=lambda _: "soon")).pause_after(came(GOING_ON))  # type: ignore[arg-type]  # the point
    assert str(caught.value.__cause__) == "seconds must be a number, not str"


def test_a_strategy_that_raises_is_a_configuration_error() -> None:
    """It names the class, and the cause has the rest."""
    lower = ZeroDivisionError("a secret of the caller's")

    def strategy(_: RetryCallState) -> float:
        raise lower

    with pytest.raises(ConfigurationError) as caught:
        a_wait(Polling(wait=strategy)).pause_after(came(GOING_ON))
    assert (str(caught.value), caught.value.__cause__) == ("polling.wait failed (ZeroDivisionError)", lower)


def test_a_cancellation_passes_through_a_strategy() -> None:
    """It is no failure of the strategy's."""

    def strategy(_: RetryCallState) -> float:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        a_wait(Polling(wait=strategy)).pause_after(came(GOING_ON))


# A wait that is taken up again


def test_a_wait_taken_up_again_pauses_as_if_it_had_gone_on() -> None:
    """In another process, say: by the polls that went before."""
    polling = Polling(jitter=0)
    assert pauses(Backoff(poll_rule(polling), 8, polls=3), GOING_ON, GOING_ON) == [3.375, 5.0625]


def test_a_wait_taken_up_again_counts_its_failures_on() -> None:
    """Those in a row; a good answer resets them."""
    backoff = Backoff(poll_rule(Polling(jitter=0)), 3, polls=5, failures=2)
    assert backoff.failures == 2
    assert pauses(backoff, TRANSPORT) == [None]
    backoff = Backoff(poll_rule(Polling(jitter=0)), 3, polls=5, failures=2)
    assert pauses(backoff, GOING_ON, TRANSPORT) == [7.59375, 10.0]
    assert backoff.failures == 1


def test_a_strategy_sees_how_long_a_wait_taken_up_again_has_taken() -> None:
    """Since its beginning, and not since it was taken up."""
    seen: list[tuple[float, int]] = []

    def strategy(state: RetryCallState) -> float:
        seen.append((state.idle_for, round(state.seconds_since_start or 0)))
        return 2.0

    backoff = Backoff(poll_rule(Polling(wait=strategy)), 8, polls=9, elapsed=600.0)
    assert pauses(backoff, GOING_ON, GOING_ON) == [2.0, 2.0]
    assert seen == [(600.0, 600), (602.0, 600)]
