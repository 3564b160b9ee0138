"""Decisions about the row of a durable wait: exact times, and cases that virtual time does not reach easily."""

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
from playai_async.contrib.procrastinate._rows import Rescheduled, ReschedulePolicy, priority_of
from playai_async.contrib.procrastinate._values import AnyOutcome, Outcome, Reschedule, Row
from tests.contrib.durable import EXACT

JOB_ID = UUID(int=7)
CREATED = datetime(2026, 3, 1, tzinfo=UTC)
BEGAN = CREATED.timestamp()
GOING_ON = TtsJob(JOB_ID, CREATED, {}, None, InProgress())
DONE = TtsJob(JOB_ID, CREATED, {}, CREATED, Completed("https://audio.example/a.mp3", "audio/mpeg", 1.0, 1.0))
LOST = TransportError("Lost.")
THROTTLED = RateLimitedError("Too many.", status=429)


def a_row(*, timeout: float | None = 100.0, **counts: float) -> Row:
    """A wait that started at `BEGAN`."""
    deadline = None if timeout is None else BEGAN + timeout
    return Row(job_id=JOB_ID, on_done="note", started=BEGAN, deadline=deadline, **counts)  # type: ignore[arg-type]  # whole ones


def after(
    row: Row, came: TtsJob | PlayAIError, seconds: float, *, took: float = 0.0, pause: float = 0.0
) -> Reschedule | AnyOutcome:
    """Return what follows from a result, `seconds` after the start."""
    now = BEGAN + seconds
    return on_result(row, came, now - took, now, pause=pause, polling=EXACT)


def seconds_of(again: Reschedule | AnyOutcome | None) -> float:
    """Return when the row is due, in seconds after the start."""
    assert isinstance(again, Reschedule)
    return round(again.at - BEGAN, 3)


@pytest.mark.parametrize(("turns", "pause"), [(0, 1.0), (1, 1.5), (2, 2.25), (5, 7.594), (6, 10.0), (5_000, 10.0)])
def test_the_pause_depends_on_the_number_of_polls(turns: int, pause: float) -> None:
    """As if the wait had been in one process all the time."""
    assert seconds_of(after(a_row(attempts=turns, timeout=None), GOING_ON, 50.0)) == 50.0 + pause


@pytest.mark.parametrize("count", ["unasked", "throttled"])
def test_an_attempt_without_a_reply_does_not_count(count: str) -> None:
    """429s and a spent quota do not change the pauses."""
    assert seconds_of(after(a_row(attempts=3, **{count: 2}), GOING_ON, 50.0)) == 51.5


def test_a_wait_strategy_receives_the_state_of_the_wait() -> None:
    """The number of attempts and the elapsed time, most of it idle."""
    seen: list[tuple[int, float, int]] = []

    def strategy(state: object) -> float:
        seen.append((state.attempt_number, state.idle_for, round(state.seconds_since_start)))  # type: ignore[attr-defined]  # tenacity's
        return 5.0

    row, now = a_row(attempts=3), BEGAN + 50.0
    assert seconds_of(on_result(row, GOING_ON, now, now, pause=0.0, polling=Polling(wait=strategy))) == 55.0
    assert seen == [(4, 50.0, 50)]


def test_a_failure_is_counted_and_a_success_resets_the_count() -> None:
    """A counter is stored only if it changes."""
    failed, good, same = after(a_row(), LOST, 1), after(a_row(failures=1), GOING_ON, 1), after(a_row(), GOING_ON, 1)
    assert [again.counters for again in (failed, good, same) if isinstance(again, Reschedule)] == [
        {"failures": 1},
        {"failures": 0},
        {},
    ]


def test_no_pause_exceeds_the_time_of_the_last_poll() -> None:
    """A second before the deadline, or a tenth of a short timeout."""
    assert seconds_of(after(a_row(attempts=20), GOING_ON, 95.0)) == 99.0
    assert seconds_of(after(a_row(attempts=20, timeout=2.0), GOING_ON, 0.5)) == 1.8
    assert seconds_of(after(a_row(), THROTTLED, 95.0, pause=60.0)) == 99.0
    assert seconds_of(before_request(a_row(), BEGAN + 95.0, 60.0)) == 99.0


def test_a_request_sent_before_the_last_poll_is_not_the_last() -> None:
    """One more is sent at once."""
    assert seconds_of(after(a_row(attempts=20), GOING_ON, 99.5, took=3.0)) == 99.5


def test_the_timeout_error_has_the_last_error() -> None:
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


def test_a_finished_job_after_the_deadline_is_an_outcome() -> None:
    """However late."""
    outcome = after(a_row(attempts=20), DONE, 10_000.0)
    assert isinstance(outcome, Outcome)
    assert outcome.job is DONE


def test_a_short_pause_does_not_reschedule_the_row() -> None:
    """Rescheduling costs more than a second in a worker's slot."""
    assert before_request(a_row(), BEGAN, 1.0) is None
    assert seconds_of(before_request(a_row(), BEGAN, 1.5)) == 1.5


def test_a_wait_without_a_deadline_may_be_postponed_for_a_day() -> None:
    """If the service asks for a day."""
    assert seconds_of(after(a_row(timeout=None), THROTTLED, 95.0, pause=86_400.0)) == 86_495.0


def test_a_configuration_error_is_raised() -> None:
    """For example because the session belongs to another event loop."""
    with pytest.raises(ConfigurationError, match="another loop"):
        after(a_row(), ConfigurationError("another loop"), 1.0)


def test_a_row_without_a_reply_keeps_its_priority() -> None:
    """A row that was polled gets a new priority."""
    for again, owed in [(before_request(a_row(), BEGAN, 9.0), True), (after(a_row(), GOING_ON, 1.0), False)]:
        assert isinstance(again, Reschedule)
        assert again.keep_priority == owed
        assert Rescheduled(again).decision.priority == (None if owed else priority_of(BEGAN + 2.0))


def test_a_late_row_stores_since_when_it_is_late() -> None:
    """So that it is not postponed for ever."""
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
def test_the_pauses_of_a_handler_double_up_to_five_minutes(calls: int, pause: float) -> None:
    """Whatever the maximum number of failures."""
    again = on_handler_error(a_row(calls=calls), BEGAN, 10_000)
    assert seconds_of(again) == pause
    assert again is not None
    assert again.counters == {"calls": calls + 1}


def test_priorities_are_times() -> None:
    """An earlier time is fetched first, after a rescue. Before the epoch, all times are equal."""
    assert priority_of(BEGAN) == -(int(BEGAN) - PRIORITY_EPOCH) < priority_of(BEGAN - 1.0) < 0
    assert priority_of(0.0) == -1


def test_a_huge_pause_is_limited_to_the_last_priority() -> None:
    """PostgreSQL's integers end in 2094."""
    decision = Rescheduled(Reschedule(1e300, "the caller's own strategy")).decision
    assert decision.priority == -(2**31 - 1)
    assert decision.retry_at is not None
    assert decision.retry_at.year == 2094


def test_other_exceptions_fail_the_row() -> None:
    """For example the last exception of a handler."""
    assert ReschedulePolicy().get_retry_decision(exception=OSError(), job=None) is None  # type: ignore[arg-type]  # unused
