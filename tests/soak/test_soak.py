"""The checks of the soak: what they accept and what they report. The soak itself is `make soak`."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest

from playai_async import Completed, Failed, InProgress, TransportError, TtsJob, WaitTimeoutError
from tests.soak.account import Account
from tests.soak.oracle import History, RecordedError, Wait, is_suspicious, lost, problems_of_end, problems_of_error
from tests.soak.plan import Soak, caller_of, job_of, number_of
from tests.soak.report import format_verdict
from tests.soak.storm import Injection, storm

SOAK = Soak(seed=7, seconds=60.0, waits=3000)

PLANNED = next(job for number in range(100) if (job := job_of(SOAK, number)).duration < math.inf and not job.fails)


def wait_for(job_id: UUID = PLANNED.id, *, way: str = "wait", timeout: float | None = 10.0, began: float = 0.0) -> Wait:
    """A wait that began with the soak."""
    return Wait(1, way, job_id, timeout, 2, began, began)


def job_with(job_id: UUID, output: Completed | Failed | InProgress) -> TtsJob:
    """A job as the service could return it."""
    return TtsJob(id=job_id, created_at=datetime.now(UTC), input=PLANNED.input, completed_at=None, output=output)


COMPLETED = Completed(url="https://audio.invalid/a.wav", content_type="audio/wav", file_size=1.0, duration=1.0)


def test_a_seed_decides_everything() -> None:
    """Jobs, callers and events are the same for the same seed, and different for another seed."""
    other = Soak(seed=8, seconds=60.0, waits=3000)
    for number in range(200):
        assert job_of(SOAK, number) == job_of(SOAK, number)
        assert caller_of(SOAK, number, 3) == caller_of(SOAK, number, 3)
    assert list(itertools.islice(storm(SOAK), 50)) == list(itertools.islice(storm(SOAK), 50))
    assert [job_of(SOAK, n).duration for n in range(20)] != [job_of(other, n).duration for n in range(20)]


def test_a_storm_has_faults_at_every_endpoint() -> None:
    """Some faults are for one job, others for any job."""
    faults = [event for _, event in itertools.islice(storm(SOAK), 500) if isinstance(event, Injection)]
    assert {fault.endpoint for fault in faults} == {"status", "create", "audio"}
    assert {fault.age is None for fault in faults} == {True, False}


def test_a_job_is_known_by_its_number() -> None:
    """A job that was not planned has no number."""
    assert number_of(PLANNED.id) == PLANNED.number
    assert number_of(UUID(int=5)) is None


@pytest.mark.parametrize(
    ("job", "after", "problem"),
    [
        (job_with(PLANNED.id, COMPLETED), 0.1, None),
        (job_with(PLANNED.id, COMPLETED), -0.1, "received the end at"),
        (job_with(PLANNED.id, Failed()), 0.1, "received the wrong output Failed"),
        (job_with(PLANNED.id, InProgress()), 0.1, "ended with an unfinished job"),
        (job_with(UUID(int=5), COMPLETED), 0.1, "received another job"),
    ],
    ids=["right", "early", "wrong outcome", "not done", "another job"],
)
def test_a_result_is_compared_with_the_plan(job: TtsJob, after: float, problem: str | None) -> None:
    """The right job and the right outcome, not before the job finishes."""
    problems = list(problems_of_end(SOAK, wait_for(), job, PLANNED.finishes + after))
    assert [words[: len(problem or "")] for words in problems] == ([] if problem is None else [problem])


@pytest.mark.parametrize(
    ("now", "problem"),
    [(10.0, None), (9.0, "early"), (10.9, None), (11.1, "late")],
    ids=["right", "early", "some", "late"],
)
def test_a_timeout_is_compared_with_its_deadline(now: float, problem: str | None) -> None:
    """Not before the deadline, and at most a second after it, unless the machine was late."""
    error = WaitTimeoutError("late", elapsed=10.0, polls=1, job_id=PLANNED.id)
    problems = list(problems_of_error(SOAK, wait_for(), error, now, 0.0))
    assert [problem in words for words in problems if problem] == ([True] if problem else [])
    assert bool(problems) is bool(problem)
    assert not list(problems_of_error(SOAK, wait_for(), error, max(10.0, now), 0.5))


@pytest.mark.parametrize(
    ("kind", "status", "names", "why"),
    [
        ("TransportError", None, ["Hang", "Reset"], None),
        ("TransportError", None, ["Hang"], "gave up after 1 failures instead of 2"),
        ("TransportError", None, ["Status 503", "Status 503"], "no request met this fault"),
        ("UnexpectedServiceError", 503, ["Malformed html", "Status 503"], None),
        ("UnexpectedServiceError", 503, ["Status 500"], "no request met this fault"),
        ("UnauthorizedError", 401, ["Status 401"], None),
        ("UnauthorizedError", 401, [], "no request met this fault"),
        ("RateLimitedError", 429, ["Status 429"], "a 429 never ends a wait"),
        ("PlayAIError", None, ["Hang", "Reset"], "no request met this fault"),
    ],
)
def test_an_error_needs_a_cause(kind: str, status: int | None, names: Sequence[str], why: str | None) -> None:
    """A request for the job met a fault of that kind, as often as the wait tolerates."""
    job_id = str(PLANNED.id)
    met = RecordedError(
        caller=1, way="wait", job_id=job_id, kind=kind, status=status, text="", max_failures=2, began=100.0, ended=110.0
    )
    history = History([(105.0, "status", job_id, name) for name in names])
    found = history.unexplained(met)
    assert (found is None) if why is None else (found is not None and why in found)


def test_an_outage_explains_lost_connections() -> None:
    """Nothing listened, so no fault was met."""
    met = RecordedError.of(wait_for(began=100.0), TransportError("refused", job_id=PLANNED.id), 110.0)
    assert History(spans=[(104.0, 106.0)]).unexplained(met) is None
    assert History(spans=[(10.0, 20.0)]).unexplained(met) is not None


def test_a_wait_is_lost_if_nothing_delays_it() -> None:
    """Its deadline has passed, or its job finished long ago and its session has no queued polls."""
    now = PLANNED.finishes + 100.0
    waits = [wait_for(timeout=None, began=now - 90.0)]
    assert lost(SOAK, waits, now, now - 50.0, queues=False)
    assert not lost(SOAK, waits, now, now - 50.0, queues=True)
    assert not lost(SOAK, waits, now, now - 1.0, queues=False)
    assert lost(SOAK, [wait_for(timeout=10.0, began=now - 90.0)], now, now - 1.0, queues=True)


def test_waits_for_all_are_lost_together() -> None:
    """`wait_for_all` returns its results together, when the last wait ends."""
    now = PLANNED.finishes + 100.0
    done, endless = (
        wait_for(way="wait_for_all", timeout=None, began=now - 90.0),
        wait_for(UUID(int=5), way="wait_for_all", timeout=None, began=now - 90.0),
    )
    assert not lost(SOAK, [done, endless], now, now - 50.0, queues=False)
    assert lost(SOAK, [done], now, now - 50.0, queues=False)


async def test_an_account_finds_waits_without_an_end_or_with_two() -> None:
    """Each wait ends exactly once."""
    account = Account(SOAK, io.StringIO())
    caller = caller_of(SOAK, 1, 3)
    with account.track(caller, object(), [PLANNED.id], timeout=None, max_failures=2) as tracked:
        tracked.check_end(job_with(PLANNED.id, COMPLETED))
        account.end(tracked.waits[0], "finished")
    with account.track(caller, object(), [PLANNED.id], timeout=None, max_failures=2):
        pass
    assert [words.partition("): ")[2][:20] for words in account.messages] == [
        "received the end at ",  # at the beginning no job has finished
        "ended twice, the sec",
        "no result, like 0 ot",
    ]


def test_an_account_ends_with_a_verdict() -> None:
    """It says that all promises held, or lists broken promises and the command that repeats the soak."""
    account = Account(SOAK, io.StringIO())
    assert format_verdict(account, "soak") == "PASSED: every wait ended exactly once, and no promise was broken"
    account.violation("one")
    account.violation("two")
    assert (
        format_verdict(account, "soak --seed 7")
        == "FAILED: 2 broken promises; repeat with `soak --seed 7`\n- one\n- two"
    )


def test_an_account_says_what_its_columns_mean() -> None:
    """One line per column, below the table."""
    lines = Account(SOAK, io.StringIO()).table().splitlines()
    columns = [column.strip() for column in lines[0].strip("| ").split("|")]
    explained = [line.partition(": ")[0] for line in lines if not line.startswith("|") and ": " in line]
    assert columns[2:] == explained


def test_a_request_that_made_two_jobs_is_found() -> None:
    """Each call has a different text."""
    account = Account(SOAK, io.StringIO())
    account.check_history(History(), [("a", "caller 1"), ("b", "caller 1"), ("c", "caller 2")])
    assert account.messages == ["one call created 2 jobs: 'caller 1'"]


@pytest.mark.parametrize(
    ("done_before", "why", "way", "suspicious"),
    [
        (5.0, "", "wait", True),
        (1.0, "", "wait", False),
        (5.0, "; throttled for 3 s more", "wait", False),
        (5.0, "; its poll was due and waited for its turn", "watch", False),
        (5.0, "", "speak", False),
    ],
    ids=["done long ago", "just done", "throttled", "queued", "another kind of deadline"],
)
def test_a_timeout_of_a_job_that_is_done_needs_a_cause(
    done_before: float, why: str, way: str, *, suspicious: bool
) -> None:
    """The last poll, just before the deadline, finds a finished job."""
    wait = wait_for(way=way, timeout=10.0, began=PLANNED.finishes + done_before - 10.0)
    error = WaitTimeoutError(f"Job was not done (polls: 1{why}).", elapsed=10.0, polls=1, job_id=PLANNED.id)
    assert is_suspicious(SOAK, wait, error, wait.began + 10.0) is suspicious
    assert not is_suspicious(SOAK, wait, error, wait.began + 11.0)
    met = RecordedError.of(wait, error, PLANNED.finishes + done_before)
    assert History().unexplained(met)
    assert not History([(met.ended - 1.0, "status", met.job_id, "Hang")]).unexplained(met)
