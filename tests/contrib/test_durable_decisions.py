"""What follows from one turn of a durable wait: in the exact, and where virtual time does not easily get to."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from playai_async import (
    Completed,
    ConfigurationError,
    InProgress,
    PlayAIError,
    Polling,
    RateLimitedError,
    TransportError,
    TtsJob,
    WaitTimeoutError,
)
from playai_async.contrib.procrastinate._constants import MAX_OVERTIME, PRIORITY_EPOCH
from playai_async.contrib.procrastinate._decisions import before_request, on_handler_error, on_no_reply, on_result
from playai_async.contrib.procrastinate._rows import Rescheduled, RescheduleStrategy, priority_of
from playai_async.contrib.procrastinate._values import Outcome, Reschedule, Row
from tests.contrib.durable import EXACT

JOB_ID = UUID(int=7)
CREATED = datetime(2026, 3, 1, tzinfo=UTC)
BEGAN = CREATED.timestamp()
GOING_ON = TtsJob(JOB_ID, CREATED, {}, None, InProgress())
DONE = TtsJob(JOB_ID, CREATED, {}, CREATED, Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0))
LOST = TransportError("Lost.")
THROTTLED = RateLimitedError("Too many.", status=429)


def a_row(*, timeout: float | None = 100.0, **counts: float) -> Row:
    """A wait that began at `BEGAN`."""
    deadline = None if timeout is None else BEGAN + timeout
    return Row(job_id=JOB_ID, on_done="note", started=BEGAN, deadline=deadline, **counts)  # type: ignore[arg-type]  # whole ones


def after(
    row: Row, came: TtsJob | PlayAIError, seconds: float, *, took: float = 0.0, pause: float = 0.0
) -> Reschedule | Outcome:
    """Say what follows from an answer, so many seconds after the beginning."""
    now = BEGAN + seconds
    return on_result(row, came, now - took, now, pause=pause, polling=EXACT)


def seconds_of(again: Reschedule | Outcome | None) -> float:
    """Say when the next turn is, in seconds after the beginning."""
    assert isinstance(again, Reschedule)
    return round(again.at - BEGAN, 3)


@pytest.mark.parametrize(("turns", "pause"), [(0, 1.0), (1, 1.5), (2, 2.25), (5, 7.594), (6, 10.0), (5_000, 10.0)])
def test_the_pause_is_that_of_the_attempt(turns: int, pause: float) -> None:
    """As if the wait had been in one process all along."""
    assert seconds_of(after(a_row(attempts=turns, timeout=None), GOING_ON, 50.0)) == 50.0 + pause


@pytest.mark.parametrize("count", ["unasked", "throttled"])
def test_a_turn_without_an_answer_is_no_attempt(count: str) -> None:
    """429s and spent quotas leave the pauses as they were."""
    assert seconds_of(after(a_row(attempts=3, **{count: 2}), GOING_ON, 50.0)) == 51.5


def test_a_strategy_sees_the_wait_as_it_is() -> None:
    """Its attempts, and how long it has taken, most of it idle."""
    seen: list[tuple[int, float, int]] = []

    def strategy(state: object) -> float:
        seen.append((state.attempt_number, state.idle_for, round(state.seconds_since_start)))  # type: ignore[attr-defined]  # tenacity's
        return 5.0

    row, now = a_row(attempts=3), BEGAN + 50.0
    assert seconds_of(on_result(row, GOING_ON, now, now, pause=0.0, polling=Polling(wait=strategy))) == 55.0
    assert seen == [(4, 50.0, 50)]


def test_a_failure_is_counted_and_a_good_answer_clears_it() -> None:
    """Each is written down once."""
    failed, good, same = after(a_row(), LOST, 1), after(a_row(failures=1), GOING_ON, 1), after(a_row(), GOING_ON, 1)
    assert [again.counters for again in (failed, good, same) if isinstance(again, Reschedule)] == [
        {"failures": 1},
        {"failures": 0},
        {},
    ]


def test_no_pause_goes_past_the_last_call() -> None:
    """A second before the deadline, or a tenth of a short timeout."""
    assert seconds_of(after(a_row(attempts=20), GOING_ON, 95.0)) == 99.0
    assert seconds_of(after(a_row(attempts=20, timeout=2.0), GOING_ON, 0.5)) == 1.8
    assert seconds_of(after(a_row(), THROTTLED, 95.0, pause=60.0)) == 99.0
    assert seconds_of(before_request(a_row(), BEGAN + 95.0, 60.0)) == 99.0


def test_an_answer_that_took_past_the_last_call_is_not_the_last() -> None:
    """It was asked for before; one more is asked for at once."""
    assert seconds_of(after(a_row(attempts=20), GOING_ON, 99.5, took=3.0)) == 99.5


def test_the_last_failure_is_told() -> None:
    """It is what the deadline met."""
    outcome = after(a_row(attempts=20), LOST, 99.5)
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.error, WaitTimeoutError)
    assert outcome.error.last_error is LOST
    assert outcome.error.job is None
    assert str(outcome.error) == (
        f"Job {JOB_ID} was not done after 99.5 s (polls: 21; no answer to the last poll);"
        " it goes on and can be waited for again."
    )


def test_a_job_that_is_done_at_last_is_an_end() -> None:
    """However late."""
    outcome = after(a_row(attempts=20), DONE, 10_000.0)
    assert isinstance(outcome, Outcome)
    assert outcome.job is DONE


def test_a_short_pause_is_waited_for() -> None:
    """A row that is put back costs more than a second in a slot."""
    assert before_request(a_row(), BEGAN, 1.0) is None
    assert seconds_of(before_request(a_row(), BEGAN, 1.5)) == 1.5


def test_a_wait_without_a_deadline_is_held_as_long_as_it_takes() -> None:
    """A day, where the service says so."""
    assert seconds_of(after(a_row(timeout=None), THROTTLED, 95.0, pause=86_400.0)) == 86_495.0


def test_a_worker_with_wrong_settings_decides_nothing() -> None:
    """Its session may belong to another loop, say."""
    with pytest.raises(ConfigurationError, match="another loop"):
        after(a_row(), ConfigurationError("another loop"), 1.0)


def test_what_is_held_keeps_its_place() -> None:
    """It is owed a poll since it was due; what was polled is due anew."""
    for again, owed in [(before_request(a_row(), BEGAN, 9.0), True), (after(a_row(), GOING_ON, 1.0), False)]:
        assert isinstance(again, Reschedule)
        assert again.keep_priority == owed
        assert Rescheduled(again).decision.priority == (None if owed else priority_of(BEGAN + 2.0))


def test_a_late_row_remembers_since_when() -> None:
    """So that it is not held for ever."""
    late, now = a_row(attempts=4), BEGAN + 500.0
    again = on_no_reply(late, now, reason="its turn did not come")
    assert isinstance(again, Reschedule)
    assert again.counters == {"unasked": 1, "late_since": now}
    later = on_no_reply(
        a_row(attempts=5, unasked=1, late_since=now), now + MAX_OVERTIME + 1.0, reason="its turn did not come"
    )
    assert isinstance(later, Outcome)
    assert isinstance(later.error, WaitTimeoutError)
    assert later.error.polls == 4
    assert later.error.last_error is None
    assert "; its turn did not come)" in str(later.error)


@pytest.mark.parametrize(("calls", "pause"), [(0, 1.0), (1, 2.0), (8, 256.0), (9, 300.0), (5_000, 300.0)])
def test_a_handlers_pauses_double_up_to_five_minutes(calls: int, pause: float) -> None:
    """Whatever the bound."""
    again = on_handler_error(a_row(calls=calls), BEGAN, 10_000)
    assert seconds_of(again) == pause
    assert again is not None
    assert again.counters == {"calls": calls + 1}


def test_priorities_are_times() -> None:
    """The earlier goes first, and below a rescue; before their epoch all are equal."""
    assert priority_of(BEGAN) == -(int(BEGAN) - PRIORITY_EPOCH) < priority_of(BEGAN - 1.0) < 0
    assert priority_of(0.0) == -1


def test_a_pause_of_ages_is_one_until_the_last_priority() -> None:
    """PostgreSQL's integers end in 2094."""
    decision = Rescheduled(Reschedule(1e300, "the caller's own strategy")).decision
    assert decision.priority == -(2**31 - 1)
    assert decision.retry_at is not None
    assert decision.retry_at.year == 2094


def test_nothing_else_is_put_back() -> None:
    """A row whose handler is given up is left as failed."""
    assert RescheduleStrategy().get_retry_decision(exception=OSError(), job=None) is None  # type: ignore[arg-type]  # unused
