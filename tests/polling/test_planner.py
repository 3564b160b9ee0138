"""What a session learns from the jobs that it sees, and how old a job is: without an event loop."""

from __future__ import annotations

import math
from collections.abc import Hashable

import attrs
import pytest

from playai_async import Polling
from playai_async.jobs._polling.backoff import Backoff, poll_rule
from playai_async.jobs._polling.forecast import Plan
from playai_async.jobs._polling.planner import Planner, Traits
from playai_async.jobs._polling.watch import Watch
from playai_async.jobs._scheduling.request import Failure, Success, Transient

WINDOW = 60.0
POLLING = Polling(jitter=0, forecast=True)


@attrs.frozen
class Job:
    """A job of some service."""

    size: object = None
    took: object = None
    group: Hashable = None


TRAITS = Traits(size=lambda job: job.size, run_time=lambda job: job.took, group=lambda job: job.group)


def a_planner() -> Planner:
    """Return a planner that reads all that a job has."""
    return Planner(TRAITS, WINDOW)


def watched(planner: Planner, job_id: Hashable = 1, *, known: Job | None = None, now: float = 0.0) -> Watch:
    """Begin to watch a job."""
    watch = Watch(job_id, POLLING, Backoff(poll_rule(POLLING), 8), None, None, None)  # type: ignore[arg-type]
    planner.first_poll(watch, known, now)
    return watch


def found(planner: Planner, watch: Watch, at: float, job: Job) -> Plan | None:
    """Poll a job, which is not finished."""
    watch.sent_at = at
    return planner.next_poll(watch, Success(job, done=False), 1.0, at)


def seen(planner: Planner, lengths: list[float], job: Job = Job()) -> None:
    """See jobs that finish, and are created by this session."""
    for number, length in enumerate(lengths):
        planner.on_created(f"seen {number}", job, 0.0)
        planner.on_finished(watched(planner, f"seen {number}"), job, length * 2)  # half of it, without a timestamp


def length_learned(planner: Planner, watch: Watch, job: Job, now: float) -> float | None:
    """Return the length that is learned from the end of a job."""
    return planner._length(watch, job, now)


def expected(planner: Planner, job: Job) -> float | None:
    """Return how long a new job is expected to take; None without a forecast."""
    plan = planner.first_poll(watched(planner, "new"), job, 100.0)
    return None if plan is None else plan.expected


def test_a_session_that_has_seen_nothing_plans_nothing() -> None:
    """Neither a first poll nor a later one."""
    planner = a_planner()
    assert planner.first_poll(watched(planner), Job(), 0.0) is None
    assert found(planner, watched(planner), 1.0, Job()) is None


def test_a_planner_is_ready_once_some_group_has_a_forecast() -> None:
    planner = a_planner()
    seen(planner, [20.0] * 8, Job(size=10))
    assert not planner.ready
    seen(planner, [20.0], Job(size=10))
    assert planner.ready


def test_a_job_is_expected_to_take_what_others_took() -> None:
    """Of its own group, and with a size or without."""
    planner = a_planner()
    seen(planner, [20.0] * 9, Job(100, group="slow"))
    assert expected(planner, Job(100, group="slow")) == pytest.approx(20)
    assert [expected(planner, job) for job in (Job(100, group="fast"), Job(group="slow"))] == [None, None]
    seen(planner, [5.0] * 9, Job(group="slow"))
    for unusable in (None, 0, -3.0, math.nan, math.inf):
        assert expected(planner, Job(unusable, group="any")) == pytest.approx(5)


@pytest.mark.parametrize(
    ("stamped", "learned"),
    [(12.0, 12.0), (8.1, 8.1), (19.9, 19.9), (7.9, 14.0), (20.1, 14.0), (None, 14.0), (math.nan, 14.0), (-5, 14.0)],
)
def test_a_timestamp_is_believed_within_two_seconds_of_what_was_seen(stamped: float | None, learned: float) -> None:
    """Else the length is in the middle between the last unfinished poll and the end."""
    planner = a_planner()
    watch = watched(planner, now=100.0)
    found(planner, watch, 110.0, Job())
    assert length_learned(planner, watch, Job(took=stamped), 118.0) == pytest.approx(learned)


def test_a_job_that_nobody_saw_unfinished_teaches_only_what_a_fitting_timestamp_says() -> None:
    """It may have finished long before anybody waited for it."""
    planner = a_planner()
    assert length_learned(planner, watched(planner), Job(took=500.0), 0.1) is None
    assert length_learned(planner, watched(planner), Job(took=1.5), 0.1) == 1.5
    planner.on_finished(watched(planner), Job(took=500.0), 0.1)
    assert not planner._forecasts


def test_a_job_that_was_created_or_handed_in_was_unfinished_then() -> None:
    """So the middle is known."""
    planner = a_planner()
    planner.on_created(1, Job(), 0.0)
    assert length_learned(planner, watched(planner, 1, now=6.0), Job(), 10.0) == 5.0
    assert length_learned(planner, watched(planner, 2, known=Job(), now=6.0), Job(), 10.0) == 2.0


def test_the_shortest_length_is_a_thousandth_of_a_window() -> None:
    """A logarithm needs one."""
    planner = a_planner()
    for _ in range(9):
        planner.on_finished(watched(planner, known=Job()), Job(took=0.0), 0.0)
    assert expected(planner, Job()) == pytest.approx(0.06)


def test_the_age_of_a_created_job_counts_from_its_creation() -> None:
    """However late somebody waits for it; otherwise from the beginning of the wait."""
    planner = a_planner()
    seen(planner, [20.0] * 9)
    planner.on_created(1, Job(), 100.0)
    created, handed_in, bare = (
        watched(planner, job_id, known=known, now=110.0) for job_id, known in ((1, None), (2, Job()), (3, None))
    )
    assert [watch.began_at for watch in (created, handed_in, bare)] == [100.0, 110.0, 110.0]
    for watch in (created, handed_in, bare):
        plan = found(planner, watch, 115.0, Job())
        assert plan is not None
        assert watch.began_at + plan.expected == pytest.approx(watch.began_at + 20)


def test_a_bare_id_has_no_plan_before_its_first_poll() -> None:
    """Nothing is known of it."""
    planner = a_planner()
    seen(planner, [20.0] * 9)
    assert planner.first_poll(watched(planner), None, 0.0) is None


def test_the_first_pause_is_tenacitys_and_no_later_one_is_shorter() -> None:
    """Whatever the forecast says."""
    planner = a_planner()
    seen(planner, [0.5] * 30)
    watch = watched(planner, known=Job())
    plan = planner.first_poll(watch, Job(), 0.0)
    assert plan is not None
    assert plan.earliest >= 1.0
    bare = watched(planner, 2)
    assert planner.next_poll(bare, Failure(OSError(), Transient()), 3.0, 0.1) is None
    plan = found(planner, bare, 0.2, Job())
    assert plan is not None
    assert plan.earliest == pytest.approx(3.2)


def test_after_a_failure_there_is_no_plan() -> None:
    """The pause is tenacity's."""
    planner = a_planner()
    seen(planner, [20.0] * 9)
    assert planner.next_poll(watched(planner), Failure(OSError(), Transient()), 1.0, 2.0) is None


def test_no_poll_is_planned_more_than_a_window_ahead() -> None:
    """Not even if every job takes an hour."""
    planner = a_planner()
    seen(planner, [3600.0] * 9)
    plan = planner.first_poll(watched(planner), Job(), 0.0)
    assert plan is not None
    assert (plan.earliest, plan.due) == (60.0, 60.0)
    later = found(planner, watched(planner), 30.0, Job())
    assert later is not None
    assert (later.earliest, later.due) == (90.0, 90.0)


def test_groups_and_created_jobs_are_forgotten_in_the_end() -> None:
    """A service may name as many models as it likes."""
    planner = a_planner()
    for number in range(1_100):
        planner.on_created(number, Job(100, group=number), 0.0)
        planner.on_finished(watched(planner, number), Job(100, group=number), 5.0)
    assert (len(planner._forecasts), len(planner._created)) == (64, 1_024)


@pytest.mark.parametrize("value", ["12", True, [1]])
def test_what_is_no_number_is_refused(value: object) -> None:
    """With an error that names the callable."""
    planner = a_planner()
    with pytest.raises(TypeError, match="size must return a number or None, not"):
        planner.on_created(1, Job(value), 0.0)
    with pytest.raises(TypeError, match="run_time must return a number or None, not"):
        planner.on_finished(watched(planner), Job(took=value), 1.0)


def test_nothing_is_read_where_nothing_can_be() -> None:
    """Without traits, lengths are measured and all jobs are one group."""
    planner = Planner(Traits(), WINDOW)
    seen(planner, [20.0] * 9, Job("no number"))
    assert expected(planner, Job("no number")) == pytest.approx(20)
    assert Traits().group(Job()) is None


def test_a_negative_run_time_is_not_learned_from_a_job_that_was_finished_at_its_first_poll() -> None:
    """Nothing is known about its length, but that it is not negative."""
    planner = a_planner()
    assert length_learned(planner, watched(planner), Job(took=-3600.0), 1.0) is None
    assert length_learned(planner, watched(planner), Job(took=-math.inf), 1.0) is None
    assert length_learned(planner, watched(planner), Job(took=0.5), 1.0) == 0.5


@pytest.mark.parametrize("absurd", [1e300, 5e-324, 10**4000], ids=["large", "small", "no float"])
def test_one_absurd_size_does_not_outweigh_the_others(absurd: float) -> None:
    """The lengths of the others go on to follow their sizes."""
    planner = a_planner()
    sizes = [100.0 * 1.1**number for number in range(30)]
    for size in sizes:
        seen(planner, [size / 50], Job(size))
    seen(planner, [20.0], Job(absurd))
    for size in sizes:
        seen(planner, [size / 50], Job(size))
    assert expected(planner, Job(1_500)) == pytest.approx(30, rel=0.2)
    assert expected(planner, Job(100)) == pytest.approx(2, rel=0.5)
